"""What a client has seen, and which standbys may serve its next read: read-your-writes and monotonic reads.

A client's writes, and all that it has read, must be on the standby that it reads from next. Both are kept as moments:
the standby must be fresh as of the client's last write (routing/freshness.py), and as of its last read too, unless that
was on the same standby, which never goes back.
"""

import mmap
from typing import Final

from middleware.pool.pool import Pool

SESSION: Final = 0
"""A client sees its own writes, and its reads never go back in time."""
EVENTUAL: Final = 1
"""Any standby within max_replica_lag."""
GLOBAL: Final = 2
"""Every read sees every commit that any client of this Pointsman was told of."""
PRIMARY: Final = 3
"""All is read on the primary."""

LEVELS: Final = {"session": SESSION, "eventual": EVENTUAL, "global": GLOBAL, "primary": PRIMARY}


class Marks:
    """One client's."""

    __slots__ = ("last", "seen", "written")

    def __init__(self) -> None:
        self.written = 0.0
        """When its last write was answered, or lost (time.monotonic(), as all times here)."""
        self.seen = 0.0
        """When its last read was answered."""
        self.last: Pool | None = None
        """The standbys' pool that this read was served by; None for the primary's."""

    def wrote(self, now: float) -> None:
        self.written = self.seen = now
        self.last = None

    def read(self, pool: Pool | None, now: float) -> None:
        self.seen = now
        self.last = pool


class Commits:
    """When each worker last told a client of a write, in memory that all workers share."""

    __slots__ = ("_mine", "_times")

    def __init__(self, descriptor: int, workers: int, mine: int) -> None:
        shared = mmap.mmap(descriptor, workers * BYTES_PER_WORKER)
        self._times: Final = memoryview(shared).cast("d")
        self._mine: Final = mine

    def note(self, now: float) -> None:
        """A client of this worker is about to be told. An aligned double is stored whole."""
        self._times[self._mine] = now

    def latest(self) -> float:
        return float(max(self._times))


BYTES_PER_WORKER: Final = 8
