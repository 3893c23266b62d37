"""What stands where in the memory that the workers share, a file without a name that all have inherited."""

from typing import Final

from middleware.cache import versions
from middleware.pool import ledger
from middleware.relay.freshness import BYTES_PER_WORKER

PAGE_BYTES: Final = 4096
LEDGER_OFFSET: Final = PAGE_BYTES
"""The commits of as many workers as there may be stand in front of it; a multiple of the page size."""


def versions_offset(workers: int) -> int:
    """Where the tables' versions begin: behind the ledger."""
    return -(-(LEDGER_OFFSET + ledger.bytes_for(workers)) // PAGE_BYTES) * PAGE_BYTES


def shared_bytes(workers: int) -> int:
    """The size of it all."""
    assert workers * BYTES_PER_WORKER <= LEDGER_OFFSET
    return versions_offset(workers) + versions.bytes_for(workers)
