"""What the query caches of all workers have done together."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from middleware.control import CacheCounters, CacheDigest

DIGESTS_MAX: Final = 1000
"""Kept of them: those that were called most."""


def outlived(counters: CacheCounters) -> CacheCounters:
    """What stays of a worker's counts when it has ended, and its memory with it."""
    return replace(counters, entries=0, bytes=0)


def added(all_counters: Iterable[CacheCounters]) -> CacheCounters:
    """The sum; of digests, those that saved most first."""
    counters = list(all_counters)
    not_stored: Counter[str] = Counter()
    invalidations: Counter[str] = Counter()
    for one in counters:
        not_stored.update(one.not_stored)
        invalidations.update(one.invalidations)
    return CacheCounters(
        hits=sum(one.hits for one in counters),
        misses=sum(one.misses for one in counters),
        stored=sum(one.stored for one in counters),
        not_stored=dict(not_stored),
        entries=sum(one.entries for one in counters),
        bytes=sum(one.bytes for one in counters),
        evictions=sum(one.evictions for one in counters),
        expired=sum(one.expired for one in counters),
        invalidations=dict(invalidations),
        flights=sum(one.flights for one in counters),
        saved_s=sum(one.saved_s for one in counters),
        second_level_hits=sum(one.second_level_hits for one in counters),
        second_level_misses=sum(one.second_level_misses for one in counters),
        second_level_errors=sum(one.second_level_errors for one in counters),
        digests=_digests(digest for one in counters for digest in one.digests),
    )


def _digests(all_digests: Iterable[CacheDigest]) -> tuple[CacheDigest, ...]:
    totals: dict[tuple[str, str], CacheDigest] = {}
    for one in all_digests:
        have = totals.get((one.database, one.shape))
        totals[one.database, one.shape] = one if have is None else _sum(have, one)
    most = sorted(totals.values(), key=lambda one: one.calls, reverse=True)[:DIGESTS_MAX]
    return tuple(sorted(most, key=lambda one: (-one.saved_s, -one.hits, -one.calls, one.database, one.shape)))


def _sum(one: CacheDigest, other: CacheDigest) -> CacheDigest:
    return replace(
        one,
        calls=one.calls + other.calls,
        hits=one.hits + other.hits,
        stored=one.stored + other.stored,
        bytes=one.bytes + other.bytes,
        saved_s=one.saved_s + other.saved_s,
    )
