"""What a client asks, as the cache tells questions apart: its key, and which answers belong to it.

A Query is told by its text. Of the extended protocol one batch is taken whole, as drivers send it for one statement:

    [Parse] [Describe statement] Bind [Describe portal] Execute [Close ..] Sync

It is told by the text and parameter types of its Parse, the one in it or one long ago, by all in its Bind that comes
after the names, the parameters' formats and values, and the results' formats, and by how many rows its Execute asks
for. Portals are unnamed. The *pattern* is which of those messages it holds, in their order: each has its own answer.
"""

from typing import Final

from middleware.session.batch import EDIT_PARSE_AGAIN, EDIT_PARSE_OPEN, STATEMENT, Batch, Edit, zero
from middleware.session.prepared import ClientStatements
from middleware.wire.codes import BIND, CLOSE, DESCRIBE, EXECUTE, PARSE, SYNC

QUERY_PATTERN: Final = b"Q"
DESCRIBE_STATEMENT: Final = 0x64
"""'d' in a pattern; all other letters are those of the messages."""
EXECUTE_BYTES: Final = 10
"""An Execute of the unnamed portal."""
NO_LIMIT: Final = b"\0\0\0\0"
MESSAGES_MAX: Final = 8


class Scope:
    """Whose question it is: what else than the question the answer depends on. Equal ones are one object."""

    __slots__ = ("database", "prefix", "settings", "user")

    def __init__(self, serial: int, user: bytes, database: bytes, settings: tuple[tuple[bytes, bytes], ...]) -> None:
        self.user: Final = user
        self.database: Final = database
        self.settings: Final = settings
        self.prefix: Final = serial.to_bytes(8, "big")
        """Stands for all that in keys."""

    def question(self, key: "Key") -> bytes:
        """What a key of this scope asks."""
        return key[len(self.prefix) :]


Key = bytes
"""One object, whose hash is worked out once: it is looked up several times."""
SAID_AT: Final = 8 + 1 + 4
"""Where in a key begins what the client has said, behind the scope's serial, a code and a length: they may look like
any text."""


def query_key(scope: Scope, message: bytes) -> Key:
    """That of a whole Query message."""
    return scope.prefix + message


SILENT_SETTINGS: Final = frozenset(
    {
        b"application_name",
        b"client_min_messages",
        b"idle_in_transaction_session_timeout",
        b"idle_session_timeout",
        b"lock_timeout",
        b"statement_timeout",
        b"synchronous_commit",
        b"tcp_keepalives_count",
        b"tcp_keepalives_idle",
        b"tcp_keepalives_interval",
        b"tcp_user_timeout",
        b"transaction_timeout",
    }
)
"""Settings of a client that change no answer. All others are part of the key, whatever they do."""


def telling(values: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    """Those of a client's settings that may change an answer."""
    return tuple(one for one in values if one[0] not in SILENT_SETTINGS and not one[0].startswith(b"pointsman."))


class Request:
    """A batch of the extended protocol."""

    __slots__ = ("body", "limit", "pattern", "values")

    def __init__(self, body: bytes, values: bytes, limit: bytes, pattern: bytes) -> None:
        self.body: Final = body
        self.values: Final = values
        self.limit: Final = limit
        """How many rows it asks for, as Execute has it."""
        self.pattern: Final = pattern

    def key(self, scope: Scope) -> Key:
        return b"".join((scope.prefix, b"P", len(self.body).to_bytes(4, "big"), self.body, self.limit, self.values))


def request_of(batch: Batch, data: bytes, statements: ClientStatements) -> Request | None:
    """What a whole batch asks, that was scanned; None where it is none of the above."""
    if batch.sql_names or batch.mentioned:
        return None
    position = batch.start
    pattern = count = 0
    body: bytes | None = None
    values = named = limit = b""
    stage = 0
    while position < batch.end:
        code = data[position]
        # Byte by byte: compiled code makes no objects for that.
        length = data[position + 1] << 24 | data[position + 2] << 16 | data[position + 3] << 8 | data[position + 4]
        end = position + 1 + length
        if count > MESSAGES_MAX:
            return None
        if code == PARSE and stage == 0:
            stage = 1
            named = data[position + 5 : zero(data, position + 5, end)]
            if named and _taken(batch):
                return None
        elif code == DESCRIBE and stage <= 2:
            if data[position + 5] == STATEMENT:
                if stage == 2:
                    return None
                name = data[position + 6 : end - 1]
                if count and name != named:
                    return None
                named, stage, code = name, 1, DESCRIBE_STATEMENT
            elif stage != 2 or end - position != 7:
                return None
            else:
                stage = 3
        elif code == BIND and stage <= 1:
            if data[position + 5]:
                return None
            name_end = zero(data, position + 6, end)
            name = data[position + 6 : name_end]
            if count and name != named:
                return None
            body, values, stage = _body(batch, name, statements), data[name_end + 1 : end], 2
        elif code == EXECUTE and 2 <= stage <= 3:
            if end - position != EXECUTE_BYTES:
                return None
            limit, stage = data[end - 4 : end], 4
        elif code == SYNC and stage == 4:
            return None if body is None else Request(body, values, limit, _pattern(pattern, count))
        elif code != CLOSE or stage != 4:
            return None
        pattern = pattern << 8 | code
        count += 1
        position = end
    return None


PATTERNS: Final[dict[int, bytes]] = {}
"""By what their bytes are as a number. There are not many: an order is prescribed, and MESSAGES_MAX."""


def _pattern(number: int, count: int) -> bytes:
    known = PATTERNS.get(number)
    if known is None:
        known = PATTERNS[number] = number.to_bytes(count, "big")
    return known


def _taken(batch: Batch) -> bool:
    """Whether it parses a statement under a name that has a meaning already, or may have."""
    return any(isinstance(op, Edit) and op.kind in (EDIT_PARSE_AGAIN, EDIT_PARSE_OPEN) for op in batch.ops)


def _body(batch: Batch, name: bytes, statements: ClientStatements) -> bytes | None:
    """What was parsed under a name."""
    if not name:
        if batch.unnamed is not None:
            return batch.unnamed if statements.unnamed_kept else None
        return statements.unnamed if statements.unnamed_kept else None
    statement = statements.named.get(name)
    return None if statement is None else statement.body
