"""Counts of why reads stay on the primary: bounds, sums and advice."""

import pytest

from middleware.control import Counters
from middleware.relay import reasons
from middleware.relay.reasons import OTHERS, REASONS_MAX, Reasons, SharedReasons, advice
from middleware.supervisor.counters import Totals


def test_reasons_beyond_the_bound_count_together() -> None:
    counted = Reasons()
    for number in range(REASONS_MAX + 3):
        counted.count(f"it calls f{number}(), which is volatile")
    counted.count("it calls f0(), which is volatile")
    assert len(counted.counts) == REASONS_MAX + 1
    assert counted.counts[OTHERS] == 3
    assert counted.counts["it calls f0(), which is volatile"] == 2


def test_the_sum_over_workers_keeps_what_the_dead_had_counted() -> None:
    totals = Totals()
    totals.reported(Counters(0, 0, 0, (), {"a": 1, "b": 2}, 10, reads_again=1))
    totals.reported(Counters(1, 0, 0, (), {"b": 3}, 5, reads_again=2))
    totals.ended(0)
    totals.reported(Counters(0, 0, 0, (), {"c": 4}, 1))
    found = totals.snapshot()
    assert (found.reasons, found.on_standbys, found.reads_again) == ({"a": 1, "b": 5, "c": 4}, 16, 3)


def test_the_table_has_the_most_first() -> None:
    assert SharedReasons({"a": 1, "c": 2, "b": 2}, 5).table() == [
        ("standbys served it", 5, "50.0 %", ""),
        ("b", 2, "20.0 %", ""),
        ("c", 2, "20.0 %", ""),
        ("a", 1, "10.0 %", ""),
    ]
    assert SharedReasons({}, 0).table() == [("standbys served it", 0, "0.0 %", "")]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("it calls f(), which is volatile", "if f() only reads, declare it STABLE, or put it on safe_functions"),
        (
            "it calls app.f(), which mentions nextval, which is volatile",
            "if app.f() only reads, put it on safe_functions",
        ),
        ("it reads t, which is unlogged", ""),
        (reasons.NOT_FRESH, "allow them to wait (consistency_wait), or to miss something (consistency)"),
        (reasons.NO_STANDBY, ""),
    ],
)
def test_what_would_help(reason: str, told: str) -> None:
    assert advice(reason) == told
