"""What the query cache must know of a database's catalog: what lasts, what is read, and what is changed, behind names.

A part of the Catalog (routing/catalog.py), assembled by routing/cache_assemble.py, asked by routing/cached.py. Two
graphs say what follows from what. Their nodes are written as a letter and an oid:

    reads:   "r16384" reading this relation, "f16390" calling this function: leads to what is read by that
    effects: "i", "u", "d", "t", "m" and an oid: INSERT into, UPDATE, DELETE from, TRUNCATE, REFRESH of this relation;
             "s16384" SELECT from it; "f16390" calling this function: leads to what else happens by that, or None: to
             anything

A node that leads to nothing is not there.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from routing.overload import Overload, Thing


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A relation of some name."""

    schema: str
    oid: int


class Callee(msgspec.Struct, frozen=True, array_like=True):
    """A user's function of some name, one that leads to something."""

    schema: str
    least: int
    most: int
    oid: int


Graph = Mapping[str, tuple[str, ...] | None]

EVERY_DATABASE: Final = "*"
"""The node for what no database is safe from."""


class Caching(msgspec.Struct, frozen=True):
    """Of names that have no hazard of this kind nothing is said in the first six."""

    functions: dict[str, tuple[Overload, ...]] = {}
    relations: dict[str, tuple[Thing, ...]] = {}
    operators: dict[str, tuple[Thing, ...]] = {}
    types: dict[str, tuple[Thing, ...]] = {}
    attributes: dict[str, str] = {}
    hazard: str = ""
    unlisted: dict[str, tuple[Thing, ...]] = {}
    """Relations that a statement may not name itself, for they are not on the list cache_safe_relations."""
    date_columns: frozenset[str] = frozenset()
    """Names that only columns have that are dates or timestamps."""
    with_dates: frozenset[str] = frozenset()
    """Names of types that a date is a part of, without those of relations' rows."""
    oids: dict[str, tuple[Place, ...]] = {}
    """The users' relations."""
    callees: dict[str, tuple[Callee, ...]] = {}
    odd: tuple[str, ...] = ()
    """Names, of relations and of functions that lead to something, that are no words in lower case."""
    reads: dict[str, tuple[str, ...] | None] = {}
    effects: dict[str, tuple[str, ...] | None] = {}
    hidden_reads: tuple[str, ...] = ()
    hidden_effects: tuple[str, ...] = ()
    """The functions behind operators, casts and types that lead to something: any statement may call them."""
    materialized: frozenset[int] = frozenset()
    """Materialized views, by oid: a REFRESH is not in the stream of row changes."""
    fingerprint: str = ""
    """Of what else changes answers: owners, privileges, roles' memberships, settings."""


def closure(graph: Graph, start: Iterable[str]) -> set[str] | None:
    """All nodes that follow from these, and themselves; None for anything."""
    found: set[str] = set()
    pending = list(start)
    while pending:
        node = pending.pop()
        if node in found:
            continue
        found.add(node)
        leads = graph.get(node, ())
        if leads is None:
            return None
        pending.extend(leads)
    return found


def oids_in(nodes: Iterable[str], letters: str) -> Iterator[int]:
    """The oids of the nodes of some kinds."""
    for node in nodes:
        if node[0] in letters:
            yield int(node[1:])
