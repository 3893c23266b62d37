"""A pool of connections to one node for one database and user: Plan's decisions carried out.

Lends servers to clients, opens them on demand, checks those that were idle for long before they are lent again,
resets those whose session a client may have changed, and closes what cannot be trusted.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from healthcheck.topology import Node
from middleware.config import WorkerSettings
from middleware.errors import ConnectionLost, PointsmanError, TooManyConnections
from middleware.pool.plan import Clock, Plan
from middleware.pool.server_connection import (
    CHECKING,
    HELD_BACK,
    IDLE,
    LOGGING_IN,
    Borrower,
    ServerConnection,
)
from middleware.session.parameters import NONE, StartupParameters
from middleware.session.server_login import ServerLogin

TroubleReport = Callable[[str, str], None]
"""Told a node's name and what went wrong with a connection to it."""


class NodeState:
    """What a worker knows of one node, over all its pools."""

    __slots__ = ("fresh_as_of", "lag_bytes", "reads", "writes")

    def __init__(self) -> None:
        self.reads = 0
        self.writes = 0
        """What it has been given since the worker started."""
        self.fresh_as_of = float("-inf")
        """A standby has replayed all that was committed by this moment (time.monotonic())."""
        self.lag_bytes: int | None = None


FITTING_MAX: Final = 16
"""How many idle servers are looked at for one that needs no change of settings."""


class Pool:
    """Servers of one (node, database, user), lent to clients."""

    def __init__(
        self,
        node: Node,
        database: bytes,
        user: bytes,
        settings: WorkerSettings,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        trouble: TroubleReport,
        state: NodeState,
    ) -> None:
        self.node: Final = node.name
        self.host: Final = node.host
        self.port: Final = node.port
        self.database: Final = database
        self.user: Final = user
        self._settings: Final = settings
        # Asked for with every lease: a Final is at hand, a setting is looked up.
        self._check_delay_s: Final = settings.server_check_delay_s
        self._lifetime_s: Final = settings.server_lifetime_s
        self._loop: Final = loop
        self._clock: Final = clock
        self._trouble: Final = trouble
        self.state: Final = state
        self.plan: Final[Plan[ServerConnection, Borrower]] = Plan(settings.pool_size)
        self._openings: Final[set[asyncio.Task[None]]] = set()
        self._on_the_way: Final[set[ServerConnection]] = set()
        """Servers that are connected, and neither idle nor lent."""
        self._last_error: PointsmanError = ConnectionLost(f'could not connect to node "{self.node}"')

    def lease(self, client: Borrower, parameters: StartupParameters) -> ServerConnection | None:
        """A server for `client` now, or None: it will hear lent() or not_lent(), and not before this call returns.

        One that has `parameters` already, if there is one among those used last.
        """
        plan = self.plan
        now = self._clock.now
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
        plan.waiting.append((client, now + self._settings.query_wait_timeout_s))
        self._open_what_is_needed(now)
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
        return plan.closed or (self._clock.now < plan.failing_until and not plan.size())

    def give_back(self, server: ServerConnection) -> None:
        """The client is done with a server that is at rest."""
        server.take_back()
        self.plan.lent.discard(server)
        session = server.session
        if session.uncertain or self.plan.closed or self._outlived(server, self._clock.now):
            server.close()
            self._open_what_is_needed(self._clock.now)
        elif session.dirty:
            self._reset(server)
        elif server.cancels:
            self._hold_back(server)
        else:
            self._offer(server)

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
        for client in self.plan.overdue(now):
            client.not_lent(
                TooManyConnections(
                    "query_wait_timeout",
                    detail=f'No connection to node "{self.node}" became free within '
                    f"{self._settings.query_wait_timeout_s:g} s.",
                )
            )
        for server in self.plan.stale(now, self._settings.server_idle_timeout_s):
            server.close()
        for server in [entry[0] for entry in self.plan.idle if self._outlived(entry[0], now)]:
            self.plan.forget(server)
            server.close()
        for server in [server for server in self._on_the_way if server.deadline <= now]:
            server.fail(ConnectionLost(f'node "{self.node}" does not answer'))
        self._open_what_is_needed(now)

    def close(self, error: PointsmanError) -> None:
        """The node is no longer used: turn away who waits, close what is idle, and what is lent when it comes back."""
        self.plan.closed = True
        self._last_error = error
        while (client := self.plan.next_client()) is not None:
            client.not_lent(error)
        for server, _ in self.plan.idle:
            server.close()
        self.plan.idle.clear()

    def empty(self) -> bool:
        """Nothing depends on it any more."""
        return not self.plan.size() and not self.plan.waiting

    # What a server on its way has come to

    def opened(self, server: ServerConnection) -> None:
        """It has logged in."""
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
        """It was closed while it was lent."""
        self.plan.forget(server)
        self._open_what_is_needed(self._clock.now)

    def gone(self, server: ServerConnection, state: int, error: PointsmanError) -> None:
        """Its connection is closed; `state` is what it was before."""
        if server in self._on_the_way:
            self._on_the_way.discard(server)
            self.plan.on_the_way -= 1
        self.plan.forget(server)
        self._trouble(self.node, error.message)
        if state == LOGGING_IN:
            self._opening_failed(error)
        else:
            self._open_what_is_needed(self._clock.now)

    def _arrived(self, server: ServerConnection) -> None:
        self._on_the_way.discard(server)
        self.plan.on_the_way -= 1
        if self.plan.closed:
            server.close()
        elif server.cancels:
            self._hold_back(server)
        else:
            self._offer(server)

    def _offer(self, server: ServerConnection) -> None:
        """Lend it to who has waited longest, or let it be idle."""
        client = self.plan.next_client()
        if client is None:
            server.state = IDLE
            self.plan.idle.append((server, self._clock.now))
        else:
            self.plan.lent.add(server)
            client.lent(server)

    def _hold_back(self, server: ServerConnection) -> None:
        """A CancelRequest under way might hit the next client's statement: wait for it."""
        self._put_on_the_way(server, HELD_BACK, self._settings.cancel_wait_timeout_s)

    def _reset(self, server: ServerConnection) -> None:
        if self._settings.server_reset_query:
            self._check(server, self._settings.server_reset_query.encode())
        else:
            server.close()
            self._open_what_is_needed(self._clock.now)

    def _check(self, server: ServerConnection, sql: bytes) -> None:
        """Ask it something before it is anybody's; it comes back through checked() or gone()."""
        self._put_on_the_way(server, CHECKING, self._settings.server_connect_timeout_s)
        server.session.setup_error = None
        server.ask(sql)

    def _put_on_the_way(self, server: ServerConnection, state: int, timeout_s: float) -> None:
        server.state = state
        server.deadline = self._clock.now + timeout_s
        self._on_the_way.add(server)
        self.plan.on_the_way += 1

    def _outlived(self, server: ServerConnection, now: float) -> bool:
        lifetime = self._lifetime_s
        return lifetime > 0 and now - server.opened_at >= lifetime

    # Opening

    def _open_what_is_needed(self, now: float) -> None:
        for _ in range(self.plan.openings(now)):
            self.plan.on_the_way += 1
            task = self._loop.create_task(self._open(now))
            self._openings.add(task)
            task.add_done_callback(self._openings.discard)

    async def _open(self, now: float) -> None:
        """Connect; the login goes on in ServerConnection's callbacks."""
        # The clock of ticks may be a little behind: a timeout is no shorter than it says.
        deadline = self._loop.time() + self._settings.server_connect_timeout_s

        made = False

        def connection() -> asyncio.Protocol:
            nonlocal made
            made = True
            password = self._settings.users.get(self.user.decode(errors="replace"))
            login = ServerLogin(self.user, self.database, password)
            server = ServerConnection(self, login, self._settings.max_prepared_statements, now, deadline)
            self._on_the_way.add(server)
            return cast(asyncio.Protocol, server)

        try:
            async with asyncio.timeout_at(deadline):
                if self.host.startswith("/"):
                    path = f"{self.host}/.s.PGSQL.{self.port}"
                    await self._loop.create_unix_connection(connection, path)
                else:
                    await self._loop.create_connection(connection, self.host, self.port)
        except OSError as error:
            if made:
                return  # gone() has been told
            self.plan.on_the_way -= 1
            reason = error.strerror or str(error) or "timeout"
            self._opening_failed(ConnectionLost(f'could not connect to node "{self.node}"', detail=f"{reason}."))

    def _opening_failed(self, error: PointsmanError) -> None:
        """Try again later; who waits hears of it now, unless other servers of the pool may still serve them."""
        self._last_error = error
        self.plan.failing_until = self._clock.now + self._settings.server_login_retry_s
        self._trouble(self.node, error.message)
        if not self.plan.size():
            while (client := self.plan.next_client()) is not None:
                client.not_lent(error)
