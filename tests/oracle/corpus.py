"""The hand-written statements, all together."""

from collections.abc import Iterable, Iterator
from typing import Final

from tests.oracle.expressions import CALLS, HIDDEN, ORDINARY, SLY, UNUSUAL
from tests.oracle.introspection import INTROSPECTION
from tests.oracle.places import FEW, MORE
from tests.oracle.reads import READS
from tests.oracle.statement import Statement, Where
from tests.oracle.writes import WRITES

LONG_BYTES: Final = 6000
VARYING: Final = ("gen_random_uuid", "random()")


def corpus() -> list[Statement]:
    """Every statement of the corpus, each with where it may run."""
    return [
        *WRITES,
        *READS,
        *INTROSPECTION,
        *long(),
        *placed(CALLS, FEW + MORE, Where.PRIMARY, "calls"),
        *placed(HIDDEN, FEW + MORE, Where.PRIMARY, "hidden calls"),
        *placed(SLY, FEW, Where.PRIMARY, "declared stable, but writes"),
        *placed(ORDINARY, FEW + MORE, Where.STANDBY, "ordinary expressions"),
        *placed(UNUSUAL, FEW, Where.STANDBY, "unusual expressions"),
    ]


def placed(expressions: Iterable[str], places: Iterable[str], where: Where, group: str) -> Iterator[Statement]:
    """Each expression in each place."""
    for place in places:
        for expression in expressions:
            varies = any(name in expression for name in VARYING)
            yield Statement(place.replace("{x}", expression), where, f"{group}: {expression}", varies=varies)


def long() -> list[Statement]:
    """Longer texts than anyone remembers word by word."""
    comment = f"/* {'x' * LONG_BYTES} */"
    numbers = ", ".join(str(number) for number in range(LONG_BYTES // 5))
    return [
        Statement(f"SELECT vol_sql(1) {comment}", Where.PRIMARY, "long"),
        Statement(f"SELECT id FROM fleeting WHERE id IN ({numbers})", Where.PRIMARY, "long"),
        Statement(f"{comment} SELECT id FROM plain WHERE id IN ({numbers}) FOR UPDATE", Where.PRIMARY, "long"),
        Statement(f"SELECT id FROM plain {comment}", Where.STANDBY, "long"),
        Statement(f"SELECT id FROM plain WHERE id IN ({numbers})", Where.STANDBY, "long"),
        Statement(f"SELECT vol_sql(1) {comment * 20}", Where.PRIMARY, "long"),
        Statement(f"SELECT id FROM plain {comment * 20}", Where.EITHER, "long"),
    ]


def sample() -> list[Statement]:
    """A smaller corpus: each expression in a few places, and one of them in every place."""
    return [
        *WRITES,
        *READS,
        *INTROSPECTION,
        *long(),
        *placed(CALLS + HIDDEN, FEW, Where.PRIMARY, "calls"),
        *placed(CALLS[:1] + HIDDEN[:1], MORE, Where.PRIMARY, "calls"),
        *placed(SLY, FEW, Where.PRIMARY, "declared stable, but writes"),
        *placed(ORDINARY + UNUSUAL, FEW, Where.STANDBY, "harmless expressions"),
        *placed(ORDINARY[:1], MORE, Where.STANDBY, "harmless expressions"),
    ]
