"""Processes that follow each other in front of real nodes: what clients see of it, which is nothing."""

import asyncio
import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import asyncpg
import httpx
import psutil
import psycopg
import pytest

from middleware.control import slot_of
from middleware.sandbox import Sandbox
from middleware.sandbox.ports import free_port
from tests.bench.pgbench import Target
from tests.conftest import Endpoint
from tests.etcd import Etcd
from tests.integration.generations import Running, servers
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """One that nobody else uses: connections are counted."""
    with Sandbox(version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


@pytest.fixture
def ledger(cluster: Sandbox) -> Iterator[None]:
    """A table that clients write to."""
    cluster.query("CREATE TABLE ledger (client int, serial int, PRIMARY KEY (client, serial))", user=cluster.user)
    cluster.wait_for_replay()
    yield
    cluster.query("DROP TABLE ledger", user=cluster.user)


class Crowd:
    """Clients of each kind, for as long as their block runs: nothing that they do may fail."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint: Final = endpoint
        self._end: Final = threading.Event()
        self._thread: Final = threading.Thread(target=lambda: asyncio.run(self._all()))
        self.acknowledged: Final[list[tuple[int, int]]] = []
        self.slots: Final[set[int]] = set()
        """Of the workers that have served somebody."""
        self.came = 0
        self.failures: Final[list[str]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def has_come(self, more_than: int) -> bool:
        return self.came > more_than

    async def _all(self) -> None:
        kinds = [*map(self._stays, range(4)), *map(self._comes_and_goes, range(4, 8)), self._pool(8)]
        for done in await asyncio.gather(*kinds, return_exceptions=True):
            if isinstance(done, BaseException):
                self.failures.append(f"{type(done).__name__}: {done}")

    async def _stays(self, client: int) -> None:
        """One that never leaves, in transactions of several statements."""
        connection = await self._asyncpg()
        serial = 0
        while not self._end.is_set():
            async with connection.transaction():
                await connection.execute("INSERT INTO ledger VALUES ($1, $2)", client, serial)
                await asyncio.sleep(0.01)
                assert await connection.fetchval("SELECT count(*) FROM ledger WHERE client = $1", client) == serial + 1
            self.acknowledged.append((client, serial))
            serial += 1
        await connection.close()

    async def _comes_and_goes(self, client: int) -> None:
        serial = 0
        while not self._end.is_set():
            connection = await psycopg.AsyncConnection.connect(self._endpoint.conninfo())
            self.slots.add(slot_of(connection.info.backend_pid))
            async with connection:
                await connection.execute("INSERT INTO ledger VALUES (%s, %s)", (client, serial))
            self.acknowledged.append((client, serial))
            serial += 1
            self.came += 1
            await asyncio.sleep(0.01)

    async def _pool(self, client: int) -> None:
        """Connections that are replaced when they have been used for a while, as pools do."""
        dsn = self._endpoint.url()
        async with asyncpg.create_pool(dsn, min_size=2, max_size=4, max_queries=20) as pool:
            for serial in range(1_000_000):
                if self._end.is_set():
                    return
                await pool.execute("INSERT INTO ledger VALUES ($1, $2)", client, serial)
                self.acknowledged.append((client, serial))
                assert await pool.fetchval("SELECT 1") == 1

    async def _asyncpg(self) -> Any:
        return await asyncpg.connect(self._endpoint.url())


@contextlib.contextmanager
def pgbench(cluster: Sandbox, endpoint: Endpoint) -> Iterator[list[str]]:
    """PostgreSQL's own load, whose clients connect anew for each transaction; yields what went wrong."""
    failures: list[str] = []
    end = threading.Event()

    def run_on() -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write("BEGIN;\nSELECT count(*) FROM pg_class;\nEND;\n")
            script.flush()
            while not end.is_set():
                command = [str(cluster.program("pgbench")), "-n", "-C", "-c", "2", "-T", "2", "-f", script.name]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
                if done.returncode or "number of failed transactions: 0" not in done.stdout:
                    failures.append(done.stdout + done.stderr)

    target = Target(endpoint.host, endpoint.port, endpoint.user, endpoint.password, endpoint.database)
    environment = target.environment()
    thread = threading.Thread(target=run_on)
    thread.start()
    try:
        yield failures
    finally:
        end.set()
        thread.join(120)


@pytest.mark.usefixtures("ledger")
def test_three_restarts_under_load_cost_nobody_anything(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path, workers=2, default_pool_size=6, unix_socket_dir=str(tmp_path)) as running:
        with pgbench(cluster, running.endpoint) as failures, Crowd(running.endpoint) as crowd:
            eventually(lambda: crowd.came > 5, 30)
            serving = set()
            for workers in (1, 3, 2):
                running.change("workers", workers)
                serving.add(running.restart())
                assert len(running.status()["workers"]) == workers
                came = crowd.came
                eventually(functools.partial(crowd.has_come, came + 5), 30)
            assert len(serving) == 3
            # The first still serves those that stay, and is reached through the ones in between.
            assert running.status()["clients_before"] >= 4
        assert crowd.failures == []
        assert failures == []
        written = {(int(client), int(serial)) for client, serial in cluster.query("SELECT client, serial FROM ledger")}
        assert sorted(written) == sorted(crowd.acknowledged)
        assert len(crowd.slots) >= 4
        eventually(lambda: running.status()["clients_before"] == 0, 30)
        eventually(lambda: "alone" in running.happened(), 30)
    assert "Traceback" not in running.log()


def test_metrics_are_of_the_one_that_serves_and_say_who_is_left(cluster: Sandbox, tmp_path: Path) -> None:
    port = free_port()

    def measured(name: str) -> float:
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=20, trust_env=False).text
        return sum(float(line.split()[-1]) for line in page.splitlines() if re.match(rf"{name}[{{ ]", line))

    with Running(cluster, tmp_path, http_port=port) as running, running.connect() as old:
        for _ in range(20):
            old.execute("SELECT 1")
        eventually(lambda: measured("pointsman_queries_total") >= 20, 30)
        assert (measured("pointsman_clients"), measured("pointsman_clients_before")) == (1, 0)
        running.restart()
        with running.connect() as new:
            new.execute("SELECT 1")
            eventually(lambda: measured("pointsman_clients") == measured("pointsman_clients_before") == 1, 30)
            for _ in range(20):
                old.execute("SELECT 1")
            new.execute("SELECT 1")
            eventually(lambda: measured("pointsman_queries_total") >= 2, 30)
            # It begins anew, and what the other's client does is not in it.
            assert measured("pointsman_queries_total") < 20
            old.close()
            eventually(lambda: measured("pointsman_clients_before") == 0, 30)
            assert measured("pointsman_clients") == 1


def test_a_query_of_a_client_of_the_process_before_can_be_cancelled(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path) as running, running.connect() as first:
        running.restart()
        with running.connect() as second:
            running.restart()
            slots = [slot_of(one.info.backend_pid) for one in (first, second)]
            assert len(set(slots)) == 2
            for client in (first, second):
                canceller = threading.Timer(0.3, client.cancel_safe)
                canceller.start()
                began = time.monotonic()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    client.execute("SELECT pg_sleep(30)")
                assert time.monotonic() - began < 15
                canceller.join()
                assert client.execute("SELECT 1").fetchone() == (1,)


def test_limits_are_over_both_and_who_waits_gets_what_the_other_leaves_idle(cluster: Sandbox, tmp_path: Path) -> None:
    settings = {"default_pool_size": 2, "query_wait_timeout": 30, "consistency": "primary"}
    with Running(cluster, tmp_path, **settings) as running, running.connect() as holds, running.connect() as idle:
        holds.execute("BEGIN")
        holds.execute("SELECT 1")
        idle.execute("SELECT 1")
        assert servers(cluster) == 2
        running.restart()
        with running.connect() as new:
            # Both servers are the old process's; the one that it does not need is given up.
            assert new.execute("SELECT 2").fetchone() == (2,)
            assert servers(cluster) <= 2
            new.execute("BEGIN")
            new.execute("SELECT 1")
            # And the other way round: nobody has one to spare.
            answers: list[Any] = []
            waiting = threading.Thread(target=lambda: answers.append(idle.execute("SELECT 3").fetchone()))
            waiting.start()
            time.sleep(1)
            assert (answers, servers(cluster)) == ([], 2)
            new.execute("COMMIT")
            waiting.join(30)
            assert answers == [(3,)]
            assert servers(cluster) <= 2
            holds.execute("COMMIT")


def test_a_process_that_was_killed_leaves_nothing_counted(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path, default_pool_size=3, max_client_conn=3, consistency="primary") as running:
        others = [running.connect() for _ in range(2)]
        for one in others:
            assert one.execute("BEGIN").statusmessage == "BEGIN"
            one.execute("SELECT 1")
        last = running.restart()
        with running.connect() as new:
            with pytest.raises(psycopg.OperationalError, match="too many clients"):
                running.connect()
            running.endpoint.process.kill()
            running.endpoint.process.wait()
            eventually(lambda: "alone" in running.happened(), 30)
            assert new.execute("SELECT 1").fetchone() == (1,)
            with running.connect() as one, running.connect() as two:
                for client in (new, one, two):
                    client.execute("BEGIN")
                    assert client.execute("SELECT 1").fetchone() == (1,)
        for one in others:
            with one, pytest.raises(psycopg.OperationalError):
                one.execute("COMMIT")
        os.kill(last, signal.SIGTERM)
        eventually(lambda: not psutil.pid_exists(last), 30)


@pytest.mark.usefixtures("ledger")
def test_a_commit_of_the_one_is_read_by_the_other_where_that_is_promised(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path, consistency="global") as running, running.connect() as old:
        running.restart()
        with running.connect() as new:
            for serial in range(60):
                writes, reads = (old, new) if serial % 2 else (new, old)
                writes.execute("INSERT INTO ledger VALUES (1, %s)", (serial,))
                assert reads.execute("SELECT count(*) FROM ledger WHERE client = 1").fetchone() == (serial + 1,)


@pytest.mark.usefixtures("ledger")
def test_ddl_of_the_one_is_known_to_the_other_at_once(cluster: Sandbox, tmp_path: Path) -> None:
    harmless = "CREATE OR REPLACE FUNCTION ticks() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'"
    writes = (
        "CREATE OR REPLACE FUNCTION ticks() RETURNS int LANGUAGE sql VOLATILE AS "
        "'INSERT INTO ledger SELECT 2, count(*) FROM ledger RETURNING serial'"
    )
    with Running(cluster, tmp_path) as running, running.connect() as old:
        old.execute(harmless.encode())
        running.restart()
        with running.connect() as new:
            eventually(lambda: on_standby(new), 30)
            for round_ in range(5):
                old.execute(writes.encode())
                # A standby would refuse it.
                assert new.execute("SELECT ticks()").fetchone() == (round_,)
                old.execute(harmless.encode())
                cluster.wait_for_replay()
                eventually(lambda: on_standby(new), 30)
        old.execute("DROP FUNCTION ticks()")


def on_standby(client: psycopg.Connection[Any]) -> bool:
    row = client.execute("SELECT current_setting('cluster_name'), ticks()").fetchone()
    return row is not None and row[0] != "db1"


def test_no_cached_answers_while_two_processes_have_clients(
    cluster: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Running(cluster, tmp_path, query_cache="on") as running:
        with running.connect() as old:
            assert running.ask("cache_stats")[-1]["done"]["state"]["serving"]
            running.ask("cache", mode="off", route="")
            running.ask("cache", mode="default", route="")
            running.restart()
            state = running.ask("cache_stats")[-1]["done"]["state"]
            assert not state["serving"]
            assert old.execute("SELECT 1").fetchone() == (1,)
        eventually(lambda: "cache_released" in running.happened(), 30)
        eventually(lambda: bool(running.ask("cache_stats")[-1]["done"]["state"]["serving"]), 30)


def test_what_operators_have_said_of_the_cache_is_handed_on(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path, query_cache="on") as running:
        running.ask("cache", mode="off")
        running.restart()
        eventually(lambda: "alone" in running.happened(), 30)
        (route,) = running.ask("cache_stats")[-1]["done"]["state"]["routes"]
        assert (route["mode"], route["by"]) == ("off", "operator")


OTHER_LAYOUT: Final = """
import sys
from middleware.supervisor import succession, take_over
take_over.LAYOUT = succession.LAYOUT = "another"
from middleware.cli import main
main()
"""


@pytest.mark.usefixtures("ledger")
def test_versions_that_cannot_share_memory_hand_over_all_the_same(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path, consistency="global", default_pool_size=2) as running, running.connect() as old:
        old.execute("SELECT 1")
        command = [sys.executable, "-c", OTHER_LAYOUT, "serve", "--take-over", "-c", str(tmp_path / "pointsman.toml")]
        with (tmp_path / "log").open("ab") as log:
            other = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            eventually(lambda: "took_over" in running.log(), 60)
            with running.connect() as new:
                assert slot_of(old.info.backend_pid) != slot_of(new.info.backend_pid)
                for serial in range(20):
                    writes, reads = (old, new) if serial % 2 else (new, old)
                    writes.execute("INSERT INTO ledger VALUES (1, %s)", (serial,))
                    assert reads.execute("SELECT count(*) FROM ledger WHERE client = 1").fetchone() == (serial + 1,)
                # Nothing is known of the other's writes: as if it had just written.
                row = new.execute("SELECT current_setting('cluster_name')").fetchone()
                assert row == ("db1",)
                canceller = threading.Timer(0.3, old.cancel_safe)
                canceller.start()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    old.execute("SELECT pg_sleep(30)")
                canceller.join()
                old.close()
                assert running.endpoint.process.wait(30) == 0
                eventually(lambda: "alone" in running.happened(), 30)
                who = "SELECT current_setting('cluster_name')"
                eventually(lambda: new.execute(who).fetchone() != ("db1",), 60)
        finally:
            other.terminate()
            assert other.wait(30) == 0


# The nodes

FAILOVER: Final = {"failover": "promote", "failover_after": 1.0, "failover_user": "postgres"}


def test_one_of_them_promotes(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.query("CREATE TABLE t (n int)", user=sandbox.user)
    sandbox.wait_for_replay()
    with Running(sandbox, tmp_path, **FAILOVER) as running, running.connect() as old:
        running.restart()
        with running.connect() as new:
            sandbox.node("db1").kill()
            for client in (old, new):
                eventually(functools.partial(written, client), 60)
            eventually(lambda: "promoted" in running.happened() and "event_kind=promoted" in running.log())
            assert running.log().count("event_kind=promoted") == 1
            assert running.status()["primary"] == "db2"
            # Nor is the one that is dead written to when it comes back, by either.
            assert "fenced" in running.happened()
            for client in (old, new):
                assert client.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_a_primary_is_replaced_that_only_the_process_before_has_seen_well(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.query("CREATE TABLE t (n int)", user=sandbox.user)
    sandbox.wait_for_replay()
    with Running(sandbox, tmp_path, **FAILOVER) as running:
        assert "done" in running.ask("console", command="DETACH NODE db1")[-1]
        eventually(lambda: not running.status()["primary"])
        running.restart()
        sandbox.node("db1").kill()
        with running.connect() as client:
            eventually(functools.partial(written, client), 60)
        assert running.status()["primary"] == "db2"


def written(client: psycopg.Connection[Any]) -> bool:
    try:
        client.execute("INSERT INTO t VALUES (1)")
    except (psycopg.OperationalError, psycopg.InternalError):
        # Its outcome is lost with the primary, or there is none yet.
        return False
    return True


def test_the_lease_of_one_that_leads_passes_on(sandbox: Sandbox, tmp_path: Path) -> None:
    with Etcd() as etcd:
        more = {"instances": 2, "etcd_hosts": [etcd.url], "etcd_ttl": 5, "etcd_prefix": "/pointsman/restart"}
        with Running(sandbox, tmp_path, **FAILOVER, **more) as running, running.connect() as old:
            eventually(lambda: "leads" in running.happened(), 30)
            running.restart()
            eventually(lambda: "leads" in running.happened(), 30)
            sandbox.query("CREATE TABLE t (n int)", user=sandbox.user)
            sandbox.wait_for_replay()
            sandbox.node("db1").kill()
            eventually(functools.partial(written, old), 60)
            # Clients may be served before all has been said of it.
            eventually(lambda: "promoted" in running.happened() and "event_kind=promoted" in running.log())
            assert running.log().count("event_kind=promoted") == 1


def test_a_switchover_waits_for_transactions_of_both(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.query("CREATE TABLE t (n int)", user=sandbox.user)
    sandbox.wait_for_replay()
    with Running(sandbox, tmp_path, **FAILOVER, switchover_timeout=30) as running, running.connect() as old:
        running.restart()
        with running.connect() as new:
            old.execute("BEGIN")
            old.execute("INSERT INTO t VALUES (1)")
            answers: list[dict[str, Any]] = []
            switching = threading.Thread(target=lambda: answers.extend(running.ask("switchover")))
            switching.start()
            eventually(lambda: "switchover_begun" in running.happened(), 30)
            # New work waits in either, and what has begun goes on.
            waiting = threading.Thread(target=lambda: new.execute("INSERT INTO t VALUES (2)"))
            waiting.start()
            time.sleep(1)
            assert switching.is_alive()
            old.execute("INSERT INTO t VALUES (3)")
            old.execute("COMMIT")
            switching.join(60)
            waiting.join(60)
            assert answers[-1]["done"]["primary"] == "db2", answers
            for client in (old, new):
                assert client.execute("SELECT count(*) FROM t").fetchone() == (3,)
                client.execute("SELECT 1")


def test_a_pause_is_for_clients_of_both_and_waits_for_both(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path, consistency="primary") as running, running.connect() as old:
        old.execute("SELECT 1")
        running.restart()
        with running.connect() as new:
            new.execute("SELECT 1")
            old.execute("BEGIN")
            old.execute("SELECT 1")
            answers: list[dict[str, Any]] = []
            pausing = threading.Thread(target=lambda: answers.extend(running.ask("console", command="PAUSE")))
            pausing.start()
            eventually(lambda: "paused" in running.happened(), 30)
            time.sleep(1)
            # A transaction of the process before is not over.
            assert pausing.is_alive()
            assert old.execute("SELECT 2").fetchone() == (2,)
            old.execute("COMMIT")
            pausing.join(30)
            assert "done" in answers[-1], answers
            # PostgreSQL may be restarted now.
            assert servers(cluster) == 0
            waiting = [threading.Thread(target=client.execute, args=("SELECT 3",)) for client in (old, new)]
            for one in waiting:
                one.start()
            time.sleep(1)
            assert [one.is_alive() for one in waiting] == [True, True]
            assert servers(cluster) == 0
            running.ask("console", command="RESUME")
            for one in waiting:
                one.join(30)
                assert not one.is_alive()
            # What is paused stays so over one more, and goes on everywhere.
            running.ask("console", command="PAUSE")
            running.restart()
            waiting = [threading.Thread(target=client.execute, args=("SELECT 4",)) for client in (old, new)]
            for one in waiting:
                one.start()
            time.sleep(1)
            assert [one.is_alive() for one in waiting] == [True, True]
            running.ask("console", command="RESUME")
            for one in waiting:
                one.join(30)
                assert not one.is_alive()
            process_id = old.info.backend_pid
            assert "done" in running.ask("console", command=f"KILL_CLIENT {process_id}")[-1]
            with pytest.raises(psycopg.OperationalError):
                old.execute("SELECT 4")
            again = running.ask("console", command=f"KILL_CLIENT {process_id}")[-1]
            assert again["error"]["sqlstate"] == "42704"
            assert new.execute("SELECT 5").fetchone() == (5,)
