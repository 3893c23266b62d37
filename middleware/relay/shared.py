"""What stands where in the memory that workers share, files without a name that they have inherited.

One file is of all workers that serve the same clients' limits: also of those of a Pointsman that another has taken over
from, for as long as they have clients (docs/decisions/0016). Each worker has a *slot* of its own there, from 0, and
with it a column wherever something is counted. The other file, of the tables' versions, is one Pointsman's own.
"""

import errno
import fcntl
import hashlib
import mmap
import os
import struct
from typing import Final

from middleware.pool import ledger
from middleware.pool.ledger import Ledger
from middleware.relay.freshness import BYTES_PER_WORKER, Commits

PAGE_BYTES: Final = 4096
SLOTS: Final = 512
"""Workers of all generations that live at a time: twice as many as one may have."""
CELL_BYTES: Final = 8

COMMITS_OFFSET: Final = PAGE_BYTES
"""In front of it is one cell: how many slots, from 0, have been in use."""
LEDGER_OFFSET: Final = COMMITS_OFFSET + -(-SLOTS * BYTES_PER_WORKER // PAGE_BYTES) * PAGE_BYTES
SHARED_BYTES: Final = LEDGER_OFFSET + ledger.bytes_for(SLOTS)
"""The size of it all. What nobody has used takes no memory."""

_SAID: Final = (1, SLOTS, COMMITS_OFFSET, BYTES_PER_WORKER, LEDGER_OFFSET, ledger.ROWS, ledger.HASH_BYTES)
LAYOUT: Final = hashlib.blake2b(repr(_SAID).encode(), digest_size=8).hexdigest()
"""Two versions of Pointsman that have the same can share it. The first number is raised when what stands there means
something else."""


LIVES: Final = 1 << 40
"""Behind the file's end: a worker that lives has the byte of its slot there locked, a supervisor those of all its
workers further on. The kernel unlocks them when their process is gone, however it ends."""
SUPERVISED: Final = 1 << 41
_FLOCK: Final = struct.Struct("hhqqi")
"""Linux's struct flock: type, whence, start, length, pid."""


class Locks:
    """Locks that this process holds on bytes of the file, until it is closed or ends.

    Linux's "open file description locks": those of the older kind end whenever any descriptor of the file is closed.
    """

    def __init__(self, descriptor: int) -> None:
        # A description of its own: the one that was inherited is others' too, and with it would be their locks.
        self._descriptor: Final = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)

    def take(self, at: int, count: int = 1) -> bool:
        """Lock these bytes; False where another has one of them."""
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, count, 0))
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False
        return True

    def taken(self, at: int, count: int = 1) -> bool:
        """Whether another has one of these."""
        found = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, count, 0))
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        """Unlock them all."""
        os.close(self._descriptor)


def live(descriptor: int, slot: int) -> Locks:
    """Let supervisors see that there is a worker in a slot, for as long as what is returned is kept."""
    locks = Locks(descriptor)
    locks.take(LIVES + slot)
    return locks


def columns_of(descriptor: int) -> memoryview:
    """A view of how many slots have been in use: one cell, which only the youngest supervisor writes."""
    return memoryview(mmap.mmap(descriptor, CELL_BYTES)).cast("Q")


def commits_of(descriptor: int, slot: int) -> Commits:
    """A worker's view of what all have told their clients."""
    return Commits(descriptor, SLOTS, slot, COMMITS_OFFSET, columns_of(descriptor))


def ledger_of(descriptor: int, slot: int) -> Ledger:
    """A worker's view of what all have counted."""
    return Ledger(descriptor, LEDGER_OFFSET, SLOTS, slot, columns_of(descriptor))
