"""Statements composed at random, to a depth, of fragments of both kinds.

Whether one holds a hazard is known by construction: it does when any of its fragments does, whether the fragment would
ever be executed or not. Every fragment is an integer expression, or a relation with an integer column `id`, so that any
fits anywhere.
"""

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.oracle.expressions import CALLS, HIDDEN, ORDINARY, UNUSUAL
from tests.oracle.statement import Statement, Where

DEPTH_MAX: Final = 4
HAZARD_CHANCE: Final = 0.25
"""Of each leaf; half of the statements are to be free of hazards altogether."""

_HARMLESS_RELATIONS: Final = (
    "plain",
    "public.plain",
    "detail",
    "parts",
    "stored",
    "vol_stored",
    "honest_view",
    "nested_honest_view",
    "clock_view",
    "fenced",
    "numbered",
    "risks",
    "domained",
    "(VALUES (1), (2))",
    "generate_series(1, 3)",
    "unnest(ARRAY[1, 2, 3])",
    "(SELECT count(*)::int FROM information_schema.tables)",
    "(SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'plain')",
)

_HAZARDOUS_RELATIONS: Final = (
    "fleeting",
    "public.fleeting",
    "mixed_parts",
    "elder",
    "vol_view",
    "nested_view",
    "deep_view",
    "operator_view",
    "cast_view",
    "domain_view",
    "fleeting_view",
    "parts_view",
    "guarded",
    "guarded_view",
    "invoker_view",
    '"Odd View"',
    "vol_rows(1)",
    "vol_table(2)",
    "(SELECT vol_sum(id) FROM plain)",
    "(SELECT pid FROM pg_stat_activity)",
    "(SELECT id FROM plain ORDER BY id FOR UPDATE)",
    "(WITH x AS (INSERT INTO marks VALUES (1) RETURNING n) SELECT n FROM x)",
)

_EXPRESSIONS: Final = (
    "({a} + {b})",
    "abs({a})",
    "coalesce({a}, {b})",
    "greatest({a}, {b}, 1)",
    "(CASE WHEN {a} > 2 THEN {b} ELSE 0 END)",
    "nullif({a}, {b})",
    "(ARRAY[{a}, {b}])[1]",
    "length({a}::text)",
    "({a} IN (1, 2, {b}))::int",
    "({a} BETWEEN 0 AND {b})::int",
    "(SELECT max(x) FROM (VALUES ({a}), ({b})) AS t(x))",
    "(SELECT {a} WHERE {b} > 0)",
    "(SELECT count(*) FILTER (WHERE r.id > {a})::int FROM {r})",
    "(SELECT max(r.id) FROM {r} WHERE r.id <> {a})",
    "(SELECT sum(r.id)::int FROM {r})",
    "(EXISTS (SELECT 1 FROM {r} WHERE r.id = {a}))::int",
    "({a} = ANY (SELECT r.id FROM {r}))::int",
    "honest_stable({a})",
    "(jsonb_build_object('k', {a}) ->> 'k')::int",
    "json_array_length(json_build_array({a}, {b}))",
)

_RELATIONS: Final = (
    "(SELECT r.id FROM {r} WHERE r.id > {a})",
    "(SELECT r.id + {a} FROM {r})",
    "(SELECT r.id FROM {r} UNION SELECT {a})",
    "(SELECT r.id FROM {r} EXCEPT SELECT {a})",
    "(SELECT q.id FROM {r} CROSS JOIN LATERAL (SELECT r.id + {a}) AS q(id))",
    "(SELECT max(r.id) FROM {r} GROUP BY r.id % 2 HAVING count(*) > {a})",
    "(WITH w AS MATERIALIZED (SELECT r.id FROM {r}) SELECT id FROM w WHERE id <> {a})",
    "(SELECT rank() OVER (ORDER BY r.id)::int FROM {r})",
    "(SELECT DISTINCT r.id FROM {r})",
    "generate_series(1, ({a}) % 5)",
    "(VALUES ({a}), ({b}))",
)

_STATEMENTS: Final = (
    "SELECT {a}",
    "SELECT {a}, {b}",
    "SELECT r.id, {a} FROM {r}",
    "SELECT r.id FROM {r} WHERE r.id = {a}",
    "SELECT r.id FROM {r} ORDER BY {a}, r.id",
    "SELECT count(*) FROM {r} HAVING count(*) > {a}",
    "SELECT sum(r.id) OVER (ORDER BY r.id), {a} FROM {r}",
    "WITH w AS (SELECT r.id FROM {r}) SELECT id, {a} FROM w",
    "WITH RECURSIVE w(n) AS (SELECT ({a}) % 3 UNION SELECT n + 1 FROM w WHERE n < 4) SELECT count(*), {b} FROM w",
    "SELECT r.id FROM {r} UNION ALL SELECT {a}",
    "(SELECT {a}) INTERSECT (SELECT {b})",
    "VALUES ({a}, {b})",
    "SELECT p.id, {a} FROM plain p LEFT JOIN {r} ON r.id = p.id",
    "/* tag='v' */ SELECT r.id -- where {{a}}\n FROM {r}",
    "COPY (SELECT r.id FROM {r}) TO STDOUT",
    "COPY (SELECT {a}) TO STDOUT",
    "EXPLAIN (ANALYZE, TIMING OFF) SELECT r.id FROM {r} WHERE r.id > {a}",
)

_VARYING: Final = ("random", "clock", "gen_random_uuid")


class _Fragment(NamedTuple):
    text: str
    hazard: str = ""
    """The first leaf in it that is one."""


class Generator:
    """An endless supply, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._hazards = True

    def statements(self, count: int) -> Iterator[Statement]:
        for _ in range(count):
            yield self.statement()

    def statement(self) -> Statement:
        """One more."""
        self._hazards = self._random.random() < 0.5
        made = self._compose(self._random.choice(_STATEMENTS), self._random.randint(0, DEPTH_MAX))
        if made.hazard:
            return Statement(made.text, Where.PRIMARY, f"holds {made.hazard}")
        varies = any(name in made.text for name in _VARYING)
        return Statement(made.text, Where.STANDBY, "no hazard", varies=varies)

    def _compose(self, pattern: str, depth: int) -> _Fragment:
        """The pattern with its places filled by fragments that are less deep."""
        filled = {}
        for place in ("a", "b", "r"):
            if f"{{{place}}}" in pattern.replace("{{", ""):
                filled[place] = self._relation(depth) if place == "r" else self._expression(depth)
        text = pattern.format(**{place: part.text for place, part in filled.items()})
        return _Fragment(text, next((part.hazard for part in filled.values() if part.hazard), ""))

    def _expression(self, depth: int) -> _Fragment:
        if depth > 0 and self._random.random() < 0.7:
            return self._compose(self._random.choice(_EXPRESSIONS), depth - 1)
        if self._hazard():
            leaf = self._random.choice(self._random.choice((CALLS, HIDDEN)))
            return _Fragment(leaf, leaf)
        if self._random.random() < 0.5:
            return _Fragment(f"({self._random.randint(-1, 5)} + 0)")
        # An unusual leaf is in few statements, as it would be with applications.
        return _Fragment(self._random.choice(UNUSUAL if self._random.random() < 0.02 else ORDINARY))

    def _relation(self, depth: int) -> _Fragment:
        """A relation called r, with a column id."""
        if depth > 0 and self._random.random() < 0.5:
            inner = self._compose(self._random.choice(_RELATIONS), depth - 1)
            return _Fragment(f"{inner.text} AS r(id)", inner.hazard)
        if self._hazard():
            leaf = self._random.choice(_HAZARDOUS_RELATIONS)
            return _Fragment(f"{leaf} AS r(id)", leaf)
        return _Fragment(f"{self._random.choice(_HARMLESS_RELATIONS)} AS r(id)")

    def _hazard(self) -> bool:
        return self._hazards and self._random.random() < HAZARD_CHANCE
