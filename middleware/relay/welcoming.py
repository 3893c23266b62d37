"""The side of an arriving client that has proved who it is, and waits to be told its parameters.

Their values under its own settings only a server knows: the first client of its kind waits for one, the others are
told what that one was. See welcomes.py. Who wants to replicate gets a server of its own, and waits only while it is
kept out.
"""

from abc import abstractmethod
from typing import Final

import structlog

from middleware.errors import PointsmanError
from middleware.pool.pool import Pool
from middleware.pool.server_connection import ServerConnection
from middleware.relay.balance import Route
from middleware.relay.freshness import Marks
from middleware.relay.handing_over import CLOSED, HandingOver
from middleware.relay.primary_queue import passes
from middleware.relay.relay import NO_PRIMARY, Relay
from middleware.session.parameters import StartupParameters
from middleware.session.server import SETUP_FAILED
from middleware.wire.build import notice

log: Final = structlog.get_logger("client")


class Welcoming(HandingOver):
    """See above."""

    __slots__ = ("_pool", "server")

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self.server: ServerConnection | None = None
        self._pool: Pool | None = None
        """The pool in whose queue it waits."""
        self.wrote = False
        self.again = b""
        self.fill = None
        self.waiting_since = 0.0

    @abstractmethod
    def refuse(self, error: PointsmanError) -> None:
        """Say FATAL and close."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection, and leave nothing behind. Safe to call again."""

    @property
    def parameters(self) -> StartupParameters:
        """Its settings."""
        return self._parameters

    def seek(self) -> None:
        """Have a server tell what it must be told, or one that has told it another client of its kind."""
        replicates = bool(self._login.replication)
        if self._relay.pauses.keeps_out(self.called, replicates):
            self._wait_for_resume()
            return
        if replicates:
            self._replicate()
            return
        known = self._relay.welcomes.known(self.server_database, self.server_user, self._parameters)
        if known is not None:
            self._welcome(known)
            return
        self._write(b"")
        route = self._route()
        if route.paused:
            self._wait_for_resume()
        else:
            self._lease(route.primary or route.standby(Marks()))

    def _route(self) -> Route:
        return self._relay.pools.route(self.server_database, self.server_user, self.account.policy, self.called)

    def _replicate(self) -> None:
        try:
            self._begin_replication()
        except PointsmanError as error:
            self.refuse(error)

    def _wait_for_resume(self) -> None:
        self._write(b"")
        self._relay.without_primary.pause(self)

    def _wait_for_primary(self, error: PointsmanError | None) -> None:
        """`error`: why the nodes that there are had no server for it."""
        if not self._relay.without_primary.join(self, error):
            self.refuse(error or NO_PRIMARY)

    def _lease(self, pool: Pool | None) -> None:
        """Ask a server of a pool, as soon as it has one; where there is no pool, wait for a primary."""
        if pool is None:
            self._wait_for_primary(None)
            return
        server = pool.lease(self, self._parameters)
        if server is None:
            self._pool = pool
        else:
            self._ask(server)

    def _ask(self, server: ServerConnection) -> None:
        """Learn from `server` its parameters under the client's settings."""
        self._pool = None
        self.server = server
        server.lend(self, None)
        setup = server.settings_for(self._parameters, self._relay.parameters)
        if setup:
            server.transport.write(setup)
        else:
            self._told(server)

    def _told(self, server: ServerConnection) -> None:
        told = self._relay.welcomes.learn(
            self.server_database, self.server_user, self._parameters, server.session.reported
        )
        self.server = None
        server.pool.give_back(server)
        self._welcome(told)

    # While it waits

    def may_find(self) -> bool:
        """Whether there is a node again that takes connections."""
        replicates = bool(self._login.replication)
        if replicates or self._relay.pauses.suspended:
            return not self._relay.pauses.keeps_out(self.called, replicates)
        route = self._route()
        return (route.primary is not None and not route.primary.failing()) or route.standby(Marks()) is not None

    def found_none(self, error: PointsmanError) -> None:
        """It has waited for a primary for too long."""
        self.refuse(error)

    def still_waiting(self, what: str) -> None:
        """It has waited for long: for what, in words."""
        self.transport.write(notice(f"still waiting for {what}"))

    def pool_key(self) -> tuple[bytes, bytes, str]:
        """Whose pools it uses."""
        return self.server_database, self.server_user, self.account.policy.pool.name

    def _waits_no_more(self) -> None:
        if self._pool is not None:
            self._pool.withdraw(self)
            self._pool = None
        self._relay.without_primary.leave(self)

    # From the pool, and from the server

    def lent(self, server: ServerConnection) -> None:
        """A server for what it waits for."""
        try:
            self._ask(server)
        except Exception as bug:
            # Called from within another client's callback: it must not hear of it.
            self._failed(bug)

    def not_lent(self, error: PointsmanError) -> None:
        """There will be no server from the pool it waits for."""
        pool, self._pool = self._pool, None
        if self.state == CLOSED:
            return
        if not passes(error):
            self.refuse(error)
            return
        try:
            route = self._route()
            if route.paused:
                self._wait_for_resume()
                return
            standby = route.standby(Marks()) if pool is route.primary else None
            if standby is None:
                self._wait_for_primary(error)
            else:
                self._lease(standby)
        except Exception as bug:
            # Called for all that wait for the same pool.
            self._failed(bug)

    def server_answered(self, server: ServerConnection, events: int) -> None:
        """The server has said something about the settings it was given."""
        if events & SETUP_FAILED:
            error = server.settings_refused()
            if server.session.at_rest():
                self.server = None
                server.pool.give_back(server)
            self.refuse(error)
        elif server.session.at_rest():
            self._told(server)

    def server_lost(self, server: ServerConnection, error: PointsmanError) -> None:
        """The server's connection is gone."""
        self.server = None
        if self.state != CLOSED:
            # Another may know, or the same node once it is there again.
            self._wait_for_primary(error)

    def pause_reading(self, reason: int) -> None:
        """Nothing it sends is passed on to a server that could be full."""

    def resume_reading(self, reason: int) -> None:
        """See pause_reading()."""

    def keep_time(self, now: float) -> None:
        """Its login has a deadline: see Relay.tick()."""

    def note_write(self) -> None:
        """It never writes."""

    def _failed(self, bug: Exception) -> None:
        """It ends here."""
        log.error("a bug has ended a login", user=self.user, database=self.database, exc_info=bug)
        self.close()
