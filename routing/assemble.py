"""From rows of the system catalogs to a Catalog: what hides behind each name, worked out once for all statements.

In: what middleware/supervisor/catalog_reader.py reads. Out: the hazards of routing/catalog.py. The text of a view, of a
policy or of a domain's CHECK is read with the same grammar as a client's statement, and judged by the same rules.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from parser.shapes import FactsTable
from routing.cache_assemble import caching
from routing.cache_judgement import CacheJudgement
from routing.catalog import Catalog
from routing.fingerprint import fingerprint_of
from routing.function_hazards import Functions
from routing.functions import LANGUAGES_TRUSTED
from routing.judgement import Judgement
from routing.overload import Thing
from routing.relation_hazards import QUALIFIED, Relations, TextsOf, condition, texts_of
from routing.rows import NOTHING_SAID, Overrides, Rows, Type
from routing.state_functions import leaving_state, renaming

_CHECK: Final = re.compile(r"CHECK \((.*)\)( NOT VALID)?", re.DOTALL)


def assemble(
    database: str, version: int, rows: Rows, texts: FactsTable, overrides: Overrides = NOTHING_SAID
) -> Catalog:
    """The snapshot. `texts` remembers what was read before: give the same one each time."""
    read = texts_of(rows.relations, texts)
    catalog = msgspec.structs.replace(
        judge(rows, texts, read, Judgement(overrides)),
        database=database,
        version=version,
        settings=rows.settings,
        leaving_state=leaving_state(rows.functions),
        renaming=renaming(rows.functions),
    )
    lasting = judge(rows, texts, read, CacheJudgement(rows, overrides))
    catalog = msgspec.structs.replace(catalog, cache=caching(rows, catalog, lasting, overrides))
    return msgspec.structs.replace(catalog, fingerprint=fingerprint_of(catalog))


def judge(rows: Rows, texts: FactsTable, read: TextsOf, judgement: Judgement) -> Catalog:
    """The hazards of everything, by one set of judgements.

    Functions call functions and read relations, views call functions, functions take domains whose checks call
    functions: hazards are spread until no more come up.
    """
    functions = Functions(rows.functions, judgement)
    types: dict[int, str] = {}
    tainted: dict[int, str] = {}
    while True:
        found = len(functions.hazards) + len(types)
        tainted = _tainted(rows, functions.hazards)
        functions.spread_types(tainted, types)
        catalog = Catalog(
            "",
            0,
            functions=functions.by_name(),
            operators=_things(
                (one.schema, one.name, functions.hazards.get(one.function, "")) for one in rows.operators
            ),
            attributes=functions.attributes(),
            hazard=_everywhere(rows, tainted),
        )
        types = _types(rows, catalog, functions.hazards, tainted, texts, judgement)
        catalog.types.update(_things((one.schema, one.name, types.get(one.oid, "")) for one in rows.types))
        relations = Relations(rows.relations, catalog, tainted, read, judgement).hazards
        catalog.relations.update(_things((one.schema, one.name, relations.get(one.oid, "")) for one in rows.relations))
        functions.spread_mentions(
            {one.name: relations[one.oid] for one in rows.relations if one.oid in relations and judgement.by_name(one)}
            | {one.name: types[one.oid] for one in rows.types if one.oid in types},
            {one.name: hazard for one in rows.operators if (hazard := functions.hazards.get(one.function))},
        )
        if len(functions.hazards) + len(types) == found:
            return catalog


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
    for one in rows.types:
        if one.oid in tainted and one.builtin:
            return f"the database has {tainted[one.oid]}, which any expression may use"
    return ""


def _types(
    rows: Rows,
    catalog: Catalog,
    of_function: Mapping[int, str],
    tainted: Mapping[int, str],
    texts: FactsTable,
    judgement: Judgement,
) -> dict[int, str]:
    """What a cast to each type may call."""
    hazards: dict[int, str] = {}
    # While domains are judged, the types they mention count as harmless: what is wrong with those is found below.
    lenient = msgspec.structs.replace(catalog, types=_things((one.schema, one.name, "") for one in rows.types))
    for one in rows.types:
        for check in one.checks:
            text = _CHECK.sub(r"\1", check)
            hazard = judgement.text(condition(text, texts), text, lenient, QUALIFIED)
            if hazard:
                hazards[one.oid] = f"has a CHECK: {hazard}"
    for one in rows.types:
        hazard = "" if one.oid in hazards else judgement.type(one)
        if hazard:
            hazards[one.oid] = hazard
    for cast in rows.casts:
        if cast.function in of_function:
            hazards[cast.target] = f"has a cast that {of_function[cast.function]}"
    names = {one.oid: one.name for one in rows.types}
    _spread(rows.types, hazards, lambda _one, part: f"is made of a type that {part}")
    for oid, hazard in tainted.items():
        hazards.setdefault(oid, hazard.removeprefix(f"the type {names.get(oid)}, which "))
    return hazards


def _things(rows: Iterable[tuple[str, str, str]]) -> dict[str, tuple[Thing, ...]]:
    """By name; of several in one schema (operators), the hazardous ones are kept beside one harmless."""
    names: dict[str, set[Thing]] = {}
    for schema, name, hazard in rows:
        names.setdefault(name, set()).add(Thing(schema, hazard))
    return {name: tuple(sorted(things, key=msgspec.structs.astuple)) for name, things in names.items()}
