"""All workers of a Pointsman: what is told to each of them, how they are, and their common end.

In: what Worker needs of who has them, for each. Out: as long as `run` runs, each has a process, until it has drained or
`kill` was called.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

import anyio

from middleware.control import Down, Drain, Up
from middleware.supervisor.workers import EXIT_GRACE_S, Worker, WorkerLife

DRAIN_GRACE_S: Final = 2 * EXIT_GRACE_S
"""Beyond shutdown_timeout, for a worker to close what is left, say Drained and exit."""


class Crew:
    """Those of one."""

    def __init__(
        self,
        count: int,
        command: Sequence[str],
        inherited: Callable[[], Sequence[int]],
        greeting: Callable[[int], list[Down]],
        heard: Callable[[int, Down | Up], None],
        ended: Callable[[int], None],
    ) -> None:
        """As for Worker."""
        self.workers: Final = [Worker(index, command, inherited, greeting, heard, ended) for index in range(count)]
        self._scope = anyio.CancelScope()

    def running(self) -> list[int]:
        """Those that have a process."""
        return [one.index for one in self.workers if one.pid is not None]

    def pids(self) -> tuple[int | None, ...]:
        """The process of each, None while it has none."""
        return tuple(worker.pid for worker in self.workers)

    def lives(self) -> tuple[WorkerLife, ...]:
        """How each one's process is."""
        return tuple(worker.life() for worker in self.workers)

    def tell(self, worker: int, message: Down) -> None:
        """To one of them."""
        self.workers[worker].send(message)

    def tell_all(self, message: Down) -> None:
        for worker in self.workers:
            worker.send(message)

    async def ready(self) -> None:
        """Until each has accepted clients."""
        for worker in self.workers:
            await worker.ready.wait()

    async def run(self, until_others_end: Callable[[], Awaitable[None]]) -> Literal["", "workers", "others"]:
        """Until all have drained, and others have ended that are waited for then; whose end was not waited for after
        all. Cancelled, it kills them."""
        cut_short: Literal["workers", "others"] = "workers"
        with self._scope:
            async with anyio.create_task_group() as tasks:
                for worker in self.workers:
                    tasks.start_soon(worker.run)
            cut_short = "others"
            await until_others_end()
        return cut_short if self._scope.cancelled_caught else ""

    def drain(self, order: Drain) -> None:
        """Give them their last order; where it says how long that may take, `kill` when it takes longer."""
        for worker in self.workers:
            worker.drain(order)
        if not order.wait_for:
            self._scope.deadline = anyio.current_time() + order.timeout_s + DRAIN_GRACE_S

    def kill(self) -> None:
        """At once, and wait for nobody else."""
        self._scope.cancel()
