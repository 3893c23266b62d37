"""One load from beginning to end: tables, endpoint, clients and lag, over a cluster that is there."""

import asyncio
import random
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.consistency import load
from tests.consistency.lag import Lag
from tests.consistency.tally import Tally

WORKERS: Final = 2
POOL_SIZE: Final = 10
REPLAY_TIMEOUT_S: Final = 60.0


class Level(Enum):
    """The setting `consistency` of the endpoint."""

    SESSION = "session"
    EVENTUAL = "eventual"
    GLOBAL = "global"
    NONE = "none"
    """The setting is left out."""


class Plan(NamedTuple):
    """What to run. The same seed makes the same choices, in an order that is the machine's."""

    level: Level
    pairs: int
    clients: int
    seed: int


def run(cluster: Sandbox, directory: Path, plan: Plan, written: Callable[[], None] = lambda: None) -> tuple[Tally, Lag]:
    """Run the load, calling `written` after each pair; the cluster is left as it was found."""
    settings = {} if plan.level is Level.NONE else {"consistency": plan.level.value}
    cluster.query(load.SCHEMA + load.counters(plan.clients), user=cluster.user)
    try:
        cluster.wait_for_replay(REPLAY_TIMEOUT_S)
        with pointsman(cluster, directory, workers=WORKERS, default_pool_size=POOL_SIZE, **settings) as endpoint:
            return uvloop.run(_run(cluster, endpoint, plan, written))
    finally:
        cluster.query(load.DROP, user=cluster.user)
        cluster.wait_for_replay(REPLAY_TIMEOUT_S)


async def _run(cluster: Sandbox, endpoint: Endpoint, plan: Plan, written: Callable[[], None]) -> tuple[Tally, Lag]:
    rng = random.Random(plan.seed)
    lag = Lag(cluster, random.Random(rng.getrandbits(64)))
    tally = Tally()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(lag.run(stop))
        await load.run(endpoint, plan.pairs, plan.clients, rng, load.Shared(plan.pairs, written), tally)
        stop.set()
    return tally, lag
