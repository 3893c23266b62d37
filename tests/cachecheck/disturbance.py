"""What happens to the world meanwhile: standbys lag, primaries are killed, workers are killed.

Failovers and kills come at fixed parts of the load, whatever its length.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from typing import Final

import asyncpg
import psutil

from middleware.sandbox import Sandbox, SandboxNode
from tests.cachecheck.connections import FAILURES
from tests.cachecheck.history import Failover
from tests.cachecheck.world import SUPERUSER, World
from tests.conftest import Endpoint
from tests.consistency.lag import Lag

LOOK_S: Final = 0.05
AT_THE_END: Final = 2.0
"""Of the load: it has stopped before."""
BEHIND_S: Final = 0.3
"""For so long standbys get nothing before the primary is killed: what it commits meanwhile is lost."""
SETTLE_TIMEOUT_S: Final = 60.0
SETTLE_WRITE_TIMEOUT_S: Final = 10.0
SETTLING: Final = "CREATE TABLE settling (n bigint)"
SETTLE: Final = "INSERT INTO settling VALUES (1)"


class Disturbance:
    """One thing after another, until the load stops."""

    def __init__(
        self, cluster: Sandbox, world: World, endpoints: Mapping[str, Endpoint], rng: random.Random, lagging: bool
    ) -> None:
        self.paused_s: Final[dict[str, float]] = {}
        self.pauses = 0
        self.workers_killed = 0
        self._cluster: Final = cluster
        self._world: Final = world
        self._endpoints: Final = endpoints
        self._rng: Final = rng
        self._lagging: Final = lagging

    async def run(self, failovers: int, worker_kills: int) -> None:
        """Failovers and kills, each at its part of the load, and lag in between."""
        acts = [((number + 1) / (failovers + 1), True) for number in range(failovers)]
        acts += [((number + 0.5) / worker_kills, False) for number in range(worker_kills)]
        for part, is_failover in sorted(acts):
            await self._lag_until(part)
            if self._world.stop.is_set():
                return
            if is_failover:
                await self._fail_over()
            else:
                self._kill_worker()
        await self._lag_until(AT_THE_END)

    async def _lag_until(self, part: float) -> None:
        """Standbys' replay is paused and resumed until that part of the load is done."""
        stop = asyncio.Event()
        lag = Lag(self._cluster, self._rng) if self._lagging and self._cluster.standbys else None
        task = asyncio.create_task(lag.run(stop)) if lag else None
        try:
            while not self._world.stop.is_set() and self._world.progress() < part:
                await asyncio.sleep(LOOK_S)
        finally:
            stop.set()
            if task and lag:
                await task
                self.pauses += lag.pauses
                for name, seconds in lag.paused_s.items():
                    self.paused_s[name] = self.paused_s.get(name, 0.0) + seconds

    def _kill_worker(self) -> None:
        """kill -9, with whatever it has under way."""
        endpoint = self._rng.choice(list(self._endpoints.values()))
        # The one killed before may still be among them, or not be replaced yet.
        workers = [worker for worker in endpoint.workers() if worker.status() != psutil.STATUS_ZOMBIE]
        if workers:
            self._rng.choice(workers).kill()
            self.workers_killed += 1

    async def _fail_over(self) -> None:
        cluster = self._cluster
        old, new = cluster.primary, self._rng.choice(cluster.standbys)
        _stop_sending(old)
        await asyncio.sleep(BEHIND_S)
        killed = time.monotonic()
        await asyncio.to_thread(old.kill)
        await asyncio.to_thread(cluster.promote, new.name)
        base = await self._world.base()
        await self._world.resolve_all()
        await self._settle()
        self._world.history.failovers.append(Failover(killed, time.monotonic(), base))
        await asyncio.to_thread(cluster.rejoin, old.name, new.name)

    async def _settle(self) -> None:
        """Until something was written through each Pointsman."""
        until = time.monotonic() + SETTLE_TIMEOUT_S
        for endpoint in self._endpoints.values():
            while not await _written(endpoint):
                assert time.monotonic() < until, "the new primary was not written to in time"
                await asyncio.sleep(LOOK_S)


def _stop_sending(primary: SandboxNode) -> None:
    """Let its standbys get nothing more. They themselves would still find what lies in their sockets."""
    assert primary.pid is not None
    for process in psutil.Process(primary.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # a backend that ends just now
            if any(f"walsender {SUPERUSER} " in word for word in process.cmdline()):
                process.suspend()


async def _written(endpoint: Endpoint) -> bool:
    with contextlib.suppress(*FAILURES):
        connection = await asyncpg.connect(endpoint.url(), timeout=SETTLE_WRITE_TIMEOUT_S)
        try:
            await connection.execute(SETTLE, timeout=SETTLE_WRITE_TIMEOUT_S)
            return True
        finally:
            connection.terminate()
    return False
