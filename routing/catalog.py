"""What routing knows of a database's catalog: an immutable snapshot, assembled by the control plane.

Every function, relation, operator and type is there by name, with its *hazard*: why a statement that uses it must not
run on a standby, in words that follow the thing's name ("which is volatile"); empty where it may. What a view, a
policy, an operator or a domain hides behind its name is already in its hazard (routing/assemble.py). A name the
snapshot does not hold is unknown, and unknown means primary.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from parser.facts import ANY_NUMBER, ANY_SETTING, StatementFacts
from routing.cache_catalog import Caching
from routing.functions import HARMLESS_SETTINGS
from routing.overload import Overload, Thing

ANY: Final = -1
"""A function with VARIADIC arguments takes any number of them."""


class Catalog(msgspec.Struct, frozen=True):
    """One database's names and their hazards."""

    database: str
    version: int
    functions: dict[str, tuple[Overload, ...]] = {}
    relations: dict[str, tuple[Thing, ...]] = {}
    operators: dict[str, tuple[Thing, ...]] = {}
    types: dict[str, tuple[Thing, ...]] = {}
    attributes: dict[str, str] = {}
    """Hazards of functions that can be called as `row.name`."""
    settings: dict[str, dict[str, str]] = {}
    """By name (SETTINGS): the value for each role that has one of its own, and at "" that of all others."""
    leaving_state: frozenset[str] = frozenset()
    """Functions that may leave something on the session that calls them."""
    renaming: frozenset[str] = frozenset()
    """Functions behind which names may mean something else."""
    hazard: str = ""
    """What makes every statement unfit for a standby, such as an implicit cast over a volatile function."""
    cache: Caching = Caching()
    """What the query cache asks about the same names."""
    fingerprint: str = ""
    """Equal where all that may change an answer is; "" in one that was not read."""


Known = dict[Any, Any]
"""Names and things that other catalogs have as well, each as the one object to use for it."""
KNOWN_MAX: Final = 100_000


def shared(catalog: Catalog, known: Known) -> Catalog:
    """The same, made of the objects in `known` as far as it has them: nearly all of every catalog is pg_catalog."""
    if len(known) > KNOWN_MAX:
        known.clear()
    return msgspec.structs.replace(
        catalog,
        **_shared(catalog, known),
        cache=msgspec.structs.replace(catalog.cache, **_shared(catalog.cache, known)),
    )


def _shared(part: Catalog | Caching, known: Known) -> dict[str, Any]:
    return {
        field: {known.setdefault(name, name): known.setdefault(things, things) for name, things in names.items()}
        for field in ("functions", "relations", "operators", "types")
        for names in (getattr(part, field),)
    }


PATH_SETTING: Final = "search_path"
ISOLATION_SETTING: Final = "default_transaction_isolation"
READ_ONLY_SETTING: Final = "default_transaction_read_only"
SETTINGS: Final = (PATH_SETTING, ISOLATION_SETTING, READ_ONLY_SETTING)
"""What routing must know of the settings of servers, databases and roles."""

SearchPath = tuple[str, ...]
"""The schemas that unqualified names may mean, in order, the implicit pg_catalog first; ANYWHERE if it is not known."""

ANYWHERE: Final[SearchPath] = ()


def hazard_of(facts: StatementFacts, catalog: Catalog, path: SearchPath = ANYWHERE) -> str:
    """Why a statement of these names must stay on the primary, as the end of "it goes there because ..."; or ""."""
    if catalog.hazard:
        return catalog.hazard
    for part, hazard in judged(facts, catalog, path):
        if hazard:
            return f"{part}, which {hazard}"
    return ""


def judged(facts: StatementFacts, catalog: Catalog, path: SearchPath) -> Iterator[tuple[str, str]]:
    """Each part of a statement that the catalog has something to say about, in words, with its hazard or ""."""
    for setting in sorted(facts.shows):
        what = "a setting whose name it computes" if setting == ANY_SETTING else setting
        yield f"it asks for {what}", "" if setting in HARMLESS_SETTINGS else "may differ between nodes"
    for schema, name, count in sorted(facts.calls):
        hazard = function_hazard(catalog.functions.get(name, ()), path, schema, count)
        yield f"it calls {written(schema, name)}()", hazard
    for schema, name in sorted(facts.relations):
        yield f"it reads {written(schema, name)}", _relation(facts, catalog, path, schema, name)
    for schema, name in sorted(facts.operators):
        hazard = any_hazard(catalog.operators.get(name, ()), path, schema)
        yield f"it applies the operator {written(schema, name)}", hazard
    for schema, name in sorted(facts.types):
        yield f"it casts to {written(schema, name)}", first_hazard(catalog.types.get(name, ()), path, schema)
    for name in sorted(facts.fields & catalog.attributes.keys()):
        yield f"{name} may be the function {name}()", catalog.attributes[name]


UNKNOWN: Final = "is not known"
TEMPORARY: Final = "is temporary"


def function_hazard(overloads: Iterable[Overload], path: SearchPath, schema: str, count: int) -> str:
    """Of those of one name that a call may mean."""
    known = False
    for one in overloads:
        if not visible(one.schema, schema, path):
            continue
        if count == 0 and one.most == 0 and path and one.schema == path[0]:
            # No other can be a better match.
            return one.hazard
        if takes(one.least, one.most, count):
            if one.hazard:
                return one.hazard
            known = True
    return "" if known else UNKNOWN


def takes(least: int, most: int, count: int) -> bool:
    """Whether a function of so many arguments can be called with `count`."""
    return count == ANY_NUMBER or (least <= count and (most == ANY or count <= most))


def _relation(facts: StatementFacts, catalog: Catalog, path: SearchPath, schema: str, name: str) -> str:
    if schema.startswith("pg_temp"):
        return TEMPORARY
    hazard = first_hazard(catalog.relations.get(name, ()), path, schema)
    # It may be a WITH query; where it is not, the server will not find it either.
    return "" if hazard == UNKNOWN and not schema and name in facts.queries else hazard


def first_hazard(things: tuple[Thing, ...], path: SearchPath, schema: str) -> str:
    """Of a relation or type: the first along the search_path is meant."""
    if not schema:
        for candidate in path:
            for one in things:
                if one.schema == candidate:
                    return one.hazard
    return any_hazard(things, path, schema)


def any_hazard(things: tuple[Thing, ...], path: SearchPath, schema: str) -> str:
    """Of operators, whose arguments choose among all that can be seen."""
    known = False
    for one in things:
        if visible(one.schema, schema, path):
            if one.hazard:
                return one.hazard
            known = True
    return "" if known else UNKNOWN


def visible(schema: str, given: str, path: SearchPath) -> bool:
    """Whether a name that is given so may mean something in `schema`."""
    return schema == given if given else not path or schema in path


def written(schema: str, name: str) -> str:
    """A name as it would be written."""
    return f"{schema}.{name}" if schema else name
