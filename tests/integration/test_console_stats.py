"""SHOW STATS and its kin through the console: what is known to have gone through two workers, to the byte."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from middleware.admin.columns import COLUMNS
from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

CROWD: Final = 100
SIMPLE: Final = 10
TRANSACTIONS: Final = 2
EXECUTIONS: Final = 5
LOAD: Final = {
    "xact_count": SIMPLE + TRANSACTIONS + 1 + EXECUTIONS,
    "query_count": SIMPLE + TRANSACTIONS * 3 + 1 + EXECUTIONS,
    "client_parse_count": 1,
    "bind_count": EXECUTIONS,
}
"""What `load` comes to: psycopg prepares a statement in a batch of its own."""
COUNTS: Final = [column.name for column in COLUMNS["stats_totals"][1:]]
SUMS: Final = (*LOAD, "bytes_received", "bytes_sent", "server_assignment_count")
"""What is the same for each client. Which servers know a statement, and for how long a client waits, is not."""
IN_STATS: Final = {"bytes_received": "total_received", "bytes_sent": "total_sent"}
"""Which SHOW STATS calls otherwise than total_ and the name."""


@pytest.fixture
def served(cluster: Sandbox, tmp_path: Path) -> Iterator[Endpoint]:
    """Two workers through which nothing has gone."""
    with pointsman(cluster, tmp_path, workers=2, default_pool_size=10, stats_users=["postgres"]) as running:
        yield running


@pytest.fixture
def console(served: Endpoint, cluster: Sandbox) -> Iterator[psycopg.Connection[Any]]:
    monitor = served._replace(user="postgres", password=cluster.passwords["postgres"], database="pgbouncer")
    with psycopg.connect(monitor.conninfo(), autocommit=True, row_factory=psycopg.rows.dict_row) as client:
        yield client


def show(console: psycopg.Connection[Any], what: str) -> dict[str, dict[str, Any]]:
    """The rows by their first column."""
    rows = console.execute(f"SHOW {what}".encode()).fetchall()
    return {next(iter(row.values())): row for row in rows}


def load(client: psycopg.Connection[Any]) -> None:
    for _ in range(SIMPLE):
        client.execute("SELECT 1", prepare=False)
    for _ in range(TRANSACTIONS):
        with client.transaction():
            client.execute("SELECT 2")
    for _ in range(EXECUTIONS):
        client.execute("SELECT %s::int", (3,), prepare=True)


def test_a_hundred_clients_are_a_hundred_times_one(served: Endpoint, console: psycopg.Connection[Any]) -> None:
    """They run at once, on both workers; meanwhile what is shown rises, and never above what it comes to."""

    def counted() -> dict[str, int]:
        row = show(console, "STATS_TOTALS").get(served.database, {})
        return {name: int(row.get(name, 0)) for name in SUMS}

    def settled(clients: int) -> bool:
        return all(counted()[name] >= LOAD[name] * clients for name in LOAD)

    with psycopg.connect(served.conninfo(), autocommit=True) as client:
        load(client)
    eventually(lambda: settled(1))
    one = counted()
    assert {name: one[name] for name in LOAD} == LOAD

    ready = threading.Barrier(CROWD)

    def run() -> int:
        with psycopg.connect(served.conninfo(), autocommit=True) as client:
            ready.wait(60)
            load(client)
            return client.info.backend_pid >> 20

    bound = {name: (1 + CROWD) * one[name] for name in SUMS}
    seen = [one]
    with ThreadPoolExecutor(CROWD) as threads:
        running = [threads.submit(run) for _ in range(CROWD)]
        while not all(one.done() for one in running):
            seen.append(counted())
        workers = {one.result() for one in running}
    assert workers == {0, 1}
    eventually(lambda: settled(1 + CROWD))
    seen.append(counted())
    for name in SUMS:
        assert [one[name] for one in seen] == sorted(one[name] for one in seen), name
    assert seen[-1] == bound

    stats = show(console, "STATS")[served.database]
    assert {name: int(stats[IN_STATS.get(name, f"total_{name}")]) for name in SUMS} == bound
    # Each command of the console's is a query of it.
    totals, rows = show(console, "TOTALS"), show(console, "STATS")
    assert int(totals["total_query_count"]["value"]) == sum(int(row["total_query_count"]) for row in rows.values()) - 1


def test_the_console_has_a_row_before_anything_has_gone_through(
    served: Endpoint, console: psycopg.Connection[Any]
) -> None:
    """As in PgBouncer, each of its commands is a query: to some exporters a table without rows is a failure."""
    first, second = show(console, "STATS_TOTALS"), show(console, "STATS_TOTALS")
    assert list(first) == ["pgbouncer"]
    before, after = first["pgbouncer"], second["pgbouncer"]
    assert {name: int(after[name] - before[name]) for name in COUNTS} == {
        name: int(name in ("xact_count", "query_count")) for name in COUNTS
    }
    assert list(show(console, "STATS")) == list(show(console, "STATS_AVERAGES")) == ["pgbouncer"]
