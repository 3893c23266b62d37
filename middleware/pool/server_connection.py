"""One connection to a node: its login, its bytes, and the client it is lent to.

The protocol object of asyncio's transport; ServerSession and ServerLogin decide, this moves bytes and keeps time.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Protocol, cast

from middleware.cache.fill import Fill
from middleware.config import ClientPolicy
from middleware.errors import ConnectionLost, LoginRefused, PointsmanError
from middleware.pool.server_log import tell_closing, tell_lost, tell_opened
from middleware.session.expected import HIDDEN, HIDDEN_ASK, HIDDEN_LAST, SYNC_UNSEEN
from middleware.session.parameters import NONE, Interned, StartupParameters
from middleware.session.prepared import ClientStatements
from middleware.session.server import UNSURE, ServerSession, comes_unasked, error_fields
from middleware.session.server_login import ServerLogin
from middleware.wire.build import TERMINATE_MESSAGE, message
from middleware.wire.codes import QUERY

if TYPE_CHECKING:
    from middleware.pool.pool import Pool

monotonic: Final = time.monotonic

LOGGING_IN: Final = 0
IDLE: Final = 1
LENT: Final = 2
CHECKING: Final = 3
"""Asked for a sign of life, or reset; it is nobody's until it has answered."""
HELD_BACK: Final = 4
"""Free, but a CancelRequest is under way to it."""
CLOSING: Final = 5
"""It was told to go. Its place is free when the node has closed it: until then its backend may still be there."""
CLOSED: Final = 6


UNKNOWN_REPLY: Final = b"?"

SERVER_FULL: Final = 1
"""Why a client is not read from: its server takes no more for now."""


class Borrower(ABC):
    """What a server and a pool need of the client that a server is lent to."""

    __slots__ = ("admin", "again", "called", "fill", "limits", "transport", "waiting_since", "wrote")

    called: bytes | None
    """The database that it has asked for; None where that is none of a node's: it is never paused."""
    admin: bool
    """Its user, as it has logged in, is one of admin_users."""
    transport: asyncio.Transport
    limits: ClientPolicy
    """How long it may take for what."""
    waiting_since: float
    """Since when it waits for something that no pool has for it; 0 while it does not."""
    again: bytes
    """What it has sent that may be sent again to another server, as long as nothing of the answer was passed on."""
    fill: Fill | None
    """Who keeps what the server says."""
    wrote: bool
    """It was sent something that may write, and is to be noted before the answer is passed on."""

    @abstractmethod
    def keep_time(self, now: float) -> None:
        """It has a server: look at its timeouts. Called a few times a second."""

    @abstractmethod
    def note_write(self) -> None:
        """The answer to a write is about to be passed on."""

    @abstractmethod
    def pause_reading(self, reason: int) -> None:
        """Read no more from the client until resume_reading() with the same reason."""

    @abstractmethod
    def resume_reading(self, reason: int) -> None:
        """`reason` no longer stands in the way of reading."""

    @abstractmethod
    def still_waiting(self, what: str) -> None:
        """It has waited for long: for what, in words."""

    @abstractmethod
    def lent(self, server: "ServerConnection") -> None:
        """A server for what it waits for."""

    @abstractmethod
    def not_lent(self, error: PointsmanError) -> None:
        """There will be none."""

    @abstractmethod
    def server_answered(self, server: "ServerConnection", events: int) -> None:
        """The server's session has set `events`; what it said has been written to `transport`."""

    @abstractmethod
    def server_lost(self, server: "ServerConnection", error: PointsmanError) -> None:
        """The connection is gone, without the answers that are still due."""


class Outcome(Protocol):
    """Who is told what has become of what a client has sent that is gone: middleware/relay/unheard.py."""

    def ended(self, answered: bool) -> None:
        """Nothing of it is under way any more: the server has `answered` it all, or is gone. Called once."""


class ServerConnection:
    """A connection of ours to PostgreSQL: an asyncio.Protocol in all but name, so that it can be compiled."""

    __slots__ = (
        "_login",
        "_parameters_before",
        "_reading_paused",
        "_suspended",
        "abandoned",
        "address",
        "answered_at",
        "asked",
        "asked_at",
        "canceled_at",
        "cancels",
        "client",
        "close_needed",
        "connected_at",
        "deadline",
        "expires_at",
        "idle_since",
        "leak_told",
        "lent_at",
        "opening_since",
        "outcome",
        "pool",
        "sent_at",
        "session",
        "state",
        "statements_max",
        "transport",
        "yields",
    )

    def __init__(
        self, pool: "Pool", login: ServerLogin, statements_max: int, expires_at: float, deadline: float
    ) -> None:
        self.pool: Final = pool
        self._login: Final = login
        self.statements_max: Final = statements_max
        self.expires_at = expires_at
        """When it has lived for long enough; 0 for never."""
        self.deadline = deadline
        """When to give up on its login, on the answer to a check, or on its end; meaningless in other states."""
        self.connected_at = 0.0
        """time.time()."""
        self.opening_since = 0.0
        """When its opening began."""
        self.idle_since = 0.0
        """Since when it would be idle, but for a check that only keeps it alive; 0 where it is not that."""
        self.lent_at = 0.0
        """Since when its client has it; where that is at rest with it, when it last began something."""
        self.asked_at = 0.0
        """When the statement that runs was sent, or the one before it was answered."""
        self.sent_at = 0.0
        """When that client last sent something to it."""
        self.answered_at = 0.0
        """When it last had answered all that, if a transaction was then open."""
        self.canceled_at = 0.0
        """When a statement was canceled that had run for too long; 0 for none."""
        self.leak_told = 0.0
        """`lent_at` of the client that the log was told of."""
        self.state = LOGGING_IN
        self.client: Borrower | None = None
        self.session: ServerSession = NO_SESSION
        self.cancels = 0
        """CancelRequests under way for it: until they have arrived it must not serve another client."""
        self.close_needed = False
        """It is not to be lent again."""
        self.abandoned = False
        """It was closed for what its client has left on it."""
        self.yields = False
        """It was closed for others to have its place."""
        self.asked: bool | None = None
        """With TLS or without, as it was to be opened; see Dialer.open()."""
        self.address = ""
        """Of its node; "" for a unix socket."""
        self.outcome: Outcome | None = None
        """Who waits for its last answer, though it was told to go."""
        self.transport: asyncio.Transport
        self._parameters_before: StartupParameters = NONE
        self._reading_paused = False
        self._suspended = False

    @property
    def cancel_key(self) -> tuple[int, bytes]:
        """The process id and secret of its backend."""
        return self._login.process_id, self._login.secret

    def encrypted(self) -> bool:
        """Whether it runs over TLS."""
        return self.transport.get_extra_info("ssl_object") is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has transports of its own kind.
        self.transport = cast(asyncio.Transport, transport)
        self.connected_at = time.time()
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.address = str(peer[0])
        self.pool.connected(self)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            self._login.certificate = ssl_object.getpeercert(True)
        self.transport.write(self._login.startup())

    def data_received(self, data: bytes) -> None:
        if self.state == LOGGING_IN:
            self._log_in(data)
            return
        if self.state >= CLOSING:
            if self.outcome is not None:
                self._read_out(data)
            return
        session = self.session
        self.pool.state.answers += 1
        client = self.client
        if client is None and self.state != CHECKING:
            self._unasked(data)
            return
        if client is not None:
            session.meter.now = monotonic()
        try:
            out = session.feed(data)
        except ValueError as error:
            self.fail(ConnectionLost(f'node "{self.pool.node}" sent an invalid message', detail=str(error)))
            return
        if client is not None:
            if client.wrote:
                client.note_write()
            if out:
                client.again = b""
                client.transport.write(out)
                session.meter.tally.sent_bytes += len(out)
                if client.fill is not None:
                    client.fill.take(out)
            events = session.events
            if events:
                session.events = 0
                client.server_answered(self, events)
        elif session.events:
            session.events = 0
            if session.at_rest():
                self.pool.checked(self)

    def _unasked(self, data: bytes) -> bool:
        """It speaks though nothing is due from it; whether it may say that, whole. If not, it is closed."""
        session = self.session
        try:
            out = session.feed(data)
        except ValueError:
            out = UNKNOWN_REPLY
        session.events = 0
        if session.at_rest() and not session.uncertain and comes_unasked(out):
            return True
        self.fail(ConnectionLost(f'node "{self.pool.node}" sent what nobody asked for'))
        return False

    def _read_out(self, data: bytes) -> None:
        """It was told to go, and answers what it was sent before."""
        session = self.session
        try:
            session.feed(data)
        except ValueError:
            self._tell_outcome(False)
            return
        events, session.events = session.events, 0
        if session.uncertain or events & UNSURE:
            self._tell_outcome(False)
        elif not session.expected and session.between_messages():
            # Where a transaction is open, it ends with the connection.
            self._tell_outcome(True)

    def _tell_outcome(self, answered: bool) -> None:
        outcome, self.outcome = self.outcome, None
        if outcome is not None:
            outcome.ended(answered)

    def _log_in(self, data: bytes) -> None:
        try:
            reply = self._login.feed(data)
        except PointsmanError as error:
            self.fail(error)
            return
        if reply:
            self.transport.write(reply)
        if self._login.done:
            self.session = ServerSession(self.statements_max, self._login.reported)
            if self._login.rest and not self._unasked(self._login.rest):
                return
            self.state = IDLE
            self.pool.state.logins.took.observe(monotonic() - self.opening_since)
            tell_opened(self)
            self.pool.opened(self)

    def sends(self, size: int) -> None:
        """Its client is about to send it so many bytes."""
        now = self.sent_at = self.pool.clock.now
        session = self.session
        if not session.expected:
            self.asked_at = now
        meter = session.meter
        meter.tally.received_bytes += size
        if not meter.began:
            meter.asked(monotonic())

    def ask(self, sql: bytes) -> None:
        """Begin an exchange of our own, whose answers nobody sees."""
        self.transport.write(self.unseen(sql))

    def unseen(self, sql: bytes) -> bytes:
        """The message of an exchange of our own, to be written next."""
        self.session.expected.append(HIDDEN)
        self.session.unnamed_dropped()
        return message(QUERY, sql + b"\0")

    def behind(self, sql: bytes) -> bytes:
        """The same behind a batch that has just been put down, whose client is to hear the end of both as one."""
        expected = self.session.expected
        expected.pop()
        expected.extend((SYNC_UNSEEN, HIDDEN_LAST))
        self.session.unnamed_dropped()
        return message(QUERY, sql + b"\0")

    def inspect(self, sql: bytes) -> None:
        """Ask it something whose rows are then in its session's `answer`."""
        self.session.answer = []
        self.session.expected.append(HIDDEN_ASK)
        self.session.unnamed_dropped()
        self.transport.write(message(QUERY, sql + b"\0"))

    def settings_for(self, parameters: StartupParameters, interned: Interned) -> bytes:
        """The message that gives it a client's settings, to be written in front of the client's own; may be empty."""
        session = self.session
        query = interned.change(session.parameters, parameters)
        self._parameters_before = session.parameters
        session.parameters = parameters
        if not query:
            return b""
        return self.unseen(query)

    def settings_refused(self) -> LoginRefused:
        """The server has refused settings_for()'s message, all of it; returns what to tell the client."""
        self.session.parameters = self._parameters_before
        body, self.session.setup_error = self.session.setup_error, None
        fields = error_fields(body or b"")
        refused = LoginRefused(
            fields.get(b"M", b"invalid settings").decode(errors="replace"),
            detail=fields.get(b"D", b"").decode(errors="replace"),
            hint=fields.get(b"H", b"").decode(errors="replace"),
            sqlstate=fields.get(b"C", b"22023").decode(errors="replace"),
        )
        refused.logged = "its settings were refused by a node"
        return refused

    def pause_reading(self) -> None:
        """Its client reads slower than the node sends."""
        if self.state == LENT:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            if not self._suspended:
                self.transport.resume_reading()

    def suspend(self, suspended: bool) -> None:
        """Read nothing from it, whoever has it; or read again."""
        if suspended == self._suspended or self.state >= CLOSING:
            return
        self._suspended = suspended
        if suspended:
            self.transport.pause_reading()
        elif not self._reading_paused:
            self.transport.resume_reading()

    def lend(self, client: Borrower, statements: ClientStatements | None) -> None:
        """Give it to `client`; `statements` are those that its answers are about, if it will have any."""
        self.state = LENT
        # Its client's settings may go in front of what is asked: its time is not that of who had it before.
        self.lent_at = self.asked_at = self.pool.clock.now
        self.client = client
        self.session.owner = statements
        if self.session.reported_before:
            # The node's settings were reloaded meanwhile.
            self.session.reported_before.clear()

    def take_back(self) -> None:
        client = self.client
        if client is not None:
            client.resume_reading(SERVER_FULL)
        self.state = IDLE
        self.client = None
        self.session.owner = None
        self.session.watch_deallocate = False
        self.session.no_transactions = False
        self.resume_reading()

    def fail(self, error: PointsmanError) -> None:
        """Close it, and tell whoever depends on it. Safe to call again."""
        if self.state == CLOSED:
            return
        client, self.client = self.client, None
        state, self.state = self.state, CLOSED
        self.transport.abort()
        if state == CLOSING:
            self._tell_outcome(False)
            self.pool.ended(self)
            return
        if state != LOGGING_IN:
            tell_lost(self, error)
        self.pool.gone(self, state, error)
        if client is not None:
            client.server_lost(self, error)

    def said_goodbye(self) -> None:
        """It has told why it goes, in its last words: it is lost now."""
        words = {code: text.decode(errors="replace") for code, text in self.session.last_words.items()}
        told = words.get(b"D", "")
        self.fail(
            ConnectionLost(
                words.get(b"M", "server closed the connection"),
                detail=f'The node is "{self.pool.node}". {told}'.rstrip(),
                sqlstate=words.get(b"C", ""),
            )
        )

    def discard(self, outcome: Outcome | None = None) -> None:
        """Close it, through no fault of the node: what its client has left on it cannot be undone.

        `outcome` is told whether it still answers that."""
        self.outcome = outcome
        if self.state < CLOSING:
            self.abandoned = True
            self.pool.discarded(self)
            self.close()
        else:
            self._tell_outcome(False)

    def close(self) -> None:
        """Tell it to go, whatever it is doing; it is nobody's."""
        if self.state >= CLOSING:
            return
        self.suspend(False)
        tell_closing(self)
        self.state = CLOSING
        self.client = None
        self.pool.closing(self)
        self.resume_reading()
        self.transport.write(TERMINATE_MESSAGE)
        if self.transport.can_write_eof():
            # A backend that is in the middle of a message of its client's would take ours for a part of it.
            self.transport.write_eof()
        elif self.outcome is None:
            # With TLS nothing is read from then on. The node closes it, too, or its time is up.
            self.transport.close()

    def eof_received(self) -> bool:
        """The node sends no more: connection_lost() follows."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state == LOGGING_IN:
            self.fail(ConnectionLost(f'node "{self.pool.node}" closed the connection during login'))
        else:
            self.fail(
                ConnectionLost("server closed the connection unexpectedly", detail=f'The node is "{self.pool.node}".')
            )

    def pause_writing(self) -> None:
        """The node reads slower than the client sends."""
        if self.client is not None:
            self.client.pause_reading(SERVER_FULL)

    def resume_writing(self) -> None:
        if self.client is not None:
            self.client.resume_reading(SERVER_FULL)


NO_SESSION: Final = ServerSession(0, {})
"""Stands in for the session of a connection that has not logged in; nothing is ever asked of it."""
