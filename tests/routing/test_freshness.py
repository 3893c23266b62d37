"""Samples: what a standby is said to have is what it has."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import freshness
from routing.freshness import NEVER, SAMPLES_MAX, Samples


def sampled(*samples: tuple[float, int]) -> Samples:
    """Samples of a primary, each (begun, position)."""
    known = Samples()
    for begun, position in samples:
        known.primary(begun, position)
    return known


THREE = (1.0, 100), (2.0, 200), (3.0, 300)


@pytest.mark.parametrize(
    ("replayed", "fresh_as_of", "lag_bytes"),
    [
        (0, NEVER, 300),
        (99, NEVER, 201),
        (100, 1.0, 200),
        (101, 1.0, 199),
        (199, 1.0, 101),
        (200, 2.0, 100),
        (299, 2.0, 1),
        (300, 3.0, 0),
        (10_000, 3.0, 0),
    ],
)
def test_a_standby_is_fresh_as_of_the_last_sample_it_has_reached(
    replayed: int, fresh_as_of: float, lag_bytes: int
) -> None:
    known = sampled(*THREE)
    known.standby("db2", replayed)
    assert known.fresh_as_of("db2") == fresh_as_of
    assert known.lag_bytes("db2") == lag_bytes


def test_nothing_is_known_of_what_was_not_asked() -> None:
    known = Samples()
    assert known.fresh_as_of("db2") == NEVER
    assert known.lag_bytes("db2") is None
    # A standby that answers before the primary did.
    known.standby("db2", 100)
    assert known.fresh_as_of("db2") == NEVER
    assert known.lag_bytes("db2") is None
    known.primary(1.0, 100)
    assert known.fresh_as_of("db2") == NEVER
    assert known.fresh_as_of("db3") == NEVER
    assert known.lag_bytes("db3") is None
    known.standby("db2", 100)
    assert known.fresh_as_of("db2") == 1.0


def test_while_nothing_is_written_each_sample_makes_a_standby_fresher() -> None:
    known = Samples()
    for begun in (1.0, 2.0, 3.0):
        known.primary(begun, 100)
        known.standby("db2", 100)
        assert known.fresh_as_of("db2") == begun


def test_an_answer_from_before_takes_nothing_back() -> None:
    known = sampled(*THREE)
    known.standby("db2", 300)
    known.standby("db2", 100)
    assert known.fresh_as_of("db2") == 3.0
    assert known.lag_bytes("db2") == 200


def test_a_slow_standby_finds_the_samples_a_fast_one_has_passed() -> None:
    known = sampled(*THREE)
    known.standby("slow", 0)
    known.standby("fast", 300)
    known.standby("slow", 150)
    assert (known.fresh_as_of("slow"), known.fresh_as_of("fast")) == (1.0, 3.0)


def test_what_all_have_passed_is_forgotten_but_the_newest() -> None:
    known = sampled(*THREE)
    known.standby("slow", 100)
    known.standby("fast", 300)
    known.standby("slow", 250)
    assert list(known._samples) == [(3.0, 300)]
    known.standby("slow", 300)
    assert list(known._samples) == [(3.0, 300)]
    assert known.fresh_as_of("slow") == 3.0


def test_a_standby_that_is_gone_starts_from_nothing() -> None:
    known = sampled(*THREE)
    known.standby("db3", 200)
    known.standby("db2", 300)
    known.gone("db2")
    known.gone("never seen")
    assert known.fresh_as_of("db2") == NEVER
    assert known.lag_bytes("db2") is None
    assert known.fresh_as_of("db3") == 2.0
    # It has come back with less than it had.
    known.standby("db2", 0)
    assert known.fresh_as_of("db2") == NEVER


def test_a_standby_that_is_gone_holds_no_samples() -> None:
    known = sampled(*THREE)
    known.standby("dead", 0)
    known.gone("dead")
    known.standby("db2", 300)
    assert list(known._samples) == [(3.0, 300)]


def test_without_a_primary_nothing_is_known() -> None:
    known = sampled(*THREE)
    known.standby("db2", 300)
    known.clear()
    assert known.fresh_as_of("db2") == NEVER
    assert known.lag_bytes("db2") is None
    known.standby("db2", 300)
    assert known.fresh_as_of("db2") == NEVER


def test_a_primary_whose_position_goes_back_is_another() -> None:
    known = sampled(*THREE)
    known.standby("db2", 300)
    known.primary(4.0, 299)
    assert known.fresh_as_of("db2") == NEVER
    assert known.lag_bytes("db2") is None
    known.standby("db2", 299)
    assert known.fresh_as_of("db2") == 4.0
    known.standby("db3", 298)
    assert known.fresh_as_of("db3") == NEVER


def test_samples_are_bounded_and_the_newest_is_kept() -> None:
    known = Samples()
    for number in range(10 * SAMPLES_MAX):
        known.primary(float(number), number)
        assert len(known._samples) <= SAMPLES_MAX
        assert known._samples[-1] == (float(number), number)
    assert list(known._samples) == sorted(known._samples)
    # Still enough of them to say how far a standby has come, the nearer the better.
    behind = number - 2 * SAMPLES_MAX
    known.standby("db2", behind)
    assert behind - SAMPLES_MAX / 10 < known.fresh_as_of("db2") <= behind
    known.standby("db2", number)
    assert known.fresh_as_of("db2") == number


class Cluster:
    """A primary that writes and standbys that replay, beside the Samples that watch them. Each step takes a tick."""

    def __init__(self) -> None:
        self.samples = Samples()
        self.now = 0.0
        self.position = 0
        self.commits: list[tuple[float, int]] = []
        """When a client was told, and the position of the commit."""
        self.replayed = {"db2": 0, "db3": 0}
        self.told: dict[str, float] = {}
        """What was last said of each standby."""

    def commit(self, size: int) -> None:
        """WAL is written at one moment, and the client is told at a later one."""
        self.position += size
        self.now += 1
        self.commits.append((self.now, self.position))

    def write(self, size: int) -> None:
        """WAL of a transaction that is not committed."""
        self.position += size

    def sample(self, meanwhile: int) -> None:
        """A question; commits may be told of while the answer is under way."""
        begun = self.now
        if meanwhile:
            self.commit(meanwhile)
        self.samples.primary(begun, self.position)
        self.now += 1

    def replay(self, name: str, part: int, late: int) -> None:
        """A standby goes on by a part (in eighths) of what it lacks; its answer may be that much older."""
        before = self.replayed[name]
        self.replayed[name] += (self.position - before) * part // 8
        self.samples.standby(name, max(before, self.replayed[name] - late))

    def restart(self, name: str, lost: int) -> None:
        """A standby is away; it begins again at its last restartpoint."""
        self.samples.gone(name)
        self.told.pop(name, None)
        self.replayed[name] = max(0, self.replayed[name] - lost)

    def promote(self, lost: int) -> None:
        """Another primary, which lacks what no standby had received: what it lacks nobody will see again."""
        self.position = max(*self.replayed.values(), self.position - lost)
        self.commits = [(told, position) for told, position in self.commits if position <= self.position]
        self.samples.clear()
        self.told.clear()

    def check(self) -> None:
        for name, replayed in self.replayed.items():
            claim = self.samples.fresh_as_of(name)
            assert claim >= self.told.get(name, NEVER), "it goes back"
            self.told[name] = claim
            missing = [(told, position) for told, position in self.commits if told <= claim and position > replayed]
            assert not missing, f"{name} is said to be fresh as of {claim}"
        assert len(self.samples._samples) <= freshness.SAMPLES_MAX


NAMES = st.sampled_from(["db2", "db3"])
SIZES = st.integers(1, 50)
STEPS = st.one_of(
    st.tuples(st.just("commit"), SIZES),
    st.tuples(st.just("write"), SIZES),
    st.tuples(st.just("sample"), st.just(0) | SIZES),
    st.tuples(st.just("sample"), st.just(0) | SIZES),
    st.tuples(st.just("replay"), NAMES, st.integers(0, 8), st.just(0) | SIZES),
    st.tuples(st.just("replay"), NAMES, st.integers(0, 8), st.just(0) | SIZES),
    st.tuples(st.just("restart"), NAMES, SIZES),
    st.tuples(st.just("promote"), st.just(0) | SIZES),
)


@given(st.lists(STEPS, min_size=10, max_size=60), st.sampled_from([2, 3, 5, 1000]))
def test_no_standby_is_said_to_have_what_it_has_not(steps: list[tuple[Any, ...]], samples_max: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # So few of them that they are thinned out within a case.
        patch.setattr(freshness, "SAMPLES_MAX", samples_max)
        cluster = Cluster()
        for kind, *arguments in steps:
            getattr(cluster, kind)(*arguments)
            cluster.check()
        # And what has caught up is said to have: freshness is not withheld for ever.
        cluster.sample(0)
        for name in cluster.replayed:
            cluster.replay(name, 8, 0)
            assert cluster.samples.fresh_as_of(name) == cluster.now - 1
            assert cluster.samples.lag_bytes(name) == 0
