"""May a statement's answer be cached, and whose answers does it change? Facts and catalog in; relations, by oid, out.

Both questions are answered for the worst that a statement may do by its text and the catalog. What the constants and
parameters of one text say (parser/dates.py, time_words), what its session has of its own, and whether the cache is
wanted at all is for those to see who have them at hand.
"""

from typing import Final

import msgspec

from parser.facts import (
    CACHE_ON,
    CHANGES,
    PRIMARY_HINT,
    TWO_PHASE,
    Call,
    StatementFacts,
)
from parser.session_state import PREPARED
from parser.tree import is_temporary_schema
from routing.cache_catalog import EVERY_DATABASE, Caching, closure, oids_in
from routing.cache_functions import RELOAD, RUN_SQL
from routing.cache_judgement import unseen_moment
from routing.catalog import (
    UNKNOWN,
    Catalog,
    SearchPath,
    any_hazard,
    function_hazard,
    hazard_of,
    takes,
    visible,
    written,
)
from routing.mentions import changed_by

READ_MOST: Final = 200
"""Relations that an answer may depend on: all are looked at whenever it is given."""
TOUCHED_MOST: Final = 1000
"""Relations that one statement changes; beyond it, it may as well be all."""

EVERYWHERE: Final = (0,)
"""What touched() says of what may change answers of every database: roles and their memberships, ALTER SYSTEM."""

Touched = tuple[int, ...] | None


class Cached(msgspec.Struct, frozen=True):
    """Whether an answer may be cached, and what it depends on."""

    relations: tuple[int, ...] = ()
    """All that it reads: what it names, the tables behind views, partitions, what functions and policies read."""
    alone: bool = False
    """It reads a materialized view: no other instance can tell whether it still holds."""
    why: str = ""
    """Why it may not be, as the end of "it is not cached because ..."; "" where it may."""


NO_CATALOG: Final = Cached(why="the catalog of its database is not loaded yet")


def cached(facts: StatementFacts, catalog: Catalog, path: SearchPath) -> Cached:
    """Whether the answer to one string of SQL may be kept."""
    why = _structure(facts) or hazard_of(facts, catalog, path) or _unlasting(facts, catalog.cache, path)
    if why:
        return Cached(why=why)
    cache = catalog.cache
    start = [f"r{oid}" for schema, name in facts.relations for oid in _oids(cache, path, schema, name)]
    start += _calls(facts, cache, path)
    found = closure(cache.reads, [*start, *cache.hidden_reads]) or set()
    relations = tuple(sorted(set(oids_in(found, "r"))))
    if len(relations) > READ_MOST:
        return Cached(why=f"it reads more than {READ_MOST} relations")
    return Cached(relations, alone=not cache.materialized.isdisjoint(relations))


def _structure(facts: StatementFacts) -> str:
    """Why not, by its text alone."""
    if facts.kind != "SelectStmt":
        return "it is no SELECT"
    if facts.write_reason or facts.varies:
        return facts.write_reason or facts.varies
    if facts.special:
        return "it does more than read"
    if facts.cache_hint != CACHE_ON:
        if facts.hint == PRIMARY_HINT:
            return "a comment in it asks for the primary"
        if facts.pattern:
            return f"it matches {facts.pattern} of primary_queries"
    return ""


def _unlasting(facts: StatementFacts, cache: Caching, path: SearchPath) -> str:
    """Why not, by what its names mean: the hazards that do not keep it from a standby."""
    if cache.hazard:
        return cache.hazard
    for schema, name, count in sorted(facts.calls):
        hazard = function_hazard(cache.functions[name], path, schema, count) if name in cache.functions else ""
        if hazard:
            return f"it calls {written(schema, name)}(), which {hazard}"
    for things in (cache.relations, cache.unlisted):
        for schema, name in sorted(facts.relations):
            hazard = any_hazard(things[name], path, schema) if name in things else ""
            if hazard and hazard != UNKNOWN:
                return f"it reads {written(schema, name)}, which {hazard}"
    for schema, name in sorted(facts.operators):
        hazard = any_hazard(cache.operators[name], path, schema) if name in cache.operators else ""
        if hazard and hazard != UNKNOWN:
            return f"it applies the operator {written(schema, name)}, which {hazard}"
    for schema, name in sorted(facts.types):
        hazard = any_hazard(cache.types[name], path, schema) if name in cache.types else ""
        if hazard and hazard != UNKNOWN:
            return f"it casts to {written(schema, name)}, which {hazard}"
    for name in sorted(facts.fields & cache.attributes.keys()):
        return f"{name} may be the function {name}(), which {cache.attributes[name]}"
    return unseen_moment(
        facts, cache.date_columns, lambda name: name in cache.with_dates or name.lstrip("_") in cache.oids
    )


def _oids(cache: Caching, path: SearchPath, schema: str, name: str) -> list[int]:
    """The relations that a name may mean: all along the path, since a role passes over schemas it may not use."""
    return [place.oid for place in cache.oids.get(name, ()) if visible(place.schema, schema, path)]


def _calls(facts: StatementFacts, cache: Caching, path: SearchPath) -> list[str]:
    """The nodes of the functions that a statement may call and that lead to something."""
    found = [node for call in facts.calls | facts.procedures for node in _functions(call, cache, path)]
    for name in facts.fields & cache.callees.keys():
        found += [f"f{one.oid}" for one in cache.callees[name] if takes(one.least, one.most, 1)]
    return found


def _functions(call: Call, cache: Caching, path: SearchPath) -> list[str]:
    schema, name, count = call
    return [
        f"f{one.oid}"
        for one in cache.callees.get(name, ())
        if visible(one.schema, schema, path) and takes(one.least, one.most, count)
    ]


# What a statement changes


def touched(
    facts: StatementFacts, catalog: Catalog | None, path: SearchPath, own: frozenset[str] = frozenset()
) -> Touched:
    """The relations that carrying out one string of SQL may change.

    () for none; None for whatever its database holds; EVERYWHERE for whatever any database holds. What a transaction
    that stays open does later, it does by other statements: only COMMIT PREPARED stands for what is not seen here.

    `own` are the names of temporary relations that its session has: what is changed under a name that the catalog does
    not know, and that is not one of these, may be anything. What is only read under such a name is taken to be one.
    """
    if facts.parts:
        return _together([touched(part, catalog, path, own) for part in facts.parts])
    if facts.asks:
        return ()
    if facts.kind in CLUSTER_WIDE or facts.changes_cluster:
        return EVERYWHERE
    if facts.transaction is not None:
        return None if facts.transaction.kind == TWO_PHASE and facts.transaction.commits else ()
    if facts.kind not in SEEN_INTO or facts.changes_catalog == CHANGES or _executes(facts):
        return None
    if catalog is None or catalog.hazard:
        # It is being read again, or tells nothing for certain.
        return None if facts.changes or _names(facts) or _runs_code(facts) else ()
    if facts.kind == "SelectStmt" and not facts.write_reason and not hazard_of(facts, catalog, path):
        # What may run on a standby changes nothing.
        return ()
    return _followed(facts, catalog, path, own)


def _executes(facts: StatementFacts) -> bool:
    """EXECUTE, also in an EXPLAIN or a CREATE TABLE AS: what it runs was said elsewhere."""
    return any(effect.state == PREPARED and effect.statement == "EXECUTE" for effect in facts.effects)


def _together(parts: list[Touched]) -> Touched:
    if EVERYWHERE in parts:
        return EVERYWHERE
    found: set[int] = set()
    for part in parts:
        if part is None:
            return None
        found.update(part)
    return tuple(sorted(found))


def _names(facts: StatementFacts) -> bool:
    """Whether there is anything in it that may be, or hide, a function."""
    return bool(facts.calls or facts.relations or facts.fields or facts.operators or facts.types)


def _runs_code(facts: StatementFacts) -> bool:
    return facts.kind in ("DoStmt", "CallStmt")


def _followed(facts: StatementFacts, catalog: Catalog, path: SearchPath, own: frozenset[str]) -> Touched:
    """By the graph of effects."""
    start = _starts(facts, catalog, path, own)
    cache = catalog.cache
    found = closure(cache.effects, [*start, *cache.hidden_effects]) if start is not None else None
    if found is None:
        return None
    if EVERY_DATABASE in found:
        return EVERYWHERE
    relations = sorted(set(oids_in(found, CHANGING)))
    return tuple(relations) if len(relations) <= TOUCHED_MOST else None


CHANGING: Final = "iudtm"


def _starts(facts: StatementFacts, catalog: Catalog, path: SearchPath, own: frozenset[str]) -> list[str] | None:
    """The nodes that a statement starts from; None where it names what is not known."""
    cache = catalog.cache
    start: list[str] = []
    for way, schema, name in facts.changes:
        oids = _oids(cache, path, schema, name)
        if not oids and not is_temporary_schema(schema) and (schema or name not in own):
            return None
        start += [f"{way}{oid}" for oid in oids]
    for schema, name in facts.relations:
        start += [f"s{oid}" for oid in _oids(cache, path, schema, name)]
    for schema, name, count in facts.calls | facts.procedures:
        if name in RUN_SQL or name in RELOAD:
            return [EVERY_DATABASE] if name in RELOAD else None
        if function_hazard(catalog.functions.get(name, ()), path, schema, count) == UNKNOWN:
            return None
    start += _calls(facts, cache, path)
    if facts.kind == "DoStmt":
        if not facts.blocks:
            return None
        for block in facts.blocks:
            nodes = changed_by(block, "plpgsql", cache.oids, cache.callees, cache.odd)
            if nodes is None:
                return None
            start += nodes
    return start


CLUSTER_WIDE: Final = frozenset(
    {
        "AlterDatabaseSetStmt",
        "AlterDatabaseStmt",
        "AlterDatabaseRefreshCollStmt",
        "AlterRoleSetStmt",
        "AlterRoleStmt",
        "AlterSystemStmt",
        "CreateRoleStmt",
        "CreatedbStmt",
        "DropRoleStmt",
        "DropdbStmt",
        "GrantRoleStmt",
    }
)
"""Statements about what all databases of a cluster have in common."""

SEEN_INTO: Final = frozenset(
    {
        "CallStmt",
        "CheckPointStmt",
        "ClosePortalStmt",
        "ClusterStmt",
        "CommentStmt",
        "ConstraintsSetStmt",
        "CopyStmt",
        "CreateStmt",
        "CreateTableAsStmt",
        "DeallocateStmt",
        "DeclareCursorStmt",
        "DeleteStmt",
        "DiscardStmt",
        "DoStmt",
        "Empty",
        "ExplainStmt",
        "FetchStmt",
        "InsertStmt",
        "ListenStmt",
        "LoadStmt",
        "LockStmt",
        "MergeStmt",
        "NotifyStmt",
        "PrepareStmt",
        "RefreshMatViewStmt",
        "ReindexStmt",
        "SelectStmt",
        "TruncateStmt",
        "UnlistenStmt",
        "UpdateStmt",
        "VacuumStmt",
        "VariableSetStmt",
        "VariableShowStmt",
    }
)
"""Statements whose text says what they change; of those that create a table, only a temporary one comes so far."""
