"""What stands where in the memory that the workers share, a file without a name that all have inherited."""

from typing import Final

from middleware.pool.ledger import bytes_for
from middleware.relay.freshness import BYTES_PER_WORKER

LEDGER_OFFSET: Final = 4096
"""The commits of as many workers as there may be stand in front of it; a multiple of the page size."""


def shared_bytes(workers: int) -> int:
    """The size of it all."""
    assert workers * BYTES_PER_WORKER <= LEDGER_OFFSET
    return LEDGER_OFFSET + bytes_for(workers)
