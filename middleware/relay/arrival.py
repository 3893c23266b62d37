"""One connection until its login is complete; then a ClientConnection takes its place.

The protocol object of asyncio's transport; ClientLogin decides, this moves bytes.

    LOGIN --proved--> WELCOME --a server told its parameters--> a ClientConnection, or CLOSED

What is in WELCOME is welcoming.py's, and who takes its place handing_over.py's.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import structlog

from middleware.auth.scram import Keys
from middleware.config.tls import ALPN, ClientTls
from middleware.errors import LoginRefused, NoNode, PointsmanError, ShuttingDown, TooManyConnections
from middleware.pool.ledger import Limit
from middleware.relay.console import CONSOLES, refused
from middleware.relay.handing_over import CLOSED, LOGIN, WELCOME
from middleware.relay.own_settings import OwnSettings
from middleware.relay.parting import tell_departure, tell_refusal
from middleware.relay.peers import address_of, feed, peer_of
from middleware.relay.relay import Relay
from middleware.relay.welcoming import Welcoming
from middleware.session.login import ClientLogin
from middleware.session.parameters import gucs_of
from middleware.session.replication import PHYSICAL
from middleware.sqlstate import (
    INVALID_CATALOG_NAME,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    QUERY_CANCELED,
    SYNTAX_ERROR,
)
from middleware.wire.build import error_response
from middleware.wire.codes import PROTOCOL_3_2

log: Final = structlog.get_logger("client")

TLS_HANDSHAKE: Final = 0x16
"""The first byte of a TLS handshake; no startup packet begins with it, being too long."""


def _nobody_asked() -> bytes:
    raise NoNode("no node could be asked whether the user may log in", hint="Try again later.")


class Arrival(Welcoming):
    """A connection that has not logged in: an asyncio.Protocol in all but name, so that it can be compiled."""

    __slots__ = ("_asked", "_deriving", "_fresh", "_handshake", "deadline", "secret")

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self.deadline = self.connected_at + relay.settings.client_login_timeout_s
        self.secret = b""
        """Empty: until it is told its key nobody can cancel it."""
        self._asked = False
        """auth_query was asked for its user."""
        self._deriving = False
        """A thread derives keys of the password it has shown."""
        self._fresh = True
        """Nothing has come yet."""
        self._handshake: asyncio.Task[None] | None = None

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
            if not relay.admission.may_look(user):
                raise refused(user)
            self._enter(relay.admission.console_limits(user))
            self._open_console()
            return
        name_given = dict(self._parameters.values).get(b"application_name", b"")
        self._known_as = self.database, user, name_given, self.peer[0]
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
        self._enter(relay.admission.limits(self.database, user, policy.client))
        relay.newcomers.prove(self)
        if not login.replication:
            # Asks for the database's catalog where it is new: it is loaded while the client is welcomed.
            database, role = self.server_database.decode(errors="replace"), self.server_user
            relay.router(database, role.decode(errors="replace"), self._parameters.path_for(role))
            if login.rest:
                self._rest.append(login.rest)
        self.state = WELCOME
        self.seek()

    def _enter(self, counted: list[Limit]) -> None:
        """Be counted as a client, under these limits. Raises TooManyConnections."""
        relay = self._relay
        one_too_many = relay.admission.enter(counted, self.database, self.user)
        if one_too_many is not None:
            raise one_too_many
        self.counted = counted
        relay.admit(self)
        self._key = relay.secret(long=self._login.protocol >= PROTOCOL_3_2)

    # As a client of the relay's

    def idle_too_long(self, now: float) -> None:
        """It is not idle."""

    def suspend(self, suspended: bool) -> None:
        """It waits where it would have a server: see seek()."""

    def unsent(self) -> bool:
        """Whether it has not taken all that was read for it: what it is told is little."""
        return False

    def settings_changed(self) -> None:
        """They will hold for it when it is logged in."""
        self._stale = True

    def track_writes(self, begin: bool) -> None:
        """It has sent none yet."""

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
        self._leave_newcomers()
        self._relay.gone(self)
        self._waits_no_more()
        self.transport.close()
        server, self.server = self.server, None
        if server is not None:
            # Its settings are half changed.
            server.discard()

    def _leave_newcomers(self) -> None:
        self._relay.newcomers.leave(self)
