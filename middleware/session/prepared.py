"""One prepared statement under many names: named statements in transaction mode.

Clients name their statements as they like, and each batch may run on another server. So the same text with the same
parameter types is one Statement with one name on the servers, whichever clients prepared it; each client maps its
own names to Statements; each server knows which Statements it has, and a missing one is parsed in front of the
message that needs it. The reply to that Parse is not the client's and is left out.

A client's Parse of what its server already has is sent as a Close of a name that no server has: the server answers
with CloseComplete in its turn, or not at all when it is skipping to Sync, and that is shown as ParseComplete.

A client that prepares one text under two names has two Statements: what an error says of one is then told of that one.
"""

import re
from collections import OrderedDict
from typing import Final

from middleware.session.parameters import NONE, StartupParameters
from middleware.wire.build import message
from middleware.wire.codes import PARSE
from parser.facts import StatementFacts
from parser.shapes import FactsTable, Generations

NAME_PREFIX: Final = b"_pointsman_"
UNKNOWN_PREFIX: Final = b"_pointsman_?"
"""In front of a name that its client has not prepared: it names nothing. Taken off again in the server's error."""
SAME_TEXT_MAX: Final = 8
"""How many Statements one text may have; beyond, names of one client share the last, and errors may tell the wrong."""

_server_name: Final = re.compile(b'"(' + NAME_PREFIX + b'[0-9]+)"')


class Statement:
    """A named statement as servers have it. `body` is a Parse message behind its name: text, zero, parameter types."""

    __slots__ = ("body", "facts", "name")

    def __init__(self, body: bytes, name: bytes, facts: StatementFacts) -> None:
        self.body: Final = body
        self.name = name
        self.facts = facts

    def parse_message(self) -> bytes:
        """The Parse message that makes a server have it."""
        return message(PARSE, self.name + b"\0" + self.body)


class StatementRegistry:
    """All named statements of a worker, lately used.

    Bounded: a statement that is forgotten lives on where clients and servers have it, and whoever prepares the same
    text anew gets another one.
    """

    def __init__(self, size_max: int = 10_000) -> None:
        self._serial = 0
        self._known: Generations[tuple[StartupParameters, bytes, int], Statement] = Generations(size_max)

    def statement(self, parameters: StartupParameters, body: bytes, facts: StatementFacts, nth: int = 0) -> Statement:
        """The Statement for a Parse body, the `nth` of one client. Under another search_path or role it is another."""
        key = (parameters if parameters.reshapes else NONE, body, nth)
        statement = self._known.get(key)
        if statement is None:
            statement = Statement(body, self._new_name(), facts)
            self._known.put(key, statement)
        return statement

    def forget(self) -> None:
        """Whoever prepares anything gets another one."""
        self._known = Generations(self._known.size_max)

    def rename(self, statement: Statement) -> None:
        """Give it a new name, so that every server parses it afresh; the old name ages out of the servers."""
        statement.name = self._new_name()

    def _new_name(self) -> bytes:
        self._serial += 1
        return NAME_PREFIX + str(self._serial).encode()

    def __len__(self) -> int:
        return len(self._known)


class ServerStatements:
    """The named statements one server has, the least recently used first to go. Holds the Statements alive."""

    __slots__ = ("_latest", "_names", "size_max")

    def __init__(self, size_max: int) -> None:
        self.size_max: Final = size_max
        self._names: OrderedDict[bytes, Statement] = OrderedDict()
        self._latest = b""
        """The name used last, which need not be moved to the end."""

    def __contains__(self, name: bytes) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def all(self) -> list[Statement]:
        """Each of them."""
        return list(self._names.values())

    def use(self, name: bytes) -> bool:
        """Whether the server has it, and if so that it was used now."""
        if name is self._latest:
            return True
        if name not in self._names:
            return False
        self._names.move_to_end(name)
        self._latest = name
        return True

    def add(self, statement: Statement) -> None:
        """Note that it was parsed, or is there still: there may be more than the bound then."""
        self._names[statement.name] = statement
        self._latest = b""

    def beyond(self) -> Statement | None:
        """Forget one that is to be closed to stay within the bound, if any, and return it."""
        if len(self._names) <= self.size_max:
            return None
        _, evicted = self._names.popitem(last=False)
        return evicted

    def remove(self, name: bytes) -> None:
        self._names.pop(name, None)
        self._latest = b""

    def clear(self) -> None:
        self._names.clear()
        self._latest = b""


SKIPPED_MAX: Final = 16


def _text(body: bytes) -> bytes:
    """The SQL of a Parse message's body."""
    return body[: body.index(0)]


class ClientStatements:
    """The named statements one client has prepared, and its unnamed one."""

    __slots__ = ("_names", "named", "open", "recent", "skipped", "sql", "unnamed", "unnamed_facts", "unnamed_kept")

    def __init__(self) -> None:
        self.named: Final[dict[bytes, Statement]] = {}
        self._names: Final[dict[Statement, bytes]] = {}
        """The same the other way around."""
        self.recent: set[Statement] = set()
        """The named statements bound since the server was lent."""
        self.sql: Final[dict[bytes, bytes]] = {}
        """What it has prepared in SQL: the text from PREPARE on. PostgreSQL has one set of names for both."""
        self.open: Final[dict[bytes, list[Statement]]] = {}
        """The names it has used in PREPARE and DEALLOCATE, of which it is not known yet what has come of that; with
        each, what Parse messages may have put there since."""
        self.unnamed: bytes | None = None
        """The Parse body of its unnamed statement; the very object tells a server's copy from another client's."""
        self.unnamed_kept = False
        """The body is whole; of a statement too long to keep it is only a token."""
        self.unnamed_facts: StatementFacts | None = None
        self.skipped: list[bytes] = []
        """The last Parse bodies of unnamed statements that a server has skipped or failed."""

    def keep(self, name: bytes, statement: Statement) -> None:
        """Parse gives the name a meaning."""
        self.forget(name)
        self.named[name] = statement
        self._names[statement] = name

    def forget(self, name: bytes) -> Statement | None:
        """Parse has given it none, or Close has ended it; returns what it was."""
        statement = self.named.pop(name, None)
        if statement is not None and self._names.get(statement) == name:
            del self._names[statement]
        return statement

    def clear(self) -> None:
        """All are gone; those that are open remain so."""
        self.named.clear()
        self._names.clear()
        self.sql.clear()
        self.forget_unnamed()

    def read_again(self, facts: FactsTable) -> None:
        """Other facts hold for the same texts; but for those that are answers of ours."""
        for statement in self.named.values():
            if not statement.facts.asks:
                statement.facts = facts.facts_of(_text(statement.body))
        known = self.unnamed_facts
        if self.unnamed is not None and self.unnamed_kept and known is not None and not known.asks:
            self.unnamed_facts = facts.facts_of(_text(self.unnamed))

    def begin_open(self, name: bytes) -> list[Statement]:
        """From now on its meaning is open; returns what it may stand for, to be added to."""
        return self.open.setdefault(name, [])

    def uses_otherwise(self, name: bytes, statement: Statement) -> bool:
        """Whether it has the statement under another name."""
        return self._names.get(statement, name) != name

    def was_skipped(self, body: bytes) -> bool:
        """Whether this very Parse of the unnamed statement has come to nothing."""
        return any(one is body for one in self.skipped)

    def forget_unnamed(self) -> None:
        self.unnamed = None
        self.unnamed_facts = None

    def unnamed_skipped(self, body: bytes) -> None:
        """A server has not parsed this unnamed statement; the client may have sent another one since."""
        self.skipped = [body, *self.skipped[: SKIPPED_MAX - 1]]
        if self.unnamed is body:
            self.forget_unnamed()

    def original_names(self, error: bytes, closing: dict[bytes, Statement]) -> bytes:
        """A server's ErrorResponse body with our names for statements put back to the client's.

        `closing` are those the client has closed in messages behind the one that failed.
        """
        if UNKNOWN_PREFIX in error:
            return error.replace(UNKNOWN_PREFIX, b"")
        known = {statement.name: name for name, statement in (*self.named.items(), *closing.items())}
        return _server_name.sub(lambda found: b'"' + known.get(found[1], found[1]) + b'"', error)
