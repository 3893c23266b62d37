"""When a load fails, by level."""

from collections import Counter

import pytest

from tests.consistency.report import failures, percentile
from tests.consistency.run import Level
from tests.consistency.tally import Floor, Tally

STANDBYS = {"db2", "db3"}


def tally(*, found: bool = True, value: int = 5, other: bool = True, node: str = "db2") -> Tally:
    """A pair, a read of a counter that was 5, and one of another client's write."""
    seen = Tally()
    seen.pair("driver", "INSERT", node, found, 0.001)
    seen.grown("driver", "counter", node, value, Floor(5, "db1"))
    seen.other(other)
    return seen


@pytest.mark.parametrize(
    ("seen", "failing"),
    [
        (tally(), {Level.EVENTUAL, Level.NONE}),
        (tally(found=False), {Level.SESSION, Level.GLOBAL}),
        (tally(value=4), {Level.SESSION, Level.GLOBAL}),
        (tally(other=False), {Level.GLOBAL, Level.EVENTUAL, Level.NONE}),
        (tally(node="db1"), set(Level)),
    ],
    ids=["nothing stale", "own write missing", "backwards", "another's write missing", "all from the primary"],
)
def test_failures(seen: Tally, failing: set[Level]) -> None:
    assert {level for level in Level if failures(level, seen, STANDBYS)} == failing


def test_floor_stays_where_it_was_behind_a_read_that_went_backwards() -> None:
    seen, floor = Tally(), Floor(5, "db1")
    for value in (4, 5, 7, 6, 7):
        seen.grown("driver", "counter", "db2", value, floor)
    assert seen.backwards == Counter(counter=2)
    assert floor == Floor(7, "db2")
    assert seen.examples[-1] == "driver: counter read 6 from db2 after 7 from db2"


def test_percentile() -> None:
    assert percentile([], 50) == 0
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([1, 2], 50) == 1
    assert percentile([float(n) for n in range(1, 201)], 99) == 198
    assert percentile([3, 1, 2], 100) == 3
