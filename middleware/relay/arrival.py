"""One connection until its login is complete; then a ClientConnection takes its place.

The protocol object of asyncio's transport; ClientLogin decides, this moves bytes.

    LOGIN --proved--> WELCOME --a server told its parameters--> a ClientConnection, or CLOSED

What a client must be told at login, the values of its parameters under its own settings, only a server knows: the first
client of its kind waits for one, the others are told what that one was. See welcomes.py.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import structlog

from middleware.auth import Access, Authority
from middleware.auth.scram import Keys
from middleware.config.tls import ALPN, ClientTls
from middleware.errors import LoginRefused, NoNode, PointsmanError, ShuttingDown, TooManyConnections
from middleware.logs.wanted import WANTED
from middleware.pool.ledger import Limit
from middleware.pool.pool import Pool
from middleware.pool.server_connection import Borrower, ServerConnection
from middleware.relay.balance import Route
from middleware.relay.client_connection import ClientConnection
from middleware.relay.console import CONSOLES, ConsoleClient, refused
from middleware.relay.freshness import Marks
from middleware.relay.own_settings import OwnSettings
from middleware.relay.parting import tell_departure, tell_login, tell_refusal
from middleware.relay.peers import address_of, feed, peer_of
from middleware.relay.policies import KnownAs
from middleware.relay.primary_queue import passes
from middleware.relay.relay import NO_PRIMARY, Relay
from middleware.relay.replication import ReplicationClient, Wish, node_for
from middleware.session.login import ClientLogin
from middleware.session.parameters import NONE, StartupParameters, gucs_of
from middleware.session.replication import PHYSICAL
from middleware.session.server import SETUP_FAILED
from middleware.sqlstate import (
    INVALID_CATALOG_NAME,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    QUERY_CANCELED,
    SYNTAX_ERROR,
)
from middleware.wire.build import READY_IDLE, error_response, message, notice
from middleware.wire.codes import BACKEND_KEY_DATA, PROTOCOL_3_2

log: Final = structlog.get_logger("client")

LOGIN: Final = 0
WELCOME: Final = 1
CLOSED: Final = 2

TLS_HANDSHAKE: Final = 0x16
"""The first byte of a TLS handshake; no startup packet begins with it, being too long."""

UNKNOWN: Final = ClientLogin(Authority(Access()), "unix")
"""Stands in for the login of a connection that has not been made."""


def _nobody_asked() -> bytes:
    raise NoNode("no node could be asked whether the user may log in", hint="Try again later.")


class Arrival(Borrower):
    """A connection that has not logged in: an asyncio.Protocol in all but name, so that it can be compiled."""

    __slots__ = (
        "_asked",
        "_deriving",
        "_due",
        "_fresh",
        "_handshake",
        "_key",
        "_known_as",
        "_known_as",
        "_login",
        "_own",
        "_parameters",
        "_pool",
        "_relay",
        "_rest",
        "_stale",
        "account",
        "connected_at",
        "counted",
        "database",
        "deadline",
        "peer",
        "process_id",
        "secret",
        "server",
        "server_database",
        "server_user",
        "state",
        "user",
    )

    def __init__(self, relay: Relay) -> None:
        self._relay: Final = relay
        self._login: ClientLogin = UNKNOWN
        self.state = LOGIN
        self.user = self.database = b""
        self.called = b""
        self.connected_at = relay.loop.time()
        self.deadline = self.connected_at + relay.settings.client_login_timeout_s
        self.process_id = 0
        self.secret = b""
        """Empty: until it is told its key nobody can cancel it."""
        self.counted: list[Limit] = []
        self.server: ServerConnection | None = None
        self.wrote = False
        self.again = b""
        self.fill = None
        self.waiting_since = 0.0
        self.admin = False
        self._asked = False
        """auth_query was asked for its user."""
        self._deriving = False
        """A thread derives keys of the password it has shown."""
        self._fresh = True
        """Nothing has come yet."""
        self._handshake: asyncio.Task[None] | None = None
        self._stale = False
        """The settings have changed since it has said who it is."""
        self._key = b""
        """The cancel key it will be told."""
        self._parameters: StartupParameters = NONE
        self._pool: Pool | None = None
        """The pool in whose queue it waits."""
        self._rest: list[bytes] = []
        """What it has sent behind its login."""
        self._due = b""
        """That its proof was right, and is still to be sent: with what follows, where that is known at once."""

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has transports of its own kind.
        self.transport = cast(asyncio.Transport, transport)
        relay = self._relay
        self.peer = address_of(transport, "peername")
        address = self.peer[0]
        # Whoever may use the socket's file needs no secrecy from it.
        sslmode = "disable" if relay.client_tls is None or address == "unix" else relay.client_tls.sslmode
        self._login = ClientLogin(relay.authority, address, sslmode, partial(peer_of, transport))
        if relay.draining:
            self.close()
        else:
            relay.newcomers.come(self)

    def data_received(self, data: bytes) -> None:
        try:
            if self.state == LOGIN:
                if self._fresh:
                    self._relay.newcomers.spoke(self)
                if data[0] == TLS_HANDSHAKE and self._fresh and self._relay.client_tls is not None:
                    self._start_tls(data)
                    return
                self._fresh = False
                self._log_in(data)
            elif self.state == WELCOME:
                self._rest.append(data)
                self.transport.pause_reading()
        except PointsmanError as error:
            self.refuse(error)
        except Exception as bug:
            self._failed(bug)

    def eof_received(self) -> bool:
        """Half a login is none: connection_lost() follows."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state != CLOSED:
            login = self._login
            tell_departure(self.peer, login.startup.get(b"user", b""), login.database)
        self.close()

    def pause_writing(self) -> None:
        """What a login writes is too little for this to matter."""

    def resume_writing(self) -> None:
        """See pause_writing()."""

    def pause_reading(self, reason: int) -> None:
        """Nothing it sends is passed on to a server that could be full."""

    def resume_reading(self, reason: int) -> None:
        """See pause_reading()."""

    # Login

    def _log_in(self, data: bytes) -> None:
        login = self._login
        out = login.feed(data)
        if login.user is not None:
            self._due = out
        elif out:
            self.transport.write(out)
        if login.starting_tls:
            self._start_tls(b"")
        if login.asks_for is not None and not self._asked:
            self._asked = True
            self._relay.inquiries.begin(login.asks_for, self, self._relay.clock.now)
            self.transport.pause_reading()
        if login.derives is not None and not self._deriving:
            self._deriving = True
            self._relay.derive(*login.derives).add_done_callback(self._derived)
            self.transport.pause_reading()
        if login.cancel is not None:
            # Answered by closing, before the cancel is carried out or not: nothing is told.
            self._relay.cancel(*login.cancel)
            self._relay.health.logins_abandoned -= 1
            self.close()
        elif login.user is not None:
            self._proved(login, login.user)

    @property
    def parameters(self) -> StartupParameters:
        """Its settings."""
        return self._parameters

    def waits(self) -> bool:
        """Its login is not over."""
        return self.state != CLOSED

    def secret_arrived(self, failed: bool) -> None:
        """The authority knows of its user; or nobody could be asked."""
        if failed:
            self._go_on(_nobody_asked)
        else:
            self._go_on(self._login.go_on)

    def _derived(self, keys: "asyncio.Future[Keys]") -> None:
        """The password can be checked."""
        self._go_on(lambda: self._login.derived(keys.result()))

    def _go_on(self, answer: Callable[[], bytes]) -> None:
        """What the login has waited for is there."""
        if self.state == CLOSED:
            return
        self.transport.resume_reading()
        try:
            self.transport.write(answer())
            self._log_in(b"")
        except PointsmanError as error:
            self.refuse(error)
        except Exception as bug:
            # Called for all that wait for the same user.
            self._failed(bug)

    # TLS

    def _start_tls(self, hello: bytes) -> None:
        """Begin a handshake; `hello` is what has come of it already: the client did not ask first."""
        tls = self._relay.client_tls
        assert tls is not None
        self._handshake = self._relay.loop.create_task(self._shake_hands(tls, bool(hello)))
        if hello:
            # start_tls() puts a protocol of its own in our place, and has it told of its connection; then it is fed.
            loop = self._relay.loop
            loop.call_soon(loop.call_soon, feed, self.transport, hello)

    async def _shake_hands(self, tls: ClientTls, direct: bool) -> None:
        relay = self._relay
        try:
            async with asyncio.timeout_at(self.deadline):
                transport = await relay.loop.start_tls(
                    self.transport, cast(asyncio.Protocol, self), tls.context, server_side=True
                )
            assert transport is not None
        except (OSError, ConnectionError) as error:
            why = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error) or "timeout"
            log.info("a TLS handshake has failed", address=self.peer[0], why=why)
            self.close()
            return
        self.transport = transport
        ssl_object = transport.get_extra_info("ssl_object")
        if self.state == CLOSED:
            transport.abort()
        elif direct and ssl_object.selected_alpn_protocol() != ALPN:
            log.info("a TLS handshake has failed", address=self.peer[0], why="no ALPN, which direct TLS needs")
            self.close()
        else:
            self._login.encrypted(tls.encryption(transport))

    # Login

    def _proved(self, login: ClientLogin, user: bytes) -> None:
        """The client is who it says. Get from a server what it must be told."""
        relay = self._relay
        self.user = user
        self.admin = relay.admission.is_admin(user)
        self.database = login.database
        try:
            self._parameters = relay.parameters.of(gucs_of(login.startup))
        except ValueError as error:
            refusal = LoginRefused(str(error), sqlstate=SYNTAX_ERROR)
            refusal.logged = "settings in the startup packet that cannot be read"
            raise refusal from error
        if self.database in CONSOLES and not login.replication:
            self._open_console(login)
            return
        name_given = dict(self._parameters.values).get(b"application_name", b"")
        self._known_as: KnownAs = self.database, user, name_given, self.peer[0]
        policy = relay.policies.of(self.database, user, name_given, self.peer[0])
        self.account = relay.accounts.of(self.database, user, policy)
        if policy.refuse:
            name = self.database.decode(errors="replace")
            raise LoginRefused(f'database "{name}" does not exist', sqlstate=INVALID_CATALOG_NAME)
        # A physical replication connection has none.
        self.called = b"" if login.replication == PHYSICAL else self.database
        if relay.pauses.disabled(self.called):
            name = self.database.decode(errors="replace")
            raise LoginRefused(f'database "{name}" is disabled', sqlstate=OBJECT_NOT_IN_PREREQUISITE_STATE)
        if relay.parting:
            raise ShuttingDown
        self.server_database = policy.server_database.encode() or self.database
        self.server_user = policy.server_user.encode() or user
        self.limits = policy.client
        self._own = OwnSettings(policy.consistency)
        for name, value in self._parameters.own:
            wrong = self._own.set(name, value)
            if wrong is not None:
                raise wrong
        counted = relay.admission.limits(self.database, user, policy.client)
        one_too_many = relay.admission.enter(counted, self.database, user)
        if one_too_many is not None:
            raise one_too_many
        self.counted = counted
        relay.admit(self)
        relay.newcomers.prove(self)
        self._key = relay.secret(long=login.protocol >= PROTOCOL_3_2)
        if login.replication:
            self.state = WELCOME
            self.seek()
            return
        # Asks for the database's catalog where it is new: it is loaded while the client is welcomed.
        database, role = self.server_database, self.server_user
        relay.router(database.decode(errors="replace"), role.decode(errors="replace"), self._parameters.path_for(role))
        if login.rest:
            self._rest.append(login.rest)
        self.state = WELCOME
        self.seek()

    def _route(self) -> Route:
        return self._relay.pools.route(self.server_database, self.server_user, self.account.policy, self.called)

    def seek(self) -> None:
        """Have a server tell what it must be told, or one that has told it another client of its kind."""
        login = self._login
        if self._relay.pauses.keeps_out(self.called, bool(login.replication)):
            self._wait_for_resume()
            return
        if login.replication:
            self._replicate(login)
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

    def _open_console(self, login: ClientLogin) -> None:
        """Hand over to the admin console, whose clients need no server and have no rule."""
        relay = self._relay
        if not relay.admission.may_look(self.user):
            raise refused(self.user)
        counted = relay.admission.console_limits(self.user)
        one_too_many = relay.admission.enter(counted, self.database, self.user)
        if one_too_many is not None:
            raise one_too_many
        self.counted = counted
        relay.admit(self)
        key = relay.secret(long=login.protocol >= PROTOCOL_3_2)
        client = ConsoleClient(
            relay,
            self.transport,
            self.process_id,
            key,
            counted,
            self.user,
            self.database,
            self.admin,
            self._parameters.values,
        )
        self.state = CLOSED
        relay.newcomers.leave(self)
        relay.clients[self.process_id] = client
        self.transport.set_protocol(client)
        due, self._due = self._due, b""
        client.welcome(due, login.rest)

    def _replicate(self, login: ClientLogin) -> None:
        """Hand over to a replication connection."""
        try:
            self._begin_replication(login)
        except PointsmanError as error:
            self.refuse(error)

    def _begin_replication(self, login: ClientLogin) -> None:
        relay = self._relay
        account, database, user = self.account, self.server_database, self.server_user
        wish = Wish(login.replication, database, user, self._parameters, self.admin, account, self.connected_at)
        node = node_for(relay.pools.topology, self._own, account.policy, relay.draw())
        client = ReplicationClient(
            relay, self.transport, self.process_id, self._key, self.counted, wish, node, login.rest
        )
        client.called = self.called
        client.open()
        self._write(b"")
        relay.health.logins_done.observe(time.monotonic() - self.connected_at)
        self.state = CLOSED
        relay.newcomers.leave(self)
        relay.clients[self.process_id] = client
        self.transport.set_protocol(client)

    def _write(self, data: bytes) -> None:
        """Send it, and what is due in front of it: a write costs more than all that a login thinks."""
        out, self._due = self._due + data, b""
        if out:
            self.transport.write(out)

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

    def _welcome(self, parameters: bytes) -> None:
        """The login is complete: hand over."""
        relay = self._relay
        relay.health.logins_done.observe(time.monotonic() - self.connected_at)
        self.state = CLOSED
        relay.newcomers.leave(self)
        client = ClientConnection(
            relay,
            self.transport,
            self.server_user,
            self.server_database,
            self._parameters,
            self._own,
            self.account,
            self._known_as,
            self.counted,
        )
        client.connected_at, client.peer = self.connected_at, self.peer
        client.process_id, client.secret, client.admin = self.process_id, self._key, self.admin
        client.routing.statement_log.process_id = self.process_id
        client.called = client.routing.called = self.called
        relay.clients[self.process_id] = client
        if self._stale:
            client.settings_changed()
        self.transport.set_protocol(cast(asyncio.Protocol, client))
        key = message(BACKEND_KEY_DATA, self.process_id.to_bytes(4, "big") + self._key)
        self._write(parameters + key + READY_IDLE)
        if WANTED.connections:
            now = relay.loop.time()
            tell_login(
                self.account, self.peer, self._parameters, self.process_id, self.transport, now - self.connected_at
            )
        if self._rest:
            self.transport.resume_reading()
            client.data_received(b"".join(self._rest))

    # From the pool, and from the server

    def still_waiting(self, what: str) -> None:
        """It has waited for long: for what, in words."""
        self.transport.write(notice(f"still waiting for {what}"))

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

    def keep_time(self, now: float) -> None:
        """Its login has a deadline: see Relay.tick()."""

    def idle_too_long(self, now: float) -> None:
        """It is not idle."""

    def suspend(self, suspended: bool) -> None:
        """It waits where it would have a server: see seek()."""

    def unsent(self) -> bool:
        """Whether it has not taken all that was read for it: what it is told is little."""
        return False

    def pool_key(self) -> tuple[bytes, bytes, str]:
        """Whose pools it uses."""
        return self.server_database, self.server_user, self.account.policy.pool.name

    def settings_changed(self) -> None:
        """They will hold for it when it is logged in."""
        self._stale = True

    def track_writes(self, begin: bool) -> None:
        """It has sent none yet."""

    def note_write(self) -> None:
        """It never writes."""

    # The end

    def cancel(self) -> None:
        """Never asked for: see `secret`."""

    def late(self) -> None:
        """Its deadline has passed."""
        self._send_away(LoginRefused("canceling authentication due to timeout", sqlstate=QUERY_CANCELED))

    def make_room(self) -> None:
        """Go: others want to come in."""
        self._send_away(TooManyConnections("sorry, too many clients are logging in already"))

    def _send_away(self, error: PointsmanError) -> None:
        """Say why, unless it could not read what we say, or has said nothing itself."""
        if self._login.starting_tls or self._fresh:
            self.close()
        else:
            self.refuse(error)

    def drain(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        """Go now, and say why."""
        self.refuse(ShuttingDown())

    def _failed(self, bug: Exception) -> None:
        """It ends here."""
        log.error("a bug has ended a login", user=self.user, database=self.database, exc_info=bug)
        self.close()

    def refuse(self, error: PointsmanError) -> None:
        """Say FATAL and close."""
        if self.state != CLOSED:
            if error.sqlstate != QUERY_CANCELED:
                # By a timeout, nobody is refused. What is refused was not abandoned, as close() takes it to be.
                self._relay.health.logins_refused += 1
                self._relay.health.logins_abandoned -= 1
            login = self._login
            tell_refusal(self.peer, login.startup.get(b"user", b""), login.database, error)
            self._write(error_response(error, "FATAL"))
            self.close()

    def close(self) -> None:
        """Close the connection, and leave nothing behind. Safe to call again."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self._relay.health.logins_abandoned += 1
        self._relay.newcomers.leave(self)
        self._relay.gone(self)
        if self._pool is not None:
            self._pool.withdraw(self)
            self._pool = None
        self._relay.without_primary.leave(self)
        self.transport.close()
        server, self.server = self.server, None
        if server is not None:
            # Its settings are half changed.
            server.discard()
