"""What the query caches of all workers count together, and how much of it is kept and told."""

import msgspec

from middleware.cli.remote import ANSWER_BYTES_MAX
from middleware.control import CacheCounters, CacheDigest, Counters
from middleware.supervisor.cache_totals import DIGESTS_MAX, added, outlived
from middleware.supervisor.commands import _bounded
from middleware.supervisor.counters import Totals

ONE = CacheCounters(1, 2, 3, {"a": 1}, 5, 6, 7, 8, {"write": 1, "clear": 2}, 9, 0.5, 10, 11, 12)


def test_all_that_is_counted_is_added_up() -> None:
    assert added(()) == CacheCounters()
    assert added((ONE,)) == ONE
    other = msgspec.structs.replace(ONE, not_stored={"b": 3}, invalidations={"write": 4})
    assert added((ONE, other)) == CacheCounters(
        2, 4, 6, {"a": 1, "b": 3}, 10, 12, 14, 16, {"write": 5, "clear": 2}, 18, 1.0, 20, 22, 24
    )
    assert outlived(ONE) == msgspec.structs.replace(ONE, entries=0, bytes=0)


def test_digests_are_added_by_database_and_shape_those_that_saved_most_first() -> None:
    one, other = CacheDigest("d", "s", 1, 2, 3, 4, 0.5), CacheDigest("e", "s", 9, 0, 0, 0, 0.75)
    assert added((CacheCounters(digests=(one, other)), CacheCounters(digests=(one,)))).digests == (
        CacheDigest("d", "s", 2, 4, 6, 8, 1.0),
        other,
    )


def test_what_dead_workers_have_counted_is_bounded_and_stays() -> None:
    totals = Totals()
    for life in range(20):
        digests = tuple(CacheDigest("d", f"{life}/{number}", calls=life) for number in range(200))
        cache = CacheCounters(hits=1, entries=3, bytes=4, digests=digests)
        totals.reported(Counters(0, 0, 0, (), cache=cache))
        totals.ended(0)
    found = totals.cache()
    assert (found.hits, found.entries, found.bytes, len(found.digests)) == (20, 0, 0, DIGESTS_MAX)
    # Those that were called most.
    assert {one.calls for one in found.digests} == {15, 16, 17, 18, 19}


def test_what_is_told_fits_into_an_answer() -> None:
    # Of each character of it, JSON makes six.
    digests = tuple(CacheDigest("d", "\x01" * 490 + f"{number}") for number in range(DIGESTS_MAX))
    told = _bounded(CacheCounters(digests=digests))
    assert 100 < len(told.digests) < DIGESTS_MAX
    assert told.digests == digests[: len(told.digests)]
    assert len(msgspec.json.encode(told)) < ANSWER_BYTES_MAX
    assert len(_bounded(CacheCounters(digests=digests[:20])).digests) == 20
