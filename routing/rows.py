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
    """The types of its columns that are not built in, and timetz."""


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


VIEW: Final = "view"
RULE: Final = "rule"
POLICY: Final = "policy"
TYPE: Final = "type"


class Use(msgspec.Struct, frozen=True):
    """What pg_depend says a part of a relation, or a type, uses, of what is a user's."""

    relation: int
    """0 for a type."""
    part: str
    """VIEW for a view's query, RULE, POLICY, or "expression" for a default, a CHECK, an index, a trigger."""
    ways: str
    """What brings it into play: letters of the nodes in routing/cache_catalog.py."""
    function: int
    """0 where it uses a relation."""
    used: int
    """That relation."""


class ForeignKey(msgspec.Struct, frozen=True):
    """A row of pg_constraint."""

    relation: int
    """The one that references."""
    referenced: int
    on_delete: str
    on_update: str
    """As in pg_constraint: a and r for none, c for CASCADE, n and d for SET NULL and SET DEFAULT."""


class Overrides(msgspec.Struct, frozen=True):
    """What an operator says of functions and relations: regular expressions for the whole of their names.

    With or without their schemas.
    """

    primary: tuple[str, ...] = ()
    safe: tuple[str, ...] = ()
    """Harmless, whatever they are declared as and mention. A function on both lists goes to the primary."""
    cache_safe: tuple[str, ...] = ()
    """Stable functions whose results may be cached all the same."""
    cache_safe_relations: tuple[str, ...] = ()
    """Where there are any, what a statement names must be one of these for its answer to be cached."""
    cache_unsafe_relations: tuple[str, ...] = ()
    """What is read from these, even behind a view, is never cached."""

    def of(self, function: Function) -> str | None:
        """The hazard of a function that is on a list; None of one on neither."""
        if matches(self.primary, function.schema, function.name):
            return "is on the list primary_functions"
        return "" if matches(self.safe, function.schema, function.name) else None


def matches(patterns: Sequence[str], schema: str, name: str) -> bool:
    """Whether one of them is the whole of a name, with or without its schema."""
    return any(re.fullmatch(pattern, one) for pattern in patterns for one in (name, f"{schema}.{name}"))


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
    uses: Sequence[Use] = ()
    foreign_keys: Sequence[ForeignKey] = ()
    date_columns: frozenset[str] = frozenset()
    """Names that only columns have that are dates or timestamps."""
    fingerprint: str = ""
    """Of owners, privileges, memberships and settings: what else changes answers."""
