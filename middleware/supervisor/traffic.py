"""What clients have under way at a node that is draining, over all workers.

In: what workers report (control.Leases), and that one has ended. Out: the moment at which all go by a topology and
nothing is under way any more. A worker that is started meanwhile is told of the topology before it takes clients.
"""

from collections.abc import Callable, Collection
from typing import Final

import anyio

from middleware.control import Leases


class DrainingTraffic:
    """`running`: the indexes of the workers that have a process."""

    def __init__(self, running: Callable[[], Collection[int]]) -> None:
        self._running: Final = running
        self._reported: Final[dict[int, Leases]] = {}
        self._changed = anyio.Event()

    def reported(self, worker: int, leases: Leases) -> None:
        """A worker tells of its own."""
        self._reported[worker] = leases
        self._tell()

    def ended(self, worker: int) -> None:
        """Its process is gone, and so is what its clients had under way."""
        self._reported.pop(worker, None)
        self._tell()

    async def at_rest(self, version: int) -> int:
        """Until all workers go by topology `version` and nothing is under way; returns how many servers are lent to
        clients that have left their state there."""
        while True:
            changed = self._changed
            known = [self._reported.get(worker) for worker in self._running()]
            if all(one is not None and one.version >= version and not one.busy for one in known):
                return sum(one.resting for one in known if one is not None)
            await changed.wait()

    def under_way(self) -> str:
        """What has not ended, in words."""
        silent = [worker for worker in self._running() if worker not in self._reported]
        if silent:
            return f"workers have not answered: {', '.join(map(str, silent))}"
        return f"transactions or statements have not ended: {sum(one.busy for one in self._reported.values())}"

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
