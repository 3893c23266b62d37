"""From rows of the system catalogs to a Catalog: what hides behind each name, worked out once for all statements.

In: what middleware/supervisor/catalog_reader.py reads. Out: the hazards of routing/catalog.py. The text of a view, of a
policy or of a domain's CHECK is read with the same grammar as a client's statement, and judged by the same rules.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from parser.facts import StatementFacts
from parser.shapes import FactsTable
from routing.catalog import ANY, Catalog, Overload, Thing, hazard_of
from routing.functions import (
    PRIMARY_ONLY,
    PRIMARY_ONLY_OVERLOADS,
    PRIMARY_ONLY_PREFIXES,
    SAFE_VOLATILE,
)


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
    """Its text, for languages that have one."""
    attribute: bool
    """It can be called as `row.name`."""
    parts: tuple[int, ...]
    """An aggregate's functions: transition, final, combine, .."""


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


class Type(msgspec.Struct, frozen=True):
    """A row of pg_type."""

    oid: int
    schema: str
    name: str
    functions: tuple[int, ...]
    """Its input and output functions, where they are not built in."""
    checks: tuple[str, ...]
    """A domain's constraints, as conditions."""
    parts: tuple[int, ...]
    """The types it is made of: a domain's base, an array's element, a row's columns, a range's subtype."""


class Operator(msgspec.Struct, frozen=True):
    """A row of pg_operator."""

    schema: str
    name: str
    function: int


class Cast(msgspec.Struct, frozen=True):
    """A row of pg_cast that is not built in."""

    target: int
    function: int
    implicit: bool


class Rows(msgspec.Struct, frozen=True):
    """All that was read of one database."""

    functions: Sequence[Function] = ()
    relations: Sequence[Relation] = ()
    types: Sequence[Type] = ()
    operators: Sequence[Operator] = ()
    casts: Sequence[Cast] = ()
    support: Sequence[int] = ()
    """Functions behind operator classes that are not built in: ORDER BY, DISTINCT, GROUP BY and UNION call them."""
    serializable: bool = False
    """A role or the database has `default_transaction_isolation = serializable`."""


VOLATILE: Final = "is volatile"
_WORD: Final = re.compile(r"[a-z_\x80-\U0010ffff][a-z0-9_$\x80-\U0010ffff]*")
_CHECK: Final = re.compile(r"CHECK \((.*)\)( NOT VALID)?", re.DOTALL)


def assemble(database: str, version: int, rows: Rows, texts: FactsTable) -> Catalog:
    """The snapshot. `texts` remembers what was read before: give the same one each time."""
    of_function = function_hazards(rows.functions)
    catalog = Catalog(
        database,
        version,
        functions=_functions(rows.functions, of_function),
        operators=_things((one.schema, one.name, of_function.get(one.function, "")) for one in rows.operators),
        attributes={
            one.name: of_function[one.oid] for one in rows.functions if one.attribute and of_function.get(one.oid)
        },
        hazard=_everywhere(rows, of_function),
    )
    # Views and policies may cast, domains may call: each is judged with what is known by then.
    catalog.types.update(_things(_types(rows, catalog, of_function, texts)))
    catalog.relations.update(_things(_Relations(rows.relations, catalog, texts).all()))
    return catalog


# Functions


def function_hazards(functions: Sequence[Function]) -> dict[int, str]:
    """The hazard of each function by oid; without an entry it has none."""
    hazards = {one.oid: hazard for one in functions if (hazard := _declared(one))}
    by_oid = {one.oid: one for one in functions}
    by_name = _never_harmless(functions, hazards)
    others = [one for one in functions if one.oid not in hazards and (one.parts or one.body)]
    words = {one.oid: frozenset(_WORD.findall(one.body.lower())) for one in others}
    found = True
    while found:
        found = False
        for one in others:
            if one.oid in hazards:
                continue
            hazard = _inside(one, words[one.oid], hazards, by_name, by_oid)
            if hazard:
                hazards[one.oid] = by_name[one.name.lower()] = hazard
                found = True
    return hazards


def _declared(function: Function) -> str:
    """What its declaration and the lists say of it."""
    if function.kind == "p":
        return "is a procedure"
    if function.schema == "pg_catalog" and function.builtin:
        name = function.name
        if name in SAFE_VOLATILE:
            return ""
        listed = PRIMARY_ONLY.get(name) or PRIMARY_ONLY_OVERLOADS.get((name, function.arguments), "")
        for prefix, reason in PRIMARY_ONLY_PREFIXES.items():
            if name.startswith(prefix):
                listed = reason
        if listed:
            return listed
    return VOLATILE if function.volatility == "v" else ""


def _never_harmless(functions: Sequence[Function], hazards: Mapping[int, str]) -> dict[str, str]:
    """The names, in lower case, whose mention in a function's body is enough: no built-in of that name is harmless."""
    harmless = {one.name for one in functions if one.builtin and one.oid not in hazards}
    return {one.name.lower(): hazards[one.oid] for one in functions if one.oid in hazards and one.name not in harmless}


def _inside(
    function: Function,
    words: frozenset[str],
    hazards: Mapping[int, str],
    by_name: Mapping[str, str],
    by_oid: Mapping[int, Function],
) -> str:
    """What it calls, whatever it is declared as."""
    for part in function.parts:
        if part in hazards:
            return f"is an aggregate over {by_oid[part].name}(), which {hazards[part]}"
    for name in sorted(words & by_name.keys()):
        if name != function.name.lower():
            return f"mentions {name}, which {by_name[name]}"
    return ""


def _functions(functions: Sequence[Function], hazards: Mapping[int, str]) -> dict[str, tuple[Overload, ...]]:
    names: dict[str, set[Overload]] = {}
    for one in functions:
        overload = Overload(one.schema, one.least, one.most, hazards.get(one.oid, ""))
        names.setdefault(one.name, set()).add(overload)
    return {name: tuple(sorted(overloads, key=msgspec.structs.astuple)) for name, overloads in names.items()}


# What no statement shows


def _everywhere(rows: Rows, of_function: Mapping[int, str]) -> str:
    if rows.serializable:
        return "default_transaction_isolation is serializable for a role or the database, which a standby cannot do"
    for cast in rows.casts:
        if cast.implicit and cast.function in of_function:
            return "the database has an implicit cast over a volatile function, which may hide in any expression"
    for function in rows.support:
        if function in of_function:
            return "the database has an operator class over a volatile function, which may hide in any sort or grouping"
    for one in rows.types:
        if any(function in of_function for function in one.functions):
            return f"the input or output of type {one.name} is volatile, which may hide in any expression"
    return ""


# Types


def _types(
    rows: Rows, catalog: Catalog, of_function: Mapping[int, str], texts: FactsTable
) -> list[tuple[str, str, str]]:
    hazards: dict[int, str] = {}
    names = {one.oid: one.name for one in rows.types}
    # While domains are judged, the types they mention count as harmless: what is wrong with those is found below.
    lenient = msgspec.structs.replace(catalog, types=_things((one.schema, one.name, "") for one in rows.types))
    for one in rows.types:
        for check in one.checks:
            hazard = hazard_of(_condition(_CHECK.sub(r"\1", check), texts), lenient)
            if hazard:
                hazards[one.oid] = f"has a CHECK: {hazard}"
    for cast in rows.casts:
        if cast.function in of_function:
            hazards[cast.target] = f"has a cast that {of_function[cast.function]}"
    found = True
    while found:
        found = False
        for one in rows.types:
            part = next((part for part in one.parts if part in hazards), None)
            if part is not None and one.oid not in hazards:
                hazards[one.oid] = f"is made of {names.get(part, 'a type')}, which {hazards[part]}"
                found = True
    return [(one.schema, one.name, hazards.get(one.oid, "")) for one in rows.types]


# Relations

_BY_KIND: Final = {
    "S": "is a sequence, whose values are ahead on a standby",
    "f": "is a foreign table, whose data is not the cluster's",
}


class _Relations:
    """The hazards of relations, each worked out when first asked for."""

    def __init__(self, relations: Sequence[Relation], catalog: Catalog, texts: FactsTable) -> None:
        self._relations = relations
        self._by_oid = {one.oid: one for one in relations}
        self._by_name = {(one.schema, one.name): one for one in relations}
        self._catalog = msgspec.structs.replace(catalog, relations={})
        self._texts = texts
        self._hazards: dict[int, str | None] = {}
        """None while it is being worked out."""

    def all(self) -> Iterable[tuple[str, str, str]]:
        return [(one.schema, one.name, self._hazard(one)) for one in self._relations]

    def _hazard(self, relation: Relation) -> str:
        """A stack of our own, for views upon views upon views."""
        pending = [relation]
        while pending:
            one = pending[-1]
            if self._hazards.get(one.oid) is not None:
                pending.pop()
                continue
            first = one.oid not in self._hazards
            self._hazards[one.oid] = None
            texts = self._facts(one)
            needed = [need for need in self._needed(one, texts) if first and need.oid not in self._hazards]
            if needed:
                pending.extend(needed)
                continue
            self._hazards[one.oid] = self._own(one, texts)
            pending.pop()
        return self._hazards[relation.oid] or ""

    def _facts(self, relation: Relation) -> list[StatementFacts]:
        texts = [_condition(policy, self._texts) for policy in relation.policies]
        if relation.kind == "v":
            texts.append(self._texts.facts_of(relation.definition.rstrip("; \n").encode()))
        return texts

    def _needed(self, relation: Relation, texts: Sequence[StatementFacts]) -> Iterable[Relation]:
        for facts in texts:
            for name in facts.relations:
                need = self._by_name.get((name[0] or "pg_catalog", name[1]))
                if need is not None:
                    yield need
        for child in relation.children:
            if child in self._by_oid:
                yield self._by_oid[child]

    def _own(self, relation: Relation, texts: Sequence[StatementFacts]) -> str:
        if relation.persistence != "p":
            return "is unlogged" if relation.persistence == "u" else "is temporary"
        if relation.kind in _BY_KIND:
            return _BY_KIND[relation.kind]
        for child in relation.children:
            hazard = self._hazards.get(child)
            if hazard:
                return f"has the part {self._by_oid[child].name}, which {hazard}"
        for facts in texts:
            # Judged against what these texts name, and nothing else.
            for need in self._needed(relation, [facts]):
                known = Thing(need.schema, self._hazards.get(need.oid) or "")
                if known not in self._catalog.relations.get(need.name, ()):
                    self._catalog.relations[need.name] = (*self._catalog.relations.get(need.name, ()), known)
            hazard = facts.write_reason or hazard_of(facts, self._catalog, _QUALIFIED)
            if hazard:
                what = "a view" if relation.kind == "v" and facts is texts[-1] else "under row security"
                return f"is {what}: {hazard}"
        return ""


_QUALIFIED: Final = frozenset({"pg_catalog"})
"""Texts from the catalog are read under an empty search_path: what is not qualified is built in."""


def _condition(text: str, texts: FactsTable) -> StatementFacts:
    return texts.facts_of(f"SELECT {text}".encode())


def _things(rows: Iterable[tuple[str, str, str]]) -> dict[str, tuple[Thing, ...]]:
    """By name; of several in one schema (operators), the hazardous ones are kept beside one harmless."""
    names: dict[str, set[Thing]] = {}
    for schema, name, hazard in rows:
        names.setdefault(name, set()).add(Thing(schema, hazard))
    return {name: tuple(sorted(things, key=msgspec.structs.astuple)) for name, things in names.items()}


__all__ = ["ANY", "Cast", "Function", "Operator", "Relation", "Rows", "Type", "assemble", "function_hazards"]
