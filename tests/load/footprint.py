"""What a Pointsman uses: memory, descriptors and CPU of its workers, and what its ledger has counted.

The ledger lies in a file without a name that the workers have open; here it is read, and never written.
"""

import mmap
import os
from pathlib import Path

import msgspec
import psutil

from middleware.pool.ledger import HASH_BYTES, ROWS, bytes_for
from middleware.relay.shared import LEDGER_OFFSET, SHARED_BYTES


class Footprint(msgspec.Struct, frozen=True):
    """Of all workers together; memory in bytes."""

    rss: int
    pss: int
    uss: int
    descriptors: int
    cpu_s: float


def footprint(workers: list[psutil.Process]) -> Footprint:
    """What they use now."""
    memory = [worker.memory_full_info() for worker in workers]
    times = [worker.cpu_times() for worker in workers]
    return Footprint(
        rss=sum(one.rss for one in memory),
        pss=sum(one.pss for one in memory),
        uss=sum(one.uss for one in memory),
        descriptors=sum(worker.num_fds() for worker in workers),
        cpu_s=sum(one.user + one.system for one in times),
    )


def counted(workers: list[psutil.Process]) -> dict[bytes, int]:
    """How many of each key the ledger has, over all workers; nothing of what there is none of."""
    with _shared_file(workers[0].pid, SHARED_BYTES).open("rb") as file:
        size = bytes_for(len(workers))
        with mmap.mmap(file.fileno(), size, offset=LEDGER_OFFSET, prot=mmap.PROT_READ) as mapped:
            content = bytes(mapped)
    hashes = content[: ROWS * HASH_BYTES]
    counts = memoryview(content)[ROWS * HASH_BYTES :].cast("I")
    found: dict[bytes, int] = {}
    for row in range(ROWS):
        total = sum(counts[row + worker * ROWS] for worker in range(len(workers)))
        if total:
            found[hashes[row * HASH_BYTES : (row + 1) * HASH_BYTES]] = total
    return found


def _shared_file(pid: int, size: int) -> Path:
    """The file that the workers share, among those that a worker has open."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(path)
        if target.startswith("/") and target.endswith(" (deleted)") and path.stat().st_size == size:
            return path
    raise AssertionError(f"worker {pid} has no ledger open")
