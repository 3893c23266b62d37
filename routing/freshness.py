"""How fresh each standby is, from samples of WAL positions.

A standby *is fresh as of* a moment when it has replayed all that was committed by then.

A sample of the primary's insert position that was begun at time t bounds from above the position of every commit that
was acknowledged before t. So a standby that has replayed past the sample has all those commits, and no query has to
be added to any write. Times are those of one clock of this host (CLOCK_MONOTONIC); positions are bytes of WAL.
"""

from collections import deque
from typing import Final

SAMPLES_MAX: Final = 1000
"""Samples kept while a standby has not reached them; beyond it every second one is dropped, the newest kept."""

NEVER: Final = float("-inf")


class Samples:
    """Samples of one primary, and how far its standbys have come."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        """(when begun, insert position), both growing."""
        self._fresh: dict[str, float] = {}
        self._replayed: dict[str, int] = {}

    def primary(self, begun: float, insert_lsn: int) -> None:
        """The primary said `insert_lsn` to a question asked at `begun`."""
        if self._samples and insert_lsn < self._samples[-1][1]:
            # Another primary, whose positions are not comparable: what was known is void.
            self.clear()
        self._samples.append((begun, insert_lsn))
        if len(self._samples) > SAMPLES_MAX:
            newest = self._samples[-1]
            self._samples = deque(list(self._samples)[1:-1:2])
            self._samples.append(newest)

    def standby(self, name: str, replay_lsn: int) -> None:
        """A standby said how far it has replayed."""
        self._replayed[name] = replay_lsn
        fresh = self._fresh.get(name, NEVER)
        for begun, insert_lsn in self._samples:
            if insert_lsn > replay_lsn:
                break
            fresh = max(fresh, begun)
        self._fresh[name] = fresh
        self._forget()

    def gone(self, name: str) -> None:
        """A standby is not used any more; what it had replayed it may have lost."""
        self._fresh.pop(name, None)
        self._replayed.pop(name, None)

    def clear(self) -> None:
        """There is another primary, or none."""
        self._samples.clear()
        self._fresh.clear()
        self._replayed.clear()

    def fresh_as_of(self, name: str) -> float:
        """The moment; NEVER where nothing is known."""
        return self._fresh.get(name, NEVER)

    def lag_bytes(self, name: str) -> int | None:
        """What the standby has to replay to reach the latest sample; None where nothing is known."""
        if not self._samples or name not in self._replayed:
            return None
        return max(0, self._samples[-1][1] - self._replayed[name])

    def _forget(self) -> None:
        """Drop the samples that all standbys have passed, but the newest."""
        passed = min(self._fresh.values(), default=NEVER)
        while len(self._samples) > 1 and self._samples[0][0] <= passed:
            self._samples.popleft()
