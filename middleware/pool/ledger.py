"""How many there are of what, over all workers: servers of a pool, of a database, of a user; clients.

Limits hold for all workers together, and a worker must not ask another, or wait for the control plane, to open a server
or let a client in. So the counts stand in memory that all share: a column for each worker, which only it writes; a
limit is kept by looking at the sum of a row before adding to it, under a lock that is held for some microseconds. The
control plane has no part in it. A worker that dies leaves its column behind; the next process of its slot clears it, or
the supervisor does where none follows.

A row is found by the key's hash, in a bucket of ROWS_PER_BUCKET. A row whose counts are all 0 belongs to nobody. When a
bucket is full, what would need a row of it is refused as if it had reached its limit.
"""

import fcntl
import hashlib
import mmap
from array import array
from typing import Final

BUCKETS: Final = 1024
ROWS_PER_BUCKET: Final = 32
ROWS: Final = BUCKETS * ROWS_PER_BUCKET
HASH_BYTES: Final = 16
COUNT_BYTES: Final = 4

Limit = tuple[bytes, int]
"""A key, and how many there may be of it; 0 for any number."""


def bytes_for(slots: int) -> int:
    """How much memory it takes."""
    return ROWS * (HASH_BYTES + slots * COUNT_BYTES)


def clear(shared: memoryview, slot: int) -> None:
    """Forget what a worker had counted that is gone, and whose slot nobody has."""
    at = ROWS * (HASH_BYTES + slot * COUNT_BYTES)
    shared[at : at + ROWS * COUNT_BYTES] = bytes(ROWS * COUNT_BYTES)


def key_of(*parts: bytes) -> bytes:
    """The key for what `parts` name; none of them holds a zero byte."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=HASH_BYTES).digest()


class Ledger:
    """One worker's view of the counts, at `offset` (a multiple of the page size) in the file `descriptor`."""

    __slots__ = ("_columns", "_counts", "_descriptor", "_hashes", "_mapped", "_mine", "_rows")

    def __init__(self, descriptor: int, offset: int, slots: int, mine: int, columns: memoryview | None = None) -> None:
        """Of the slots as many are in use as the cell `columns` says, which may grow; by default all."""
        self._descriptor: Final = descriptor
        self._columns: Final = memoryview(array("Q", (slots,))) if columns is None else columns
        self._mine: Final = mine * ROWS
        self._mapped: Final = mmap.mmap(descriptor, bytes_for(slots), offset=offset)
        shared = memoryview(self._mapped)
        self._hashes: Final = shared[: ROWS * HASH_BYTES]
        self._counts: Final = shared[ROWS * HASH_BYTES :].cast("I")
        self._rows: Final[dict[bytes, int]] = {}
        """The rows in which this worker has counted something: they stay where they are for as long."""
        self._counts[self._mine : self._mine + ROWS] = memoryview(bytes(ROWS * COUNT_BYTES)).cast("I")

    def take(self, limits: list[Limit]) -> int:
        """Count one more of each, or none; returns the index of the limit that stands in the way, or -1."""
        self._lock()
        try:
            for index, (key, limit) in enumerate(limits):
                row = self._row(key)
                if row < 0 or (limit and self._sum(row) >= limit):
                    self._drop(limits[:index])
                    return index
                self._rows[key] = row
                self._counts[self._mine + row] += 1
        finally:
            self._unlock()
        return -1

    def give(self, limits: list[Limit]) -> None:
        """Count one less of each that take() has counted."""
        self._lock()
        try:
            self._drop(limits)
        finally:
            self._unlock()

    def columns(self) -> int:
        """How many workers there are that count, or have been."""
        return int(self._columns[0])

    def total(self, key: bytes) -> int:
        """How many there are of it, over all workers."""
        row = self._find(key)
        return 0 if row < 0 else self._sum(row)

    def mine(self, key: bytes) -> int:
        """How many of them are this worker's."""
        row = self._rows.get(key, -1)
        return 0 if row < 0 else self._counts[self._mine + row]

    def _drop(self, limits: list[Limit]) -> None:
        for key, _ in limits:
            row = self._rows[key]
            left = self._counts[self._mine + row] - 1
            self._counts[self._mine + row] = left
            if not left:
                del self._rows[key]

    def _sum(self, row: int) -> int:
        total = 0
        for at in range(row, self._columns[0] * ROWS, ROWS):
            total += self._counts[at]
        return total

    def _row(self, key: bytes) -> int:
        """The key's row; a free one of its bucket if it has none, or -1."""
        row = self._find(key)
        if row >= 0:
            return row
        first = _bucket(key)
        for row in range(first, first + ROWS_PER_BUCKET):
            if not self._sum(row):
                self._hashes[row * HASH_BYTES : (row + 1) * HASH_BYTES] = key
                return row
        return -1

    def _find(self, key: bytes) -> int:
        row = self._rows.get(key, -1)
        if row >= 0:
            return row
        first = _bucket(key)
        bucket = bytes(self._hashes[first * HASH_BYTES : (first + ROWS_PER_BUCKET) * HASH_BYTES])
        at = bucket.find(key)
        while at >= 0 and at % HASH_BYTES:
            at = bucket.find(key, at + 1)
        return -1 if at < 0 else first + at // HASH_BYTES

    def _lock(self) -> None:
        # Locks of fcntl's kind are a process's: the descriptor is one that all workers have inherited. One byte of it:
        # others say who lives (supervisor/slots.py).
        if self._columns[0] > 1:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1)

    def _unlock(self) -> None:
        if self._columns[0] > 1:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)


def _bucket(key: bytes) -> int:
    """The first row of its bucket."""
    return int.from_bytes(key[:4], "big") % BUCKETS * ROWS_PER_BUCKET
