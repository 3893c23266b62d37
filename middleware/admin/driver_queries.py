"""SELECT, as drivers and tools send it of their own accord: what version that is, which database, whose session.

No SQL is run. The words of a SELECT are read for what it names in its first line of targets and for the relation behind
FROM: functions that say something of a session say it, the catalogs that list databases, roles and settings have the
console's own, all other catalogs are empty. Columns have the names that PostgreSQL would give them; what is not known
is null.
"""

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
_OPEN: Final = {"(": 1, "[": 1, ")": -1, "]": -1}
_ENDS: Final = frozenset(
    ("FROM", "WHERE", "ORDER", "GROUP", "HAVING", "LIMIT", "OFFSET", "UNION", "INTERSECT", "EXCEPT", "FOR", "FETCH")
)


_OPERATORS: Final = frozenset(("AND", "OR", "NOT", "IS", "IN", "LIKE", "ILIKE", "BETWEEN", "COLLATE", "ZONE", "CASE"))
"""Words that stand within an expression."""


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


def _databases(session: Session) -> list[dict[str, _Known]]:
    return [
        {
            "oid": ("int4", 1),
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


_RELATIONS: Final[dict[str, Callable[[Session], list[dict[str, _Known]]]]] = {
    "pg_database": _databases,
    "pg_roles": _roles,
    "pg_authid": _roles,
    "pg_user": _roles,
    "pg_settings": _settings,
}


def answer(statement: Statement, session: Session) -> Table | None:
    """The answer to a SELECT; None where it is none. Raises PointsmanError: 42P01 for what is no catalog."""
    words = statement.words
    start = _find(words, "SELECT")
    if words[0].upper() not in ("SELECT", "WITH") or start < 0:
        return None
    targets, rest = _targets(words[start + 1 :])
    inner = _subquery(rest)
    if inner is not None:
        # What is selected from a subquery is what that selects; it has rows if the catalogs had any.
        inner_targets, rest = _targets(inner)
        targets = [one for target in targets for one in (inner_targets if target[-1].text == "*" else [target])]
    relation = _relation(rest)
    if relation is None:
        rows: list[dict[str, _Known]] = [{}]
    elif relation in _RELATIONS:
        rows = _meant(_RELATIONS[relation](session), relation, words)
    elif any(word.text.lower().startswith((*CATALOGS, "generate_series")) for word in words):
        rows = []
    else:
        raise PointsmanError(
            f'relation "{relation}" does not exist',
            hint="This is the admin console, which has no tables. Try SHOW HELP.",
            sqlstate=sqlstate.UNDEFINED_TABLE,
        )
    like = _RELATIONS[relation](session)[0] if relation in _RELATIONS else {}
    columns: list[Column] = []
    values: list[list[Value]] = [[] for _ in rows]
    for target in targets:
        if target[-1].text == "*":
            if not like:
                # Nothing is known of it, and it has no rows; but it is a table.
                columns.append(Column(UNNAMED))
            for name, (kind, _) in like.items():
                columns.append(Column(name, kind))
                for row, one in zip(values, rows, strict=True):
                    row.append(one[name][1])
            continue
        expression, name = _named(target)
        columns.append(Column(name, _value(expression, session, like)[0]))
        for row, one in zip(values, rows, strict=True):
            row.append(_value(expression, session, one)[1])
    return Table(tuple(columns), tuple([tuple(row) for row in values]), tag="SELECT")


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
    """The words behind SELECT of what stands behind FROM, where that is a subquery."""
    if len(rest) > 3 and rest[0].upper() == "FROM" and rest[1].text == "(" and rest[2].upper() == "SELECT":
        depth = 0
        for at, word in enumerate(rest):
            depth += _OPEN.get(word.text, 0) if word.kind == "sign" else 0
            if at > 1 and depth == 0:
                return rest[3:at]
    return None


def _relation(rest: Sequence[Word]) -> str | None:
    """The first relation behind FROM, without pg_catalog; None where there is none."""
    if not rest or rest[0].upper() != "FROM":
        return None
    first = next((word for word in rest[1:] if word.kind in ("word", "name")), None)
    return None if first is None else first.text.lower().removeprefix("pg_catalog.")


def _meant(rows: list[dict[str, _Known]], relation: str, words: Sequence[Word]) -> list[dict[str, _Known]]:
    """Of the settings those whose names are written somewhere, if any name is."""
    if relation != "pg_settings":
        return rows
    named = {word.text.lower() for word in words if word.kind == "string"}
    return [row for row in rows if row["name"][1] in named] if named else rows


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
    elif called and name == "current_setting" and words[2].kind == "string":
        return "text", session.parameters.get(words[2].text.lower())
    elif called and name == "set_config" and len(words) > 4 and words[4].kind == "string":
        return "text", words[4].text
    return "text", None
