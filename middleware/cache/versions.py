"""What all workers know at once of the tables' contents: whether they have changed, and whether a change is under way.

An answer that was read from some tables may be given again as long as none of them has changed since, and no commit
that may change one is on its way. Both must be known to all workers before a client hears of the commit, so they stand
in memory that all share: a column for each worker, and one for the supervisor, which speaks for the nodes. Only its
owner writes a column, so no lock is needed; who reads adds them up.

A table is a *slot*, by the hash of its database and oid: two that share one are invalidated together, which costs a
miss. Slot EVERYTHING is for all tables of all databases, and each database has one for all of its own; every answer
depends on those two as well.

    changes[slot]   how often it may have changed; grows
    under_way[slot] commits that were sent to a server, may change it, and are not answered
    doubted[slot]   until when (time.monotonic()) one that was lost may still commit, and nobody would hear of it
    changed_at[slot] when it was last told of a change
    last_lsn[slot]  the supervisor's alone: the highest WAL position of a change that a watcher has seen
    events          of the column: raised with each of the above

`events` makes the common case cheap: while the sum over all columns is what it was when an answer was last found
valid, nothing has happened to any table.

The supervisor tells two things more, for answers that several instances share (docs/decisions/0014): up to which WAL
position a watcher *vouches* for all commits, and, by the database's own slot, which catalog was read last, and when.

Order matters to readers in other processes: a commit is `begin`-ed before it is sent, `changed_at` and `last_lsn` are
told before `changes` is raised, and that before `under_way` is lowered, before its client hears of it.
"""

import mmap
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

SLOTS: Final = 4096
EVERYTHING: Final = 0
CELLS: Final = 8
"""In front of a column's slots: EVENTS, and the supervisor's words to all."""
ARRAYS: Final = 5
COLUMN: Final = CELLS + ARRAYS * SLOTS
CELL_BYTES: Final = 8
READINGS: Final = 2
"""Arrays behind all columns: the versions of catalogs, and when they were read."""

DOUBT_S: Final = 60.0
"""How long a commit whose answer was lost is thought to be still on its way."""

BY_WRITE: Final = "write"
BY_UNSEEN_WRITE: Final = "unseen write"
"""DDL, or what may write nobody knows what."""
BY_OTHERS: Final = "watcher"

_EVENTS: Final = 0
_WATCHED_UNTIL: Final = 1
_WATCHED_LSN: Final = 2
_VOUCHED_TIMELINE: Final = 3
_VOUCHED_LSN: Final = 4
_VOUCHED_BEFORE: Final = 5
_CHANGES: Final = CELLS
_UNDER_WAY: Final = CELLS + SLOTS
_DOUBTED: Final = CELLS + 2 * SLOTS
_CHANGED_AT: Final = CELLS + 3 * SLOTS
_LAST_LSN: Final = CELLS + 4 * SLOTS


def bytes_for(workers: int) -> int:
    """How much memory it takes."""
    return ((workers + 1) * COLUMN + READINGS * SLOTS) * CELL_BYTES


def slot_of(database: str, relation: int = 0) -> int:
    """The slot of a relation, by its oid; without one, that of all the database's."""
    return zlib.crc32(f"{relation}:{database}".encode()) % (SLOTS - 1) + 1


class Versions:
    """The view of one worker, or (`mine` being the number of workers) of the supervisor."""

    __slots__ = ("_base", "_columns", "_counts", "_readings", "_times", "_watcher")

    def __init__(self, descriptor: int, offset: int, workers: int, mine: int) -> None:
        """At `offset`, a multiple of the page size, in the file `descriptor`."""
        shared = memoryview(mmap.mmap(descriptor, bytes_for(workers), offset=offset))
        self._counts: Final = shared.cast("Q")
        self._times: Final = shared.cast("d")
        """The same cells as moments."""
        self._columns: Final = tuple(range(0, (workers + 1) * COLUMN, COLUMN))
        self._base: Final = mine * COLUMN
        self._watcher: Final = workers * COLUMN
        self._readings: Final = (workers + 1) * COLUMN

    def restart(self, now: float, until: float) -> None:
        """Take over the column of a process that may have died with commits under way: these are in doubt `until`."""
        counts, base = self._counts, self._base
        lost = [slot for slot in range(SLOTS) if counts[base + _UNDER_WAY + slot]]
        if lost:
            self.doubt(lost, until)
            self.change(lost, now)
            for slot in lost:
                counts[base + _UNDER_WAY + slot] = 0
            self._happened()

    # What its owner tells

    def begin(self, slots: Iterable[int]) -> None:
        """A commit is about to be sent that may change them."""
        counts, at = self._counts, self._base + _UNDER_WAY
        for slot in slots:
            counts[at + slot] += 1
        self._happened()

    def end(self, slots: Iterable[int]) -> None:
        """What has become of it is known, and was told by change() if it has changed them."""
        counts, at = self._counts, self._base + _UNDER_WAY
        for slot in slots:
            counts[at + slot] -= 1
        self._happened()

    def change(self, slots: Iterable[int], now: float, lsn: int = 0) -> None:
        """They may have changed, by `now`; `lsn` is the commit's position, where a watcher tells."""
        counts, times, base = self._counts, self._times, self._base
        for slot in slots:
            times[base + _CHANGED_AT + slot] = now
            if lsn > counts[base + _LAST_LSN + slot]:
                # What becomes visible late is told late, or again.
                counts[base + _LAST_LSN + slot] = lsn
            counts[base + _CHANGES + slot] += 1
        self._happened()

    def doubt(self, slots: Iterable[int], until: float) -> None:
        """A commit was lost that may still change them."""
        times, at = self._times, self._base + _DOUBTED
        for slot in slots:
            times[at + slot] = max(times[at + slot], until)
        self._happened()

    def watched(self, until: float, lsn: int = 0) -> None:
        """The supervisor: all changes that were committed before `until`, and up to `lsn`, have been told."""
        # In this order: who has read the moment first finds the position that belongs to it, or a later one.
        self._counts[self._base + _WATCHED_LSN] = lsn
        self._times[self._base + _WATCHED_UNTIL] = until

    def vouch(self, timeline: int, lsn: int, before: int = 0) -> None:
        """The supervisor: all that was committed up to `lsn` has been told of since others could see it; 0: unknown.

        What was committed up to `before` could be seen by others before the moment that watched() has told.
        """
        counts, base = self._counts, self._base
        if counts[base + _VOUCHED_TIMELINE] != timeline:
            counts[base + _VOUCHED_LSN] = counts[base + _VOUCHED_BEFORE] = 0
            counts[base + _VOUCHED_TIMELINE] = timeline
        counts[base + _VOUCHED_LSN] = lsn
        counts[base + _VOUCHED_BEFORE] = before

    def catalog_read(self, slot: int, version: int, read_at: float) -> None:
        """The supervisor: the catalog of this version is what was found by a reading on the primary, begun then."""
        at = self._readings + slot
        self._counts[at] = 0
        self._times[at + SLOTS] = read_at
        self._counts[at] = version

    def _happened(self) -> None:
        self._counts[self._base + _EVENTS] += 1

    # What everybody may ask

    def events(self) -> int:
        """Raised whenever anything has happened to any table."""
        counts = self._counts
        total = 0
        for column in self._columns:
            total += counts[column + _EVENTS]
        return total

    def version(self, slots: Sequence[int]) -> int:
        """Of these together: another number where one of them has changed."""
        counts = self._counts
        total = 0
        for column in self._columns:
            at = column + _CHANGES
            for slot in slots:
                total += counts[at + slot]
        return total

    def settled(self, slots: Sequence[int], now: float) -> bool:
        """Whether no commit is under way, or in doubt, that may change one of them."""
        counts, times = self._counts, self._times
        for column in self._columns:
            for slot in slots:
                if counts[column + _UNDER_WAY + slot] or times[column + _DOUBTED + slot] > now:
                    return False
        return True

    def busy(self, slot: int) -> bool:
        """Whether a commit is under way that may change it."""
        counts = self._counts
        for column in self._columns:  # noqa: SIM110 - mypyc makes a plain loop of it
            if counts[column + _UNDER_WAY + slot]:
                return True
        return False

    def doubted_until(self, slots: Sequence[int]) -> float:
        """Until when one of them may change unseen: what was read before may be old by then."""
        times = self._times
        latest = 0.0
        for column in self._columns:
            for slot in slots:
                latest = max(latest, times[column + _DOUBTED + slot])
        return latest

    def changed_at(self, slots: Sequence[int]) -> float:
        """When the last change of any of them was told; 0 where none was."""
        times = self._times
        latest = 0.0
        for column in self._columns:
            for slot in slots:
                latest = max(latest, times[column + _CHANGED_AT + slot])
        return latest

    def cause(self, database: int, tables: Sequence[int], since: float) -> str:
        """What has changed them since then, in words: `database` is the slot of all that their database holds."""
        times = self._times
        watcher = self._watcher + _CHANGED_AT
        if any(times[watcher + slot] >= since for slot in (EVERYTHING, database, *tables)):
            return BY_OTHERS
        for column in self._columns:
            for slot in tables:
                if times[column + _CHANGED_AT + slot] >= since:
                    return BY_WRITE
        return BY_UNSEEN_WRITE

    def changed_here_at(self, slots: Sequence[int]) -> float:
        """The same, without what a watcher has told: when a commit of this instance's own may have changed one."""
        times = self._times
        latest = 0.0
        for column in self._columns:
            for slot in slots:
                # The supervisor tells of EVERYTHING when writes have not been noted for a while.
                if column != self._watcher or slot == EVERYTHING:
                    latest = max(latest, times[column + _CHANGED_AT + slot])
        return latest

    def catalog_read_at(self, slot: int, version: int) -> float:
        """When the last reading of a database's catalog began, if that has found this version; 0 if it has not."""
        counts, at = self._counts, self._readings + slot
        if counts[at] != version:
            return 0.0
        read_at = float(self._times[at + SLOTS])
        return read_at if counts[at] == version else 0.0

    def vouched(self) -> tuple[int, int]:
        """A timeline, and the position on it up to which the watcher vouches for all commits; zeros for none."""
        counts, base = self._counts, self._watcher
        lsn = int(counts[base + _VOUCHED_LSN])
        timeline = int(counts[base + _VOUCHED_TIMELINE])
        # In between it may have gone over to another timeline.
        return (timeline, lsn) if lsn and counts[base + _VOUCHED_LSN] == lsn else (0, 0)

    def vouched_before(self) -> int:
        """What was committed up to there could be seen by others before watched_until(), if that is asked for next."""
        return int(self._counts[self._watcher + _VOUCHED_BEFORE])

    def watched_until(self) -> float:
        """Until when all changes by others have been told."""
        return float(self._times[self._watcher + _WATCHED_UNTIL])

    def watched_lsn(self) -> int:
        """Up to which position they have."""
        return int(self._counts[self._watcher + _WATCHED_LSN])

    def last_lsn(self, slots: Sequence[int]) -> int:
        """The position of the last change of any of them that a watcher has told; 0 where none was."""
        counts, at = self._counts, self._watcher + _LAST_LSN
        return max([counts[at + slot] for slot in slots], default=0)
