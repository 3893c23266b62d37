"""The run "idle": what a client costs that has logged in, has run a statement, and does nothing.

Only the workers are looked at, by what the operating system says of them. The clients come and go twice: what is kept
for those who have gone would show in the second rest.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import psutil
import uvloop

from middleware.sandbox import Sandbox
from tests.conftest import pointsman
from tests.load import rest
from tests.load.client import Account, Client, log_in_all
from tests.load.footprint import Footprint, footprint
from tests.load.result import Result, Say

WARM_UP: Final = 200
CLIENT_MAX_KB: Final = 25
KEPT_MAX_KB: Final = 0.5
GROWTH_KB: Final = 250.0
"""By how much workers may grow meanwhile through no client's doing."""
"""Of a client that has gone, by the second time."""
IDLE_TIMEOUT_S: Final = 3600
"""So that all clients are looked at each second, as they are where a timeout is set."""
SETTLE_S: Final = 1.0
"""For those who have gone to be gone."""

RSS: Final = "RSS of a client, kB"
PSS: Final = "PSS of a client, kB"
KEPT: Final = "kept of each that has gone, kB"


class Plan(msgspec.Struct, frozen=True):
    """One run."""

    variant: str
    clients: int
    watch_s: float
    """How long the CPU of the workers is watched, without clients and with them."""
    workers: int = 1
    build: Path | None = None


def idle(cluster: Sandbox, plan: Plan, say: Say) -> Result:
    """Run it, and say how it went."""
    with tempfile.TemporaryDirectory() as directory:
        instance = pointsman(
            cluster,
            Path(directory),
            workers=plan.workers,
            max_client_conn=plan.clients + WARM_UP,
            client_idle_timeout=IDLE_TIMEOUT_S,
        )
        instance.build = plan.build
        with instance as endpoint:
            workers = endpoint.workers()
            descriptors = footprint(workers).descriptors
            account = Account(endpoint.host, endpoint.port, endpoint.user, endpoint.database, endpoint.password)
            seen = uvloop.run(_come_and_go(account, workers, plan, say))
            failures = rest.faults(cluster, workers, descriptors)
    figures = seen.figures(plan.clients)
    if figures[PSS] > CLIENT_MAX_KB or figures[RSS] > CLIENT_MAX_KB:
        failures.append(f"a client costs more than {CLIENT_MAX_KB} kB")
    if figures[KEPT] > KEPT_MAX_KB + GROWTH_KB / figures["clients"]:
        failures.append(f"{figures[KEPT]:.2f} kB are kept of each client that has gone")
    return Result("idle", plan.variant, figures, failures)


class Seen(msgspec.Struct, frozen=True):
    """The workers in turn: without clients, with them, without, with them again, without."""

    empty: Footprint
    full: Footprint
    left: Footprint
    full_again: Footprint
    left_again: Footprint
    cpu_empty_ms: float
    """In a second, as all CPU here."""
    cpu_full_ms: float
    kernel_kb: float
    """What the kernel keeps for all, at both ends."""

    def figures(self, clients: int) -> dict[str, float]:
        return {
            "clients": clients,
            RSS: (self.full.rss - self.empty.rss) / clients / 1024,
            PSS: (self.full.pss - self.empty.pss) / clients / 1024,
            "USS of a client, kB": (self.full.uss - self.empty.uss) / clients / 1024,
            "kernel's memory for both ends, kB": self.kernel_kb / clients,
            "workers without clients, USS, MB": self.empty.uss / 1e6,
            "workers with them, USS, MB": self.full.uss / 1e6,
            KEPT: (self.left_again.uss - self.left.uss) / clients / 1024,
            "workers' CPU without clients, ms/s": self.cpu_empty_ms,
            "workers' CPU with them idle, ms/s": self.cpu_full_ms,
            "workers' CPU for a login and a statement, µs": (self.full_again.cpu_s - self.left.cpu_s) / clients * 1e6,
        }


async def _come_and_go(account: Account, workers: list[psutil.Process], plan: Plan, say: Say) -> Seen:
    async def come(clients: int) -> Footprint:
        here.extend(await log_in_all([account] * clients))
        return footprint(workers)

    async def go() -> Footprint:
        while here:
            here.pop().terminate()
        await asyncio.sleep(SETTLE_S)
        return footprint(workers)

    async def watch() -> float:
        before, began = footprint(workers), time.monotonic()
        await asyncio.sleep(plan.watch_s)
        return 1000 * (footprint(workers).cpu_s - before.cpu_s) / (time.monotonic() - began)

    here: list[Client] = []
    # What a worker has only once: the first clients bring it.
    await come(WARM_UP)
    empty = await go()
    cpu_empty_ms = await watch()
    kernel_kb = _slab_kb()
    full = await come(plan.clients)
    kernel_kb = _slab_kb() - kernel_kb
    say(f"{plan.variant}: {plan.clients} clients are here")
    cpu_full_ms = await watch()
    left = await go()
    say(f"{plan.variant}: they have gone")
    full_again = await come(plan.clients)
    left_again = await go()
    say(f"{plan.variant}: they have come and gone again")
    return Seen(empty, full, left, full_again, left_again, cpu_empty_ms, cpu_full_ms, kernel_kb)


def _slab_kb() -> float:
    """The kernel's memory for its objects, sockets among them; of the whole machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Slab:")))
