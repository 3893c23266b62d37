"""Ratios and medians."""

from tests.bench.measure import Sample, Spread, ratios, spread
from tests.bench.pgbench import Outcome


def sample(contender: str, number: int, cpu_us: float | None) -> Sample:
    return Sample(contender, "simple", 1, number, Outcome(1, 1.0, 0.0, 1.0, None, None, 0, ""), cpu_us)


def test_ratios_pair_samples_of_the_same_round() -> None:
    base = [sample("base", 1, 10.0), sample("base", 2, 20.0), sample("base", 3, None), sample("base", 4, 0.0)]
    mine = [sample("mine", number, 30.0) for number in (2, 1, 3, 4, 5)] + [sample("mine", 1, None)]
    assert ratios(mine, base, lambda one: one.cpu_us) == [1.5, 3.0]


def test_spread() -> None:
    assert spread([]) is None
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
