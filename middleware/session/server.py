"""What one server answers, matched with what was asked of it.

A server answers in the order it was asked ("Message Flow", "Pipelining"). `expected` holds, in that order, the replies
that mean something to us (see expected.py); all others pass.

A ReadyForQuery closes everything up to the next SYNC: what was expected before it and did not come was skipped after
an error, and its effects on our books are undone, last first.

States: `status` is what the last ReadyForQuery said. `copy_in` lasts from CopyInResponse until the client's CopyDone
or CopyFail or an error. The server is at rest when nothing is expected, no transaction is open and no COPY runs.

feed() returns the bytes for the client, as a rule the very object it was given, and sets bits in `events` for the
connection to act on. Only headers are read; rows are never looked into, and a message larger than its chunk is
counted off, never gathered, unless it is one of the short ones we must read whole.
"""

from collections import deque
from typing import Final

from middleware.session.expected import (
    HIDDEN,
    HIDDEN_ASK,
    HIDDEN_LAST,
    HIDDEN_TRY,
    MARKER,
    PASS,
    SYNC,
    SYNC_UNSEEN,
    UNNAMED,
    Expect,
)
from middleware.session.meter import Meter
from middleware.session.parameters import NONE, StartupParameters
from middleware.session.prepared import ClientStatements, ServerStatements, Statement
from middleware.sqlstate import (
    ADMIN_SHUTDOWN,
    CANNOT_CONNECT_NOW,
    CRASH_SHUTDOWN,
    STATEMENT_COMPLETION_UNKNOWN,
    TRANSACTION_RESOLUTION_UNKNOWN,
)
from middleware.wire.build import message
from middleware.wire.codes import (
    CLOSE_COMPLETE,
    COMMAND_COMPLETE,
    COPY_IN_RESPONSE,
    DATA_ROW,
    EMPTY_QUERY_RESPONSE,
    ERROR_RESPONSE,
    NO_DATA,
    NOTICE_RESPONSE,
    NOTIFICATION_RESPONSE,
    PARAMETER_STATUS,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    READY_FOR_QUERY,
    ROW_DESCRIPTION,
)

IDLE: Final = 0x49
"""ReadyForQuery's status outside a transaction block, 'I'."""
IN_TRANSACTION: Final = 0x54
"""The same in one, 'T'."""
IN_FAILED_TRANSACTION: Final = 0x45
"""The same in one that has failed, 'E': all but its end is refused."""

READY: Final = 1
"""A ReadyForQuery has come."""
HOLD_OVER: Final = 2
"""What the session held its client's messages back for has been decided."""
FAILED: Final = 4
"""An ErrorResponse has gone to the client."""
FATAL: Final = 8
"""The server is about to close the connection, and has said so."""
DEALLOCATED: Final = 16
"""DEALLOCATE ALL or DISCARD ALL was carried out."""
STALE_PLAN: Final = 32
"""A prepared statement's result type has changed under it."""
SETUP_FAILED: Final = 64
"""An exchange of our own was answered with an error, kept in `setup_error`."""
COPY_BEGUN: Final = 128
HOLD_FAILED: Final = 256
"""With HOLD_OVER: the server has answered with an error, and skips to Sync."""
VIOLATED: Final = 512
"""With FAILED: the server has not expected what it was sent, the first time that it has failed."""
LEFT_OPEN: Final = 1024
"""A transaction is open though there must be none, and the client has not been told that its batch is over."""
MISREAD: Final = 2048
"""With FAILED: the server has not understood the string that it was sent, and carried out nothing of it."""
UNSURE: Final = 4096
"""With FAILED: the server does not know what has become of it, as one may say that speaks for others, a proxy."""

HOLD_NONE: Final = 0
HOLD_FOR_MARKER: Final = 1
"""Until we know that the server is not skipping to Sync."""
HOLD_FOR_EXECUTE: Final = 2
"""Until an Execute that may begin a COPY was answered."""
HOLD_FOR_QUERY: Final = 3
"""Until a Query that may begin a COPY was answered, or did."""

LAST_WORDS: Final = frozenset({ADMIN_SHUTDOWN.encode(), CRASH_SHUTDOWN.encode(), CANNOT_CONNECT_NOW.encode()})
"""What a server says that goes through no fault of its client's."""

OUTCOME_UNKNOWN: Final = frozenset({TRANSACTION_RESOLUTION_UNKNOWN.encode(), STATEMENT_COMPLETION_UNKNOWN.encode()})

READ_WHOLE_MAX: Final = 64 * 1024
"""A ParameterStatus or ErrorResponse longer than this passes unread."""

SPECIAL: Final = frozenset(
    {
        PARSE_COMPLETE,
        CLOSE_COMPLETE,
        READY_FOR_QUERY,
        ERROR_RESPONSE,
        PARAMETER_STATUS,
        COPY_IN_RESPONSE,
        COMMAND_COMPLETE,
    }
)
"""Replies that mean something to us; every other passes."""

HOLD_ENDS: Final = frozenset({COMMAND_COMPLETE, EMPTY_QUERY_RESPONSE, PORTAL_SUSPENDED})
WATCHED: Final = SPECIAL | HOLD_ENDS
DESCRIPTIONS: Final = frozenset({ROW_DESCRIPTION, NO_DATA})
"""What the answer to a Describe ends with."""
UNASKED: Final = frozenset({NOTICE_RESPONSE, NOTIFICATION_RESPONSE, PARAMETER_STATUS, ERROR_RESPONSE})
"""What a server may say that was asked nothing."""
READ_HIDDEN: Final = frozenset({DATA_ROW, NOTIFICATION_RESPONSE})
"""What else means something within an exchange of our own: rows, and what comes whenever it likes."""


class ServerSession:
    """The books of one server connection, from its login's ReadyForQuery on."""

    __slots__ = (
        "_hidden",
        "_keep_rest",
        "_left",
        "_tail",
        "answer",
        "copy_in",
        "describing",
        "dirty",
        "events",
        "expected",
        "goes_on",
        "hold",
        "last_words",
        "meter",
        "no_transactions",
        "owner",
        "parameters",
        "prepared",
        "reported",
        "reported_before",
        "setup_error",
        "skipping",
        "statements",
        "status",
        "substitute",
        "uncertain",
        "unnamed",
        "unproven",
        "watch_deallocate",
    )

    def __init__(self, statements_max: int, reported: dict[bytes, bytes]) -> None:
        self.status = IDLE
        self.meter: Final = Meter()
        self.expected: deque[Expect] = deque()
        self.events = 0
        self.copy_in = False
        self.hold = HOLD_NONE
        self.no_transactions = False
        """Its client may leave none open: statement pooling."""
        self.dirty = ""
        """What a client may have left on it, in words; empty while nothing."""
        self.uncertain = False
        """Its answers did not match what was asked: it is to be closed, not lent again."""
        self.parameters: StartupParameters = NONE
        self.reported = reported
        """The last ParameterStatus of each parameter."""
        self.reported_before: dict[bytes, bytes] = {}
        """What those were that have changed since this was last emptied, by other means than ours."""
        self.prepared: dict[bytes, object] = {}
        """The statements it has under their clients' own names, the oldest first, each as the object it was made from:
        SQL's PREPARE, and what SQL was to find (see own_names.py)."""
        self.answer: list[bytes] | None = []
        """The rows of the last HIDDEN_ASK, as DataRow bodies; None where there is no telling."""
        self.describing = 0
        """How many answers to Describe are due, of a part of a batch that only prepares and describes."""
        self.last_words: dict[bytes, bytes] = {}
        """The fields of the FATAL error by which it has said that it goes, if that was not shown to its client."""
        self.substitute = b""
        """An ErrorResponse of ours, to be shown in place of the next one."""
        self.statements = ServerStatements(statements_max)
        self.unproven: dict[bytes, object] = {}
        """Those of `statements` that it may lack: parsed where that may be skipped, each with the batch in which, or to
        be closed where that was skipped, with ourselves."""
        self.goes_on = False
        """What it was sent last has no Sync yet."""
        self.unnamed: bytes | None = None
        """The Parse body of the unnamed statement it has."""
        self.owner: ClientStatements | None = None
        """The statements of the client it is lent to."""
        self.setup_error: bytes | None = None
        self.watch_deallocate = False
        self.skipping = False
        """After an error in an extended-query message: it discards all up to a Sync that was not sent yet."""
        self._left = 0
        self._keep_rest = True
        self._tail = b""
        self._hidden = False

    def at_rest(self) -> bool:
        """Nothing is due, no transaction is open, no COPY runs: what was asked is answered whole."""
        return not self.expected and self.status == IDLE and not self.copy_in and not self._left and not self._tail

    def between_messages(self) -> bool:
        """All that has come from it is whole."""
        return not self._left and not self._tail

    def unfinished(self) -> tuple[int, int]:
        """How many bytes it has sent of a message that could not be read yet, and how many are to come of one that
        could."""
        return len(self._tail), self._left

    def only_ours(self) -> bool:
        """Nothing is due but answers to exchanges of our own, outside a transaction."""
        if self.status != IDLE or self.copy_in or self.mid_message():
            return False
        return all(entry.hidden for entry in self.expected)

    def mid_message(self) -> bool:
        """The client has got a part of a message, and nothing but its rest may follow."""
        return self._left > 0 and self._keep_rest

    def unnamed_dropped(self) -> None:
        """A Query is about to be sent to it: that drops the unnamed statement, whoever's it is."""
        self.unnamed = None

    def feed(self, data: bytes) -> bytes:
        """Take what the server sent; returns what the client is to get. Raises ValueError on nonsense."""
        start = position = 0
        if self._left:
            if self._left >= len(data):
                self._left -= len(data)
                return data if self._keep_rest else b""
            position = self._left
            self._left = 0
            if not self._keep_rest:
                start = position
        elif self._tail:
            data = self._tail + data
            self._tail = b""
        size = len(data)
        pieces: list[bytes] = []
        hidden = self._hidden or (bool(self.expected) and self.expected[0].hidden)
        special = WATCHED if self.hold or self.watch_deallocate else SPECIAL
        if self.describing:
            special |= DESCRIPTIONS
        while position + 5 <= size:
            # Compiled, this is ten times as fast as struct; interpreted, a tenth of a microsecond slower.
            code = data[position]
            length = data[position + 1] << 24 | data[position + 2] << 16 | data[position + 3] << 8 | data[position + 4]
            end = position + 1 + length
            if length < 4:
                raise ValueError(f"a message of type {code} has the length {length}")
            if code not in special and not hidden:
                if end > size:
                    self._left = end - size
                    self._keep_rest = True
                    position = size
                    break
                position = end
                continue
            if end > size:
                if length <= READ_WHOLE_MAX and (code in special or (hidden and code in READ_HIDDEN)):
                    break
                if hidden and code == DATA_ROW:
                    self.answer = None
                self._left = end - size
                self._keep_rest = not hidden
                end = size
                shown: bytes | None = None if not hidden else b""
            elif hidden:
                shown = self._take_hidden(code, data[position + 5 : end])
                hidden = bool(self.expected) and self.expected[0].hidden
            else:
                shown = self._take(code, data, position, end)
                hidden = bool(self.expected) and self.expected[0].hidden
            if shown is not None:
                if start < position:
                    pieces.append(data[start:position])
                if shown:
                    pieces.append(shown)
                start = end
            position = end
        self._hidden = hidden
        if position < size:
            self._tail = data[position:]
        if not pieces and start == 0:
            return data if position == size else data[:position]
        if start < position:
            pieces.append(data[start:position])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take(self, code: int, data: bytes, position: int, end: int) -> bytes | None:
        """Act on a reply that means something; returns what is shown in its place, or None for itself."""
        if code == COMMAND_COMPLETE:
            self.meter.command(data, position + 5, end)
            if self.hold or self.watch_deallocate:
                self._take_watched(code, data[position + 5 : end])
            return None
        if code == READY_FOR_QUERY:
            return self._take_ready(_transaction_status(data[position + 5 : end]))
        if code in (PARSE_COMPLETE, CLOSE_COMPLETE):
            return self._take_complete()
        if code == ERROR_RESPONSE:
            return self._take_error(data[position:end])
        if code == PARAMETER_STATUS:
            self._take_parameter(data[position + 5 : end], ours=False)
        elif code in DESCRIPTIONS:
            self.describing = max(0, self.describing - 1)
        elif code == COPY_IN_RESPONSE:
            self.copy_in = True
            self.events |= COPY_BEGUN | (HOLD_OVER if self.hold else 0)
            self.hold = HOLD_NONE
        else:
            self._take_watched(code, data[position + 5 : end])
        return None

    def _take_ready(self, status: int) -> bytes | None:
        self.status = status
        self.copy_in = self.skipping = False
        self.describing = 0
        self.events |= READY
        shown: bytes | None = None
        undone: list[Expect] = []
        while self.expected:
            entry = self.expected.popleft()
            if entry is SYNC or entry is SYNC_UNSEEN:
                if self.no_transactions and status != IDLE:
                    # Where FATAL follows a ReadyForQuery, libpq takes it for a notice.
                    self.events |= LEFT_OPEN
                    shown = b""
                elif entry is SYNC_UNSEEN:
                    shown = b""
                if entry is SYNC:
                    self.meter.answered(status == IDLE, bool(self.expected))
                else:
                    self.meter.passed_over(status == IDLE, bool(self.expected))
                break
            undone.append(entry)
        else:
            # More answers than questions: a Sync that the server read after its COPY had failed, before we knew.
            self.uncertain = True
        if undone:
            self._undo(undone)
        if self.hold and not self.expected:
            self.hold = HOLD_NONE
            self.events |= HOLD_OVER
        if self.watch_deallocate and not self.expected:
            self.watch_deallocate = False
        return shown

    def _undo(self, entries: list[Expect]) -> None:
        """Take back what was booked for replies that were skipped, the last first."""
        for entry in reversed(entries):
            if entry.on_server is not None and not self._parsed_again(entry.on_server):
                self.statements.remove(entry.on_server.name)
                self.unproven.pop(entry.on_server.name, None)
            if entry.closes is not None:
                # Unless the batch that parsed it has failed, too.
                self.statements.add(entry.closes)
                self.unproven[entry.closes.name] = self
            if entry.own:
                self._restore(entry)
            if entry is UNNAMED:
                self.unnamed = None
            elif entry.owner is None:
                continue
            elif entry.unnamed is not None:
                entry.owner.unnamed_skipped(entry.unnamed)
                if self.unnamed is entry.unnamed:
                    self.unnamed = None
            elif entry.sql is not None:
                entry.owner.sql[entry.name] = entry.sql
            elif entry.previous is None:
                entry.owner.forget(entry.name)
            else:
                entry.owner.keep(entry.name, entry.previous)

    def lose(self) -> int:
        """Its connection is gone: take back what was booked; returns how many ReadyForQuery its client waits for."""
        unanswered = self.unanswered()
        due = list(self.expected)
        self.expected.clear()
        self._undo(due)
        return unanswered

    def unanswered(self) -> int:
        """How many ReadyForQuery its client waits for."""
        expected = self.expected
        return expected.count(SYNC) + expected.count(HIDDEN_LAST) if expected else 0

    def _parsed_again(self, statement: Statement) -> bool:
        """Whether another Parse of it is under way."""
        return any(entry.on_server is statement for entry in self.expected)

    def _restore(self, entry: Expect) -> None:
        """A client's own name means what it did before."""
        if entry.before is None:
            self.prepared.pop(entry.own, None)
        else:
            self.prepared[entry.own] = entry.before

    def may_fail(self) -> bool:
        """Whether what is sent next may find that its transaction has failed."""
        expected = self.expected
        return self.status == IN_FAILED_TRANSACTION or SYNC in expected or HIDDEN_LAST in expected

    def may_have(self, statement: Statement) -> bool:
        """Whether it may turn out to have one that it has not by the books: its Close is due, and may be skipped."""
        return self.may_fail() and any(entry.closes is statement for entry in self.expected)

    def _take_complete(self) -> bytes | None:
        if not self.expected:
            raise ValueError("a ParseComplete or CloseComplete that nothing asked for")
        entry = self.expected.popleft()
        if entry is PASS:
            return None
        if entry is MARKER:
            if self.hold == HOLD_FOR_MARKER:
                self.hold = HOLD_NONE
                self.events |= HOLD_OVER
            return b""
        if entry is SYNC or entry is SYNC_UNSEEN or entry.hidden:
            raise ValueError("a ParseComplete or CloseComplete where ReadyForQuery was due")
        if self.unproven and entry.on_server is not None:
            self.unproven.pop(entry.on_server.name, None)
        return entry.reply

    def _take_error(self, reply: bytes) -> bytes | None:
        shown = self._show_error(reply)
        if self.skipping and self.expected:
            # All that is due was sent behind what has failed.
            due = list(self.expected)
            self.expected.clear()
            self._undo(due)
        return shown

    def _show_error(self, reply: bytes) -> bytes | None:
        first = not self.events & FAILED
        self.events |= FAILED
        self.copy_in = False
        # Unless the error is an earlier batch's or a Query's, the server skips to Sync from here on.
        self.skipping = SYNC not in self.expected and SYNC_UNSEEN not in self.expected
        if self.skipping and self.hold in (HOLD_FOR_MARKER, HOLD_FOR_EXECUTE):
            self.hold = HOLD_NONE
            self.events |= HOLD_OVER | HOLD_FAILED
        fields = error_fields(reply[5:])
        if fields.get(b"V", fields.get(b"S")) in (b"FATAL", b"PANIC"):
            self.events |= FATAL
            if fields.get(b"C") in LAST_WORDS:
                self.last_words = fields
                self.meter.failed(False, fields.get(b"C", b""))
                return b""
        self.meter.failed(True, fields.get(b"C", b""))
        if fields.get(b"C") == b"42601" and b"P" in fields and b"q" not in fields and b"W" not in fields:
            self.events |= MISREAD
        if fields.get(b"C") in OUTCOME_UNKNOWN:
            self.events |= UNSURE
        if first and fields.get(b"C") == b"08P01":
            self.events |= VIOLATED
        if fields.get(b"C") == b"0A000" and fields.get(b"R") == b"RevalidateCachedQuery":
            self.events |= STALE_PLAN
        if self.substitute:
            shown, self.substitute = self.substitute, b""
            return shown
        if self.owner is not None and b"_pointsman_" in reply:
            closing = {entry.name: entry.previous for entry in self.expected if entry.previous is not None}
            body = self.owner.original_names(reply[5:], closing)
            return b"E" + (len(body) + 4).to_bytes(4, "big") + body
        return None

    def _take_parameter(self, body: bytes, ours: bool) -> None:
        """A parameter has changed, through a statement of ours or by other means."""
        name, _, rest = body.partition(b"\0")
        if not ours:
            self.reported_before.setdefault(name, self.reported.get(name, b""))
        self.reported[name] = rest[:-1]

    def _take_watched(self, code: int, body: bytes) -> None:
        if code == COMMAND_COMPLETE and self.watch_deallocate and body in (b"DEALLOCATE ALL\0", b"DISCARD ALL\0"):
            self.statements.clear()
            self.unproven.clear()
            self.prepared.clear()
            self.unnamed = None
            self.events |= DEALLOCATED
        if self.hold == HOLD_FOR_EXECUTE:
            self.hold = HOLD_NONE
            self.events |= HOLD_OVER

    def _take_hidden(self, code: int, body: bytes) -> bytes:
        """A reply within an exchange of our own; returns what the client is to notice of it."""
        kind = self.expected[0]
        if code == READY_FOR_QUERY:
            self.status = _transaction_status(body)
            self.events |= READY
            self.expected.popleft()
            if kind is HIDDEN_LAST:
                self.meter.answered(self.status == IDLE, bool(self.expected))
                return message(READY_FOR_QUERY, body)
        elif code == ERROR_RESPONSE:
            fields = error_fields(body)
            if fields.get(b"V") == b"FATAL":
                self.events |= FATAL
                self.last_words = fields
            elif kind is HIDDEN:
                self.setup_error = body
                self.events |= SETUP_FAILED
            elif kind is HIDDEN_ASK:
                self.answer = None
            elif kind.own:
                self._restore(kind)
            elif kind is HIDDEN_TRY:
                # It was begun, and nobody knows how far it came.
                self.uncertain = True
        elif code == PARAMETER_STATUS:
            self._take_parameter(body, ours=True)
            if kind is HIDDEN_LAST:
                return message(PARAMETER_STATUS, body)
        elif code == NOTIFICATION_RESPONSE:
            return message(NOTIFICATION_RESPONSE, body)
        elif code == DATA_ROW and kind is HIDDEN_ASK and self.answer is not None:
            self.answer.append(body)
        return b""


def _transaction_status(body: bytes) -> int:
    """What a ReadyForQuery says."""
    if len(body) != 1:
        raise ValueError("a ReadyForQuery without its one byte of status")
    return body[0]


def comes_unasked(replies: bytes) -> bool:
    """Whether all of them may come at any time ("Asynchronous Operations"), or tell that the server ends."""
    position = 0
    while position < len(replies):
        if replies[position] not in UNASKED:
            return False
        position += 1 + int.from_bytes(replies[position + 1 : position + 5], "big")
    return True


def error_fields(body: bytes) -> dict[bytes, bytes]:
    """The fields of an ErrorResponse or NoticeResponse body, by their one-letter codes."""
    return {field[:1]: field[1:] for field in body.split(b"\0") if field}
