"""What is read of a database's system catalogs to judge its names, and what its operator says of them."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec


class Function(msgspec.Struct, frozen=True):
    """A row of pg_proc."""

    oid: int
    schema: str
    name: str
    least: int
    most: int
    volatility: str
    kind: str
    builtin: bool
    arguments: str
    """As `oidvectortypes` writes them."""
    language: str
    body: str
    """Its text, for languages that have one, and that of its arguments' defaults."""
    attribute: bool
    """It can be called as `row.name`."""
    parts: tuple[int, ...]
    """An aggregate's functions: transition, final, combine, .."""
    types: tuple[int, ...]
    """The types it takes and returns that are not built in."""


class Relation(msgspec.Struct, frozen=True):
    """A row of pg_class."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    definition: str
    """A view's SELECT, with every name outside pg_catalog qualified."""
    policies: tuple[str, ...]
    """The conditions of its row security policies, where these are on."""
    children: tuple[int, ...]
    """What is read with it: its partitions, and what inherits from it."""
    columns: tuple[int, ...]
    """The types of its columns that are not built in."""


class Type(msgspec.Struct, frozen=True):
    """A row of pg_type."""

    oid: int
    schema: str
    name: str
    checks: tuple[str, ...]
    """A domain's constraints, as conditions."""
    builtin: bool
    parts: tuple[int, ...]
    """The types it is made of: a domain's base, an array's element, a row's columns, a range's subtype."""


class Operator(msgspec.Struct, frozen=True):
    """A row of pg_operator."""

    schema: str
    name: str
    function: int


class Cast(msgspec.Struct, frozen=True):
    """A row of pg_cast that is not built in."""

    source: int
    target: int
    function: int
    implicit: bool


class Support(msgspec.Struct, frozen=True):
    """A function of an operator class that is not built in: ORDER BY, DISTINCT, GROUP BY and UNION call it."""

    type: int
    function: int


class Overrides(msgspec.Struct, frozen=True):
    """What an operator says of functions: regular expressions for the whole of their names, with or without schema."""

    primary: tuple[str, ...] = ()
    safe: tuple[str, ...] = ()
    """Harmless, whatever they are declared as and mention. A function on both lists goes to the primary."""

    def of(self, function: Function) -> str | None:
        """The hazard of a function that is on a list; None of one on neither."""
        names = function.name, f"{function.schema}.{function.name}"
        if any(re.fullmatch(pattern, name) for pattern in self.primary for name in names):
            return "is on the list primary_functions"
        return "" if any(re.fullmatch(pattern, name) for pattern in self.safe for name in names) else None


NOTHING_SAID: Final = Overrides()


class Rows(msgspec.Struct, frozen=True):
    """All that was read of one database."""

    functions: Sequence[Function] = ()
    relations: Sequence[Relation] = ()
    types: Sequence[Type] = ()
    operators: Sequence[Operator] = ()
    casts: Sequence[Cast] = ()
    support: Sequence[Support] = ()
    settings: dict[str, dict[str, str]] = {}
    """Catalog.settings."""
