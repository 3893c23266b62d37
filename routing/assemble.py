"""From rows of the system catalogs to a Catalog: what hides behind each name, worked out once for all statements.

In: what middleware/supervisor/catalog_reader.py reads. Out: the hazards of routing/catalog.py. The text of a view, of a
policy or of a domain's CHECK is read with the same grammar as a client's statement, and judged by the same rules.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from parser.facts import StatementFacts
from parser.shapes import FactsTable
from routing.catalog import Catalog, Overload, Thing, hazard_of
from routing.functions import (
    HARMLESS_SETTINGS,
    LANGUAGES_TRUSTED,
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
    paths: dict[str, str] = {}
    """Catalog.paths."""
    serializable: bool = False
    """A role or the database has `default_transaction_isolation = serializable`."""


VOLATILE: Final = "is volatile"
EXECUTES: Final = "executes text that cannot be seen beforehand"
_WORD: Final = re.compile(r"[a-z_\x80-\U0010ffff][a-z0-9_$\x80-\U0010ffff]*")
_SETTING: Final = re.compile(r"current_setting\s*\(\s*('[^']*'|.)")
_CHECK: Final = re.compile(r"CHECK \((.*)\)( NOT VALID)?", re.DOTALL)


def assemble(
    database: str, version: int, rows: Rows, texts: FactsTable, overrides: Overrides = NOTHING_SAID
) -> Catalog:
    """The snapshot. `texts` remembers what was read before: give the same one each time.

    Functions call functions and read relations, views call functions, functions take domains whose checks call
    functions: hazards are spread until no more come up.
    """
    functions = Functions(rows.functions, overrides)
    types: dict[int, str] = {}
    tainted: dict[int, str] = {}
    while True:
        found = len(functions.hazards) + len(types)
        tainted = _tainted(rows, functions.hazards)
        functions.spread_types(tainted, types)
        catalog = Catalog(
            database,
            version,
            functions=functions.by_name(),
            operators=_things(
                (one.schema, one.name, functions.hazards.get(one.function, "")) for one in rows.operators
            ),
            attributes=functions.attributes(),
            paths=rows.paths,
            hazard=_everywhere(rows, tainted),
        )
        types = _types(rows, catalog, functions.hazards, tainted, texts)
        catalog.types.update(_things((one.schema, one.name, types.get(one.oid, "")) for one in rows.types))
        relations = _Relations(rows.relations, catalog, tainted, texts).all()
        catalog.relations.update(_things(relations))
        functions.spread_mentions(
            {name: hazard for _, name, hazard in relations if hazard}
            | {one.name: types[one.oid] for one in rows.types if one.oid in types},
            {one.name: hazard for one in rows.operators if (hazard := functions.hazards.get(one.function))},
        )
        if len(functions.hazards) + len(types) == found:
            return catalog


# Functions


class Functions:
    """The functions, and the hazard of each by oid; without an entry it has none."""

    def __init__(self, functions: Sequence[Function], overrides: Overrides) -> None:
        self._all = functions
        self._by_oid = {one.oid: one for one in functions}
        listed = {one.oid: said for one in functions if (said := overrides.of(one)) is not None}
        self._safe = {oid for oid, said in listed.items() if not said}
        self.hazards = {one.oid: hazard for one in functions if (hazard := listed.get(one.oid, _declared(one)))}
        harmless = {one.name for one in functions if one.builtin and one.oid not in self.hazards}
        self._names = {
            one.name.lower(): self.hazards[one.oid]
            for one in functions
            if one.oid in self.hazards and one.name not in harmless
        }
        """The names, in lower case, whose mention in a function's body is enough: no built-in of theirs is harmless."""
        self._words = {
            one.oid: frozenset(_WORD.findall(one.body.lower()))
            for one in functions
            if one.oid not in self.hazards and (one.parts or one.body)
        }
        """Of those whose declaration is not the last word."""

    def spread_types(self, tainted: Mapping[int, str], types: Mapping[int, str]) -> None:
        """What takes or returns a type takes over its hazard: a value is converted to a domain where it is passed."""
        for one in self._all:
            for of in one.types:
                if of in tainted:
                    self._add(one, f"is for {tainted[of]}")
                elif of in types:
                    self._add(one, f"is for a type that {types[of]}")

    def spread_mentions(self, others: Mapping[str, str], operators: Mapping[str, str]) -> None:
        """What a function's body mentions, it may use, whatever it is declared as.

        `others` are the hazards of relations and types by name.
        """
        names = {name.lower(): hazard for name, hazard in others.items()}
        more = True
        while more:
            more = False
            for oid, words in self._words.items():
                one = self._by_oid[oid]
                hazard = self._inside(one, words, names, operators)
                if hazard and oid not in self.hazards and oid not in self._safe:
                    self._add(one, hazard)
                    more = True

    def by_name(self) -> dict[str, tuple[Overload, ...]]:
        names: dict[str, set[Overload]] = {}
        for one in self._all:
            overload = Overload(one.schema, one.least, one.most, self.hazards.get(one.oid, ""))
            names.setdefault(one.name, set()).add(overload)
        return {name: tuple(sorted(overloads, key=msgspec.structs.astuple)) for name, overloads in names.items()}

    def attributes(self) -> dict[str, str]:
        return {one.name: self.hazards[one.oid] for one in self._all if one.attribute and one.oid in self.hazards}

    def _add(self, function: Function, hazard: str) -> None:
        if function.oid not in self.hazards and function.oid not in self._safe:
            self.hazards[function.oid] = hazard
            self._names.setdefault(function.name.lower(), hazard)

    def _inside(
        self, function: Function, words: frozenset[str], others: Mapping[str, str], operators: Mapping[str, str]
    ) -> str:
        for part in function.parts:
            if part in self.hazards:
                return f"is an aggregate over {self._by_oid[part].name}(), which {self.hazards[part]}"
        if "execute" in words and function.language != "sql":
            return EXECUTES
        body = function.body.lower()
        if 'u&"' in body:
            return "mentions names with escapes, which are not read"
        for setting in _SETTING.findall(body):
            if setting.strip("'") not in HARMLESS_SETTINGS:
                return "asks for a setting that may differ between nodes"
        for names in (self._names, others):
            for name in sorted(words & names.keys()):
                if name != function.name.lower():
                    return f"mentions {name}, which {names[name]}"
            for name in names:
                if name in body and not _WORD.fullmatch(name):
                    return f"mentions {name}, which {names[name]}"
        for name, hazard in operators.items():
            if name in function.body:
                return f"mentions the operator {name}, which {hazard}"
        return ""


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


# Types


def _tainted(rows: Rows, of_function: Mapping[int, str]) -> dict[int, str]:
    """The types a mere value of which may call a volatile function: when it is shown, sorted, grouped or converted.

    A cast needs both its types to be there; so where one is built in, it is the other that tells. What an operator
    class or a type's input and output call in C is trusted: many an extension does not say how volatile those are.
    """
    trusted = {one.oid for one in rows.functions if one.language in LANGUAGES_TRUSTED}
    builtin = {one.oid for one in rows.types if one.builtin}
    names = {one.oid: f"the type {one.name}" for one in rows.types}
    found: dict[int, str] = {}
    for cast in rows.casts:
        if cast.implicit and cast.function in of_function:
            which = cast.target if cast.source in builtin else cast.source
            found[which] = f"{names.get(which)}, which has an implicit cast over a volatile function"
    for support in rows.support:
        if support.function in of_function and support.function not in trusted:
            found[support.type] = f"{names.get(support.type)}, which has an operator class over a volatile function"
    return _spread(rows.types, found, lambda one, part: f"{names[one]}, which is made of {part}")


def _spread(types: Sequence[Type], found: dict[int, str], say: Callable[[int, str], str]) -> dict[int, str]:
    """What is true of a type is true of those made of it."""
    more = True
    while more:
        more = False
        for one in types:
            part = next((part for part in one.parts if part in found), None)
            if part is not None and one.oid not in found:
                found[one.oid] = say(one.oid, found[part])
                more = True
    return found


def _everywhere(rows: Rows, tainted: Mapping[int, str]) -> str:
    """What no statement shows."""
    if rows.serializable:
        return "default_transaction_isolation is serializable for a role or the database, which a standby cannot do"
    for one in rows.types:
        if one.oid in tainted and one.builtin:
            return f"the database has {tainted[one.oid]}, which any expression may use"
    return ""


def _types(
    rows: Rows, catalog: Catalog, of_function: Mapping[int, str], tainted: Mapping[int, str], texts: FactsTable
) -> dict[int, str]:
    """What a cast to each type may call."""
    hazards: dict[int, str] = {}
    # While domains are judged, the types they mention count as harmless: what is wrong with those is found below.
    lenient = msgspec.structs.replace(catalog, types=_things((one.schema, one.name, "") for one in rows.types))
    for one in rows.types:
        for check in one.checks:
            hazard = hazard_of(_condition(_CHECK.sub(r"\1", check), texts), lenient, _QUALIFIED)
            if hazard:
                hazards[one.oid] = f"has a CHECK: {hazard}"
    for cast in rows.casts:
        if cast.function in of_function:
            hazards[cast.target] = f"has a cast that {of_function[cast.function]}"
    names = {one.oid: one.name for one in rows.types}
    _spread(rows.types, hazards, lambda _one, part: f"is made of a type that {part}")
    for oid, hazard in tainted.items():
        hazards.setdefault(oid, hazard.removeprefix(f"the type {names.get(oid)}, which "))
    return hazards


# Relations

_BY_KIND: Final = {
    "S": "is a sequence, whose values are ahead on a standby",
    "f": "is a foreign table, whose data is not the cluster's",
}


class _Relations:
    """The hazards of relations, each worked out when first asked for."""

    def __init__(
        self, relations: Sequence[Relation], catalog: Catalog, tainted: Mapping[int, str], texts: FactsTable
    ) -> None:
        self._relations = relations
        self._tainted = tainted
        self._by_oid = {one.oid: one for one in relations}
        self._by_name = {(one.schema, one.name): one for one in relations}
        self._catalog = msgspec.structs.replace(catalog, relations={})
        self._texts = texts
        self._hazards: dict[int, str | None] = {}
        """None while it is being worked out."""

    def all(self) -> list[tuple[str, str, str]]:
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
        for column in relation.columns:
            if column in self._tainted:
                return f"has a column of {self._tainted[column]}"
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


_QUALIFIED: Final = ("pg_catalog",)
"""Texts from the catalog are read under an empty search_path: what is not qualified is built in."""


def _condition(text: str, texts: FactsTable) -> StatementFacts:
    return texts.facts_of(f"SELECT {text}".encode())


def _things(rows: Iterable[tuple[str, str, str]]) -> dict[str, tuple[Thing, ...]]:
    """By name; of several in one schema (operators), the hazardous ones are kept beside one harmless."""
    names: dict[str, set[Thing]] = {}
    for schema, name, hazard in rows:
        names.setdefault(name, set()).add(Thing(schema, hazard))
    return {name: tuple(sorted(things, key=msgspec.structs.astuple)) for name, things in names.items()}
