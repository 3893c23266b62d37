"""A client of the console: what it sends in, what it is sent out, and what is asked of the supervisor meanwhile.

Both query protocols of the manual's "Message Flow", as a backend has them. A message is answered before the next one is
looked at; what has come meanwhile waits, in a backlog with a bound. A command goes up as an Order, and its answer comes
back in parts (ConsoleTold); each next part is asked for when the rows of the one before have been taken, so that
neither side holds more than one for a reader that is slow. What only concerns the session is answered at once
(courtesies).

A transaction block is kept count of, for drivers that open one before whatever they say: commands are carried out at
once, and ROLLBACK takes none of them back.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from middleware import sqlstate
from middleware.admin.columns import COLUMNS
from middleware.admin.courtesies import Courtesies, Courtesy
from middleware.admin.grammar import Show, command_of
from middleware.admin.table import OIDS, Column, Value
from middleware.admin.values import described, encoded
from middleware.admin.words import Statement, statements_of
from middleware.control import ConsoleTold
from middleware.errors import PointsmanError, ProtocolViolation
from middleware.wire import backend, codes, frontend
from middleware.wire.build import error_response, message, notice
from middleware.wire.framing import Framer

MESSAGE_BYTES_MAX: Final = 65_536
BACKLOG_BYTES_MAX: Final = 65_536
"""Of messages that wait; then nothing more is read."""
STATEMENTS_MAX: Final = 200
STATEMENT_BYTES_MAX: Final = 1_048_576
"""Of the text of all prepared statements together."""
PORTALS_MAX: Final = 20
TEXT_OID: Final = OIDS["text"]

IDLE: Final = b"I"
IN_BLOCK: Final = b"T"
FAILED: Final = b"E"


class Order(msgspec.Struct, frozen=True):
    """What the supervisor is to be told of a command: to carry it out, to send more of its answer, or that nobody waits
    for it."""

    what: Literal["ask", "more", "gone"]
    serial: int
    text: str = ""


class _Prepared(msgspec.Struct, frozen=True):
    """A statement that can be executed; without words it is an empty query."""

    statement: Statement
    columns: tuple[Column, ...]
    parameters: tuple[int, ...]
    own: bool
    """It is a command of the console, and no courtesy."""


class _Run:
    """An execution: its rows, as they come."""

    __slots__ = (
        "columns",
        "count",
        "final",
        "formats",
        "owed",
        "reports",
        "rows",
        "rows_max",
        "serial",
        "simple",
        "undescribed",
    )

    def __init__(self, serial: int, columns: tuple[Column, ...], formats: tuple[int, ...], simple: bool) -> None:
        self.serial: Final = serial
        """0 where the supervisor has not been asked."""
        self.columns: Final = columns
        self.formats: Final = formats
        self.simple: Final = simple
        self.undescribed = simple and bool(columns)
        """A RowDescription goes in front of its first row."""
        self.rows: deque[tuple[Value, ...]] = deque()
        self.rows_max = 0
        """Of what Execute wants now; 0 for all."""
        self.count = 0
        self.final: ConsoleTold | None = None
        """Its last part has come: no more rows will."""
        self.owed = False
        """A part has come, and the next one has not been asked for."""
        self.reports: tuple[tuple[str, str], ...] = ()
        """Parameters whose values have changed by it."""


class _Portal:
    __slots__ = ("formats", "prepared", "run")

    def __init__(self, prepared: _Prepared, formats: tuple[int, ...]) -> None:
        self.prepared: Final = prepared
        self.formats: Final = formats
        self.run: _Run | None = None
        """It has been begun."""


class Conversation:
    """One client's, once it has been welcomed."""

    def __init__(self, courtesies: Courtesies) -> None:
        self._courtesies: Final = courtesies
        self._framer: Final = Framer(MESSAGE_BYTES_MAX)
        self._backlog: Final[deque[tuple[int, bytes]]] = deque()
        self._backlog_bytes = 0
        self._statements: Final[dict[bytes, _Prepared]] = {}
        self._portals: Final[dict[bytes, _Portal]] = {}
        self._script: deque[Statement] | None = None
        """What is left of a simple query."""
        self._run: _Run | None = None
        self._running_portal = b""
        self._skipping = False
        """Protocol, "Extended Query": after an error, until Sync."""
        self._status = IDLE
        self._serial = 0
        self._out: list[bytes] = []
        self._orders: list[Order] = []
        self.held_up = False
        """Its reader is slow: nothing is sent for now."""
        self.ended = False
        """It has said Terminate, or must not say more."""

    @property
    def prepared_statements(self) -> int:
        """How many it has."""
        return len(self._statements)

    # In

    def receive(self, data: bytes) -> None:
        """Take what it has sent. Raises ProtocolViolation."""
        for code, body in self._framer.feed(data):
            self._backlog.append((code, body))
            self._backlog_bytes += len(body)
        self._advance()

    def told(self, part: ConsoleTold) -> None:
        """A part of an answer. One that nobody waits for is passed over."""
        run = self._find(part.serial)
        if run is None or run.final is not None:
            return
        run.rows.extend(part.rows)
        if run is self._run:
            self._out.extend(notice(text) for text in part.notices)
        if part.last:
            run.final = part
        else:
            run.owed = True
        self._advance()

    def go_on(self) -> None:
        """Its reader has taken what it was sent."""
        self.held_up = False
        self._advance()

    def cancel(self) -> None:
        """A CancelRequest: the command under way is to be given up; the supervisor says what has become of it."""
        run = self._run
        if run is not None and run.serial and run.final is None:
            self._orders.append(Order("gone", run.serial))

    def leave(self) -> None:
        """It has gone: so nobody waits for anything."""
        self.ended = True
        self._forget(self._run)
        self._run = None
        self._drop_portals()

    # Out

    def take(self) -> bytes:
        """What is to be sent to it now."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def orders(self) -> list[Order]:
        """What is to be sent to the supervisor now."""
        orders, self._orders = self._orders, []
        return orders

    def busy(self) -> bool:
        """It waits for an answer."""
        return self._run is not None or self._script is not None or bool(self._backlog)

    def full(self) -> bool:
        """It is to send no more for now."""
        return self._backlog_bytes > BACKLOG_BYTES_MAX

    # One thing after the other

    def _advance(self) -> None:
        while not self.ended and not self.held_up:
            if self._run is not None:
                if not self._pump(self._run):
                    return
            elif self._script is not None:
                self._next_of_script(self._script)
            elif self._backlog:
                code, body = self._backlog.popleft()
                self._backlog_bytes -= len(body)
                self._take(code, body)
            else:
                return

    def _take(self, code: int, body: bytes) -> None:
        """Raises ProtocolViolation."""
        said = frontend.decode_frontend(code, body)
        if isinstance(said, frontend.Terminate):
            self.ended = True
        elif isinstance(said, frontend.Sync):
            self._skipping = False
            if self._status == IDLE:
                self._drop_portals()
            self._ready()
        elif isinstance(said, frontend.CopyData | frontend.CopyDone | frontend.CopyFail):
            # Protocol, "COPY Operations": outside of it they are passed over.
            pass
        elif self._skipping:
            pass
        elif isinstance(said, frontend.Query):
            self._query(said.text)
        elif isinstance(said, frontend.FunctionCall):
            self._fail(PointsmanError("the console has no functions", sqlstate=sqlstate.FEATURE_NOT_SUPPORTED))
            self._ready()
        else:
            try:
                self._take_extended(said)
            except ProtocolViolation:
                raise
            except PointsmanError as error:
                self._fail(error)
                self._skipping = True

    # Simple queries

    def _query(self, text: bytes) -> None:
        try:
            statements = statements_of(_decoded(text))
        except PointsmanError as error:
            self._fail(error)
            self._ready()
            return
        # Protocol, "Simple Query": it destroys the unnamed statement and portal.
        self._statements.pop(b"", None)
        self._drop_portal(b"")
        self._script = deque(statements)
        if not statements:
            self._out.append(backend.EmptyQueryResponse().encode())

    def _next_of_script(self, script: deque[Statement]) -> None:
        if not script:
            self._script = None
            if self._status == IDLE:
                self._drop_portals()
            self._ready()
            return
        try:
            self._run = self._begin(self._prepared(script.popleft(), ()), (), simple=True)
        except PointsmanError as error:
            self._fail(error)
            script.clear()

    # The extended protocol

    def _take_extended(self, said: object) -> None:
        """Raises PointsmanError."""
        match said:
            case frontend.Parse(name=name, text=text, parameter_types=types):
                self._parse(name, text, types)
            case frontend.Bind():
                self._bind(said)
            case frontend.Describe(kind=frontend.STATEMENT, name=name):
                prepared = self._statement(name)
                self._out.append(backend.ParameterDescription(prepared.parameters).encode())
                self._describe(prepared.columns, ())
            case frontend.Describe(name=name):
                portal = self._portal(name)
                self._describe(portal.prepared.columns, portal.formats)
            case frontend.Execute(portal=name, rows_max=rows_max):
                self._execute(name, rows_max)
            case frontend.Close(kind=frontend.STATEMENT, name=name):
                self._statements.pop(name, None)
                self._out.append(backend.CloseComplete().encode())
            case frontend.Close(name=name):
                self._drop_portal(name)
                self._out.append(backend.CloseComplete().encode())
            case frontend.Flush():
                # Everything is sent as soon as it is there.
                pass
            case _:
                raise ProtocolViolation("unexpected message")

    def _parse(self, name: bytes, text: bytes, types: tuple[int, ...]) -> None:
        if name and name in self._statements:
            shown = _decoded(name)
            raise PointsmanError(
                f'prepared statement "{shown}" already exists', sqlstate=sqlstate.DUPLICATE_PREPARED_STATEMENT
            )
        statements = statements_of(_decoded(text))
        if len(statements) > 1:
            raise PointsmanError(
                "cannot insert multiple commands into a prepared statement", sqlstate=sqlstate.SYNTAX_ERROR
            )
        prepared = self._prepared(statements[0] if statements else Statement("", ()), types)
        held = sum(len(one.statement.text) for one in self._statements.values()) + len(prepared.statement.text)
        if len(self._statements) >= STATEMENTS_MAX or held > STATEMENT_BYTES_MAX:
            raise PointsmanError(
                "too many prepared statements",
                detail=f"The console keeps {STATEMENTS_MAX} for a client.",
                sqlstate=sqlstate.PROGRAM_LIMIT_EXCEEDED,
            )
        self._statements[name] = prepared
        self._out.append(backend.ParseComplete().encode())

    def _bind(self, said: frontend.Bind) -> None:
        prepared = self._statement(said.statement)
        if len(said.parameters) != len(prepared.parameters):
            raise PointsmanError(
                f"bind message supplies {len(said.parameters)} parameters, but the statement "
                f"requires {len(prepared.parameters)}",
                sqlstate=sqlstate.PROTOCOL_VIOLATION,
            )
        formats = said.result_formats
        if len(formats) > 1 and len(formats) != len(prepared.columns):
            raise PointsmanError(
                f"bind message has {len(formats)} result formats but query has {len(prepared.columns)} columns",
                sqlstate=sqlstate.PROTOCOL_VIOLATION,
            )
        if any(one not in (0, 1) for one in formats):
            raise PointsmanError(f"unsupported format code: {max(formats)}", sqlstate=sqlstate.INVALID_PARAMETER_VALUE)
        if said.portal and said.portal in self._portals:
            raise PointsmanError(f'portal "{_decoded(said.portal)}" already exists', sqlstate=sqlstate.DUPLICATE_CURSOR)
        self._drop_portal(said.portal)
        if len(self._portals) >= PORTALS_MAX:
            raise PointsmanError(
                "too many portals",
                detail=f"The console keeps {PORTALS_MAX} for a client.",
                sqlstate=sqlstate.PROGRAM_LIMIT_EXCEEDED,
            )
        self._portals[said.portal] = _Portal(prepared, formats)
        self._out.append(backend.BindComplete().encode())

    def _describe(self, columns: tuple[Column, ...], formats: tuple[int, ...]) -> None:
        if columns:
            self._out.append(backend.RowDescription(described(columns, formats)).encode())
        else:
            self._out.append(backend.NoData().encode())

    def _execute(self, name: bytes, rows_max: int) -> None:
        portal = self._portal(name)
        if not portal.prepared.statement.words:
            self._out.append(backend.EmptyQueryResponse().encode())
            return
        if portal.run is None:
            portal.run = self._begin(portal.prepared, portal.formats, simple=False)
        portal.run.rows_max = max(0, rows_max)
        self._run, self._running_portal = portal.run, name

    def _statement(self, name: bytes) -> _Prepared:
        prepared = self._statements.get(name)
        if prepared is None:
            shown = f'prepared statement "{_decoded(name)}"' if name else "unnamed prepared statement"
            raise PointsmanError(f"{shown} does not exist", sqlstate=sqlstate.INVALID_SQL_STATEMENT_NAME)
        return prepared

    def _portal(self, name: bytes) -> _Portal:
        portal = self._portals.get(name)
        if portal is None:
            raise PointsmanError(f'portal "{_decoded(name)}" does not exist', sqlstate=sqlstate.INVALID_CURSOR_NAME)
        return portal

    # Executions

    def _prepared(self, statement: Statement, types: tuple[int, ...]) -> _Prepared:
        """Raises PointsmanError."""
        if not statement.words:
            return _Prepared(statement, (), (), own=False)
        courtesy = self._courtesies.answer(statement)
        if courtesy is not None:
            return _Prepared(statement, courtesy.columns, _parameters(statement, types), own=False)
        command = command_of(statement)
        return _Prepared(statement, COLUMNS[command.subject] if isinstance(command, Show) else (), (), own=True)

    def _begin(self, prepared: _Prepared, formats: tuple[int, ...], *, simple: bool) -> _Run:
        """Raises PointsmanError."""
        if prepared.own:
            self._refuse_in_failed()
            self._serial += 1
            self._orders.append(Order("ask", self._serial, prepared.statement.text))
            return _Run(self._serial, prepared.columns, formats, simple)
        run = _Run(0, prepared.columns, formats, simple)
        courtesy = self._courtesies.answer(prepared.statement)
        assert courtesy is not None
        if not courtesy.ends_block:
            self._refuse_in_failed()
        run.rows.extend(courtesy.rows)
        tag = self._enter(courtesy)
        run.final = ConsoleTold(0, 0, tag=tag)
        run.reports = self._courtesies.apply(courtesy)
        self._out.extend(notice(text) for text in courtesy.notices)
        return run

    def _refuse_in_failed(self) -> None:
        if self._status == FAILED:
            raise PointsmanError(
                "current transaction is aborted, commands ignored until end of transaction block",
                sqlstate=sqlstate.IN_FAILED_SQL_TRANSACTION,
            )

    def _enter(self, courtesy: Courtesy) -> str:
        """Begin or end a transaction block, if that is what it does; its tag."""
        tag = courtesy.tag
        if courtesy.block == "begin":
            self._status = IN_BLOCK
        elif courtesy.block == "go on":
            self._status = IN_BLOCK if self._status != IDLE else IDLE
        elif courtesy.block == "end":
            if self._status == FAILED and tag == "COMMIT":
                tag = "ROLLBACK"
            self._status = IDLE
        return tag

    def _pump(self, run: _Run) -> bool:
        """Send of a run what is there; whether something else may follow."""
        failure = None if run.final is None else run.final.error
        if run.undescribed and (run.rows or (run.final is not None and failure is None)):
            run.undescribed = False
            self._out.append(backend.RowDescription(described(run.columns, run.formats)).encode())
        sent = 0
        while run.rows and (not run.rows_max or sent < run.rows_max):
            self._out.append(backend.DataRow(encoded(run.columns, run.formats, run.rows.popleft())).encode())
            sent += 1
        run.count += sent
        if run.rows_max and sent:
            run.rows_max -= sent
            if not run.rows_max:
                # Whether there is more behind the last row is seen when that is asked for, as in PostgreSQL.
                self._out.append(backend.PortalSuspended().encode())
                self._run = None
                return True
        if run.final is None:
            if run.owed:
                run.owed = False
                self._orders.append(Order("more", run.serial))
            return False
        self._run = None
        if not run.simple:
            self._portals.pop(self._running_portal, None)
        if failure is not None:
            text, detail, hint, state = failure
            self._fail(PointsmanError(text, detail=detail, hint=hint, sqlstate=state))
            if self._script is not None:
                self._script.clear()
            else:
                self._skipping = True
            return True
        tag = f"SELECT {run.count}" if run.final.tag == "SELECT" else run.final.tag
        self._out.append(backend.CommandComplete(tag.encode()).encode())
        self._out.extend(backend.ParameterStatus(name.encode(), text.encode()).encode() for name, text in run.reports)
        return True

    # What is left

    def _find(self, serial: int) -> _Run | None:
        if self._run is not None and self._run.serial == serial:
            return self._run
        runs = (portal.run for portal in self._portals.values())
        return next((run for run in runs if run is not None and run.serial == serial), None)

    def _drop_portals(self) -> None:
        for name in list(self._portals):
            self._drop_portal(name)

    def _drop_portal(self, name: bytes) -> None:
        portal = self._portals.pop(name, None)
        if portal is not None:
            self._forget(portal.run)

    def _forget(self, run: _Run | None) -> None:
        """Its rows are not wanted any more."""
        if run is not None and run.serial and run.final is None:
            self._orders.append(Order("gone", run.serial))

    def _fail(self, error: PointsmanError) -> None:
        if self._status == IN_BLOCK:
            self._status = FAILED
        self._out.append(error_response(error))

    def _ready(self) -> None:
        self._out.append(message(codes.READY_FOR_QUERY, self._status))


def _parameters(statement: Statement, types: Sequence[int]) -> tuple[int, ...]:
    """The types of a statement's parameters: those that were given, else text."""
    numbers = [int(word.text) for word in statement.words if word.kind == "parameter" and len(word.text) < 6]
    count = max(len(types), *numbers, 0)
    if count > 0xFFFF or any(number == 0 for number in numbers):
        raise PointsmanError("there is no such parameter", sqlstate=sqlstate.UNDEFINED_PARAMETER)
    return tuple([(types[at] if at < len(types) else 0) or TEXT_OID for at in range(count)])


def _decoded(text: bytes) -> str:
    """As UTF-8, which the console speaks. Raises PointsmanError."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise PointsmanError(
            'invalid byte sequence for encoding "UTF8"', sqlstate=sqlstate.CHARACTER_NOT_IN_REPERTOIRE
        ) from None
