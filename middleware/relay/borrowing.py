"""The side of a client's connection that comes by a server.

A batch chooses a node. It is *held* while it waits for a server of that node's pool, for a standby that is fresh
enough, or for a primary; and for its client to give back the server it has, see returning.py.
"""

import asyncio
import time
from abc import abstractmethod
from typing import Final

import structlog

from middleware.errors import PointsmanError, TooManyConnections
from middleware.pool.pool import Pool
from middleware.pool.server_connection import ServerConnection
from middleware.relay.accounts import Account
from middleware.relay.balance import Route
from middleware.relay.client_cache import ClientCache
from middleware.relay.client_routing import ClientRouting
from middleware.relay.freshness_wait import FreshnessWait
from middleware.relay.own_settings import STANDBY_ONLY, OwnSettings
from middleware.relay.parting import Parting
from middleware.relay.policies import NAME_BYTES_MAX, KnownAs
from middleware.relay.primary_queue import passes
from middleware.relay.relay import NO_PRIMARY, NO_READER, NO_STANDBY, NONE_SERVED, Relay
from middleware.relay.session_state import SESSION_MODE, SESSION_POOLING, STATEMENT_MODE, SessionState
from middleware.relay.state_warnings import StateWarnings
from middleware.relay.writes import Writes
from middleware.session.batch import HELD, Batch
from middleware.session.client import ClientSession
from middleware.session.expected import HIDDEN_FAILS
from middleware.session.parameters import StartupParameters
from middleware.session.server import IN_FAILED_TRANSACTION
from middleware.wire.build import message, notice
from middleware.wire.codes import QUERY
from routing.router import STANDBY, Target

log: Final = structlog.get_logger("client")

TRIES_MAX: Final = 3
"""How often another node is tried for what one has failed."""
FAILED_TRANSACTION: Final = message(QUERY, b"BEGIN; ROLLBACK TO SAVEPOINT lost_with_its_server\0")
"""Begins a transaction that has failed."""


class Borrowing(Parting):
    """The side of a client's connection that has a server, or waits for one."""

    __slots__ = (
        "_aim",
        "_begin_again",
        "_closed",
        "_cut_short",
        "_database_name",
        "_draining",
        "_held",
        "_held_data",
        "_held_up",
        "_on_primary",
        "_only_prepared",
        "_pool",
        "_sent_open",
        "_skip_rest",
        "_slow",
        "_tries",
        "_wait",
        "adrift",
        "caching",
        "database",
        "held_at",
        "idle_since",
        "known_as",
        "relay",
        "routing",
        "server",
        "session",
        "stale",
        "state",
        "user",
        "writes",
    )

    def __init__(
        self,
        relay: Relay,
        transport: asyncio.Transport,
        user: bytes,
        database: bytes,
        parameters: StartupParameters,
        own: OwnSettings,
        account: Account,
        known_as: KnownAs,
    ) -> None:
        policy = account.policy
        super().__init__(transport, policy.client, account, relay.clock.now)
        self.known_as: Final = known_as
        self.stale = False
        """It goes by settings of before: see renewing.py."""
        self.relay: Final = relay
        self.user: Final = user
        self.database: Final = database
        self.called = database
        self.session: Final = ClientSession(
            relay.facts, relay.statements, relay.settings.statement_size_max, relay.settings.max_packet_size
        )
        self.session.parameters = parameters
        self.caching: ClientCache | None = None
        """Known once something of it might have been cached."""
        self.writes: Writes | None = None
        """What its transaction may have changed, if anything."""
        self._database_name: Final = database.decode(errors="replace")
        self.server: ServerConnection | None = None
        self.idle_since = relay.clock.now
        """Since when it has no server."""
        self.held_at = 0.0
        """Since when what it has sent waits for a server (time.monotonic()); 0 while nothing does."""
        self.wrote = False
        self.admin = False
        self.routing: Final = ClientRouting(relay, user, database, parameters, own, account)
        self.routing.statement_log.session = self.session
        if policy.mode == SESSION_MODE:
            self.routing.settle(parameters, SESSION_POOLING)
        known = dict(parameters.values)
        name = known.get(b"application_name", b"")[:NAME_BYTES_MAX].decode(errors="replace")
        who = (name, user.decode(errors="replace"), database.decode(errors="replace"))
        self.state: Final = SessionState(
            policy,
            parameters,
            user,
            self.session.statements,
            relay.parameters,
            StateWarnings(policy, relay.quiet, who, relay.states),
        )
        self._begin_again = b""
        """What begins a transaction again that has left its node."""
        self._aim: Target | None = None
        """Where that is to go."""
        self._wait: Final = FreshnessWait(relay, policy)
        self._on_primary = False
        """Its server was lent as the primary's."""
        self._pool: Pool | None = None
        """The pool in whose queue it waits."""
        self._held: Batch | None = None
        self._held_data = b""
        self._held_up = False
        """It waits for what PostgreSQL says of its session's state."""
        self._sent_open = False
        """The server has got a part of a batch, and not its end."""
        self._only_prepared = False
        """And that part prepares and describes statements, and no more."""
        self._cut_short = False
        """That server was left for another, where what is held is to go on."""
        self._skip_rest = False
        """What was sent to it has failed: what is held, and the rest of its batch, is skipped as it would have been."""
        self._slow = False
        """It reads slower than its server sends."""
        self._draining = False
        """It is to go when nothing is under way."""
        self._closed = False
        self._tries = 0
        """How often what it sends now has been tried before."""
        self.adrift = False
        """It believes itself in a transaction, which was lost with its server: see losing.py."""

    @abstractmethod
    def _send(self, server: ServerConnection, batch: Batch, data: bytes, prefix: bytes = b"") -> None:
        """Send a batch to a server, and `prefix` in front of it."""

    @abstractmethod
    def _fail_batch(self, batch: Batch, error: PointsmanError) -> None:
        """Answer a batch that was not sent with an error, as a server would."""

    @abstractmethod
    def _leave(self) -> None:
        """Go, if the client has said goodbye and has all its answers."""

    @abstractmethod
    def terminate(self) -> None:
        """Go now, and say why."""

    @abstractmethod
    def _takes_from_cache(self, batch: Batch, data: bytes) -> bool:
        """Whether a batch is answered from the cache; else what it waits for, if anything, is in `awaited`."""

    @abstractmethod
    def _board(self, batch: Batch, data: bytes) -> None:
        """Hold a batch until another client's read of the same has ended."""

    @abstractmethod
    def _leaves_flight(self) -> bool:
        """It waits for another's read no more; False if it did not."""

    # Choosing a node

    def _choose(self, batch: Batch, data: bytes) -> bool:
        """Choose a node for a batch and send it there when a server is free. False: blocked."""
        routing = self.routing
        if self.relay.cache.serving and not self.adrift and self._aim is None and routing.confined is None:
            if self._takes_from_cache(batch, data):
                return True
            if self.caching is not None and self.caching.awaited is not None:
                self._board(batch, data)
                return False
        route = routing.nodes()
        if route.paused:
            self._wait_for_resume(batch, data)
            return False
        pool = route.primary
        if not self.adrift and (self._aim or routing.target(batch)) is STANDBY:
            level = routing.level(batch)
            reader = routing.reader(route, level)
            if reader is not None:
                pool = reader
            elif routing.own.route == STANDBY_ONLY:
                self._fail_batch(batch, NO_STANDBY)
                return True
            elif routing.wants_standby(route, level) and self._wait.wanted(route):
                return self._wait_for_freshness(batch, data, route)
        return self._choose_from(batch, data, pool, pool is route.primary)

    def _choose_from(self, batch: Batch, data: bytes, pool: Pool | None, on_primary: bool) -> bool:
        """Send a batch to a server of a pool, when one is free; None for a primary's that is not there."""
        if pool is None:
            return self._wait_for_primary(batch, data)
        server = pool.lease(self, self.session.parameters)
        if server is None:
            self._hold(batch, data, pool)
            return False
        self._send(server, batch, data, self._take(server, on_primary))
        return batch.state != HELD

    def choose_again(self) -> None:
        """Choose again for what is held for a fresher standby, or for a primary."""
        batch, data = self._held, self._held_data
        if self._closed or self._pool is not None or batch is None:
            return
        self.relay.without_primary.leave(self)
        self._held, self._held_data = None, b""
        try:
            if self._choose(batch, data):
                self.unblock()
                self._leave()
        except Exception as bug:
            self.failed(bug)

    def _wait_for_freshness(self, batch: Batch, data: bytes, route: Route) -> bool:
        """Hold a read until a standby is fresh enough for it, or its time is over. False: blocked."""
        self._waits()
        self._wait.start(self)
        if self._wait.only_standbys and (self._wait.over() or not route.standbys):
            self._fail_batch(batch, NONE_SERVED if route.standbys else NO_READER)
            return True
        self._held, self._held_data = batch, data
        self._wait.hold()
        return False

    def _wait_for_primary(self, batch: Batch, data: bytes, error: PointsmanError | None = None) -> bool:
        """Hold a batch until there is a primary that takes connections, or its time is over. False: blocked."""
        if not self.relay.without_primary.join(self, error):
            self._fail_batch(batch, error or NO_PRIMARY)
            return True
        self._waits()
        self._held, self._held_data = batch, data
        return False

    def _wait_for_resume(self, batch: Batch, data: bytes) -> None:
        """Hold a batch until its database is not paused any more, or its time is over."""
        self._wait.end()
        self.relay.without_primary.pause(self)
        self._held, self._held_data = batch, data

    def may_find(self) -> bool:
        """Whether what it holds for a primary may go on now."""
        route = self.routing.nodes()
        if route.primary is not None:
            return not route.primary.failing()
        batch = self._held
        return not self.adrift and bool(route.standbys) and batch is not None and self.routing.target(batch) is STANDBY

    def _stops_waiting(self) -> bool:
        """Have what it holds wait no more; False where it is too late for that."""
        if self._pool is not None:
            if not self._pool.withdraw(self):
                return False
            self._pool = None
            return True
        return self.relay.without_primary.leave(self) or self._leaves_flight() or self._wait.running()

    def seek(self) -> None:
        """There may be a primary."""
        self.choose_again()

    def waits(self) -> bool:
        """Whether it waits for a server."""
        return self._held is not None and self.server is None

    def unsent(self) -> bool:
        """Whether it has not taken all that was read for it."""
        return self.transport.get_write_buffer_size() > 0

    def pool_key(self) -> tuple[bytes, bytes, str]:
        """Whose pools it uses."""
        return self.database, self.user, self.routing.policy.pool.name

    def found_none(self, error: PointsmanError) -> None:
        """It has waited for a primary for too long."""
        batch = self._held
        if batch is not None and not self._closed:
            self._held, self._held_data = None, b""
            self._fail_batch(batch, error)
            if self._draining:
                self.terminate()
                return
            self.unblock()
            self._leave()

    def _hold(self, batch: Batch, data: bytes, pool: Pool) -> None:
        """Keep a batch until `pool` has a server for it."""
        self._waits()
        self._held, self._held_data, self._pool = batch, data, pool

    def _waits(self) -> None:
        """What it has sent waits for a server, from now on or on and on."""
        if not self.held_at:
            self.held_at = time.monotonic()

    # From the pool

    def still_waiting(self, what: str) -> None:
        """It has waited for long: for what, in words."""
        self.transport.write(notice(f"still waiting for {what}"))

    def lent(self, server: ServerConnection) -> None:
        """A server for what it waits for."""
        try:
            route = self.routing.nodes()
            prefix = self._take(server, route.primary is not None and server.pool is route.primary)
            batch, data = self._held, self._held_data
            assert batch is not None
            self._held, self._held_data = None, b""
            self._send(server, batch, data, prefix)
            if batch.state != HELD:
                self.unblock()
        except Exception as bug:
            # Called from within another client's callback: it must not hear of it.
            self.failed(bug)

    def not_lent(self, error: PointsmanError) -> None:
        """There will be no server from the pool it waits for."""
        pool, self._pool = self._pool, None
        batch, data = self._held, self._held_data
        if batch is None or self._closed:
            return
        self._held, self._held_data = None, b""
        route = self.routing.nodes()
        if route.paused:
            self._wait_for_resume(batch, data)
            return
        primary = route.primary
        asked = self.routing.own.route == STANDBY_ONLY
        away = passes(error)
        if away and pool is primary:
            if not self._wait_for_primary(batch, data, error):
                return
        elif away and self._tries < TRIES_MAX:
            # Another node may serve it.
            self._tries += 1
            if not self._choose(batch, data):
                return
        elif isinstance(error, TooManyConnections) or pool is primary or asked:
            self._fail_batch(batch, error)
        elif (
            self._wait.only_standbys
            and self.routing.target(batch) is STANDBY
            and self.routing.wants_standby(route, self.routing.level(batch))
        ):
            # Another one may serve it, or the same after a while.
            if not self._wait_for_freshness(batch, data, route):
                return
        else:
            # The standby has failed it; what a standby may run, the primary may.
            if not self._choose_from(batch, data, primary, on_primary=True):
                return
        if batch.state != HELD:
            self.unblock()
        self._leave()

    def _take(self, server: ServerConnection, on_primary: bool) -> bytes:
        """Have a server; returns what must go in front of the first message to it."""
        self.server = server
        self._on_primary = on_primary
        self._aim = None
        self._pool = None
        now = time.monotonic()
        waited_s = self.routing.statement_log.waited_s = now - self.held_at if self.held_at else 0.0
        server.session.meter.taken(self.account.tally(server.pool.node), now, waited_s)
        self.waiting_since = self.held_at = 0.0
        if self._wait.running():
            self._wait.end()
        server.lend(self, self.session.statements)
        if self.routing.policy.mode == STATEMENT_MODE:
            server.session.no_transactions = True
        if self._slow:
            server.pause_reading()
        prefix = b""
        if server.session.parameters is not self.session.parameters:
            prefix = server.settings_for(self.session.parameters, self.relay.parameters)
        if self.adrift:
            prefix += self._fail_anew(server)
        return prefix

    def _fail_anew(self, server: ServerConnection) -> bytes:
        """What puts a server into a failed transaction, such as a client has that is adrift."""
        self.adrift = False
        self.routing.transaction.stay()
        server.session.expected.append(HIDDEN_FAILS)
        server.session.unnamed_dropped()
        # All that is booked from here on is to go by that.
        server.session.status = IN_FAILED_TRANSACTION
        return FAILED_TRANSACTION
