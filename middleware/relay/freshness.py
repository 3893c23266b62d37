"""What a client has seen, and which standbys may serve its next read: read-your-writes and monotonic reads.

A client's writes, and all that it has read, must be on the standby that it reads from next. Both are kept as moments:
the standby must be fresh as of the client's last write (routing/freshness.py), and as of its last read too, unless that
was on the same standby, which never goes back.
"""

import mmap
from array import array
from typing import Final

from middleware.pool.pool import Pool

EVENTUAL: Final = 0
"""Any standby within max_replica_lag."""
SESSION: Final = 1
"""A client sees its own writes, and its reads never go back in time."""
GLOBAL: Final = 2
"""The same, and every read sees every commit that any client of this Pointsman was told of."""
PRIMARY: Final = 3
"""All is read on the primary."""

NEVER: Final = float("-inf")
"""As of when a standby is fresh that is not known to be."""

LEVELS: Final = {"eventual": EVENTUAL, "session": SESSION, "global": GLOBAL, "primary": PRIMARY}
"""From the one that promises least to the one that promises most."""


class Marks:
    """One client's."""

    __slots__ = ("kept", "last", "seen", "written")

    def __init__(self) -> None:
        self.written = 0.0
        """When its last write was answered, or lost (time.monotonic(), as all times here)."""
        self.seen = 0.0
        """When its last read was answered."""
        self.last: Pool | None = None
        """The standbys' pool that this read was served by; None for the primary's."""
        self.kept: Pool | None = None
        """The reader it stays with, where its policy has it so (session_affinity)."""

    def wrote(self, now: float) -> None:
        self.written = self.seen = now
        self.last = None

    def read(self, pool: Pool | None, now: float) -> None:
        self.seen = now
        self.last = pool


class Commits:
    """What workers must know of each other at once: when each last told a client of a write, and of a changed catalog.

    It is in memory that all share: a message would come too late for a client of another worker that hears of the
    commit from this one's. An aligned double is stored whole.
    """

    __slots__ = ("_changes", "_columns", "_mine", "_writes", "reported")

    def __init__(
        self, descriptor: int, slots: int, mine: int, offset: int = 0, columns: memoryview | None = None
    ) -> None:
        """At `offset`, a multiple of the page size, in the file `descriptor`; of the slots as many are in use as the
        cell `columns` says, which may grow, by default all."""
        shared = memoryview(mmap.mmap(descriptor, slots * BYTES_PER_WORKER, offset=offset)).cast("d")
        self._writes: Final = shared[:slots]
        self._changes: Final = shared[slots:]
        self._columns: Final = memoryview(array("Q", (slots,))) if columns is None else columns
        self._mine: Final = mine
        self.reported: tuple[float, ...] = ()
        """The changes of catalogs, by slot, that the control plane has told all of; of slots beyond, none."""
        # A process before this one may have died with a change that nobody will report.
        self._changes[mine] = 0.0

    def note_write(self, now: float) -> None:
        """A client of this worker is about to be told that its write is done."""
        self._writes[self._mine] = now

    def note_change(self, now: float) -> None:
        """The same of what it did to the catalog; it will be reported as of then, or later."""
        self._changes[self._mine] = now

    def latest(self) -> float:
        """When a client was last told of a write."""
        writes, latest = self._writes, 0.0
        for slot in range(self._columns[0]):
            latest = max(latest, writes[slot])
        return latest

    def unreported(self) -> bool:
        """Whether a worker has changed a catalog, and this one has not heard of it by the control plane."""
        columns: int = self._columns[0]
        if columns == 1:
            return False  # Its own changes it knows of.
        changes, reported = self._changes, self.reported
        known = len(reported)
        for slot in range(columns):
            if slot != self._mine and changes[slot] > (reported[slot] if slot < known else 0.0):
                return True
        return False


BYTES_PER_WORKER: Final = 16
