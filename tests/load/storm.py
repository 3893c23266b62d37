"""The run "storm": thousands of clients over few servers, who leave in every way there is and come again.

Nobody is forgotten or gets an error, no node ever has more connections than the limits say, who waits is served in
turn, and once all have gone nothing is left of them.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.load import rest
from tests.load.client import Account, log_in_all
from tests.load.crowd import Crowd, Tally, Way
from tests.load.footprint import footprint
from tests.load.order import overtaken, percentile
from tests.load.result import Result, Say
from tests.load.witness import Most, Witness, states
from tests.waiting import eventually

SHARED: Final = 0.6
"""The limit of a database or a user, by the size of one of its pools."""
SLACK_S: Final = 0.25
"""Who came later by more than this must not be served earlier. A worker's round is far shorter, the wait far longer."""
NEAR_S: Final = 0.05
"""For the report alone."""
OVERTAKEN_MAX: Final = 0.001
"""The share of those who may be: a loaded machine lets a process wait now and then that has something to do."""
OVERTAKEN_FEW: Final = 5
"""So many may be in a short run: such a wait is seen by several."""
GROWTH_MAX_MB: Final = 16
"""Of a worker's memory, from the rest before to the rest after."""
PROGRESS_S: Final = 5.0
GUEST: Final = "guest"
"""The other user, and the other database."""


class Plan(msgspec.Struct, frozen=True):
    """One storm."""

    variant: str
    clients: int
    seconds: float
    workers: int
    limit: str = "default_pool_size"
    """What keeps servers few: that, "max_db_connections" or "max_user_connections"."""
    seed: int = 1
    build: Path | None = None
    pool_size: int = 20

    def servers_max(self) -> int:
        return self.pool_size if self.limit == "default_pool_size" else int(self.pool_size * SHARED)


def storm(cluster: Sandbox, directory: Path, plan: Plan, say: Say) -> Result:
    """Run one, and say how it went."""
    eventually(lambda: not states(cluster), 30)
    settings: dict[str, int] = {"default_pool_size": plan.pool_size, plan.limit: plan.servers_max()}
    instance = pointsman(cluster, directory, workers=plan.workers, max_client_conn=3 * plan.clients, **settings)
    instance.build = plan.build
    with _guests(cluster, plan), instance as endpoint:
        workers = endpoint.workers()
        descriptors = footprint(workers).descriptors
        accounts = _accounts(cluster, endpoint, plan)
        uvloop.run(_warm_up([account for _, account in accounts], plan.clients))
        failures = [f"before the storm: {fault}" for fault in rest.faults(cluster, workers, descriptors)]
        before = footprint(workers)
        with Witness(cluster) as witness:
            tally = uvloop.run(_run(Crowd(accounts, plan.clients, plan.seed), plan, witness, say))
        failures += rest.faults(cluster, workers, descriptors)
        growth_mb = (footprint(workers).uss - before.uss) / 1e6
    failures += _missed(tally, plan, witness.most, growth_mb / plan.workers)
    failures += _trouble(instance.log())
    return Result("storm", plan.variant, _figures(tally, plan, witness.most, growth_mb), failures)


@contextlib.contextmanager
def _guests(cluster: Sandbox, plan: Plan) -> Iterator[None]:
    """Another user or database, where the plan needs one; and PostgreSQL itself refuses what a user has too many of."""
    user = cluster.user
    if plan.limit == "max_db_connections":
        cluster.passwords[GUEST] = cluster.passwords[user]
        cluster.query(f"CREATE ROLE {GUEST} LOGIN PASSWORD '{cluster.passwords[user]}'")
    elif plan.limit == "max_user_connections":
        cluster.query(f"CREATE DATABASE {GUEST} OWNER {user}")
    cluster.query(f"ALTER ROLE {user} CONNECTION LIMIT {plan.servers_max()}")
    cluster.wait_for_replay(30)
    try:
        yield
    finally:
        eventually(lambda: not states(cluster), 30)
        cluster.query(f"ALTER ROLE {user} CONNECTION LIMIT -1")
        cluster.query(f"DROP DATABASE IF EXISTS {GUEST} WITH (FORCE)")
        cluster.query(f"DROP ROLE IF EXISTS {GUEST}")
        cluster.passwords.pop(GUEST, None)


def _accounts(cluster: Sandbox, endpoint: Endpoint, plan: Plan) -> list[tuple[str, Account]]:
    def account(user: str, database: str) -> tuple[str, Account]:
        found = Account(endpoint.host, endpoint.port, user, database, cluster.passwords[user])
        return f"{user}@{database}", found

    user, database = endpoint.user, endpoint.database
    found = [account(user, database)]
    if plan.limit == "max_db_connections":
        found.append(account(GUEST, database))
    elif plan.limit == "max_user_connections":
        found.append(account(user, GUEST))
    return found


async def _warm_up(accounts: list[Account], clients: int) -> None:
    """All come once, so that what a worker keeps for good is there."""
    for client in await log_in_all([accounts[number % len(accounts)] for number in range(clients)]):
        client.terminate()


async def _run(crowd: Crowd, plan: Plan, witness: Witness, say: Say) -> Tally:
    began = time.monotonic()
    running = asyncio.create_task(crowd.run())
    while not running.done():
        elapsed = time.monotonic() - began
        if elapsed >= plan.seconds:
            crowd.stop()
        await asyncio.wait([running], timeout=min(PROGRESS_S, max(0.1, plan.seconds - elapsed)))
        tally = crowd.tally
        say(
            f"{plan.variant}: {time.monotonic() - began:4.0f} s, {tally.logins} logins, {tally.count()} served, "
            f"{tally.failures.total()} failed, at most {witness.most.of_pool} servers of a pool"
        )
    await running
    return crowd.tally


def _waits(tally: Tally) -> dict[int, list[float]]:
    """How long was waited for a server, sorted, by worker; seconds."""
    found: dict[int, list[float]] = {}
    for (worker, _, _), services in tally.services.items():
        found.setdefault(worker, []).extend(service.began - service.sent for service in services)
    for waits in found.values():
        waits.sort()
    return found


def _missed(tally: Tally, plan: Plan, most: Most, growth_mb: float) -> list[str]:
    found = [f"{count} times: {failure}" for failure, count in tally.failures.items()]
    seen = {
        "default_pool_size": most.of_pool,
        "max_db_connections": most.of_database,
        "max_user_connections": most.of_user,
    }[plan.limit]
    if seen > plan.servers_max() or most.of_pool > plan.pool_size:
        found.append(f"{seen} connections to a node, where {plan.limit} allows {plan.servers_max()}")
    late = sum(overtaken(services, SLACK_S) for services in tally.services.values())
    if late > max(OVERTAKEN_FEW, OVERTAKEN_MAX * tally.count()):
        found.append(f"{late} of {tally.count()} were overtaken by who came more than {SLACK_S:g} s later")
    if growth_mb > GROWTH_MAX_MB:
        found.append(f"a worker has grown by {growth_mb:.1f} MB")
    silent = set(Way) - tally.left.keys()
    if silent or not tally.count():
        found.append(f"too short: nobody has left {', '.join(sorted(silent))}")
    return found


def _trouble(log: str) -> list[str]:
    """Lines of the log that a quiet day has none of."""
    return [line.strip() for line in log.splitlines() if "[error" in line or "could not be opened" in line]


def _figures(tally: Tally, plan: Plan, most: Most, growth_mb: float) -> dict[str, float]:
    by_worker = _waits(tally)
    waits = sorted(wait for waits in by_worker.values() for wait in waits)
    medians = [percentile(one, 0.5) for one in by_worker.values()]
    return {
        "clients": plan.clients,
        "logins": tally.logins,
        "served": len(waits),
        **{f"left {way}": tally.left[way] for way in Way},
        "servers of a pool, at most": most.of_pool,
        "servers of a database, at most": most.of_database,
        "servers of a user, at most": most.of_user,
        "waited p50, ms": 1000 * percentile(waits, 0.5),
        "waited p99, ms": 1000 * percentile(waits, 0.99),
        "waited max, ms": 1000 * percentile(waits, 1.0),
        "slowest worker's p50 by the fastest's": max(medians, default=0.0) / (min(medians, default=0.0) or 1.0),
        f"overtaken by {1000 * NEAR_S:g} ms": sum(overtaken(one, NEAR_S) for one in tally.services.values()),
        f"overtaken by {1000 * SLACK_S:g} ms": sum(overtaken(one, SLACK_S) for one in tally.services.values()),
        "workers' growth, MB": growth_mb,
    }
