"""Connections to one node that are being opened by a worker: a bounded number at once, and pools take turns.

Without a bound a node that comes back after a failure gets as many logins at once as there are places in all pools, and
they all time out. Without turns the pool that asks first would have all of them.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from middleware.session.tally import Timing

if TYPE_CHECKING:
    from middleware.pool.pool import Pool


class Logins:
    """One node's."""

    __slots__ = ("_max", "_turns", "failed", "in_flight", "took")

    def __init__(self, count_max: int) -> None:
        self._max = count_max
        self.in_flight = 0
        self._turns: Final[deque[Pool]] = deque()
        """Pools that have more to open, each once."""
        self.failed = 0
        self.took: Final = Timing()
        """Those that came to something, from before the connection was made."""

    def may_begin(self, pool: "Pool") -> bool:
        """Whether `pool` may begin to open a server now; if not, it is asked again when it is its turn."""
        if self.in_flight < self._max:
            return True
        if pool not in self._turns:
            self._turns.append(pool)
        return False

    def begin(self) -> None:
        """An opening has begun."""
        self.in_flight += 1

    def fail(self, now: float) -> None:
        """An opening has come to nothing."""
        self.failed += 1
        self.end(now)

    def end(self, now: float) -> None:
        """An opening is over, whatever came of it."""
        self.in_flight -= 1
        self._go_on(now)

    def use(self, count_max: int, now: float) -> None:
        """So many at once from now on."""
        self._max = count_max
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """It may be the turn of those who wait."""
        for _ in range(len(self._turns)):
            if self.in_flight >= self._max:
                return
            self._turns.popleft().open_one(now)
