"""A PostgreSQL backend in memory, as far as its protocol goes: what a frontend sees of one session.

Any bytes may come. It follows the manual's "Message Flow": what is malformed within a message is an ERROR, what leaves
no message boundaries is FATAL; after an error in an extended-query message all is skipped to Sync; in copy-in mode
Flush and Sync are ignored and any other message fails the COPY. The same model is the server behind a relay and the
server that a direct client sees.
"""

import asyncio
from typing import Final, cast

from middleware.errors import ProtocolViolation
from middleware.session.batch import LENGTH_MAX
from middleware.session.parameters import gucs_of
from middleware.wire import codes
from middleware.wire.backend import (
    AuthenticationOk,
    BackendKeyData,
    BindComplete,
    CloseComplete,
    Column,
    CommandComplete,
    CopyInResponse,
    CopyOutResponse,
    DataRow,
    EmptyQueryResponse,
    ErrorResponse,
    FunctionCallResponse,
    NoData,
    ParameterDescription,
    ParameterStatus,
    ParseComplete,
    PortalSuspended,
    ReadyForQuery,
    RowDescription,
)
from middleware.wire.fields import Message
from middleware.wire.frontend import (
    STATEMENT,
    Bind,
    Close,
    CopyData,
    CopyDone,
    Describe,
    Execute,
    FunctionCall,
    Parse,
    Query,
    decode_frontend,
)
from tests.wirefuzz.sql import DEFAULTS, REPORTED, Refusal, Result, SqlSession

INT4_ABS: Final = 1251
SECRET: Final = b"key!"
EXTENDED: Final = frozenset({codes.PARSE, codes.BIND, codes.DESCRIBE, codes.EXECUTE, codes.CLOSE})
COPY_MESSAGES: Final = frozenset({codes.COPY_DATA, codes.COPY_DONE, codes.COPY_FAIL})


def error(sqlstate: str, severity: str = "ERROR") -> bytes:
    level = severity.encode()
    return ErrorResponse(((b"S", level), (b"V", level), (b"C", sqlstate.encode()), (b"M", b"refused"))).encode()


class Portal:
    """A bound statement, and the rows that are left of its result."""

    def __init__(self, text: bytes) -> None:
        self.text: Final = text
        self.rows: list[tuple[bytes | None, ...]] | None = None
        self.tag = b""


class Backends:
    """All backends of a node: whom a CancelRequest finds by its process id."""

    def __init__(self) -> None:
        self.alive: Final[dict[int, Postgres]] = {}
        self._last = 0

    def add(self, backend: "Postgres") -> int:
        self._last += 1
        self.alive[self._last] = backend
        return self._last


class Postgres(asyncio.Protocol):
    """One backend: an asyncio protocol. Subclasses may say something else than the truth: see write()."""

    def __init__(self, loop: asyncio.AbstractEventLoop, backends: Backends, keeps_unnamed: bool = True) -> None:
        """`keeps_unnamed`: as PostgreSQL does, when what ends the unnamed statement is skipped or malformed."""
        self._keeps_unnamed: Final = keeps_unnamed
        self._loop: Final = loop
        self._backends: Final = backends
        self._transport: asyncio.Transport
        self._pending = b""
        self.started = False
        self.startup: dict[bytes, bytes] = {}
        self.process_id = 0
        self.sql = SqlSession()
        self._portals: dict[bytes, Portal] = {}
        self._skipping = False
        self._copying: list[bytes] | None = None
        """In copy-in mode: the statements of its Query that are still to run."""
        self._copy_extended = False
        self._busy: asyncio.TimerHandle | None = None
        self._after: tuple[Result, list[bytes], bool] | None = None
        self._told: dict[bytes, bytes] = dict(DEFAULTS)
        self.ended = False
        self._out: list[bytes] = []

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._backends.alive.pop(self.process_id, None)
        if self._busy is not None:
            self._busy.cancel()

    def eof_received(self) -> bool:
        """What is under way goes on, as PostgreSQL's would until it reads or writes."""
        return self._busy is not None

    def data_received(self, data: bytes) -> None:
        self._pending += data
        self._go_on()

    def write(self, data: bytes) -> None:
        """Say it to the client."""
        self._transport.write(data)

    def _say(self, *messages: Message | bytes) -> None:
        self._out.extend(one if isinstance(one, bytes) else one.encode() for one in messages)

    def _flush(self) -> None:
        if self._out:
            out, self._out = b"".join(self._out), []
            self.write(out)

    def _end(self) -> None:
        self._flush()
        self.ended = True
        self._transport.close()

    def _go_on(self) -> None:
        while not self.ended and self._busy is None and (self._start() if not self.started else self._step()):
            pass
        if not self.ended:
            self._flush()

    # Start-up

    def _start(self) -> bool:
        if len(self._pending) < 4:
            return False
        length = int.from_bytes(self._pending[:4], "big")
        if not 8 <= length <= 10_004:
            self._end()
            return False
        if len(self._pending) < length:
            return False
        packet, self._pending = self._pending[4:length], self._pending[length:]
        number = int.from_bytes(packet[:4], "big")
        if number == codes.CANCEL_REQUEST:
            found = self._backends.alive.get(int.from_bytes(packet[4:8], "big"))
            if found is not None and packet[8:] == SECRET:
                found.cancel()
            self._end()
        elif number in (codes.SSL_REQUEST, codes.GSSENC_REQUEST):
            self.write(b"N")
        else:
            words = packet[4:].split(b"\0")
            self.startup = dict(zip(words[:-2:2], words[1:-2:2], strict=False))
            self.process_id = self._backends.add(self)
            self.log_in()
        return True

    def log_in(self) -> None:
        """The startup message has come: by default nothing has to be proved."""
        self.welcome()

    def welcome(self) -> None:
        """Tell all that follows a proof."""
        self.started = True
        self._say(AuthenticationOk())
        try:
            for name, value in gucs_of(self.startup):
                self.sql.put(name, value)
        except Refusal as refusal:
            self._say(error(refusal.sqlstate, "FATAL"))
            self._end()
            return
        self.sql.base = dict(self.sql.settings)
        self._told = dict(self.sql.settings)
        for name in DEFAULTS:
            self._say(ParameterStatus(REPORTED.get(name, name), self.sql.settings[name]))
        self._say(BackendKeyData(self.process_id, SECRET), ReadyForQuery(b"I"))

    # Messages

    def _step(self) -> bool:
        """One message; False when there is none that is whole."""
        pending = self._pending
        if not pending:
            return False
        code = pending[0]
        if code not in LENGTH_MAX:
            return self._violated()
        if len(pending) < 5:
            return False
        length = int.from_bytes(pending[1:5], "big")
        if not 4 <= length <= LENGTH_MAX[code]:
            return self._violated()
        if len(pending) <= length:
            return False
        body, self._pending = pending[5 : length + 1], pending[length + 1 :]
        self._take(code, body)
        return True

    def _violated(self) -> bool:
        self._say(error("08P01", "FATAL"))
        self._end()
        return False

    def _take(self, code: int, body: bytes) -> None:
        if self._copying is not None:
            self._take_copy(code, body)
        elif code == codes.TERMINATE:
            self._end()
        elif code == codes.SYNC:
            self._skipping = False
            self._ready()
        elif self._skipping or code in COPY_MESSAGES or code == codes.FLUSH:
            unnamed = (code == codes.PARSE and body[:1] == b"\0") or (code == codes.CLOSE and body == b"S\0")
            if unnamed and not self._keeps_unnamed:
                self.sql.statements.pop(b"", None)
        elif code in (codes.QUERY, codes.FUNCTION_CALL):
            self._take_simple(code, body)
        else:
            try:
                self._extended(decode_frontend(code, body))
            except ProtocolViolation:
                if not self._keeps_unnamed and code == codes.PARSE and body[:1] == b"\0":
                    self.sql.statements.pop(b"", None)
                self._failed("08P01")
            except Refusal as refusal:
                self._failed(refusal.sqlstate)

    def _failed(self, sqlstate: str) -> None:
        """In an extended-query message."""
        self.sql.fail()
        self._say(error(sqlstate))
        self._skipping = True

    def _ready(self) -> None:
        if self.sql.status == b"I":
            self._portals.clear()
        self.sql.implicit = None
        self._tell_changes()
        self._say(ReadyForQuery(self.sql.status))

    def _tell_changes(self) -> None:
        for name in DEFAULTS:
            value = self.sql.settings.get(name, b"")
            if self._told.get(name) != value:
                self._told[name] = value
                self._say(ParameterStatus(REPORTED.get(name, name), value))

    # Simple

    def _take_simple(self, code: int, body: bytes) -> None:
        try:
            asked = decode_frontend(code, body)
        except ProtocolViolation:
            self.sql.fail()
            if not self._keeps_unnamed:
                self.sql.statements.pop(b"", None)
            self._say(error("08P01"))
            self._ready()
            return
        if isinstance(asked, FunctionCall):
            self._call(asked)
            return
        assert isinstance(asked, Query)
        self.sql.statements.pop(b"", None)
        self._portals.pop(b"", None)
        try:
            parts = self.sql.split(asked.text)
            if not parts:
                self._say(EmptyQueryResponse())
        except Refusal as refusal:
            self.sql.fail()
            self._say(error(refusal.sqlstate))
            self._ready()
            return
        self._run_all(parts)

    def _run_all(self, parts: list[bytes]) -> None:
        """The statements of a Query, up to one that waits for something."""
        for index, part in enumerate(parts):
            try:
                result = self.sql.run(part)
            except Refusal as refusal:
                self.sql.fail()
                self._say(error(refusal.sqlstate))
                break
            if result.copy_in:
                self._begin_copy(parts[index + 1 :], extended=False)
                return
            if result.sleep_s:
                self._sleep(result, parts[index + 1 :], extended=False)
                return
            if result.rows is not None:
                self._say(described(result.rows))
            self._show(result)
        self._ready()

    def _show(self, result: Result) -> None:
        """The rows of a result and its end."""
        if result.copy_out:
            self._say(CopyOutResponse(0, (0,)), CopyData(b"1\n"), CopyData(b"2\n"), CopyDone())
        for row in result.rows or ():
            self._say(DataRow(row))
        self._say(CommandComplete(result.tag))

    def _call(self, call: FunctionCall) -> None:
        if self.sql.status == b"E":
            self._say(error("25P02"))
        elif call.function != INT4_ABS or len(call.arguments) != 1:
            self.sql.fail()
            self._say(error("42883"))
        else:
            self._say(FunctionCallResponse(call.arguments[0]))
        self._ready()

    # Waiting

    def busy(self) -> bool:
        """A statement runs that takes its time."""
        return self._busy is not None

    def _sleep(self, result: Result, rest: list[bytes], extended: bool) -> None:
        self._flush()
        self._after = result, rest, extended
        self._busy = self._loop.call_later(result.sleep_s, self._awake)

    def cancel(self) -> None:
        """A CancelRequest with our key has come."""
        if self._busy is not None:
            self._busy.cancel()
            self._awake(canceled=True)

    def _awake(self, canceled: bool = False) -> None:
        assert self._after is not None
        (result, rest, extended), self._after, self._busy = self._after, None, None
        if canceled:
            self.sql.fail()
            self._say(error("57014"))
            if extended:
                self._skipping = True
            else:
                self._ready()
        elif extended:
            self._show(result)
        else:
            self._say(described(result.rows or []))
            self._show(result)
            self._run_all(rest)
        self._go_on()

    # COPY

    def _begin_copy(self, rest: list[bytes], extended: bool) -> None:
        self._say(CopyInResponse(0, (0,)))
        self._copying, self._copy_extended = rest, extended

    def _take_copy(self, code: int, body: bytes) -> None:
        if code in (codes.FLUSH, codes.SYNC):
            return
        if code == codes.TERMINATE:
            # PostgreSQL tells of the COPY's failure first, to nobody.
            self._end()
            return
        rest = self._copying or []
        if code == codes.COPY_DATA and not body.startswith(b"bad"):
            return
        self._copying = None
        if code == codes.COPY_DONE:
            self._say(CommandComplete(b"COPY 2"))
            if not self._copy_extended:
                self._run_all(rest)
            return
        self.sql.fail()
        if code == codes.COPY_DATA:
            sqlstate = "22P02"
        elif code == codes.COPY_FAIL:
            sqlstate = "57014" if body.find(b"\0") == len(body) - 1 else "08P01"
        else:
            sqlstate = "08P01"
        self._say(error(sqlstate))
        if self._copy_extended:
            self._skipping = True
        else:
            self._ready()

    # Extended

    def _extended(self, asked: Message) -> None:
        sql = self.sql
        if isinstance(asked, Parse):
            self._parse(asked)
        elif isinstance(asked, Bind):
            self._bind(asked)
        elif isinstance(asked, Execute):
            self._execute(asked)
        elif isinstance(asked, Close):
            if asked.kind == STATEMENT:
                sql.statements.pop(asked.name, None)
                sql.by_sql.pop(asked.name, None)
            else:
                self._portals.pop(asked.name, None)
            self._say(CloseComplete())
        else:
            assert isinstance(asked, Describe)
            if asked.kind == STATEMENT:
                text = self._statement(asked.name)
                self._say(ParameterDescription())
            else:
                text = self._portal(asked.name).text
            if text:
                sql.check(text)
            self._say(described([]) if sql.gives_rows(text) else NoData())

    def _parse(self, parse: Parse) -> None:
        sql = self.sql
        if not parse.name:
            sql.statements.pop(b"", None)
        parts = sql.split(parse.text)
        if len(parts) > 1:
            raise Refusal("42601")
        if parts:
            sql.check(parts[0])
        if parse.name in sql.statements:
            raise Refusal("42P05")
        sql.statements[parse.name] = parse.text
        self._say(ParseComplete())

    def _bind(self, bind: Bind) -> None:
        if not bind.portal:
            self._portals.pop(b"", None)
        parts = self.sql.split(self._statement(bind.statement))
        if parts:
            self.sql.check(parts[0])
        if bind.portal in self._portals:
            raise Refusal("42P03")
        self._portals[bind.portal] = Portal(parts[0] if parts else b"")
        self._say(BindComplete())

    def _execute(self, execute: Execute) -> None:
        portal = self._portal(execute.portal)
        if not portal.text:
            self._say(EmptyQueryResponse())
            return
        if portal.rows is None:
            result = self.sql.run(portal.text)
            if result.copy_in:
                self._begin_copy([], extended=True)
                return
            if result.sleep_s:
                self._sleep(result, [], extended=True)
                return
            if result.rows is None:
                self._show(result)
                return
            portal.rows, portal.tag = result.rows, result.tag
        count = execute.rows_max if execute.rows_max > 0 else len(portal.rows)
        rows, portal.rows = portal.rows[:count], portal.rows[count:]
        self._say(*map(DataRow, rows))
        self._say(PortalSuspended() if portal.rows else CommandComplete(portal.tag))

    def _statement(self, name: bytes) -> bytes:
        if name not in self.sql.statements:
            raise Refusal("26000")
        return self.sql.statements[name]

    def _portal(self, name: bytes) -> Portal:
        if name not in self._portals:
            raise Refusal("34000")
        return self._portals[name]


def described(rows: list[tuple[bytes | None, ...]]) -> Message:
    """The RowDescription for rows."""
    width = len(rows[0]) if rows else 1
    return RowDescription((Column(b"t", type_oid=25, type_size=-1),) * width)
