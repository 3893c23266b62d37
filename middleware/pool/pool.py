"""A pool of connections to one node for one database, user and rule: Plan's decisions carried out.

Lends servers to clients, opens them on demand, checks those that were idle for long before they are lent again,
resets those whose session a client may have changed, and closes what cannot be trusted.
"""

import asyncio
from typing import Final, cast

import structlog

from healthcheck.topology import Node
from middleware.config import PoolPolicy, WorkerSettings
from middleware.errors import ConnectionLost, PointsmanError, TooManyConnections
from middleware.pool.dial import other_kind
from middleware.pool.plan import Plan, Waiter
from middleware.pool.server_connection import (
    CHECKING,
    CLOSED,
    HELD_BACK,
    IDLE,
    LOGGING_IN,
    Borrower,
    ServerConnection,
)
from middleware.pool.surroundings import NodeState, Surroundings
from middleware.session.parameters import NONE, StartupParameters
from middleware.session.server_login import ServerLogin

log: Final = structlog.get_logger("pool")

FITTING_MAX: Final = 16
"""How many idle servers are looked at for one that needs no change of settings."""


class Pool:
    """Servers of one (node, database, user, name of a rule), lent to clients."""

    def __init__(
        self,
        node: Node,
        database: bytes,
        user: bytes,
        policy: PoolPolicy,
        state: NodeState,
        around: Surroundings,
    ) -> None:
        self.node: Final = node.name
        self.host: Final = node.host
        self.port: Final = node.port
        self.database: Final = database
        self.user: Final = user
        self.policy = policy
        settings = around.settings
        self._settings = settings
        # Asked for with every lease: it is at hand here, and a setting is looked up.
        self._check_delay_s = settings.server_check_delay_s
        self._loop: Final = around.loop
        self.clock: Final = around.clock
        self._dialer: Final = around.dialer
        self._authority: Final = around.authority
        self._encrypted: bool | None = None
        """What the node wants, where it has refused what sslmode tries first: see dial.other_kind()."""
        self._trouble: Final = around.trouble
        self._draw: Final = around.draw
        self.state: Final = state
        self.plan: Final[Plan[ServerConnection, Borrower]] = Plan(
            policy.size, policy.reserve_size, policy.reserve_timeout_s, settings.admin_reserved_conn
        )
        self._all_limits: Final = around.limits
        self.limits = around.limits.of(self.node, database, user, policy, policy.size)
        """Its own size first."""
        self._reserve_limits = around.limits.of(self.node, database, user, policy, policy.size + policy.reserve_size)
        around.limits.join(self)
        self._all_awake: Final = around.awake
        self.awake = False
        """It may have servers, or clients that wait for one."""
        self.rests_since = self.clock.now
        """Since when it has none, if it has none."""
        self._wanted_at = self.clock.now
        """When somebody last waited in it."""
        if policy.min_size:
            self._wake()
        self._openings: Final[set[asyncio.Task[None]]] = set()
        self._on_the_way: Final[set[ServerConnection]] = set()
        """Servers that are connected, and neither idle nor lent."""
        self._closing: Final[set[ServerConnection]] = set()
        self.draining = False
        """It is closed, and may be opened again."""
        self.retired = False
        """Its rule is gone: it serves who waits in it, and nobody else."""
        self.until = 0.0
        """Its node is gone from the settings: when what is lent of it is taken back. 0 for never."""
        self._lending = False
        """Those who wait are being lent servers."""
        self._last_error: PointsmanError = ConnectionLost(f'could not connect to node "{self.node}"')

    def use(self, settings: WorkerSettings, policy: PoolPolicy) -> None:
        """By these from now on: idle servers beyond the limits go now, and those that are lent when they come back."""
        self.use_settings(settings)
        self.policy = policy
        self.plan.use(policy.size, policy.reserve_size, policy.reserve_timeout_s, settings.admin_reserved_conn)
        limits = self._all_limits
        self.limits = limits.of(self.node, self.database, self.user, policy, policy.size)
        self._reserve_limits = limits.of(self.node, self.database, self.user, policy, policy.size + policy.reserve_size)
        self.plan.over = True
        while self._too_many() and self.plan.idle:
            self._close_idle()
        if policy.min_size and not self.plan.closed:
            self._wake()

    def use_settings(self, settings: WorkerSettings) -> None:
        """The same, where there is no policy for it any more."""
        self._settings = settings
        self._check_delay_s = settings.server_check_delay_s

    def retire(self) -> None:
        """Its rule is gone: others have pools for those whom it was for."""
        self.retired = True
        self.policy = PoolPolicy(self.policy.name, self.policy.size)
        self.plan.over = True
        while self._too_many() and self.plan.idle:
            self._close_idle()

    def _close_idle(self) -> None:
        """The one that has been idle for longest."""
        server, _ = self.plan.idle.pop(0)
        server.close()

    def lease(self, client: Borrower, parameters: StartupParameters) -> ServerConnection | None:
        """A server for `client` now, or None: it will hear lent() or not_lent(), and not before this call returns.

        One that has `parameters` already, if there is one among those used last.
        """
        plan = self.plan
        now = self.clock.now
        if plan.idle and plan.idle[-1][0].session.parameters is not parameters and not plan.waiting:
            self._bring_forward(parameters)
        taken = plan.take()
        if taken is not None:
            server, idle_since = taken
            if now - idle_since < self._check_delay_s:
                plan.lent.add(server)
                return server
            self._check(server, b"")
        elif self.failing():
            # Say so at once.
            self._loop.call_soon(client.not_lent, self._last_error)
            return None
        limits = client.limits
        notify_at = now + limits.query_wait_notify_s if limits.query_wait_notify_s else 0.0
        self._wake()
        self._wanted_at = now
        since = client.waiting_since or now
        plan.wait(Waiter(client, since, since + limits.query_wait_s, notify_at, client.admin))
        self.open_what_is_needed(now)
        return None

    def _bring_forward(self, parameters: StartupParameters) -> None:
        """Have the server that is lent next be one that needs no change of settings."""
        idle = self.plan.idle
        for index in range(len(idle) - 2, max(-1, len(idle) - FITTING_MAX), -1):
            if idle[index][0].session.parameters is parameters:
                idle.append(idle.pop(index))
                return

    def failing(self) -> bool:
        """Whether nothing is open, and the last try has just failed."""
        plan = self.plan
        return plan.closed or (self.clock.now < plan.failing_until and not plan.size())

    def give_back(self, server: ServerConnection) -> None:
        """The client is done with a server that is at rest."""
        if server.state == CLOSED:
            return
        server.take_back()
        plan = self.plan
        plan.lent.discard(server)
        session = server.session
        if session.uncertain or plan.closed or plan.paused or plan.owed or self._outlived(server, self.clock.now):
            if plan.owed:
                plan.owed -= 1
                server.yields = True
            server.close()
        elif plan.over and self._too_many():
            server.close()
        elif session.dirty:
            self._reset(server)
        elif server.cancels:
            self._hold_back(server)
        else:
            self._offer(server)

    def _too_many(self) -> bool:
        """Whether a server that was given back is one of those beyond the limits, and no administrator waits for it."""
        plan = self.plan
        if plan.waiting and plan.waiting[0].admin:
            return False
        if self.retired:
            return not plan.waiting
        plan.over = self._all_limits.exceeded(self._reserve_limits)
        return plan.over

    def roll_back(self, server: ServerConnection) -> None:
        """Its client has gone from a transaction that waited for it: end that, and keep the server."""
        server.take_back()
        self.plan.lent.discard(server)
        server.session.dirty = server.session.dirty or "abandoned transaction"
        server.ask(b"ROLLBACK")
        self._reset(server)

    def clean(self, server: ServerConnection) -> None:
        """Its client has gone while we asked it something about that client's state."""
        server.take_back()
        server.session.dirty = server.session.dirty or "unknown state"
        self.plan.lent.discard(server)
        self._reset(server)

    def cancel_arrived(self, server: ServerConnection) -> None:
        """A CancelRequest for it was delivered, or could not be."""
        server.cancels -= 1
        if server.state == HELD_BACK and not server.cancels:
            self._on_the_way.discard(server)
            self.plan.on_the_way -= 1
            # A late signal now interrupts this exchange rather than the next client's statement.
            self._check(server, b"")

    def withdraw(self, client: Borrower) -> bool:
        """A client no longer waits; False if it did not."""
        return self.plan.give_up(client)

    def tick(self, now: float) -> None:
        """Keep the deadlines; called a few times a second."""
        plan = self.plan
        # Who still wants it will ask again.
        plan.owed = 0
        if self.until and now >= self.until:
            self.until = 0.0
            self.abandon(ConnectionLost(f'node "{self.node}" is no longer used'))
        while plan.over and plan.idle and self._too_many():
            self._close_idle()
        for client in self.plan.overdue(now):
            client.not_lent(
                TooManyConnections(
                    "query_wait_timeout",
                    detail=f'No connection to node "{self.node}" became free within {client.limits.query_wait_s:g} s.',
                )
            )
        for server in list(plan.lent):
            holder = server.client
            if holder is not None:
                holder.keep_time(now)
        for client in plan.to_notify(now):
            client.still_waiting(f'a connection to node "{self.node}"')
        for server in [entry[0] for entry in plan.idle if self._outlived(entry[0], now)]:
            plan.forget(server)
            server.close()
        idle_timeout_s = self._settings.server_idle_timeout_s
        if idle_timeout_s and plan.idle and now - plan.idle[0][1] >= idle_timeout_s:
            spare = len(plan.idle)
            if self.policy.min_size:
                spare = max(0, self._all_limits.total(self) - self.policy.min_size)
            for server in plan.stale(now, idle_timeout_s, spare):
                server.close()
        if self._settings.server_keepalive_s:
            self._keep_alive(now)
        for server in [one for one in (*self._on_the_way, *self._closing) if one.deadline <= now]:
            server.fail(ConnectionLost(f'node "{self.node}" does not answer'))
        self.open_what_is_needed(now)
        if self.policy.min_size and not (plan.closed or plan.paused) and now >= plan.failing_until:
            for _ in range(self.policy.min_size - self._all_limits.total(self)):
                if not self._begin_opening(now):
                    break

    def _keep_alive(self, now: float) -> None:
        """Ask those that have been idle for long for a sign of life, one at a time."""
        for server, idle_since in self.plan.idle:
            if now - max(idle_since, server.lent_at) >= self._settings.server_keepalive_s:
                self.plan.forget(server)
                server.idle_since = idle_since
                # As if it had been lent: it is asked again after as long.
                server.lent_at = now
                self._check(server, b"")
                return

    def close_oldest(self) -> None:
        """Close the server that has been idle for longest, for others to have its place."""
        server, _ = self.plan.idle.pop(0)
        server.yields = True
        server.close()

    def close(self, error: PointsmanError) -> None:
        """The node is no longer used: turn away who waits, close what is idle, and what is lent when it comes back."""
        self.draining = False
        self._shut(error)
        self._all_limits.leave(self)

    def drain(self, error: PointsmanError) -> None:
        """As close(), but what is lent may stay lent, and resume() takes it back."""
        self.draining = True
        self._shut(error)

    def resume(self) -> None:
        """It may be used again."""
        self.draining = False
        self.plan.closed = False

    def _shut(self, error: PointsmanError) -> None:
        self.plan.closed = True
        self._last_error = error
        while (client := self.plan.next_client()) is not None:
            client.not_lent(error)
        self.close_idle()

    def close_idle(self) -> None:
        """Have no server that nobody has."""
        idle, self.plan.idle = self.plan.idle, []
        for server, _ in idle:
            server.close()

    def under_way(self) -> tuple[int, int]:
        """How many servers are lent on which something is under way, and how many to clients that rest on them."""
        resting = sum([server.session.at_rest() for server in self.plan.lent])
        return len(self.plan.lent) - resting, resting

    def abandon(self, error: PointsmanError) -> None:
        """The node is dead: whoever waits for an answer of it would wait for ever."""
        for server in [*self.plan.lent, *self._on_the_way]:
            server.fail(error)

    def _wake(self) -> None:
        if not self.awake:
            self.awake = True
            self._all_awake[self] = None

    def at_rest(self, now: float) -> bool:
        """Whether there is nothing to be seen to until somebody asks for a server; it is no longer awake, then."""
        plan = self.plan
        if plan.size() or plan.waiting:
            return False
        if self.policy.min_size and not plan.closed:
            # Nobody wants them, and none can be opened.
            idle_s = self._settings.server_idle_timeout_s
            self.awake = not plan.failing_until or now - self._wanted_at < idle_s
        else:
            self.awake = False
        return not self.awake

    # What a server on its way has come to

    def opened(self, server: ServerConnection) -> None:
        """It has logged in."""
        self.state.logins.end(self.clock.now)
        self.plan.opening_succeeded()
        if self.state.failures.succeeded(self.database, self.user):
            log.info(
                "connections to the node can be opened again", node=self.node, database=self.database, user=self.user
            )
        self._arrived(server)

    def checked(self, server: ServerConnection) -> None:
        """It has answered what we asked it on our own account, and is at rest."""
        session = server.session
        if session.setup_error is not None:
            server.fail(ConnectionLost(f'node "{self.node}" could not reset a connection'))
            return
        if session.dirty:
            # DISCARD ALL has dropped its statements and put its settings back to those of its login.
            session.dirty = ""
            session.statements.clear()
            session.prepared.clear()
            session.unnamed = None
            session.parameters = NONE
        self._arrived(server)

    def discarded(self, server: ServerConnection) -> None:
        """It is about to be closed, while it was lent."""
        self.plan.forget(server)

    def closing(self, server: ServerConnection) -> None:
        """It was told to go."""
        self._closing.add(server)
        self.plan.closing += 1
        server.deadline = self.clock.now + self._settings.server_connect_timeout_s

    def ended(self, server: ServerConnection) -> None:
        """It was told to go, and is gone."""
        self._closing.discard(server)
        self.plan.closing -= 1
        self._left(server.yields)

    def _left(self, yielded: bool = False) -> None:
        """One server less: its place is free."""
        now = self.clock.now
        if yielded:
            self._all_limits.yielded(self, now)
        self._all_limits.give(self, self.limits, now)
        self.open_what_is_needed(now)

    def gone(self, server: ServerConnection, state: int, error: PointsmanError) -> None:
        """Its connection is closed; `state` is what it was before."""
        if server in self._on_the_way:
            self._on_the_way.discard(server)
            self.plan.on_the_way -= 1
        self.plan.forget(server)
        self._trouble(self.node, error.message)
        if state != LOGGING_IN:
            self._left()
            return
        self._encrypted = other_kind(self._dialer.sslmode, server.asked, server.encrypted(), error)
        if self._encrypted is None:
            self._opening_failed(error)
        else:
            self.state.logins.end(self.clock.now)
            self._left()

    def _arrived(self, server: ServerConnection) -> None:
        self._on_the_way.discard(server)
        self.plan.on_the_way -= 1
        if self.plan.closed or self.plan.paused or server.session.uncertain:
            server.close()
        elif server.cancels:
            self._hold_back(server)
        else:
            self._offer(server)

    def _offer(self, server: ServerConnection) -> None:
        """Lend it to who has waited longest, or let it be idle."""
        plan = self.plan
        if not plan.waiting or self._lending:
            server.state = IDLE
            idle_since = server.idle_since or self.clock.now
            server.idle_since = 0.0
            plan.idle.append((server, idle_since))
            return
        # Who is lent a server may give it back at once, and so may the next: in a loop, not each within the other.
        self._lending = True
        try:
            self._lend_to_first(server)
            while plan.waiting and plan.idle:
                server, idle_since = plan.idle.pop()
                if self.clock.now - idle_since < self._check_delay_s:
                    self._lend_to_first(server)
                else:
                    self._check(server, b"")
        finally:
            self._lending = False

    def _lend_to_first(self, server: ServerConnection) -> None:
        client = self.plan.next_client()
        assert client is not None
        self.plan.lent.add(server)
        server.idle_since = 0.0
        client.lent(server)

    def _hold_back(self, server: ServerConnection) -> None:
        """A CancelRequest under way might hit the next client's statement: wait for it."""
        self._put_on_the_way(server, HELD_BACK, self._settings.cancel_wait_timeout_s)

    def _reset(self, server: ServerConnection) -> None:
        if self._settings.server_reset_query:
            self._check(server, self._settings.server_reset_query.encode())
        else:
            server.close()

    def _check(self, server: ServerConnection, sql: bytes) -> None:
        """Ask it something before it is anybody's; it comes back through checked() or gone()."""
        self._put_on_the_way(server, CHECKING, self._settings.server_connect_timeout_s)
        server.session.setup_error = None
        server.ask(sql)

    def _put_on_the_way(self, server: ServerConnection, state: int, timeout_s: float) -> None:
        server.state = state
        server.deadline = self.clock.now + timeout_s
        self._on_the_way.add(server)
        self.plan.on_the_way += 1

    def _outlived(self, server: ServerConnection, now: float) -> bool:
        return server.close_needed or 0.0 < server.expires_at <= now

    # Opening

    def open_what_is_needed(self, now: float) -> None:
        """Open servers for those who wait, as far as that is allowed."""
        for _ in range(self.plan.openings(now)):
            if not self._begin_opening(now):
                return

    def open_one(self, now: float) -> None:
        """It is this pool's turn to open one, if it still needs one."""
        if self.plan.openings(now) and self._begin_opening(now):
            # And to stand in line again.
            self.open_what_is_needed(now)

    def _begin_opening(self, now: float) -> bool:
        """Begin to open a server; False where a limit, or its turn, forbids it."""
        logins = self.state.logins
        if not logins.may_begin(self):
            return False
        plan = self.plan
        limits = self._reserve_limits if plan.limit(now) > self.policy.size else self.limits
        for_an_admin = plan.for_an_admin()
        if for_an_admin:
            limits = self._all_limits.for_admins(self._reserve_limits)
        if not self._all_limits.take(self, limits, now):
            return False
        if for_an_admin:
            plan.over = True
        logins.begin()
        plan.on_the_way += 1
        task = self._loop.create_task(self._open(now))
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)
        return True

    async def _open(self, now: float) -> None:
        """Connect; the login goes on in ServerConnection's callbacks."""
        # The clock of ticks may be a little behind: a timeout is no shorter than it says.
        since, settings = self._loop.time(), self._settings
        deadline = since + settings.server_connect_timeout_s
        lifetime_s = settings.server_lifetime_s * (1.0 - settings.server_lifetime_jitter * self._draw())
        expires_at = now + lifetime_s if lifetime_s else 0.0
        encrypted = self._encrypted

        connected: list[ServerConnection] = []

        def connection() -> asyncio.Protocol:
            credentials = self._authority.credentials(self.user.decode(errors="replace"))
            login = ServerLogin(self.user, self.database, credentials)
            server = ServerConnection(self, login, settings.max_prepared_statements, expires_at, deadline)
            server.asked, server.opening_since = encrypted, since
            connected.append(server)
            return cast(asyncio.Protocol, server)

        error: PointsmanError
        try:
            async with asyncio.timeout_at(deadline):
                await self._dialer.open(self.host, self.port, connection, encrypted=encrypted)
            return
        except ConnectionLost as lost:
            error = ConnectionLost(f'could not connect to node "{self.node}": {lost.message}', detail=lost.detail)
        except OSError as failure:
            reason = failure.strerror or str(failure) or "timeout"
            error = ConnectionLost(f'could not connect to node "{self.node}"', detail=f"{reason}.")
        except Exception as bug:
            # Its place, and its turn to log in, would be lost for ever.
            log.exception("a bug has ended the opening of a connection", node=self.node, user=self.user)
            error = ConnectionLost(f'could not connect to node "{self.node}"', detail=f"{type(bug).__name__}.")
        if any(server in self._on_the_way or server.state != LOGGING_IN for server in connected):
            return  # gone() has been told, or will be
        self.plan.on_the_way -= 1
        self._opening_failed(error)

    def servers(self) -> list[ServerConnection]:
        """All that are connected."""
        return [*self.plan.lent, *[entry[0] for entry in self.plan.idle], *self._on_the_way, *self._closing]

    def connected(self, server: ServerConnection) -> None:
        """It may log in."""
        self._on_the_way.add(server)

    def moved(self, host: str, addresses: frozenset[str]) -> None:
        """The addresses of a node's name have changed: servers elsewhere have lived for long enough."""
        if host == self.host:
            for server in self.servers():
                if server.address not in addresses:
                    server.close_needed = True

    def _opening_failed(self, error: PointsmanError) -> None:
        """Try again later; who waits hears of it now, unless other servers of the pool may still serve them."""
        self._last_error = error
        now = self.clock.now
        self.plan.opening_failed(now, self._settings.server_login_retry_s)
        self._trouble(self.node, error.message)
        told = f"{error.message}: {error.detail}" if error.detail else error.message
        # Once, for all the clients who hear of it.
        if self.state.failures.failed(self.database, self.user, told):
            log.warning(
                "no connection to the node could be opened",
                node=self.node,
                database=self.database,
                user=self.user,
                why=told,
            )
        self.state.logins.fail(now)
        self._all_limits.give(self, self.limits, now)
        if not self.plan.size():
            while (client := self.plan.next_client()) is not None:
                client.not_lent(error)
