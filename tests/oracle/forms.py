"""The forms in which clients send statements, as bytes: nothing is sent here.

A form may change where a statement can be expected: a string of several runs on the primary, a pipeline is decided as
a whole, and what is sent behind a write without waiting for its answer finds the client on the primary.
"""

import random
import re
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from middleware.wire.frontend import STATEMENT, Bind, Close, Describe, Execute, Flush, Parse, Query, Sync
from tests.oracle.statement import Statement, Where

SYNC: Final = Sync().encode()
FLUSH: Final = Flush().encode()
NODE: Final = "oracle_node"
"""The column in which a statement says where it ran."""
UNDO: Final = "SELECT 1 / 0"
"""Behind a change of the schema: it takes the implicit transaction with it."""

_CHANGES_SCHEMA: Final = re.compile(r"\b(CREATE|ALTER|DROP|GRANT|COMMENT|REASSIGN|IMPORT|LABEL|INTO\b.*\bmade)\b", re.I)
_CHANGES_SETTINGS: Final = re.compile(r"(^|;|\*/)\s*(SET|RESET|DISCARD)\b|\bset_config\b", re.I)
_PREPARABLE: Final = re.compile(
    r"\(*(SELECT|VALUES|TABLE|WITH|INSERT|UPDATE|DELETE)\b(?!.*(;|\bINTO\b.*\bmade\b))", re.S
)
_WRAPPABLE: Final = re.compile(r"\(*(SELECT|VALUES|TABLE)\b(?!.*(;|\bINTO\b))", re.S | re.I)
_COPY_IN: Final = re.compile(r"\bCOPY\b.*\bFROM\s+STDIN\b", re.S | re.I)


class Form(Enum):
    """A way to send statements."""

    SINGLE = "a Query of one statement"
    SEVERAL = "a Query of several statements"
    EXTENDED = "Parse, Bind, Describe, Execute, Sync"
    NAMED = "a statement named in one batch, executed in a later one"
    PIPELINE = "several statements before one Sync"
    ASKED_EARLY = "several statements before one Sync, with a Flush between them"
    FLUSHED = "Parse, Describe, Flush; then Bind, Execute, Sync"
    BATCHES = "several batches in one write"
    PREPARED = "PREPARE and EXECUTE"


OF_ONE: Final = (Form.SINGLE, Form.EXTENDED, Form.NAMED, Form.FLUSHED)
OF_SEVERAL: Final = (Form.SEVERAL, Form.PIPELINE, Form.ASKED_EARLY, Form.BATCHES)
PARSED_FIRST: Final = (Form.NAMED, Form.FLUSHED)
"""The statement may be parsed elsewhere than it runs."""


class Asked(NamedTuple):
    """A statement as it is sent."""

    statement: Statement
    number: int
    """In a comment beside it: by this it is found in the servers' logs."""
    sql: str
    where: Where
    """Where it may run in this form."""


class Step(NamedTuple):
    """What is sent before anything is waited for."""

    data: bytes
    ready: int = 1
    """How many ReadyForQuery are due; none: a Flush, whose answer ends with the description of the statement's rows."""
    extended: bool = False


class Conversation(NamedTuple):
    """Statements in a form."""

    form: Form
    asked: tuple[Asked, ...]
    steps: tuple[Step, ...]


def comment(number: int) -> str:
    return f"/* oracle {number} */"


def changes_schema(statement: Statement) -> bool:
    """Whether it must be undone, for the sake of those that follow."""
    return _CHANGES_SCHEMA.search(statement.sql) is not None


def changes_settings(statement: Statement) -> bool:
    """Whether its client is another one from then on: without a search_path, or in another role."""
    return _CHANGES_SETTINGS.search(statement.sql) is not None


def forms_for(statement: Statement) -> tuple[Form, ...]:
    """The forms that a statement can be sent in."""
    if changes_schema(statement):
        return (Form.SEVERAL, Form.PIPELINE)
    if statement.arguments:
        return (*OF_ONE[1:], Form.PIPELINE, Form.ASKED_EARLY, Form.BATCHES)
    if _COPY_IN.search(statement.sql):
        # In copy-in mode the server ignores Sync, and fails on everything else.
        return (*OF_ONE, Form.SEVERAL)
    if _PREPARABLE.match(statement.sql.lstrip()):
        return (*OF_ONE, *OF_SEVERAL, Form.PREPARED)
    return (*OF_ONE, *OF_SEVERAL)


class Composer:
    """Puts statements into forms; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._number = 0

    def compose(self, form: Form, statements: Sequence[Statement]) -> Conversation:
        """`statements`, in this order, in a form that all of them fit."""
        undone = any(map(changes_schema, statements))
        expected = _expected(form, [statement.where for statement in statements])
        asked = tuple(self._ask(*pair, form) for pair in zip(statements, expected, strict=True))
        return Conversation(form, asked, self._steps(form, asked, undone))

    def _ask(self, statement: Statement, where: Where, form: Form) -> Asked:
        self._number += 1
        sql = statement.sql
        plain = statement.where is not Where.EITHER and form is not Form.PREPARED
        if plain and _WRAPPABLE.match(sql) and self._random.random() < 0.3:
            sql = f"SELECT current_setting('cluster_name') AS {NODE}, q.* FROM ({sql}\n) AS q"
        mark = comment(self._number)
        if form is not Form.PREPARED:
            sql = f"{mark} {sql}" if self._random.random() < 0.5 else f"{sql}\n{mark}"
        return Asked(statement, self._number, sql, where)

    def _steps(self, form: Form, asked: Sequence[Asked], undone: bool) -> tuple[Step, ...]:
        if form is Form.SINGLE:
            return (Step(query(asked[0].sql)),)
        if form is Form.SEVERAL:
            return (Step(query("\n;\n".join([*(one.sql for one in asked), *([UNDO] if undone else [])]))),)
        if form is Form.PREPARED:
            return self._prepared(asked[0])
        if form in PARSED_FIRST:
            return self._parsed_first(form, asked[0])
        if form is Form.BATCHES:
            data = [
                self._executed(one) + SYNC if one.statement.arguments or self._random.random() < 0.5 else query(one.sql)
                for one in asked
            ]
            return (Step(b"".join(data), ready=len(data), extended=True),)
        data = [self._executed(one) for one in asked]
        if undone:
            data.append(Parse(b"", UNDO.encode()).encode() + Bind().encode() + Execute().encode())
        return (Step((FLUSH if form is Form.ASKED_EARLY else b"").join(data) + SYNC, extended=True),)

    def _executed(self, one: Asked) -> bytes:
        """All but the Sync, with the unnamed statement or with one of a name."""
        name = self._name(one) if self._random.random() < 0.3 else b""
        describe = self._random.random() < 0.7
        described = Describe(b"P").encode() if describe else b""
        parts = [Parse(name, one.sql.encode()).encode(), bind(one, name), described, Execute().encode()]
        if name and self._random.random() < 0.5:
            parts.append(Close(STATEMENT, name).encode())
        return b"".join(parts)

    def _parsed_first(self, form: Form, one: Asked) -> tuple[Step, ...]:
        name = self._name(one) if form is Form.NAMED or self._random.random() < 0.5 else b""
        parsed = Parse(name, one.sql.encode()).encode()
        described = Describe(STATEMENT, name).encode()
        executed = Step(bind(one, name) + Execute().encode() + SYNC, extended=True)
        if form is Form.FLUSHED:
            return Step(parsed + described + FLUSH, ready=0, extended=True), executed
        return Step(parsed + (described if self._random.random() < 0.5 else b"") + SYNC, extended=True), executed

    def _prepared(self, one: Asked) -> tuple[Step, ...]:
        """In one string, in a transaction, or the EXECUTE where a server may not know of it any more."""
        name = f"oracle_{one.number}"
        prepare, execute = f"PREPARE {name} AS {one.sql}", f"EXECUTE {name} {comment(one.number)}"
        way = self._random.randrange(3)
        if way == 0:
            return (Step(query(f"{prepare}\n;\n{execute}; DEALLOCATE {name}")),)
        steps = (prepare, execute) if way == 1 else ("BEGIN", prepare, execute, "ROLLBACK")
        return tuple(Step(query(sql)) for sql in steps)

    def _name(self, one: Asked) -> bytes:
        return f"oracle_{one.number}".encode()


def _expected(form: Form, wheres: Sequence[Where]) -> list[Where]:
    """Where each may run, given those it is sent with."""
    if form is Form.PREPARED:
        return [Where.PRIMARY for _ in wheres]
    if form in (Form.SEVERAL, Form.ASKED_EARLY):
        # What follows a Flush is not known when a node is chosen.
        return [Where.PRIMARY if Where.PRIMARY in wheres else Where.EITHER for _ in wheres]
    if form is Form.PIPELINE:
        decisive = next((where for where in (Where.PRIMARY, Where.EITHER) if where in wheres), Where.STANDBY)
        return [decisive for _ in wheres]
    if form is Form.BATCHES:
        # A batch goes where the ones before it still are.
        return [
            Where.EITHER if where is Where.STANDBY and set(wheres[:place]) - {Where.STANDBY} else where
            for place, where in enumerate(wheres)
        ]
    return list(wheres)


def query(sql: str) -> bytes:
    return Query(sql.encode()).encode()


def bind(one: Asked, name: bytes) -> bytes:
    values = tuple(argument.encode() for argument in one.statement.arguments)
    return Bind(b"", name, (), values).encode()
