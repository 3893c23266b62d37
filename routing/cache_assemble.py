"""From rows of the system catalogs to Caching: what is read, and what is changed, behind every name.

In: the rows, the Catalog that routing goes by, and the same with the judgements of routing/cache_judgement.py. What the
catalog says once (pg_depend, pg_constraint, pg_trigger, pg_inherits) becomes edges of two graphs; nothing is followed
any further here: that is done for the statements that are asked about.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from parser.facts import DELETES, INSERTS, REFRESHES, TRUNCATES, UPDATES
from routing.cache_catalog import EVERY_DATABASE, Caching, Callee, Place
from routing.cache_functions import HARMLESS_C
from routing.cache_judgement import SYSTEM_SCHEMAS, Dates
from routing.catalog import Catalog
from routing.functions import LANGUAGES_TRUSTED
from routing.mentions import changed_by, is_odd, read_by
from routing.overload import Overload, Thing
from routing.rows import POLICY, RULE, TYPE, VIEW, Function, Overrides, Relation, Rows, matches

CHANGING: Final = INSERTS + UPDATES + DELETES + TRUNCATES


def caching(rows: Rows, catalog: Catalog, lasting: Catalog, overrides: Overrides) -> Caching:
    """`lasting` has the hazards that keep answers from being kept, and nothing else that counts."""
    relations = [one for one in rows.relations if one.schema not in SYSTEM_SCHEMAS and one.kind != "S"]
    oids = _by_name((one.name, Place(one.schema, one.oid)) for one in relations)
    graph = _Graph(rows, relations, oids, catalog)
    dates = Dates(rows)
    return Caching(
        functions=_hazardous(lasting.functions, catalog.functions),
        relations=_hazardous(lasting.relations, catalog.relations),
        operators=_hazardous(lasting.operators, catalog.operators),
        types=_hazardous(lasting.types, catalog.types),
        attributes={name: hazard for name, hazard in lasting.attributes.items() if name not in catalog.attributes},
        hazard=lasting.hazard,
        unlisted=_unlisted(relations, overrides),
        date_columns=dates.columns,
        with_dates=dates.types,
        oids=oids,
        callees=graph.callees,
        odd=tuple(sorted({name for name in (*oids, *graph.callees) if is_odd(name)})),
        reads=graph.reads,
        effects=graph.effects,
        hidden_reads=graph.hidden_reads,
        hidden_effects=graph.hidden_effects,
        materialized=frozenset([one.oid for one in relations if one.kind == "m"]),
        fingerprint=rows.fingerprint,
    )


Named = TypeVar("Named", Overload, Thing)
Value = TypeVar("Value", Callee, Place, Thing)


def _hazardous(
    names: Mapping[str, tuple[Named, ...]], routing: Mapping[str, tuple[Named, ...]]
) -> dict[str, tuple[Named, ...]]:
    """The names that have a hazard which routing does not know of."""
    return {
        name: things
        for name, things in names.items()
        if things != routing.get(name) and any(thing.hazard for thing in things)
    }


def _unlisted(relations: Iterable[Relation], overrides: Overrides) -> dict[str, tuple[Thing, ...]]:
    listed = overrides.cache_safe_relations
    if not listed:
        return {}
    return _by_name(
        (one.name, Thing(one.schema, "is not on the list cache_safe_relations"))
        for one in relations
        if not matches(listed, one.schema, one.name)
    )


def _by_name(pairs: Iterable[tuple[str, Value]]) -> dict[str, tuple[Value, ...]]:
    names: dict[str, list[Value]] = {}
    for name, value in pairs:
        names.setdefault(name, []).append(value)
    # The rows come in any order, and who compares two catalogs is to find those equal that say the same.
    return {name: tuple(sorted(values, key=msgspec.structs.astuple)) for name, values in names.items()}


class _Graph:
    """Both graphs, being put together."""

    def __init__(
        self, rows: Rows, relations: Sequence[Relation], oids: Mapping[str, tuple[Place, ...]], catalog: Catalog
    ) -> None:
        own = [one for one in rows.functions if not one.builtin]
        callees = _by_name((one.name, Callee(one.schema, one.least, one.most, one.oid)) for one in own)
        odd = [name for name in (*oids, *callees) if is_odd(name)]
        self._reads: dict[str, set[str] | None] = {}
        self._effects: dict[str, set[str] | None] = {}
        for function in own:
            node = f"f{function.oid}"
            parts = [f"f{part}" for part in function.parts]
            self._reads[node] = {*parts, *read_by(function.body, oids, callees, odd)} - {node}
            effects = _effects_of(function, oids, callees, odd, catalog)
            self._effects[node] = None if effects is None else {*parts, *effects} - {node}
        for relation in relations:
            self._add_parts(relation)
        self._add_uses(rows, {one.oid: one.kind for one in relations})
        self._add_foreign_keys(rows)
        self.reads = _pruned(self._reads, "r")
        self.effects = _pruned(self._effects, CHANGING + REFRESHES + EVERY_DATABASE)
        self.callees = {
            name: kept
            for name, found in callees.items()
            if (kept := tuple(one for one in found if f"f{one.oid}" in self.reads or f"f{one.oid}" in self.effects))
        }
        hidden = _hidden(rows)
        self.hidden_reads = tuple(sorted(hidden & self.reads.keys()))
        self.hidden_effects = tuple(sorted(hidden & self.effects.keys()))

    def _add_parts(self, relation: Relation) -> None:
        """Its partitions, and what inherits from it, are read and changed with it."""
        oid = relation.oid
        for child in relation.children:
            self._read(f"r{oid}", f"r{child}")
            for way in "s" + CHANGING:
                self._lead(f"{way}{oid}", f"{way}{child}")
        if relation.kind == "p":
            # An UPDATE may move a row to another partition.
            self._lead(f"{UPDATES}{oid}", f"{DELETES}{oid}")
            self._lead(f"{UPDATES}{oid}", f"{INSERTS}{oid}")

    def _add_uses(self, rows: Rows, kinds: Mapping[int, str]) -> None:
        for use in rows.uses:
            oid, used = use.relation, use.used
            ways = use.ways
            if use.part == VIEW and kinds.get(oid) == "m":
                # What it holds was read when it was refreshed.
                ways = REFRESHES
            elif use.part in (VIEW, POLICY):
                self._read(f"r{oid}", f"r{used}" if used else f"f{use.function}")
            for way in ways:
                leads = [f"f{use.function}"] if use.function else [f"s{used}"]
                if used and use.part == RULE:
                    leads += [f"{each}{used}" for each in INSERTS + UPDATES + DELETES]
                for node in leads:
                    self._lead(f"{way}{oid}", node)
            if use.part == VIEW and kinds.get(oid) == "v":
                for way in INSERTS + UPDATES + DELETES:
                    self._lead(f"{way}{oid}", f"{way}{used}" if used else f"f{use.function}")

    def _add_foreign_keys(self, rows: Rows) -> None:
        for key in rows.foreign_keys:
            # Also without CASCADE: what else it names may be all that keeps it from failing.
            self._lead(f"{TRUNCATES}{key.referenced}", f"{TRUNCATES}{key.relation}")
            for way, action in ((DELETES, key.on_delete), (UPDATES, key.on_update)):
                does = DELETES if (way, action) == (DELETES, "c") else UPDATES
                if action in ("c", "n", "d"):
                    self._lead(f"{way}{key.referenced}", f"{does}{key.relation}")

    def _read(self, node: str, to: str) -> None:
        _add(self._reads, node, to)

    def _lead(self, node: str, to: str) -> None:
        _add(self._effects, node, to)


def _add(graph: dict[str, set[str] | None], node: str, to: str) -> None:
    leads = graph.setdefault(node, set())
    if leads is not None:
        leads.add(to)


def _effects_of(
    function: Function,
    oids: Mapping[str, tuple[Place, ...]],
    callees: Mapping[str, tuple[Callee, ...]],
    odd: Sequence[str],
    catalog: Catalog,
) -> tuple[str, ...] | None:
    """What calling a function leads to. One that may run on a standby changes nothing."""
    if not any(
        one.hazard
        for one in catalog.functions[function.name]
        if (one.schema, one.least, one.most) == (function.schema, function.least, function.most)
    ):
        return ()
    if function.kind == "a":
        return ()
    if function.language == "c" and function.name in HARMLESS_C:
        return ()
    return changed_by(function.body, function.language, oids, callees, odd)


def _pruned(graph: Mapping[str, set[str] | None], goals: str) -> dict[str, tuple[str, ...] | None]:
    """Without the nodes that lead to no node of these letters, and no lead to one of those."""
    behind: dict[str, list[str]] = {}
    pending = []
    for node, leads in graph.items():
        if leads is None:
            pending.append(node)
        for lead in leads or ():
            behind.setdefault(lead, []).append(node)
            if lead[0] in goals:
                pending.append(lead)
    alive: set[str] = set()
    while pending:
        node = pending.pop()
        if node not in alive:
            alive.add(node)
            pending.extend(behind.get(node, ()))
    return {
        node: None if leads is None else tuple(sorted(leads & alive)) for node, leads in graph.items() if node in alive
    }


def _hidden(rows: Rows) -> set[str]:
    """The functions that are called without being named. Of those in C nothing is known, and nothing is assumed."""
    trusted = {one.oid for one in rows.functions if one.language in LANGUAGES_TRUSTED}
    called = {one.function for one in rows.operators}
    called.update(one.function for one in rows.casts)
    called.update(one.function for one in rows.support)
    called.update(use.function for use in rows.uses if use.part == TYPE)
    return {f"f{oid}" for oid in called - trusted}
