"""What clients have under way at nodes that are draining, over all workers.

In: what workers report (control.Leases), and that one has ended. Out: the moment at which all go by a topology and
nothing is under way any more. A worker that is started meanwhile is told of the topology before it takes clients.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

import anyio

from middleware.control import BEFORE, Leases


class AtNode(NamedTuple):
    """What clients have at a node that is draining."""

    silent: tuple[int, ...]
    """Workers that have not said what."""
    busy: int
    resting: int
    servers: int


def names(workers: Sequence[int]) -> str:
    """Workers by their numbers, with commas between."""
    return ", ".join("those of the process before" if one == BEFORE else str(one) for one in workers)


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

    async def at_rest(self, version: int, node: str) -> int:
        """Until all workers go by topology `version` and nothing is under way at a node; returns how many servers are
        lent to clients that have left their state there."""
        while True:
            changed = self._changed
            left = self.left(version, node)
            if not left.silent and not left.busy:
                return left.resting
            await changed.wait()

    async def moved(self) -> None:
        """Until somebody has told of something else."""
        await self._changed.wait()

    def left(self, version: int, node: str) -> AtNode:
        """What clients have there, by workers that go by topology `version`, or a later one."""
        silent: list[int] = []
        busy = resting = servers = 0
        for worker in self._running():
            known = self._reported.get(worker)
            there = None if known is None else next((one for one in known.nodes if one.node == node), None)
            if known is None or known.version < version or there is None:
                silent.append(worker)
            else:
                busy, resting = busy + there.busy, resting + there.resting
                servers += there.servers
        return AtNode(tuple(silent), busy, resting, servers)

    def under_way(self, version: int, node: str) -> str:
        """What has not ended, in words."""
        left = self.left(version, node)
        if left.silent:
            return f"workers have not answered: {names(left.silent)}"
        return f"transactions or statements have not ended: {left.busy}"

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
