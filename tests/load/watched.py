"""The run "watched": what it costs those who work that somebody looks, while thousands of clients do nothing.

Some clients run a statement every tenth of a second, first by themselves, then while psql asks the console for its
largest tables one after the other. Each table is held against what is known to be there.
"""

import asyncio
import csv
import os
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from middleware.sandbox import Sandbox
from middleware.sandbox.environment import SUPERUSER
from tests.conftest import Endpoint, pointsman
from tests.load.client import Account, Client, all_gone, log_in_all
from tests.load.result import Result, Say

TABLES: Final = ("CLIENTS", "POOLS", "LISTS", "STATS")
PERIOD_S: Final = 0.1
"""Between two statements of one client."""
SPARE: Final = 50
SETTLE_S: Final = 20.0
"""For what was counted to be reported."""
POLL_S: Final = 0.2


class Plan(msgspec.Struct, frozen=True):
    """One run."""

    variant: str
    clients: int
    """Who do nothing."""
    working: int
    seconds: float
    """Without anybody looking, and again with."""
    workers: int = 2
    build: Path | None = None


def watched(cluster: Sandbox, plan: Plan, say: Say) -> Result:
    """Run it, and say how it went."""
    with tempfile.TemporaryDirectory() as directory:
        instance = pointsman(
            cluster,
            Path(directory),
            workers=plan.workers,
            max_client_conn=plan.clients + plan.working + SPARE,
            stats_users=[SUPERUSER],
        )
        instance.build = plan.build
        with instance as endpoint:
            monitor = endpoint._replace(user=SUPERUSER, password=cluster.passwords[SUPERUSER], database="pgbouncer")
            return uvloop.run(_Run(plan, endpoint, monitor, say).run())


class _Run:
    def __init__(self, plan: Plan, endpoint: Endpoint, monitor: Endpoint, say: Say) -> None:
        self._plan: Final = plan
        self._endpoint: Final = endpoint
        self._monitor: Final = monitor
        self._say: Final = say
        self._queries = 0
        self._failures: Final[list[str]] = []

    async def run(self) -> Result:
        plan, endpoint = self._plan, self._endpoint
        account = Account(endpoint.host, endpoint.port, endpoint.user, endpoint.database, endpoint.password)
        clients = await log_in_all([account] * (plan.clients + plan.working))
        self._queries = len(clients)
        self._say(f"{plan.variant}: {plan.clients} clients are here, and {plan.working} begin to work")
        working = clients[:: max(1, len(clients) // plan.working)][: plan.working]
        alone = await self._work(working, time.monotonic() + plan.seconds)
        self._say(f"{plan.variant}: now somebody looks")
        until = time.monotonic() + plan.seconds
        looking = asyncio.create_task(self._look(until))
        together = await self._work(working, until)
        took = await looking
        await self._check_stats()
        for client in clients:
            client.terminate()
        await all_gone(clients)
        figures: dict[str, float] = {"clients": plan.clients, "working": plan.working}
        for table, times in took.items():
            figures |= {f"SHOW {table} p50, ms": _ms(times, 0.5), f"SHOW {table} max, ms": _ms(times, 1)}
        for name, latencies in (("alone", alone), ("looked at", together)):
            for share, called in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (1, "max")):
                figures[f"statement {called}, ms, {name}"] = _ms(latencies, share)
        return Result("watched", plan.variant, figures, self._failures)

    # Who works

    async def _work(self, clients: list[Client], until: float) -> list[float]:
        """How long each statement took, in seconds."""
        took: list[float] = []
        await asyncio.gather(*[self._ask_often(client, until, took) for client in clients])
        return took

    async def _ask_often(self, client: Client, until: float, took: list[float]) -> None:
        await asyncio.sleep(random.random() * PERIOD_S)
        while (began := time.monotonic()) < until:
            answer = await client.query(b"SELECT 1")
            took.append(time.monotonic() - began)
            self._queries += 1
            if answer.error or answer.row != (b"1",):
                self._failures.append(f"a statement was answered {answer}")
            await asyncio.sleep(max(0.0, PERIOD_S - took[-1]))

    # Who looks

    async def _look(self, until: float) -> dict[str, list[float]]:
        """How long psql took for each table, its login and all."""
        took: dict[str, list[float]] = {table: [] for table in TABLES}
        while time.monotonic() < until:
            for table, times in took.items():
                began = time.monotonic()
                told = await self._show(table)
                times.append(time.monotonic() - began)
                self._check(table, told)
        return took

    async def _show(self, table: str) -> bytes:
        command = ["psql", "-X", "--csv", self._monitor.conninfo(), "-c", f"SHOW {table}"]
        psql = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PSQLRC": os.devnull}
        )
        told, _ = await psql.communicate()
        if psql.returncode:
            self._failures.append(f"SHOW {table} has failed")
        return told

    def _check(self, table: str, told: bytes) -> None:
        """The numbers are those of clients that are here."""
        here = self._plan.clients + self._plan.working
        if table == "CLIENTS":
            # Not read as CSV: it would keep those who work waiting.
            who = f"\nC,{self._endpoint.user},{self._endpoint.database},"
            found, expected = told.count(who.encode()), here
        elif table == "POOLS":
            row = self._row(told, "database", self._endpoint.database)
            found, expected = int(row["cl_active"]) + int(row["cl_waiting"]), here
        elif table == "LISTS":
            # With the one that asks, and maybe with the last one, which has not been seen to go.
            found = int(self._row(told, "list", "used_clients")["items"])
            expected = min(max(found, here + 1), here + 2)
        else:
            count = int(self._row(told, "database", self._endpoint.database)["total_query_count"])
            # Workers report once a second, and an answer may have been counted that has not arrived.
            found, expected = min(count, self._queries + self._plan.working), count
        if found != expected:
            self._failures.append(f"SHOW {table}: {found} instead of {expected}")

    async def _check_stats(self) -> None:
        """What was counted is what was asked."""
        until = time.monotonic() + SETTLE_S
        while True:
            row = self._row(await self._show("STATS"), "database", self._endpoint.database)
            found = int(row["total_query_count"])
            if found == self._queries:
                return
            if time.monotonic() > until:
                self._failures.append(f"SHOW STATS: {found} queries of {self._queries}")
                return
            await asyncio.sleep(POLL_S)

    def _row(self, told: bytes, column: str, value: str) -> Mapping[str, str]:
        return next(row for row in csv.DictReader(told.decode().splitlines()) if row[column] == value)


def _ms(seconds: list[float], share: float) -> float:
    """Of so many the longest, in milliseconds."""
    return 1000 * sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]
