"""SELECT, as drivers and tools send it of their own accord: what version that is, which database, whose session.

No SQL is run. The words of a SELECT are read for what it names in its first line of targets and for the relation or the
subquery behind FROM: functions that say something of a session say it, the catalogs that list databases, roles and
settings have the console's own, all other catalogs are empty, and aggregates are of as many rows. Joins and conditions
are passed over. Columns have the names that PostgreSQL would give them; what is not known is null.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from middleware import sqlstate
from middleware.admin.table import Column, ColumnType, Table, Value
from middleware.admin.words import Statement, Word
from middleware.errors import PointsmanError

CATALOGS: Final = ("pg_", "information_schema.")
"""How the relations' names begin that may be asked for."""
UNNAMED: Final = "?column?"
DEPTH_MAX: Final = 8
"""Of subqueries that are read; tools write four."""
WORDS_MAX: Final = 5000
"""Of a SELECT that is read, in the loop that all clients wait for; tools write some hundreds."""
_OPEN: Final = {"(": 1, "[": 1, ")": -1, "]": -1}
_ENDS: Final = frozenset(
    ("FROM", "WHERE", "ORDER", "GROUP", "HAVING", "LIMIT", "OFFSET", "UNION", "INTERSECT", "EXCEPT", "FOR", "FETCH")
)


_OPERATORS: Final = frozenset(("AND", "OR", "NOT", "IS", "IN", "LIKE", "ILIKE", "BETWEEN", "COLLATE", "ZONE", "CASE"))
"""Words that stand within an expression."""
_SET_OPERATIONS: Final = frozenset(("UNION", "INTERSECT", "EXCEPT"))
_AGGREGATES: Final = frozenset(
    ("count", "sum", "min", "max", "avg", "array_agg", "string_agg", "json_agg", "jsonb_agg", "bool_and", "bool_or")
)
_ROWS_OF_NULL: Final = frozenset(
    ("aclexplode", "unnest", "generate_series", "generate_subscripts", "regexp_split_to_table")
)
"""Functions that return rows: none here, where what they are given is null."""
_TO_JSON: Final = ("row_to_json", "to_json", "to_jsonb")


class Session(msgspec.Struct, frozen=True):
    """Who asks, and what is known of the session."""

    user: str
    database: str
    version: str
    process_id: int
    parameters: Mapping[str, str]


_Known = tuple[ColumnType, Value]

_FUNCTIONS: Final[dict[str, Callable[[Session], _Known]]] = {
    "version": lambda session: ("text", session.version),
    "current_database": lambda session: ("text", session.database),
    "current_catalog": lambda session: ("text", session.database),
    "current_schema": lambda _: ("text", "public"),
    "current_user": lambda session: ("text", session.user),
    "current_role": lambda session: ("text", session.user),
    "session_user": lambda session: ("text", session.user),
    "user": lambda session: ("text", session.user),
    "pg_backend_pid": lambda session: ("int4", session.process_id),
    "pg_is_in_recovery": lambda _: ("bool", False),
    "pg_is_wal_replay_paused": lambda _: ("bool", False),
    "pg_encoding_to_char": lambda _: ("text", "UTF8"),
    "pg_advisory_unlock_all": lambda _: ("text", ""),
    "has_database_privilege": lambda _: ("bool", False),
    "has_table_privilege": lambda _: ("bool", False),
    "has_schema_privilege": lambda _: ("bool", False),
}
_WITHOUT_PARENTHESES: Final = (
    "current_catalog",
    "current_user",
    "current_role",
    "session_user",
    "user",
    "current_schema",
)


FIRST_NORMAL_OID: Final = 16384
"""PostgreSQL's FirstNormalObjectId: what has a lower one is the system's own, which pgAdmin does not list."""


def _databases(session: Session) -> list[dict[str, _Known]]:
    return [
        {
            "oid": ("int4", FIRST_NORMAL_OID),
            "datname": ("text", session.database),
            "datdba": ("int4", 10),
            "encoding": ("int4", 6),
            "datcollate": ("text", "C"),
            "datctype": ("text", "C"),
            "datistemplate": ("bool", False),
            "datallowconn": ("bool", True),
            "datconnlimit": ("int4", -1),
            "dattablespace": ("int4", 1663),
        }
    ]


def _roles(session: Session) -> list[dict[str, _Known]]:
    return [
        {
            "oid": ("int4", 10),
            "rolname": ("text", session.user),
            "rolsuper": ("bool", False),
            "rolinherit": ("bool", True),
            "rolcreaterole": ("bool", False),
            "rolcreatedb": ("bool", False),
            "rolcanlogin": ("bool", True),
            "rolreplication": ("bool", False),
            "rolbypassrls": ("bool", False),
            "usename": ("text", session.user),
            "usesysid": ("int4", 10),
            "usesuper": ("bool", False),
        }
    ]


def _settings(session: Session) -> list[dict[str, _Known]]:
    return [
        {"name": ("text", name), "setting": ("text", value), "unit": ("text", None), "category": ("text", "")}
        for name, value in sorted(session.parameters.items())
    ]


def _types(_: Session) -> list[dict[str, _Known]]:
    # JDBC goes by its length for those of all identifiers.
    return [{"oid": ("int4", 19), "typname": ("text", "name"), "typlen": ("int4", 64)}]


_RELATIONS: Final[dict[str, Callable[[Session], list[dict[str, _Known]]]]] = {
    "pg_database": _databases,
    "pg_roles": _roles,
    "pg_authid": _roles,
    "pg_user": _roles,
    "pg_settings": _settings,
    "pg_type": _types,
}
_BY_NAME: Final = {"pg_settings": "name", "pg_type": "typname"}
"""Of these a row is meant if its name is among the strings that are written somewhere."""


def answer(statement: Statement, session: Session) -> Table | None:
    """The answer to a SELECT; None where it is none. Raises PointsmanError: 42P01 for what is no catalog,
    54001 for what is nested too deeply or too long."""
    words = _bare(statement.words)
    if (
        not words
        or words[0].upper() not in ("SELECT", "WITH", "(")
        or not any(word.upper() == "SELECT" for word in words)
    ):
        return None
    if len(words) > WORDS_MAX:
        raise _too_complex()
    table = _Reading(session, words).query(words, DEPTH_MAX)
    return Table(table.columns, table.rows, tag="SELECT")


class _Reading:
    """Of one statement."""

    def __init__(self, session: Session, words: Sequence[Word]) -> None:
        self._session: Final = session
        self._strings: Final = {word.text.lower() for word in words if word.kind == "string"}
        self._of_catalogs: Final = any(word.text.lower().startswith((*CATALOGS, "generate_series")) for word in words)

    def query(self, words: Sequence[Word], depth: int) -> Table:
        """SELECTs, and what UNION adds to the first; of the other set operations the first is the answer."""
        if depth == 0:
            raise _too_complex()
        (_, first), *others = _operands(_bare(words))
        if not others:
            start = _find(first, "SELECT")
            return self._select(first[start + 1 :], depth) if start >= 0 else Table((), ())
        table = self.query(first, depth - 1)
        rows = list(table.rows)
        for operation, operand in others:
            if operation == "UNION":
                rows += _as_of(table.columns, self.query(operand, depth - 1))
        return Table(table.columns, tuple(rows))

    def _select(self, words: Sequence[Word], depth: int) -> Table:
        """Of what stands behind SELECT."""
        targets, rest = _targets(words)
        columns: list[Column] = []
        values: list[list[Value]] = []
        source = self._source(rest, depth)
        if any(_calls(target, _ROWS_OF_NULL) for target in targets):
            source = Table(source.columns, ())
        if _find(rest, "GROUP") < 0 and any(_calls(target, _AGGREGATES) for target in targets):
            source = Table((Column("count", "int8"),), ((len(source.rows),),))
        rows: list[Mapping[str, _Known]] = [
            {column.name: (column.type, value) for column, value in zip(source.columns, row, strict=True)}
            for row in source.rows
        ]
        like: Mapping[str, _Known] = {column.name: (column.type, None) for column in source.columns}
        for target in targets:
            if target[-1].text == "*":
                # Where nothing is known of it, it has no rows; but it is a table.
                columns += source.columns or (Column(UNNAMED),)
                values += [[row[at] for row in source.rows] for at in range(len(source.columns) or 1)]
                continue
            expression, name = _named(target)
            inner = _bare(expression)
            if len(inner) < len(expression) and inner and inner[0].upper() == "SELECT":
                # What it is does not depend on the row.
                kind, value = self._scalar(inner, depth)
                columns.append(Column(name, kind))
                values.append([value] * len(rows))
                continue
            columns.append(Column(name, _value(expression, self._session, like)[0]))
            values.append([_value(expression, self._session, row)[1] for row in rows])
        return Table(tuple(columns), tuple([tuple([of[at] for of in values]) for at in range(len(rows))]))

    def _scalar(self, words: Sequence[Word], depth: int) -> _Known:
        """A subquery's only value."""
        table = self.query(words, depth - 1)
        if not table.columns:
            return "text", None
        return table.columns[0].type, table.rows[0][0] if table.rows else None

    def _source(self, rest: Sequence[Word], depth: int) -> Table:
        """What is selected from: a relation, what a subquery selects, or one row of nothing where there is no FROM."""
        inner = _subquery(rest)
        if inner is not None:
            return self.query(inner, depth - 1)
        relation = _relation(rest)
        if relation is None:
            return Table((), ((),))
        if relation in _RELATIONS:
            known = _RELATIONS[relation](self._session)
            columns = tuple([Column(name, kind) for name, (kind, _) in known[0].items()])
            rows = _meant(known, relation, self._strings)
            return Table(columns, tuple([tuple([value for _, value in row.values()]) for row in rows]))
        if not self._of_catalogs:
            raise PointsmanError(
                f'relation "{relation}" does not exist',
                hint="This is the admin console, which has no tables. Try SHOW HELP.",
                sqlstate=sqlstate.UNDEFINED_TABLE,
            )
        return Table((), ())


def _too_complex() -> PointsmanError:
    return PointsmanError(
        "statement is too complex",
        hint="This is the admin console, which has no tables. Try SHOW HELP.",
        sqlstate=sqlstate.STATEMENT_TOO_COMPLEX,
    )


def _bare(words: Sequence[Word]) -> Sequence[Word]:
    """Without parentheses around the whole."""
    start = 0
    while start < len(words) - 1 - start and words[start].upper() == "(" and words[-1 - start].upper() == ")":
        start += 1
    # Of these only those that belong together: "(a) + (b)" has none around it.
    depth = lowest = start
    for word in words[start : len(words) - start]:
        depth += _OPEN.get(word.text, 0) if word.kind == "sign" else 0
        lowest = min(lowest, depth)
    return words[lowest : len(words) - lowest] if lowest > 0 else words


def _operands(words: Sequence[Word]) -> list[tuple[str, Sequence[Word]]]:
    """Of set operations, each with the keyword in front of it."""
    found: list[tuple[str, Sequence[Word]]] = []
    operation, start, depth = "", 0, 0
    for at, word in enumerate(words):
        depth += _OPEN.get(word.text, 0) if word.kind == "sign" else 0
        if depth == 0 and word.upper() in _SET_OPERATIONS:
            found.append((operation, words[start:at]))
            operation, start = word.upper(), at + 1
            if start < len(words) and words[start].upper() in ("ALL", "DISTINCT"):
                start += 1
    return [*found, (operation, words[start:])]


def _as_of(columns: tuple[Column, ...], table: Table) -> list[tuple[Value, ...]]:
    """Its rows under these columns; null where a value is of another type, and none where there are not as many."""
    if len(columns) != len(table.columns):
        return []
    same = [one.type == other.type for one, other in zip(columns, table.columns, strict=True)]
    return [tuple([value if fits else None for value, fits in zip(row, same, strict=True)]) for row in table.rows]


def _calls(target: Sequence[Word], functions: frozenset[str]) -> bool:
    """It begins with a call of one of these."""
    name = target[0].text.lower().removeprefix("pg_catalog.")
    return len(target) > 1 and target[0].kind == "word" and name in functions and target[1].text == "("


def _find(words: Sequence[Word], keyword: str) -> int:
    """Where it stands outside of parentheses; -1 for nowhere."""
    depth = 0
    for at, word in enumerate(words):
        depth += _OPEN.get(word.text, 0) if word.kind == "sign" else 0
        if depth == 0 and word.upper() == keyword:
            return at
    return -1


def _targets(words: Sequence[Word]) -> tuple[list[list[Word]], Sequence[Word]]:
    """What is selected, each by its words; and what follows, from FROM on."""
    if words and words[0].upper() in ("DISTINCT", "ALL"):
        words = words[1:]
    found: list[list[Word]] = []
    target: list[Word] = []
    depth = 0
    for at, word in enumerate(words):
        depth += _OPEN.get(word.text, 0) if word.kind == "sign" else 0
        if depth == 0 and word.upper() in _ENDS:
            return ([*found, target] if target else found), words[at:]
        if depth == 0 and word.kind == "sign" and word.text == ",":
            found.append(target)
            target = []
        else:
            target.append(word)
    return ([*found, target] if target else found), ()


def _subquery(rest: Sequence[Word]) -> Sequence[Word] | None:
    """The words of what stands behind FROM, where that is a subquery."""
    if len(rest) > 3 and rest[0].upper() == "FROM" and rest[1].text == "(" and rest[2].upper() == "SELECT":
        depth = 0
        for at, word in enumerate(rest):
            depth += _OPEN.get(word.text, 0) if word.kind == "sign" else 0
            if at > 1 and depth == 0:
                return rest[2:at]
    return None


def _relation(rest: Sequence[Word]) -> str | None:
    """The first relation behind FROM, without pg_catalog; None where there is none."""
    if not rest or rest[0].upper() != "FROM":
        return None
    first = next((word for word in rest[1:] if word.kind in ("word", "name")), None)
    return None if first is None else first.text.lower().removeprefix("pg_catalog.")


def _meant(rows: list[dict[str, _Known]], relation: str, strings: set[str]) -> list[dict[str, _Known]]:
    """Those that are meant: all settings, if no string is written."""
    name = _BY_NAME.get(relation)
    if name is None or (relation == "pg_settings" and not strings):
        return rows
    return [row for row in rows if row[name][1] in strings]


def _named(target: list[Word]) -> tuple[list[Word], str]:
    """A target's expression, and what its column is called."""
    if len(target) > 2 and target[-2].upper() == "AS":
        return target[:-2], target[-1].text if target[-1].kind == "name" else target[-1].text.lower()
    if target[-1].upper() == "END":
        return target, "case"
    if len(target) > 1 and target[-1].kind in ("word", "name") and _ends_a_value(target[-2]):
        return target[:-1], target[-1].text if target[-1].kind == "name" else target[-1].text.lower()
    first = target[0]
    if len(target) == 1 and first.upper() in ("TRUE", "FALSE"):
        return target, "bool"
    if first.kind == "name" or (first.kind == "word" and (len(target) == 1 or target[1].text == "(")):
        return target, first.text.rpartition(".")[2].lower()
    return target, UNNAMED


def _ends_a_value(word: Word) -> bool:
    """What stands behind it, if it is a word, is a name for the column."""
    return word.text in (")", "]") if word.kind == "sign" else word.upper() not in _OPERATORS


def _value(words: list[Word], session: Session, row: Mapping[str, _Known]) -> _Known:
    """An expression's type and value; null where that is not known."""
    first = words[0]
    name = first.text.lower().removeprefix("pg_catalog.")
    if name == "array" and first.kind == "word" and len(words) > 2 and words[1].text == "(":
        return "text[]", "{}"
    called = len(words) > 2 and words[1].text == "(" and words[-1].text == ")"
    if len(words) == 1 or (len(words) > 1 and words[1].text == ":"):
        if first.kind == "string":
            return "text", first.text
        if first.kind == "number":
            return ("int4", int(first.text)) if first.text.isdigit() and len(first.text) < 10 else ("text", first.text)
        if first.upper() in ("TRUE", "FALSE"):
            return "bool", first.upper() == "TRUE"
        if name.rpartition(".")[2] in row:
            return row[name.rpartition(".")[2]]
        if name in _WITHOUT_PARENTHESES:
            return _FUNCTIONS[name](session)
    elif called and name in _FUNCTIONS:
        return _FUNCTIONS[name](session)
    elif called and name == "count" and "count" in row:
        return row["count"]
    elif called and name == "string_agg" and "count" in row:
        # JDBC takes it for its keywords, and who asks for these does not expect null.
        return "text", ""
    elif called and name in _TO_JSON and row:
        return "text", json.dumps({column: value for column, (_, value) in row.items()})
    elif called and name == "current_setting" and words[2].kind == "string":
        return "text", session.parameters.get(words[2].text.lower())
    elif called and name == "set_config" and len(words) > 4 and words[4].kind == "string":
        return "text", words[4].text
    return "text", None
