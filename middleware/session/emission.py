"""A batch's bytes for one server.

Named statements go under the servers' names for them, and one that a server lacks is parsed in front of the message
that needs it (see prepared.py). What SQL names in the same batch goes as it came (see own_names.py). A batch without
edits is sent as the very bytes that came.
"""

from typing import Final

from middleware.session.batch import (
    COMPLETE,
    EDIT_BIND,
    EDIT_BIND_ANSWER,
    EDIT_CLOSE,
    EDIT_DESCRIBE,
    EDIT_DROP,
    EDIT_PARSE,
    EDIT_PARSE_AGAIN,
    EDIT_PARSE_OPEN,
    EDIT_REPLACE,
    EDIT_UNNAMED,
    EDIT_UNNAMED_LARGE,
    MARKER_MESSAGE,
    NAMING,
    Batch,
    Edit,
    zero,
)
from middleware.session.expected import MARKER, PASS, UNNAMED, Expect
from middleware.session.prepared import NAME_PREFIX, UNKNOWN_PREFIX, ClientStatements, Statement
from middleware.session.server import HOLD_FOR_EXECUTE, HOLD_FOR_MARKER, IN_FAILED_TRANSACTION, ServerSession
from middleware.wire.build import FLUSH_MESSAGE, PARSE_COMPLETE_MESSAGE, message
from middleware.wire.codes import CLOSE, DESCRIBE, PARSE

ANSWER_NAME: Final = NAME_PREFIX + b"answer"
"""The servers' name for an answer of ours that a client executes again."""


def emit(batch: Batch, data: bytes, statements: ClientStatements, server: ServerSession) -> bytes:
    """The bytes of the batch for this server, and what the server now owes noted in its books."""
    if batch.special:
        for facts in batch.facts:
            if facts.deallocates_all:
                server.watch_deallocate = True
    if not batch.edited:
        server.expected.extend(batch.ops)  # type: ignore[arg-type]  # without edits they are all Expects
        out = data[batch.start : batch.end] if batch.start or batch.end < len(data) else data
    else:
        out = _Edited(batch, data, statements, server).emit(batch)
    if batch.unnamed is not None or statements.unnamed is None:
        server.unnamed = batch.unnamed
    if batch.interrupts:
        # PostgreSQL 18 takes a Query before its Sync, but what comes after the next Sync fails: "unexpected state
        # STARTED". In a COPY that has failed meanwhile, the message is answered, and nobody knows of it.
        server.uncertain = True
    server.goes_on = batch.state != COMPLETE
    server.hold = batch.hold
    if batch.hold == HOLD_FOR_MARKER:
        server.expected.append(MARKER)
        return out + MARKER_MESSAGE + FLUSH_MESSAGE
    if batch.hold == HOLD_FOR_EXECUTE:
        return out + FLUSH_MESSAGE
    return out


class _Edited:
    """One with edits, on its way."""

    __slots__ = ("_batch", "_data", "_mentioned", "_out", "_server", "_statements")

    def __init__(self, batch: Batch, data: bytes, statements: ClientStatements, server: ServerSession) -> None:
        self._batch: Final = batch
        self._data: Final = data
        self._mentioned: Final = batch.mentioned
        self._statements: Final = statements
        self._server: Final = server
        self._out: Final[list[bytes]] = []

    def emit(self, batch: Batch) -> bytes:
        """Its bytes."""
        out, data = self._out, self._data
        copied = batch.start
        for op in batch.ops:
            if isinstance(op, Expect):
                self._server.expected.append(op)
                continue
            if copied < op.start:
                out.append(data[copied : op.start])
            as_it_is = op.name in self._mentioned and op.kind in NAMING
            copied = self._as_it_is(op) if as_it_is else self._edit(op)
        if copied < batch.end:
            out.append(data[copied : batch.end])
        return b"".join(out)

    def _edit(self, edit: Edit) -> int:
        """Put down what is sent for it; returns where in the data that ends and the client's own bytes go on."""
        kind, statement = edit.kind, edit.statement
        server, out = self._server, self._out
        if kind in (EDIT_UNNAMED, EDIT_UNNAMED_LARGE):
            self._unnamed(edit)
        elif kind == EDIT_REPLACE:
            out.append(edit.name)
        elif kind == EDIT_BIND_ANSWER:
            assert statement is not None
            out.append(message(CLOSE, b"S" + ANSWER_NAME + b"\0") + statement.parse_message())
            server.expected.extend((Expect(b""), Expect(b"")))
            return self._named(edit, ANSWER_NAME)
        elif kind == EDIT_PARSE_OPEN:
            assert statement is not None
            server.meter.tally.client_parses += 1
            self._statements.begin_open(edit.name).append(statement)
            out.append(message(PARSE, edit.name + b"\0" + statement.body))
            server.expected.append(PASS)
        elif kind == EDIT_CLOSE:
            out.append(MARKER_MESSAGE)
            server.expected.append(self._closing(edit))
        elif kind == EDIT_PARSE:
            assert statement is not None
            self._parse(edit.name, statement)
        elif kind == EDIT_PARSE_AGAIN:
            assert statement is not None
            assert edit.known is not None
            server.meter.tally.client_parses += 1
            # The name it takes on the server is taken, as the client's is.
            self._have(edit.known)
            out.append(message(PARSE, edit.known.name + b"\0" + statement.body))
            server.expected.append(PASS)
        elif kind != EDIT_DROP:
            if statement is None:
                name = UNKNOWN_PREFIX + edit.name
            else:
                self._have(statement)
                name = statement.name
            if kind == EDIT_BIND:
                server.meter.tally.binds += 1
            return self._named(edit, name)
        return edit.end

    def _as_it_is(self, edit: Edit) -> int:
        """A message that names what SQL names in the same batch."""
        if edit.kind == EDIT_CLOSE:
            self._statements.begin_open(edit.name)
            self._server.expected.append(self._closing(edit))
        elif edit.kind in (EDIT_PARSE, EDIT_PARSE_AGAIN):
            assert edit.statement is not None
            self._statements.begin_open(edit.name).append(edit.statement)
            owner = self._statements if edit.kind == EDIT_PARSE else None
            self._server.expected.append(Expect(None, None, owner, edit.name))
        return edit.start

    def _closing(self, edit: Edit) -> Expect:
        return Expect(None, None, self._statements, edit.name, edit.statement, sql=edit.sql)

    def _parse(self, name: bytes, statement: Statement) -> None:
        """A client's Parse."""
        server = self._server
        server.meter.tally.client_parses += 1
        known = server.statements.use(statement.name)
        if known and not server.may_fail() and self._proven(statement):
            self._out.append(MARKER_MESSAGE)
            server.expected.append(Expect(PARSE_COMPLETE_MESSAGE, None, self._statements, name))
            return
        if known:
            # A failed transaction refuses a Parse of what the server has, too.
            server.statements.remove(statement.name)
        if known or server.may_have(statement):
            self._close(statement)
        self._parse_on(statement, Expect(None, statement, self._statements, name))

    def _named(self, edit: Edit, name: bytes) -> int:
        """A message under the server's name for a statement; a Bind up to that name."""
        if edit.kind == EDIT_DESCRIBE:
            self._out.append(message(DESCRIBE, b"S" + name + b"\0"))
            return edit.end
        assert edit.kind in (EDIT_BIND, EDIT_BIND_ANSWER)
        start = edit.start + 5
        portal_end = zero(self._data, start, edit.end)
        length = edit.end - edit.start - 1 + len(name) - len(edit.name)
        self._out.append(b"B" + length.to_bytes(4, "big") + self._data[start : portal_end + 1] + name)
        return portal_end + 1 + len(edit.name)

    def _have(self, statement: Statement) -> None:
        """Have the server know a statement that its client has parsed before."""
        server = self._server
        known = server.statements.use(statement.name)
        if known and self._proven(statement):
            return
        if known or server.may_have(statement):
            # Whether it has it or not, this is skipped, or not, as what it is for.
            self._close(statement)
        self._parse_on(statement, Expect(b"", statement))

    def _proven(self, statement: Statement) -> bool:
        """Whether a statement is there where a message of this batch is not skipped."""
        unproven = self._server.unproven
        return not unproven or unproven.get(statement.name, self._batch) is self._batch

    def _parse_on(self, statement: Statement, expect: Expect) -> None:
        """Parse a statement on a server that lacks it, and close those it used least when it has too many."""
        server, out = self._server, self._out
        if out or server.expected or server.goes_on or server.status == IN_FAILED_TRANSACTION:
            server.unproven[statement.name] = self._batch
        out.append(statement.parse_message())
        server.expected.append(expect)
        server.meter.tally.server_parses += 1
        server.statements.add(statement)
        while (evicted := server.statements.beyond()) is not None:
            server.unproven.pop(evicted.name, None)
            self._close(evicted)

    def _close(self, statement: Statement) -> None:
        """Have the server forget a statement, if it has it."""
        self._out.append(message(CLOSE, b"S" + statement.name + b"\0"))
        self._server.expected.append(Expect(b"", closes=statement))

    def _unnamed(self, edit: Edit) -> None:
        """Make the server's unnamed statement the client's, or none where the client has none."""
        server = self._server
        # What was read ahead of an answer may be of a statement that has turned out not to be.
        body = b"" if self._statements.was_skipped(edit.name) else edit.name
        if body and server.unnamed is body:
            return
        if body and edit.kind == EDIT_UNNAMED:
            self._out.append(message(PARSE, b"\0" + body))
            server.unnamed = body
        else:
            self._out.append(message(CLOSE, b"S\0"))
            server.unnamed = None
        server.expected.append(UNNAMED)
