"""Whether a transaction that was decoded can be seen by others yet.

Its commit record is written, and may be decoded, before it is taken off the list of those in progress: between the two
its backend waits for synchronous standbys, for hours if need be. A statement that begins meanwhile does not see it, so
what such a statement has read is out of date once it does end.
"""

from typing import Final, Self

import msgspec

_XID_BITS: Final = 32
_HALF: Final = 1 << (_XID_BITS - 1)


class Snapshot(msgspec.Struct, frozen=True):
    """As pg_current_snapshot() tells it: 64-bit ids of transactions, subtransactions left out."""

    xmin: int
    """All below have ended."""
    xmax: int
    """None from here on has."""
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """`xmin:xmax:xip,xip`."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, running.split(","))) if running else frozenset())

    def ended(self, xid: int) -> bool:
        """Whether a statement that takes this snapshot sees what the transaction has done; `xid` has 32 bits."""
        whole = self.xmax - (self.xmax - xid) % (1 << _XID_BITS)
        # The nearest to xmax with these bits: it may be above.
        if self.xmax - whole >= _HALF:
            whole += 1 << _XID_BITS
        return whole < self.xmax and whole not in self.running
