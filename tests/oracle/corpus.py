"""The hand-written statements, all together."""

from collections.abc import Iterable, Iterator

from tests.oracle.expressions import CALLS, HIDDEN, ORDINARY, SLY, UNUSUAL
from tests.oracle.introspection import INTROSPECTION
from tests.oracle.places import FEW, MORE
from tests.oracle.reads import READS
from tests.oracle.statement import Statement, Where
from tests.oracle.writes import WRITES

VARYING = ("gen_random_uuid", "random()")


def corpus() -> list[Statement]:
    """Every statement of the corpus, each with where it may run."""
    return [
        *WRITES,
        *READS,
        *INTROSPECTION,
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
            yield Statement(place.replace("{x}", expression), where, group, varies=varies)
