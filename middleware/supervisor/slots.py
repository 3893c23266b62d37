"""The places of workers in the memory that they share with those of other generations: see relay/shared.py.

In: how many workers there are, and the memory of a Pointsman that is taken over from, if there is one. Out: slots that
nobody else has, and in the end those of workers that are gone, cleared. Who lives is seen by locks, so that it is known
of any generation, however it has ended.
"""

import math
import mmap
import os
import tempfile
from collections.abc import Iterable
from typing import Final

from middleware.pool import ledger
from middleware.relay.shared import COMMITS_OFFSET, LEDGER_OFFSET, LIVES, SHARED_BYTES, SLOTS, SUPERVISED, Locks

CELL: Final = 8


class NoSlots(Exception):
    """There is no place for so many workers: too many of others still live."""


class Slots:
    """Those of one supervisor's workers."""

    def __init__(self, workers: int, descriptor: int | None = None, taken: Iterable[tuple[int, int]] = ()) -> None:
        """`descriptor`: the memory of another Pointsman, which is ours from now on. `taken`: slots of one whose memory
        is not shared, the first and how many: process ids must differ all the same. Raises NoSlots."""
        if descriptor is None:
            with tempfile.TemporaryFile() as file:
                file.truncate(SHARED_BYTES)
                descriptor = os.dup(file.fileno())
        self.descriptor: Final = descriptor
        self._locks: Final = Locks(descriptor)
        self._mapped: Final = mmap.mmap(descriptor, SHARED_BYTES)
        shared = memoryview(self._mapped)
        self._columns: Final = shared[:CELL].cast("Q")
        commits = shared[COMMITS_OFFSET : COMMITS_OFFSET + 2 * SLOTS * CELL].cast("d")
        self._writes: Final = commits[:SLOTS]
        self._changes: Final = commits[SLOTS:]
        self._ledger: Final = shared[LEDGER_OFFSET:]
        self.workers: Final = workers
        elsewhere = {slot for first, count in taken for slot in range(first, first + count)}
        self.first: Final = self._reserve(workers, elsewhere)
        self._columns[0] = max(self._columns[0], self.first + workers)
        self._dead: Final[set[int]] = set()
        """Others' slots of which all is settled."""

    def close(self) -> None:
        """Give the slots back; workers that still live have theirs."""
        self._locks.close()
        os.close(self.descriptor)

    def columns(self) -> int:
        """How many slots, from 0, have been in use."""
        return int(self._columns[0])

    def mine(self, slot: int) -> bool:
        """Whether one of our workers has it."""
        return self.first <= slot < self.first + self.workers

    def lives(self, slot: int) -> bool:
        """Whether a worker of another generation is in it, or the supervisor that may start one."""
        return self._locks.taken(LIVES + slot) or self._locks.taken(SUPERVISED + slot)

    def others(self) -> list[int]:
        """The slots of other generations that live, or are not settled yet."""
        return [slot for slot in range(self.columns()) if not self.mine(slot) and slot not in self._dead]

    def bury(self) -> list[int]:
        """Clear what workers of other generations have left behind that are gone. Returns the slots of those who had
        changed a catalog, and may have told nobody."""
        suspects = []
        for slot in self.others():
            if self._writes[slot] == math.inf or self.lives(slot):
                continue
            ledger.clear(self._ledger, slot)
            if self._changes[slot]:
                suspects.append(slot)
            self._dead.add(slot)
        return suspects

    def settle(self, slots: Iterable[int]) -> None:
        """What was changed in these has been passed on."""
        for slot in slots:
            self._changes[slot] = 0.0

    # Of others who do not share this memory

    def blind(self, taken: Iterable[tuple[int, int]]) -> None:
        """Workers in these slots may tell clients of writes, and nobody here hears of it."""
        for first, count in taken:
            self._columns[0] = max(self._columns[0], first + count)
            self._dead.difference_update(range(first, first + count))
            for slot in range(first, first + count):
                self._writes[slot] = math.inf

    def see(self, taken: Iterable[tuple[int, int]], now: float) -> None:
        """They are gone since `now` at the latest."""
        for first, count in taken:
            for slot in range(first, first + count):
                self._writes[slot] = now

    def _reserve(self, workers: int, elsewhere: set[int]) -> int:
        """Lock the first range that nobody has; returns where it begins."""
        for first in range(SLOTS - workers + 1):
            free = elsewhere.isdisjoint(range(first, first + workers)) and not self._locks.taken(LIVES + first, workers)
            if free and self._locks.take(SUPERVISED + first, workers):
                return first
        raise NoSlots(f"there is no place for {workers} workers beside those that live")
