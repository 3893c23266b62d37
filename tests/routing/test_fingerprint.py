"""Catalogs are known by their fingerprints, whoever has read them, and in whichever order."""

from typing import Any

import msgspec
import pytest

from parser.shapes import FactsTable
from routing.assemble import assemble
from routing.cache_catalog import Caching, Place
from routing.catalog import Catalog
from routing.fingerprint import fingerprint_of
from routing.overload import Overload, Thing
from routing.rows import Rows

PLACES = (Place("a", 1), Place("b", 2))
CATALOG = Catalog(
    "app",
    7,
    functions={"f": (Overload("a", 0, 1, ""), Overload("b", 0, 1, "is volatile")), "g": ()},
    relations={"t": (Thing("a", ""), Thing("b", "is unlogged"))},
    settings={"search_path": {"": "public", "joe": "app"}},
    leaving_state=frozenset({"f", "g"}),
    cache=Caching(oids={"t": PLACES}, reads={"r1": ("r2", "r3")}, effects={"i1": None}, fingerprint="x"),
)


def changed(**fields: Any) -> Catalog:
    return msgspec.structs.replace(CATALOG, **fields)


def caching(**fields: Any) -> Catalog:
    return changed(cache=msgspec.structs.replace(CATALOG.cache, **fields))


@pytest.mark.parametrize(
    "same",
    [
        changed(version=8),
        changed(fingerprint="any"),
        changed(functions=dict(reversed(CATALOG.functions.items()))),
        changed(functions={**CATALOG.functions, "f": CATALOG.functions["f"][::-1]}),
        caching(oids={"t": PLACES[::-1]}),
        caching(reads={"r1": ("r3", "r2")}),
        msgspec.msgpack.decode(msgspec.msgpack.encode(CATALOG), type=Catalog),
    ],
)
def test_neither_order_nor_version_counts(same: Catalog) -> None:
    assert fingerprint_of(same) == fingerprint_of(CATALOG)


@pytest.mark.parametrize(
    "other",
    [
        changed(database="other"),
        changed(functions={**CATALOG.functions, "h": ()}),
        changed(functions={"f": (Overload("a", 0, 1, ""),), "g": ()}),
        changed(functions={"f": (Overload("a", 0, 2, ""), Overload("b", 0, 1, "is volatile")), "g": ()}),
        changed(settings={"search_path": {"": "public", "joe": "other"}}),
        changed(settings={"search_path": {"joe": "public", "": "app"}}),
        changed(leaving_state=frozenset({"f"})),
        changed(hazard="is gone"),
        caching(oids={"t": (Place("a", 1), Place("b", 3))}),
        caching(oids={"t": (Place("a", 2), Place("b", 1))}),
        caching(reads={"r1": ("r2",), "r3": ()}),
        caching(effects={"i1": ()}),
        caching(materialized=frozenset({1})),
        caching(fingerprint="y"),
    ],
)
def test_all_else_does(other: Catalog) -> None:
    assert fingerprint_of(other) != fingerprint_of(CATALOG)


def test_what_is_read_has_one() -> None:
    one, other = (assemble("app", version, Rows(), FactsTable()) for version in (1, 2))
    assert one.fingerprint == other.fingerprint != ""
    assert assemble("app", 1, Rows(fingerprint="y"), FactsTable()).fingerprint != one.fingerprint
    assert assemble("app", 1, Rows(date_columns=frozenset({"d"})), FactsTable()).fingerprint != one.fingerprint
