"""What the query cache has done since the worker started: counted as it happens, told about once a second.

A *digest* is a database and a statement's shape (its text without literals). At DIGESTS_MAX the half that was called
least is forgotten; what was counted of it is in the totals all the same.
"""

from typing import Final

from middleware.control import CacheCounters, CacheDigest

DIGESTS_MAX: Final = 200
SHAPE_CHARS_MAX: Final = 500
"""Of a shape's text, as it is told."""


class DigestCounts:
    """Of one digest."""

    __slots__ = ("bytes", "calls", "database", "hits", "saved_s", "shape", "stored")

    def __init__(self, database: str, shape: str) -> None:
        self.database: Final = database
        self.shape: Final = shape
        self.calls = 0
        self.hits = 0
        self.stored = 0
        self.bytes = 0
        self.saved_s = 0.0


class Counts:
    """Counted by the cache."""

    __slots__ = (
        "_digests",
        "expired",
        "flights",
        "hits",
        "invalidations",
        "misses",
        "not_stored",
        "saved_s",
        "second_level_errors",
        "second_level_hits",
        "second_level_misses",
        "stored",
    )

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.stored = 0
        self.not_stored: Final[dict[str, int]] = {}
        self.expired = 0
        self.invalidations: Final[dict[str, int]] = {}
        self.flights = 0
        self.saved_s = 0.0
        self.second_level_hits = 0
        self.second_level_misses = 0
        self.second_level_errors = 0
        self._digests: dict[tuple[str, str], DigestCounts] = {}

    def hit(self, digest: DigestCounts, fill_s: float) -> None:
        """A cached answer was given, which had taken `fill_s`."""
        self.hits += 1
        self.saved_s += fill_s
        digest.calls += 1
        digest.hits += 1
        digest.saved_s += fill_s

    def miss(self, digest: DigestCounts) -> None:
        """There was none that holds."""
        self.misses += 1
        digest.calls += 1

    def store(self, digest: DigestCounts, size_bytes: int) -> None:
        """The answer to a miss was stored."""
        self.stored += 1
        digest.stored += 1
        digest.bytes += size_bytes

    def digest(self, database: str, shape: str) -> DigestCounts:
        """The counts for a shape; who has them counts there even when they are told no more."""
        key = database, shape if len(shape) <= SHAPE_CHARS_MAX else shape[: SHAPE_CHARS_MAX - 2] + ".."
        counts = self._digests.get(key)
        if counts is None:
            if len(self._digests) >= DIGESTS_MAX:
                called = sorted(self._digests.items(), key=lambda one: one[1].calls, reverse=True)
                self._digests = dict(called[: DIGESTS_MAX // 2])
            counts = self._digests[key] = DigestCounts(*key)
        return counts

    def refuse(self, why: str) -> None:
        """The answer to a miss was not stored. `why` is one of a few words, never a text of somebody's."""
        self.not_stored[why] = self.not_stored.get(why, 0) + 1

    def invalidate(self, cause: str, entries: int = 1) -> None:
        """They did not hold any more."""
        if entries:
            self.invalidations[cause] = self.invalidations.get(cause, 0) + entries

    def counters(self, entries: int, size_bytes: int, evictions: int) -> CacheCounters:
        """All of it, with what is there now."""
        return CacheCounters(
            hits=self.hits,
            misses=self.misses,
            stored=self.stored,
            not_stored=dict(self.not_stored),
            entries=entries,
            bytes=size_bytes,
            evictions=evictions,
            expired=self.expired,
            invalidations=dict(self.invalidations),
            flights=self.flights,
            saved_s=self.saved_s,
            second_level_hits=self.second_level_hits,
            second_level_misses=self.second_level_misses,
            second_level_errors=self.second_level_errors,
            digests=tuple(
                [
                    CacheDigest(one.database, one.shape, one.calls, one.hits, one.stored, one.bytes, one.saved_s)
                    for one in self._digests.values()
                ]
            ),
        )
