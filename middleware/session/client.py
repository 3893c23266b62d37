"""What a client sends, cut into batches.

A batch is what must run on one server, decided as a whole: one Query, one FunctionCall, or all extended-query messages
up to their Sync. Outside a transaction the proxy gathers a batch before it chooses a node. It stops gathering early at
a Flush (the client waits for answers), at BATCH_BYTES_MAX, and at a message too large to gather; such a batch is
incomplete.

scan() reads headers, and of the messages that name statements also the names. What must be changed on its way to a
server is noted as an edit, since it depends on which statements that server has: see emission.py.

Awkward cases, told by the manual's "Message Flow":
- After an error in an extended-query message the server reads and discards until Sync; a Query among the discarded
  is not answered. So a Query or FunctionCall within an unfinished batch waits for a MARKER, a Close of nothing,
  whose answer proves that the server is listening. If an error comes instead, all up to Sync is dropped here too.
- A batch whose answer is due may have failed, and its Parse and Close messages with it. A later batch that uses one
  of their names waits for a MARKER too; behind one that may drop all statements, a batch that uses any name.
- PostgreSQL keeps the unnamed statement when the Parse that would replace it is skipped, and drops it when that
  Parse fails. Its answers do not tell which; where the Parse was sent, the client has none afterwards in both cases.
- In copy-in mode the server ignores Flush and Sync and takes any other message as the copy's failure. So behind a
  statement that may begin a COPY nothing is sent until the server has said whether it did.
"""

from typing import Final

from middleware.errors import ProtocolViolation, StatementTooLarge
from middleware.logs.wanted import WANTED
from middleware.session.answers import Answerer
from middleware.session.batch import (
    BATCH_BYTES_MAX,
    COMPLETE,
    COPY_MESSAGES,
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
    FLUSHED,
    FULL,
    FUNCTION_CALL_FACTS,
    HELD,
    LARGE,
    LENGTH_MAX,
    OPEN,
    STATEMENT,
    STREAMED_HEAD_BYTES,
    TERMINATED,
    Batch,
    Edit,
    violation,
    zero,
)
from middleware.session.emission import ANSWER_NAME, emit
from middleware.session.expected import PASS, SYNC, Expect
from middleware.session.parameters import NONE, StartupParameters, setting_names
from middleware.session.prepared import (
    SAME_TEXT_MAX,
    ClientStatements,
    Statement,
    StatementRegistry,
)
from middleware.session.server import HOLD_FOR_EXECUTE, HOLD_FOR_MARKER, HOLD_FOR_QUERY, ServerSession
from middleware.wire.build import message
from middleware.wire.codes import (
    BIND,
    COPY_DATA,
    COPY_DONE,
    COPY_FAIL,
    DESCRIBE,
    EXECUTE,
    FLUSH,
    FUNCTION_CALL,
    PARSE,
    QUERY,
    TERMINATE,
)
from middleware.wire.codes import SYNC as SYNC_MESSAGE
from parser.facts import UNREAD, StatementFacts
from parser.shapes import FactsTable

ANY_NAME: Final = b"\0"
"""Stands for all names among those that are unsettled; no name holds a zero."""


class ClientSession:
    """The books of one client from its login on: its statements, and what its server may be busy with for it."""

    __slots__ = (
        "_changed",
        "_copying_portal",
        "_facts_table",
        "_packet_size_max",
        "_registry",
        "_statement_size_max",
        "answerer",
        "batch_open",
        "copy_disturbed",
        "copy_extended",
        "copying",
        "discarding",
        "listening",
        "parameters",
        "statements",
        "text",
        "unsettled",
    )

    def __init__(
        self, facts_table: FactsTable, registry: StatementRegistry, statement_size_max: int, packet_size_max: int
    ) -> None:
        self.text = b""
        """What was read, or bound, last; kept where the log is to have it, or a trace."""
        self._facts_table = facts_table
        self._registry: Final = registry
        self._statement_size_max = statement_size_max
        self._packet_size_max = packet_size_max
        self.parameters: StartupParameters = NONE
        self.statements: Final = ClientStatements()
        self.answerer: Answerer | None = None
        """Who answers what is asked of us; None where nothing is."""
        self.batch_open = False
        """Extended-query messages were sent and no Sync yet."""
        self.discarding = False
        """The server skips to Sync, or we do in its place: all but Sync is dropped."""
        self.listening = False
        """A MARKER has proved that the server is not skipping."""
        self.copying = False
        """The server is in copy-in mode for us."""
        self.copy_extended = False
        """The COPY was begun by an Execute: its failure is followed by skipping to Sync."""
        self.copy_disturbed = False
        """It was sent what has no place in a COPY: a server whose COPY has failed by then takes it for what it is."""
        self._copying_portal = False
        self._changed: set[bytes] = set()
        """The names that this batch prepares or closes, the client's and, of what it prepares, the servers'."""
        self.unsettled: set[bytes] = set()
        """The names that batches before it do, and the server has not answered yet: what they mean is open."""

    def use(self, facts_table: FactsTable, statement_size_max: int, packet_size_max: int) -> None:
        """By these from now on."""
        self._statement_size_max, self._packet_size_max = statement_size_max, packet_size_max
        if facts_table is not self._facts_table:
            self._facts_table = facts_table
            self.statements.read_again(facts_table)

    def facts_of(self, text: bytes) -> StatementFacts:
        """The facts of a text in this client's encoding and under its string syntax."""
        if WANTED.keeps_text:
            self.text = text
        return UNREAD if self.parameters.opaque(text) else self._facts_table.facts_of(text)

    def returned(self) -> None:
        """Its server went back to the pool, at rest, and nothing that was read waits to be sent."""
        self._copying_portal = False
        if self.statements.recent:
            self.statements.recent.clear()
        if self.unsettled:
            self.unsettled.clear()

    def failed(self) -> None:
        """The server has answered a message of the open batch with an error: it skips to Sync, and so do we."""
        self.discarding = self.batch_open

    def hold_over(self, failed: bool, copying: bool) -> None:
        """The server has answered what the client's messages were held back for."""
        self.copying = copying
        self.copy_disturbed = False
        self.discarding = failed
        self.listening = not failed
        if not failed:
            self._changed.clear()
            self.unsettled.clear()

    def copy_failed(self) -> None:
        """The server has ended the COPY with an error."""
        self.copying = False
        self.discarding = self.copy_extended

    def plan_went_stale(self) -> None:
        """The server refused a named statement whose result type has changed: let all servers parse it afresh."""
        for statement in self.statements.recent:
            self._registry.rename(statement)

    # Reading

    def scan(self, batch: Batch, data: bytes) -> None:
        """Go on reading a batch from its `end`, until its state is no longer OPEN or the data ends."""
        size = len(data)
        batch.need = 0
        while batch.state == OPEN:
            position = batch.end
            if position + 5 > size:
                batch.need = 5
                break
            code = data[position]
            length = data[position + 1] << 24 | data[position + 2] << 16 | data[position + 3] << 8 | data[position + 4]
            if length < 4 or length > LENGTH_MAX.get(code, 0):
                raise violation(code)
            if length > self._packet_size_max:
                raise ProtocolViolation(
                    "message is too long", detail=f"It has {length} bytes; max_packet_size is {self._packet_size_max}."
                )
            end = position + 1 + length
            if end > size and code != COPY_DATA:
                whole = code not in LARGE or length <= self._statement_size_max
                batch.need = 1 + length if whole else min(1 + length, STREAMED_HEAD_BYTES)
                if whole or position + batch.need > size:
                    break
            if self.copying:
                self._scan_copy(batch, code, end, size)
            elif self.discarding and code != SYNC_MESSAGE and code != TERMINATE:
                self._drop(batch, position, end)
            else:
                self._scan_one(batch, data, code, position, end)
            if batch.end > size:
                batch.left = batch.end - size
                last = batch.ops[-1] if batch.ops else None
                batch.drops_left = isinstance(last, Edit) and last.kind == EDIT_DROP and last.end == batch.end
                batch.state = batch.state or FULL
        if batch.state == OPEN and batch.end - batch.start > BATCH_BYTES_MAX:
            batch.state = FULL

    def _drop(self, batch: Batch, position: int, end: int) -> None:
        batch.ops.append(Edit(EDIT_DROP, position, end))
        batch.edited = True
        batch.end = end

    def _scan_copy(self, batch: Batch, code: int, end: int, size: int) -> None:
        """In copy-in mode (the manual's "COPY Operations")."""
        batch.end = end
        if code == COPY_DATA:
            if end >= size:
                batch.state = FULL
        elif code in (COPY_DONE, COPY_FAIL):
            # What has proved that the server listens is from before the COPY, which may fail.
            self.copying = self.copy_disturbed = self.listening = False
            batch.state = FULL
            if not self.copy_extended:
                # The string may hold another COPY.
                batch.state = HELD
                batch.hold = HOLD_FOR_QUERY
        elif code == TERMINATE:
            batch.state = TERMINATED
        elif code == SYNC_MESSAGE:
            self._disturb_copy(batch)
        elif code != FLUSH:
            # The server takes anything else as the copy's failure, and does not answer it otherwise.
            self._disturb_copy(batch)
            self.copy_failed()
            batch.state = FULL

    def _disturb_copy(self, batch: Batch) -> None:
        batch.interrupts = True
        self.copy_disturbed = not self.copy_extended

    def _scan_one(self, batch: Batch, data: bytes, code: int, position: int, end: int) -> None:
        batch.end = end
        if code == SYNC_MESSAGE:
            batch.ops.append(SYNC)
            batch.state = COMPLETE
            self.batch_open = self.discarding = self.listening = False
            if self._changed:
                self.unsettled |= self._changed
                self._changed.clear()
            if batch.clears:
                self._note_clearing(batch)
            return
        if code in (QUERY, FUNCTION_CALL):
            self._scan_query(batch, data, code, position, end)
            return
        if code == TERMINATE:
            batch.state = TERMINATED
            return
        if code in COPY_MESSAGES:
            # Outside a COPY they are ignored, as the server does after a failed one.
            self._drop(batch, position, end)
            return
        if code == FLUSH:
            # It cannot fail: alone it opens no batch that a Query would have to wait for.
            batch.state = FLUSHED
            return
        self.batch_open = True
        batch.substance = True
        if code == BIND:
            self._scan_bind(batch, data, position, end)
        elif code == EXECUTE:
            self._scan_execute(batch, position)
        elif code == PARSE:
            self._scan_parse(batch, data, position, end)
        elif code == DESCRIBE:
            self._scan_describe(batch, data, position, end)
        else:
            self._scan_close(batch, data, position, end)
        # What a marker has proved holds for one message: that one may fail.
        self.listening = False

    def _scan_query(self, batch: Batch, data: bytes, code: int, position: int, end: int) -> None:
        if self.batch_open and not self.listening:
            self._hold_for_marker(batch, position)
            return
        batch.interrupts = self.batch_open
        self.batch_open = self.listening = False
        batch.substance = True
        batch.executes = 1
        facts = FUNCTION_CALL_FACTS
        if code == QUERY:
            # It may have no text at all, and a compiled slice must not end before it begins.
            start = position + 5
            facts = self.facts_of(data[start : max(start, end - 1)]) if end <= len(data) else UNREAD
            self.statements.forget_unnamed()
        batch.add_facts(facts)
        if facts.deallocates_all:
            self._note_clearing(batch)
        if facts.asks:
            self._replace(batch, position, end, message(QUERY, self._answer(facts) + b"\0"))
        batch.ops.append(SYNC)
        batch.state = COMPLETE
        if facts.copy_in:
            batch.state = HELD
            batch.hold = HOLD_FOR_QUERY
            self.copy_extended = False

    def _note_clearing(self, batch: Batch) -> None:
        """It drops all statements. What could not be read hardly does: most of it is no SQL."""
        if any(facts.deallocates_all and facts is not UNREAD for facts in batch.facts):
            self.unsettled.add(ANY_NAME)

    def _answer(self, facts: StatementFacts) -> bytes:
        assert self.answerer is not None
        return self.answerer.answer(facts)

    def _replace(self, batch: Batch, position: int, end: int, instead: bytes) -> None:
        batch.ops.append(Edit(EDIT_REPLACE, position, end, instead))
        batch.edited = True

    def _hold_for_marker(self, batch: Batch, position: int) -> None:
        """Read no further than this message, and come back to it when the server has answered all before it."""
        self.batch_open = batch.substance = True
        batch.end = position
        batch.state = HELD
        batch.hold = HOLD_FOR_MARKER

    def _unsettled(self, batch: Batch, name: bytes, position: int) -> bool:
        """Hold the batch where the meaning of `name` hangs on answers that are still due."""
        if name not in self.unsettled and ANY_NAME not in self.unsettled and not batch.clears:
            return False
        self._hold_for_marker(batch, position)
        return True

    def _goes_as_it_is(self, batch: Batch, name: bytes) -> bool:
        """Whether a message that names a statement is sent as it came: SQL has prepared that, or may have."""
        if name not in self.statements.sql and not self._open(batch, name):
            return False
        batch.sql_names += (name,)
        batch.add_facts(UNREAD)
        return True

    def _open(self, batch: Batch, name: bytes) -> bool:
        """Whether only the server knows what it means."""
        return name in self.statements.open or name in batch.mentioned

    def _scan_execute(self, batch: Batch, position: int) -> None:
        batch.executes += 1
        if not self._copying_portal:
            return
        if not self.listening:
            self._hold_for_marker(batch, position)
            return
        batch.state = HELD
        batch.hold = HOLD_FOR_EXECUTE
        self.copy_extended = True

    def _scan_parse(self, batch: Batch, data: bytes, position: int, end: int) -> None:
        name_end = position + 5 if end > position + 5 and not data[position + 5] else data.find(0, position + 5, end)
        if name_end != position + 5 and end - position - 1 > self._statement_size_max:
            raise StatementTooLarge(end - position - 5, self._statement_size_max)
        if end <= len(data):
            text_end = data.find(0, name_end + 1, end) if name_end >= 0 else -1
            if text_end < 0 or end - text_end < 3:
                raise ProtocolViolation("invalid message format")
            facts = self.facts_of(data[name_end + 1 : text_end])
            body = data[name_end + 1 : end] if not facts.asks else self._answer(facts) + data[text_end:end]
        else:
            # Too long to be kept: its first bytes stand for it, to tell it from others; see _emit_unnamed().
            body = data[position : position + 5]
            facts = UNREAD
        if name_end == position + 5:
            batch.add_facts(facts)
            self.statements.unnamed = batch.unnamed = body
            self.statements.unnamed_kept = end <= len(data)
            self.statements.unnamed_facts = facts
            if facts.asks:
                self._replace(batch, position, end, message(PARSE, b"\0" + body))
            batch.ops.append(Expect(None, owner=self.statements, unnamed=body))
            return
        name = data[position + 5 : name_end]
        if name in self.statements.sql and not self._open(batch, name):
            # Taken: the server is to refuse it.
            batch.sql_names += (name,)
            batch.add_facts(facts)
            batch.ops.append(PASS)
            return
        statement = self._statement(name, body, facts)
        if self._unsettled(batch, name, position) or self._unsettled(batch, statement.name, position):
            return
        batch.add_facts(facts)
        batch.edited = True
        if self._open(batch, name):
            batch.sql_names += (name,)
            batch.ops.append(Edit(EDIT_PARSE_OPEN, position, end, name, statement))
            return
        self._changed |= {name, statement.name}
        known = self.statements.named.get(name)
        if known is not None:
            batch.ops.append(Edit(EDIT_PARSE_AGAIN, position, end, name, statement, known=known))
        else:
            self.statements.keep(name, statement)
            batch.ops.append(Edit(EDIT_PARSE, position, end, name, statement))

    def _statement(self, name: bytes, body: bytes, facts: StatementFacts) -> Statement:
        """The Statement for a Parse: one that the client has under no other name."""
        nth = 0
        statement = self._registry.statement(self.parameters, body, facts)
        while self.statements.uses_otherwise(name, statement) and nth < SAME_TEXT_MAX - 1:
            nth += 1
            statement = self._registry.statement(self.parameters, body, facts, nth)
        return statement

    def _scan_bind(self, batch: Batch, data: bytes, position: int, end: int) -> None:
        batch.binds = True
        portal_end = zero(data, position + 5, end)
        if portal_end != position + 5:
            batch.named_portal = True
        name_end = zero(data, portal_end + 1, end)
        if name_end == portal_end + 1:
            asks = self.statements.unnamed_facts
            if batch.unnamed is None and asks is not None and asks.asks:
                facts = asks
                self._bind_answer(batch, position, end, b"", facts)
            else:
                facts = self._use_unnamed(batch, position)
        else:
            name = data[portal_end + 1 : name_end]
            if self._unsettled(batch, name, position):
                return
            facts = self._bind_named(batch, position, end, name)
        batch.add_facts(facts)
        if facts.effects:
            batch.bound_names += tuple(setting_names(data[portal_end:end]))
        if facts.copy_in and facts is not UNREAD:
            self._copying_portal = True

    def _bind_named(self, batch: Batch, position: int, end: int, name: bytes) -> StatementFacts:
        if self._goes_as_it_is(batch, name):
            return UNREAD
        statement = self.statements.named.get(name)
        facts = statement.facts if statement is not None else UNREAD
        if facts.asks:
            self._bind_answer(batch, position, end, name, facts)
            return facts
        if statement is not None:
            self.statements.recent.add(statement)
            if WANTED.keeps_text:
                self.text = statement.body.partition(b"\0")[0]
        batch.edited = True
        batch.ops.append(Edit(EDIT_BIND, position, end, name, statement))
        return facts

    def _bind_answer(self, batch: Batch, position: int, end: int, name: bytes, facts: StatementFacts) -> None:
        """Bind the answer as it is now: what was parsed for the client is as it was then."""
        answer = Statement(self._answer(facts) + b"\0\0\0", ANSWER_NAME, facts)
        batch.edited = True
        batch.ops.append(Edit(EDIT_BIND_ANSWER, position, end, name, answer))

    def _use_unnamed(self, batch: Batch, position: int) -> StatementFacts:
        if batch.unnamed is None:
            kind = EDIT_UNNAMED if self.statements.unnamed_kept else EDIT_UNNAMED_LARGE
            batch.ops.append(Edit(kind, position, position, self.statements.unnamed or b""))
            batch.edited = True
        return self.statements.unnamed_facts or UNREAD

    def _scan_describe(self, batch: Batch, data: bytes, position: int, end: int) -> None:
        if end - position < 7 or zero(data, position + 6, end) != end - 1:
            raise ProtocolViolation("invalid message format")
        batch.describes += 1
        if data[position + 5] != STATEMENT:
            return
        name = data[position + 6 : end - 1]
        if not name:
            batch.add_facts(self._use_unnamed(batch, position))
            return
        if self._unsettled(batch, name, position) or self._goes_as_it_is(batch, name):
            return
        statement = self.statements.named.get(name)
        if statement is not None:
            batch.add_facts(statement.facts)
        batch.edited = True
        batch.ops.append(Edit(EDIT_DESCRIBE, position, end, name, statement))

    def _scan_close(self, batch: Batch, data: bytes, position: int, end: int) -> None:
        if end - position < 7 or zero(data, position + 6, end) != end - 1:
            raise ProtocolViolation("invalid message format")
        name = data[position + 6 : end - 1]
        if data[position + 5] != STATEMENT:
            batch.ops.append(PASS)
        elif name:
            if self._unsettled(batch, name, position):
                return
            if self._open(batch, name):
                batch.sql_names += (name,)
                batch.add_facts(UNREAD)
                batch.ops.append(PASS)
                return
            self._changed.add(name)
            batch.edited = True
            statement, sql = self.statements.forget(name), self.statements.sql.pop(name, None)
            batch.ops.append(Edit(EDIT_CLOSE, position, end, name, statement, sql))
        else:
            self.statements.forget_unnamed()
            batch.ops.append(PASS)

    def take_back(self, batch: Batch) -> None:
        """A batch will not be sent: undo what scanning it has booked."""
        for op in reversed(batch.ops):
            if not isinstance(op, Edit):
                continue
            if op.kind == EDIT_PARSE:
                self.statements.forget(op.name)
            elif op.kind == EDIT_CLOSE and op.statement is not None:
                self.statements.keep(op.name, op.statement)
            elif op.kind == EDIT_CLOSE and op.sql is not None:
                self.statements.sql[op.name] = op.sql
        if batch.unnamed is not None:
            self.statements.forget_unnamed()
        self._changed.clear()
        self.unsettled.clear()

    def skip(self, batch: Batch) -> None:
        """A batch that was not sent belongs behind an error: it is to be read again, as what is dropped up to Sync."""
        self.take_back(batch)
        self.batch_open = self.discarding = True

    def emit(self, batch: Batch, data: bytes, server: ServerSession) -> bytes:
        """The bytes of the batch for this server, and what the server now owes noted in its books."""
        return emit(batch, data, self.statements, server)
