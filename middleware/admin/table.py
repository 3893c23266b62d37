"""What the console answers with: rows under typed columns, or a word that says what was done."""

from typing import Final, Literal

import msgspec

ColumnType = Literal["text", "bool", "int4", "int8", "float8", "numeric", "timestamptz", "bytea", "text[]"]
"""PostgreSQL's names; a value of each is a str, bool, int, int, float, int or float, seconds since 1970, and None. Of
arrays there is the empty one alone, "{}"."""

OIDS: Final[dict[ColumnType, int]] = {
    "text": 25,
    "bool": 16,
    "int4": 23,
    "int8": 20,
    "float8": 701,
    "numeric": 1700,
    "timestamptz": 1184,
    "bytea": 17,
    "text[]": 1009,
}

Value = str | bool | int | float | None


class Column(msgspec.Struct, frozen=True):
    """A column of an answer. PgBouncer's names, where it has the same."""

    name: str
    type: ColumnType = "text"


class Table(msgspec.Struct, frozen=True):
    """Rows; each has a value for every column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    tag: str = "SHOW"
    """What CommandComplete says."""
    notices: tuple[str, ...] = ()
    """What is to be said beside it: a worker that has not answered, for one."""


class Done(msgspec.Struct, frozen=True):
    """Something was done that has no rows."""

    tag: str
    """What CommandComplete says: "PAUSE", "RELOAD", .."""
    notices: tuple[str, ...] = ()
