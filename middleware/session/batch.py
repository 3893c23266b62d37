"""The parts of what a client sends: a batch, and the edits its messages need on their way to a server.

Types and limits; what fills them and what is made of them is session.client's.
"""

from collections.abc import Iterable
from typing import Final

from middleware.errors import ProtocolViolation
from middleware.session.expected import Expect
from middleware.session.prepared import UNKNOWN_PREFIX, Statement
from middleware.session.server import HOLD_NONE
from middleware.wire.build import message
from middleware.wire.codes import (
    BIND,
    CLOSE,
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
from parser.facts import StatementFacts
from parser.session_state import PREPARED

BATCH_BYTES_MAX: Final = 64 * 1024
"""An unfinished batch is gathered up to this size; a longer one is decided from what is there."""

LARGE_MESSAGE_BYTES_MAX: Final = 0x3FFFFFFF - 1
"""PostgreSQL's PQ_LARGE_MESSAGE_LIMIT: Query, Parse, Bind, FunctionCall and CopyData."""
SMALL_MESSAGE_BYTES_MAX: Final = 10_000
"""PostgreSQL's PQ_SMALL_MESSAGE_LIMIT: all other messages."""

STREAMED_HEAD_BYTES: Final = 4096
"""What is seen of a message too large to be gathered: enough for the names at its start."""

LARGE: Final = frozenset({QUERY, PARSE, BIND, FUNCTION_CALL, COPY_DATA})
SMALL: Final = frozenset({DESCRIBE, EXECUTE, CLOSE, FLUSH, SYNC_MESSAGE, TERMINATE, COPY_DONE, COPY_FAIL})
LENGTH_MAX: Final = dict.fromkeys(LARGE, LARGE_MESSAGE_BYTES_MAX) | dict.fromkeys(SMALL, SMALL_MESSAGE_BYTES_MAX)
"""What a message's length field may say, by type (tcop/postgres.c, SocketBackend)."""

MARKER_MESSAGE: Final = message(CLOSE, b"S" + UNKNOWN_PREFIX + b"\0")

OPEN: Final = 0
"""The batch goes on."""
FLUSHED: Final = 1
"""The client wants the answers so far."""
FULL: Final = 2
"""It goes on, and is too large to gather."""
COMPLETE: Final = 3
"""It ended, with Sync, Query or FunctionCall."""
HELD: Final = 4
"""What follows is held back until the server has answered: see Batch.hold."""
TERMINATED: Final = 5
"""The client said goodbye."""

EDIT_PARSE: Final = 0
EDIT_PARSE_AGAIN: Final = 1
"""Parse of a name that its client already has: the server is to refuse it."""
EDIT_BIND: Final = 2
EDIT_DESCRIBE: Final = 3
EDIT_CLOSE: Final = 4
EDIT_UNNAMED: Final = 5
"""In front of a message that uses an unnamed statement parsed in an earlier batch; `name` is its Parse body."""
EDIT_UNNAMED_LARGE: Final = 6
"""The same of one too long to be kept: only the server that parsed it can have it."""
EDIT_DROP: Final = 7
EDIT_BIND_ANSWER: Final = 8
"""Bind of what asks us, parsed in an earlier batch: `statement` is the answer as it is now."""
EDIT_REPLACE: Final = 9
"""Sent as the message in `name`."""
EDIT_PARSE_OPEN: Final = 10
"""Parse of a name that only the server knows the meaning of: see own_names.py."""
NAMING: Final = frozenset({EDIT_PARSE, EDIT_PARSE_AGAIN, EDIT_BIND, EDIT_DESCRIBE, EDIT_CLOSE})
"""Those that are sent as they came where SQL names the same statement."""

FUNCTION_CALL_FACTS: Final = StatementFacts(kind="FunctionCall", write_reason="it is a FunctionCall message")
STATEMENT: Final = 0x53
"""'S': the name in a Describe or Close is a statement's, not a portal's."""
COPY_MESSAGES: Final = frozenset({COPY_DATA, COPY_DONE, COPY_FAIL})


def violation(code: int) -> ProtocolViolation:
    if code in LENGTH_MAX:
        return ProtocolViolation("invalid message length")
    return ProtocolViolation(f"invalid frontend message type {code}")


class Edit:
    """A message at [start, end) that is sent differently.

    `name` is the client's, `statement` what it stands for, `sql` the same where it was prepared in SQL, `known` what it
    stands for already where a Parse gives it once more.
    """

    __slots__ = ("end", "kind", "known", "name", "sql", "start", "statement")

    def __init__(
        self,
        kind: int,
        start: int,
        end: int,
        name: bytes = b"",
        statement: Statement | None = None,
        sql: bytes | None = None,
        known: Statement | None = None,
    ) -> None:
        self.kind: Final = kind
        self.start = start
        self.end = end
        self.name: Final = name
        self.statement: Final = statement
        self.sql: Final = sql
        self.known: Final = known


class Batch:
    """What one scan found. Positions count from the start of the bytes that were scanned."""

    __slots__ = (
        "binds",
        "bound_names",
        "clears",
        "describes",
        "drops_left",
        "edited",
        "end",
        "executes",
        "facts",
        "hold",
        "interrupts",
        "left",
        "mentioned",
        "named_portal",
        "need",
        "ops",
        "special",
        "sql_names",
        "start",
        "state",
        "substance",
        "unnamed",
    )

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        """Behind its last message."""
        self.state = OPEN
        self.substance = False
        """It holds more than Sync, Flush and what is dropped: a server must see it."""
        self.hold = HOLD_NONE
        self.left = 0
        """Bytes of its last message that are still to come and need not be seen."""
        self.drops_left = False
        """They are not passed on either: the message is dropped."""
        self.need = 0
        """How many bytes from `end` on the scan must have to go on."""
        self.facts: list[StatementFacts] = []
        """What its statements say, in their order; several messages in a row about the same one count once."""
        self.special = False
        """One of them is special."""
        self.ops: list[Expect | Edit] = []
        """The replies that count, and the edits that will tell theirs, in the order of their messages."""
        self.edited = False
        self.interrupts = False
        """It puts a Query or FunctionCall where a Sync was due, or anything else than its data into a COPY."""
        self.binds = False
        self.bound_names: tuple[bytes, ...] = ()
        """What could be names of custom settings in the arguments of statements with effects."""
        self.named_portal = False
        """It binds a portal that may be used again behind it."""
        self.executes = 0
        """How many Execute messages it has, or 1 for a Query."""
        self.describes = 0
        """How often it asks for a description."""
        self.clears = False
        """It may drop all named statements on its way."""
        self.mentioned: frozenset[bytes] = frozenset()
        """The prepared statements that its SQL names."""
        self.sql_names: tuple[bytes, ...] = ()
        """Those that its messages name, and that were prepared in SQL, or may have been."""
        self.unnamed: bytes | None = None
        """The unnamed statement it leaves on its server."""

    def add_facts(self, facts: StatementFacts) -> None:
        """It has a message about a statement."""
        if not self.facts or self.facts[-1] is not facts:
            self.facts.append(facts)
            if facts.special:
                self.special = True
                self.clears = self.clears or facts.deallocates_all
                for effect in facts.effects:
                    if effect.state == PREPARED and effect.names:
                        self.mentioned = self.mentioned.union(encoded(effect.names))

    def rebase(self) -> None:
        """What is in front of it is no longer kept: count from its own start."""
        for op in self.ops:
            if isinstance(op, Edit):
                op.start -= self.start
                op.end -= self.start
        self.end -= self.start
        self.start = 0


def encoded(names: Iterable[str]) -> list[bytes]:
    """Names as they come on the wire."""
    return [name.encode() for name in names]


def zero(data: bytes, start: int, end: int) -> int:
    """Where the string that begins at `start` ends. Raises ProtocolViolation where it does not before `end`."""
    if start < end and not data[start]:
        return start
    found = data.find(0, start, end)
    if found < 0:
        raise ProtocolViolation("invalid message format")
    return found
