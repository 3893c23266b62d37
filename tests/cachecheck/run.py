"""One load from beginning to end, on a cluster of its own: tables, Pointsmans, clients, disturbance, and the check."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from middleware.sandbox import Sandbox
from tests.cachecheck.checker import Findings, check
from tests.cachecheck.clients import Reader, Writer, client
from tests.cachecheck.disturbance import SETTLING, Disturbance
from tests.cachecheck.history import DIRECT
from tests.cachecheck.hits import Hits, added, hits
from tests.cachecheck.plan import Plan, Watch
from tests.cachecheck.plant import planted
from tests.cachecheck.session import Session
from tests.cachecheck.world import Spot, World, schema, spots
from tests.conftest import pointsman
from tests.consistency.drivers import CONNECTS, Connect

NAMES: Final = ("one", "two", "three", "four")
"""Of Pointsmans."""
WRITERS_SHARE: Final = 0.4
REPLAY_TIMEOUT_S: Final = 60.0
PUBLICATION: Final = "CREATE PUBLICATION pointsman_cache FOR ALL TABLES"
REPLICATION: Final = "ALTER ROLE pointsman REPLICATION"


class Run(NamedTuple):
    """What has come of it."""

    plan: Plan
    findings: Findings
    world: World
    disturbance: Disturbance
    hits: Hits | None
    """None where there is no cache."""
    took_s: float


def run(cluster: Sandbox, directory: Path, plan: Plan, progress: Callable[[float], None] = lambda _: None) -> Run:
    """Run a load on a cluster that has nothing but a user and a database; it is left with the load's tables."""
    rng = random.Random(plan.seed)
    instances = NAMES[: plan.instances]
    all_spots = spots(cluster.version, [*instances, *([DIRECT] if plan.out_of_band else [])])
    if plan.watch is Watch.LOGICAL:
        cluster.query(f"{REPLICATION}; {PUBLICATION}")
    cluster.query(schema(all_spots) + SETTLING, user=cluster.user)
    cluster.wait_for_replay(REPLAY_TIMEOUT_S)
    with ExitStack() as running:
        running.enter_context(planted(plan.plant))
        endpoints = {}
        for name in instances:
            own = directory / name
            own.mkdir()
            endpoints[name] = running.enter_context(
                pointsman(cluster, own, control_socket=str(own / "control"), **plan.settings())
            )
        began = time.monotonic()

        def done(operations: int) -> float:
            by_count = operations / plan.operations if plan.operations else 0.0
            by_time = (time.monotonic() - began) / plan.seconds if plan.seconds else 0.0
            progress(min(1.0, max(by_count, by_time)))
            return max(by_count, by_time)

        world = World(cluster, endpoints, all_spots, random.Random(rng.getrandbits(64)), done, plan.tell)
        disturbance = Disturbance(cluster, world, endpoints, random.Random(rng.getrandbits(64)), plan.lag)
        uvloop.run(_work(world, disturbance, all_spots, plan, rng))
        counted = [hits(directory / name / "pointsman.toml") for name in instances] if plan.cache else []
        took_s = time.monotonic() - began
    findings = check(world.history, plan.promises())
    return Run(plan, findings, world, disturbance, added(counted) if counted else None, took_s)


async def _work(
    world: World, disturbance: Disturbance, all_spots: dict[Spot, str], plan: Plan, rng: random.Random
) -> None:
    gids = itertools.count(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(disturbance.run(plan.failovers, plan.worker_kills))
        for instance, number, writes in _places(world, plan):
            own = _shares([spot for spot, where in all_spots.items() if where == instance], plan, instance, number)
            chosen = random.Random(rng.getrandbits(64))
            connects = _turned(CONNECTS, number)

            def work(session: Session, own: Sequence[Spot] = own, writes: bool = writes) -> Reader:
                return Writer(session, own, gids) if writes and own else Reader(session)

            group.create_task(client(world, connects, instance, chosen, work))


def _places(world: World, plan: Plan) -> list[tuple[str, int, bool]]:
    """Of each client: its instance, its number there, and whether it writes."""
    instances = world.instances()
    each = max(2, plan.clients // len(instances))
    writers = _writers(plan, instances[0])
    places = [(name, number, number < writers) for name in instances for number in range(each)]
    return places + [(DIRECT, number, True) for number in range(plan.out_of_band)]


def _writers(plan: Plan, instance: str) -> int:
    if instance == DIRECT:
        return plan.out_of_band
    return max(1, round(max(2, plan.clients // plan.instances) * WRITERS_SHARE))


def _shares(of_instance: list[Spot], plan: Plan, instance: str, number: int) -> list[Spot]:
    """The registers that one of an instance's clients writes, and nobody else."""
    writers = _writers(plan, instance)
    return of_instance[number::writers] if number < writers else []


def _turned(connects: Sequence[Connect], number: int) -> list[Connect]:
    """Each client begins with another driver."""
    at = number % len(connects)
    return [*connects[at:], *connects[:at]]
