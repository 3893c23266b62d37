"""What the query cache counts, and how much it remembers of whom."""

from middleware.cache.counts import DIGESTS_MAX, SHAPE_CHARS_MAX, Counts
from middleware.control import CacheCounters, CacheDigest


def test_what_happens_is_counted_in_the_totals_and_for_its_digest() -> None:
    counts = Counts()
    one, other = counts.digest("db", "SELECT $1"), counts.digest("db", "SELECT $1 FROM t")
    counts.miss(one)
    counts.store(one, 100)
    counts.hit(one, 0.5)
    counts.hit(one, 0.25)
    counts.miss(other)
    counts.refuse("too large")
    counts.refuse("too large")
    counts.invalidate("write")
    counts.invalidate("clear", 3)
    counts.invalidate("failover", 0)
    counts.expired += 2
    counts.flights += 3
    counts.second_level_hits += 4
    assert counts.counters(5, 600, 1) == CacheCounters(
        hits=2,
        misses=2,
        stored=1,
        not_stored={"too large": 2},
        entries=5,
        bytes=600,
        evictions=1,
        expired=2,
        invalidations={"write": 1, "clear": 3},
        flights=3,
        saved_s=0.75,
        second_level_hits=4,
        digests=(CacheDigest("db", "SELECT $1", 3, 2, 1, 100, 0.75), CacheDigest("db", "SELECT $1 FROM t", 1)),
    )


def test_the_digests_that_are_called_least_are_forgotten() -> None:
    counts = Counts()
    for number in range(DIGESTS_MAX):
        counts.miss(counts.digest("db", f"{number}"))
    busy = counts.digest("db", f"{DIGESTS_MAX - 1}")
    counts.hit(busy, 1.0)
    counts.miss(counts.digest("db", "new"))
    kept = {one.shape: one for one in counts.counters(0, 0, 0).digests}
    assert len(kept) == DIGESTS_MAX // 2 + 1
    assert (kept[busy.shape].calls, kept[busy.shape].hits) == (2, 1)
    assert counts.misses == DIGESTS_MAX + 1


def test_a_long_shape_is_cut() -> None:
    counts = Counts()
    long, whole = counts.digest("db", "x" * 10_000), counts.digest("db", "y" * SHAPE_CHARS_MAX)
    assert (len(long.shape), long.shape[-3:]) == (SHAPE_CHARS_MAX, "x..")
    assert whole.shape == "y" * SHAPE_CHARS_MAX
