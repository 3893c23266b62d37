"""What is counted of a known load, on a real cluster: exact, over all workers, and not lost with one that dies."""

import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import anyio.to_thread
import psycopg
import pytest
from msgspec.structs import replace

from middleware.reports import DigestReport, TimingsReport, TrafficReport
from middleware.sandbox import Sandbox
from middleware.service import running
from middleware.supervisor import Supervisor
from middleware.supervisor.statistics import added_histograms, added_traffic
from middleware.wire.frontend import Bind, Close, CopyData, CopyDone, Describe, Execute, Flush, Parse, Query
from tests.differential.raw_client import Address
from tests.supervisor.quick import quick_settings
from tests.talk import SYNC, Talk, queries, run

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

DEADLINE_S: Final = 20.0


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg needs asyncio."""
    return "asyncio"


@pytest.fixture(scope="module")
def cluster() -> Any:
    with Sandbox(standbys=1) as sandbox:
        sandbox.query("CREATE TABLE counted (id int PRIMARY KEY, n int); GRANT ALL ON counted TO app", database="app")
        yield sandbox


class Counted:
    """A running Pointsman, and what it counts."""

    def __init__(self, cluster: Sandbox, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        host, port = supervisor.addresses[0]
        self.address = Address(host, port, cluster.user, cluster.passwords[cluster.user], cluster.database)

    def connect(self, **more: Any) -> psycopg.Connection[Any]:
        host, port, user, password, database = self.address
        return psycopg.connect(
            host=host, port=port, user=user, password=password, dbname=database, autocommit=True, **more
        )

    def traffic(self, *nodes: str) -> TrafficReport:
        """The sum, of all nodes or of some."""
        found = self.supervisor.counters().traffic
        named = [replace(one, database="", route="", node="") for one in found if not nodes or one.node in nodes]
        return added_traffic(named)[0] if named else TrafficReport("", "", "")

    def timings(self, node: str) -> TimingsReport:
        (found,) = [one for one in self.supervisor.counters().timings if one.node == node]
        return found

    async def until(self, **counts: int) -> TrafficReport:
        """The traffic, once so much is counted: not less, and no more."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = self.traffic()
            if all(getattr(found, name) >= count for name, count in counts.items()):
                break
            assert time.monotonic() < deadline, found
            await anyio.sleep(0.05)
        assert {name: getattr(found, name) for name in counts} == counts
        return found

    async def does(self, load: Callable[[Talk], object], **settings: str) -> None:
        """Have a client do something."""

        def talk() -> None:
            with Talk(self.address, **settings) as client:
                load(client)

        await anyio.to_thread.run_sync(talk)

    async def digests(self) -> dict[str, DigestReport]:
        answers = await self.supervisor.asking.ask("digests")
        found: dict[str, DigestReport] = {}
        for _, one in answers.reports:
            assert isinstance(one, DigestReport)
            have = found.get(one.shape)
            found[one.shape] = one if have is None else _sum(have, one)
        return found


def _sum(one: DigestReport, other: DigestReport) -> DigestReport:
    return DigestReport(
        one.database,
        one.shape,
        one.calls + other.calls,
        one.errors + other.errors,
        one.rows + other.rows,
        one.total_s + other.total_s,
        max(one.max_s, other.max_s),
        one.on_primary + other.on_primary,
        one.on_standbys + other.on_standbys,
        one.hits + other.hits,
        one.reason or other.reason,
    )


@asynccontextmanager
async def counting(cluster: Sandbox, **settings: Any) -> AsyncIterator[Counted]:
    async with running(quick_settings(cluster, **settings)) as supervisor:
        yield Counted(cluster, supervisor)


def raw(client: Talk, data: bytes) -> tuple[int, int]:
    """Send it; how many bytes were sent and came back."""
    came = client.hear(data, 1)
    return len(data), sum(len(one.encode()) for one in came)


async def test_simple_queries(cluster: Sandbox) -> None:
    sizes: list[tuple[int, int]] = []

    def load(client: Talk) -> None:
        texts = ("SELECT 7", "SELECT 8", "SELECT 1; SELECT 2", "SELECT generate_series(1, 5000)")
        sizes.extend([raw(client, queries(sql)) for sql in texts])

    async with counting(cluster) as one:
        await one.does(load)
        found = await one.until(queries=4, xacts=4, assignments=4, errors=0, binds=0, client_parses=0)
        assert (found.received_bytes, found.sent_bytes) == tuple(map(sum, zip(*sizes, strict=True)))
        assert found.wait_s == 0 or found.wait_s < 5
        assert 0 < found.query_s == found.xact_s
        digests = await one.digests()
        assert {shape: (digest.calls, digest.rows) for shape, digest in digests.items()} == {
            "SELECT $1": (2, 2),
            "SELECT $1; SELECT $2": (1, 2),
            "SELECT generate_series($1, $2)": (1, 5000),
        }
        assert all(digest.database == "app" and digest.max_s > 0 for digest in digests.values())
        assert sum(digest.total_s for digest in digests.values()) == pytest.approx(found.query_s)
        timings = [one.timings(node) for node in {report.node for report in one.supervisor.counters().traffic}]
        for histogram in ("query", "wait", "checkout"):
            assert sum(added_histograms(*(getattr(timing, histogram) for timing in timings)).counts) == 4
        assert added_histograms(*(timing.query for timing in timings)).sum_s == pytest.approx(found.query_s)


async def test_a_transaction_is_one_and_lasts_from_begin_to_commit(cluster: Sandbox) -> None:
    def load(client: Talk) -> None:
        client.say("BEGIN")
        client.say("INSERT INTO counted VALUES (100, 'x'::text::varchar::name::text::int)")
        client.say("ROLLBACK")
        client.say("BEGIN")
        client.say("INSERT INTO counted VALUES (101, 5)")
        time.sleep(0.3)
        client.say("COMMIT")

    async with counting(cluster) as one:
        await one.does(load)
        found = await one.until(queries=6, xacts=2, assignments=2, errors=1)
        assert found.xact_s - found.query_s >= 0.3
        assert found == one.traffic("db1")
        digests = await one.digests()
        assert [(digests[name].calls, digests[name].rows, digests[name].errors) for name in ("BEGIN", "COMMIT")] == [
            (2, 0, 0),
            (1, 0, 0),
        ]
        insert = digests["INSERT INTO counted VALUES ($1, $2)"]
        assert (insert.calls, insert.rows, insert.on_primary, insert.on_standbys) == (1, 1, 1, 0)
        assert insert.reason == "it is INSERT"
        (failed,) = [digest for shape, digest in digests.items() if "varchar" in shape]
        assert (failed.calls, failed.rows, failed.errors) == (1, 0, 1)


async def test_extended_queries_and_pipelines(cluster: Sandbox) -> None:
    named = Parse(b"s1", b"SELECT $1::int + 1").encode()
    bound = Bind(b"", b"s1", parameters=(b"5",)).encode() + Execute().encode()

    def load(client: Talk) -> None:
        assert client.say(run("SELECT 1") + SYNC) == "1 I"
        # Two batches at once, and one of three statements.
        assert client.say(run("SELECT 2") + SYNC + run("SELECT 3") + SYNC) == "2 I 3 I"
        assert client.say(run("BEGIN", "SELECT 4", "COMMIT") + SYNC) == "4 I"
        client.say(named + SYNC)
        for _ in range(3):
            assert client.say(bound + SYNC) == "6 I"
        # One statement four times.
        assert client.say(bound * 4 + SYNC) == "6 6 6 6 I"
        client.say(Close(b"S", b"s1").encode() + SYNC)

    async with counting(cluster, routes=[{"application_name": "primary", "consistency": "primary"}]) as one:
        await one.does(load, application_name="primary")
        found = await one.until(queries=10, xacts=10, client_parses=1, server_parses=1, binds=7, errors=0)
        assert found.assignments == 9
        digests = await one.digests()
        assert (digests["SELECT $1"].calls, digests["SELECT $1"].rows) == (4, 4)
        plus = digests["SELECT $1::int + $2"] if "SELECT $1::int + $2" in digests else digests["SELECT $1::int + 1"]
        assert (plus.calls, plus.rows, plus.on_primary) == (7, 7, 7)
        # Beside others, they take no time.
        assert (digests["BEGIN"].calls, digests["BEGIN"].total_s) == (1, 0)


async def test_a_batch_in_two_parts_is_one_query(cluster: Sandbox) -> None:
    """As asyncpg sends it."""

    def load(client: Talk) -> None:
        client.send(Parse(b"a", b"SELECT n FROM counted WHERE id = $1").encode() + Describe(b"S", b"a").encode())
        client.send(Flush().encode())
        time.sleep(0.2)
        assert client.say(Bind(b"", b"a", parameters=(b"-1",)).encode() + Execute().encode() + SYNC) == "I"

    async with counting(cluster) as one:
        await one.does(load)
        found = await one.until(queries=1, xacts=1, client_parses=1, binds=1)
        assert found.query_s > 0
        (digest,) = (await one.digests()).values()
        assert (digest.shape, digest.calls, digest.rows) == ("SELECT n FROM counted WHERE id = $1", 1, 0)


async def test_errors_count_each_and_a_failed_transaction_once(cluster: Sandbox) -> None:
    def load(client: Talk) -> None:
        assert client.say("SELECT 1/0") == "!22012 I"
        assert client.say(run("SELECT 1/0", "SELECT 2") + SYNC) == "!22012 I"
        assert client.say("SELEKT") == "!42601 I"
        assert client.say("BEGIN") == "T"
        assert client.say("SELECT 1/0") == "!22012 E"
        assert client.say("SELECT 1") == "!25P02 E"
        assert client.say("ROLLBACK") == "I"

    async with counting(cluster) as one:
        await one.does(load)
        await one.until(queries=7, xacts=4, errors=5)
        digests = await one.digests()
        assert (digests["Unread"].calls, digests["Unread"].errors) == (1, 1)
        assert (digests["SELECT $1"].calls, digests["SELECT $1"].errors) == (2, 2)


async def test_copy(cluster: Sandbox) -> None:
    lines = [b"%d\t%d\n" % (number, number) for number in range(1000, 1500)]

    def load(client: Talk) -> None:
        client.send(queries("COPY counted FROM STDIN"))
        for line in lines:
            client.send(CopyData(line).encode())
        client.hear(CopyDone().encode(), 1)
        client.hear(queries("COPY counted TO STDOUT"), 1)

    async with counting(cluster) as one:
        await one.does(load)
        found = await one.until(queries=2, xacts=2, errors=0)
        assert found.received_bytes >= sum(map(len, lines)) * 1
        digests = await one.digests()
        rows = {shape: digest.rows for shape, digest in digests.items()}
        assert rows["COPY counted FROM STDIN"] == 500
        assert rows["COPY counted TO STDOUT"] >= 500


async def test_canceled_abandoned_and_lost_queries_count(cluster: Sandbox) -> None:
    async with counting(cluster) as one:

        def canceled() -> None:
            with one.connect() as client:
                threading.Timer(0.3, client.cancel).start()  # which begins to count before the query is sent
                with pytest.raises(psycopg.errors.QueryCanceled):
                    client.execute("SELECT pg_sleep(30)")

        def abandoned() -> None:
            client = one.connect()
            client.execute("BEGIN")
            client.execute("INSERT INTO counted VALUES (200, 1)")
            client.close()

        def lost() -> None:
            with one.connect() as client, client.transaction():
                (pid,) = client.execute("SELECT pg_backend_pid()").fetchone() or (0,)
                cluster.query(f"SELECT pg_terminate_backend({pid})")
                with pytest.raises(psycopg.Error):
                    client.execute("SELECT 2")
                raise psycopg.Rollback

        await anyio.to_thread.run_sync(canceled)
        found = await one.until(queries=1, xacts=1, errors=1)
        assert found.query_s >= 0.2
        await anyio.to_thread.run_sync(abandoned)
        await one.until(queries=3, xacts=2, errors=1)
        await anyio.to_thread.run_sync(lost)
        # BEGIN, the first SELECT, and the second, which is told that its transaction is lost; ROLLBACK is answered.
        await one.until(queries=7, xacts=4, errors=2)


async def test_hits_of_the_cache_count_for_no_node(cluster: Sandbox) -> None:
    async with counting(cluster, query_cache="on", consistency="eventual") as one:
        sql = "SELECT n FROM counted WHERE id = 1"

        def load(client: Talk) -> None:
            deadline = time.monotonic() + DEADLINE_S
            for _ in range(5):
                client.say(sql)
            # The catalog of the database may be loading still.
            while one.traffic("").queries < 5:
                assert time.monotonic() < deadline
                client.say(sql)
                time.sleep(0.1)

        await one.does(load)
        await anyio.sleep(1.5)
        cached = one.traffic("")
        hits = one.supervisor.cache_counters().hits
        assert (cached.queries, cached.xacts) == (hits, hits)
        assert (cached.assignments, cached.query_s, cached.errors) == (0, 0, 0)
        assert cached.received_bytes == hits * len(Query(sql.encode()).encode())
        (digest,) = (await one.digests()).values()
        assert (digest.hits, digest.calls) == (hits, one.traffic().queries)
        assert digest.calls == digest.hits + digest.on_primary + digest.on_standbys


async def test_waiting_for_a_server_is_timed(cluster: Sandbox) -> None:
    async with counting(cluster, default_pool_size=1) as one:
        holds = threading.Event()

        def hold(client: Talk) -> None:
            client.say("BEGIN")
            client.say("INSERT INTO counted VALUES (300, 1)")
            holds.set()
            time.sleep(0.6)
            client.say("ROLLBACK")

        def wait(client: Talk) -> None:
            holds.wait(DEADLINE_S)
            client.say("DELETE FROM counted WHERE id = -1")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.does, hold)
            tasks.start_soon(one.does, wait)
        found = await one.until(queries=4, xacts=2, assignments=2)
        assert 0.3 <= found.wait_s <= 5
        timings = one.timings("db1")
        assert timings.wait.sum_s == pytest.approx(found.wait_s)
        assert sum(timings.wait.counts) == 2
        assert timings.checkout.sum_s >= 0.6


async def test_the_sum_over_workers_keeps_what_a_killed_one_had_counted(cluster: Sandbox) -> None:
    clients = 8
    each = 20

    async with counting(cluster, workers=2) as one:

        def load(client: Talk) -> None:
            for _ in range(each):
                client.say("SELECT 'a secret'")

        async with anyio.create_task_group() as tasks:
            for _ in range(clients):
                tasks.start_soon(one.does, load)
        await one.until(queries=clients * each, xacts=clients * each)
        logins = one.supervisor.counters().all_health.logins_done
        assert logins == clients
        (digest,) = (await one.digests()).values()
        assert (digest.shape, digest.calls, digest.rows) == ("SELECT $1", clients * each, clients * each)
        pids = one.supervisor.worker_pids
        assert pids[0] is not None
        os.kill(pids[0], signal.SIGKILL)
        with anyio.fail_after(DEADLINE_S):
            while one.supervisor.worker_pids[0] in (None, pids[0]):
                await anyio.sleep(0.05)
        await one.until(queries=clients * each, xacts=clients * each)
        assert one.supervisor.counters().all_health.logins_done == clients
        await one.does(load)
        await one.until(queries=(clients + 1) * each)
        with anyio.fail_after(DEADLINE_S):
            while sorted(one.supervisor.counters().health) != [0, 1]:
                await anyio.sleep(0.05)
        found = one.supervisor.counters()
        health = found.all_health
        assert health.logins_done == sum(health.client_login.counts) == clients + 1
        for worker in found.health.values():
            assert 10e6 < worker.rss_bytes < 1e9
            assert 0 < worker.cpu_s < 100
            assert 0 <= worker.loop_lag_s < 10
        assert health.server_logins_failed == 0
        assert sum(health.server_login.counts) >= 1


async def test_logins_that_are_refused_or_abandoned(cluster: Sandbox) -> None:
    async with counting(cluster) as one:

        def refused() -> None:
            with pytest.raises(psycopg.OperationalError):
                one.connect(sslmode="disable", options="-c a=b -c c").close()

        def abandoned() -> None:
            Talk(one.address)._client.__exit__(None, None, None)

        await anyio.to_thread.run_sync(refused)
        await anyio.to_thread.run_sync(abandoned)
        with anyio.fail_after(DEADLINE_S):
            while True:
                health = one.supervisor.counters().all_health
                if health.logins_refused and health.logins_abandoned:
                    break
                await anyio.sleep(0.05)
        assert (health.logins_refused, health.logins_abandoned, health.logins_in_flight) == (1, 1, 0)


async def test_no_digests_where_none_are_wanted(cluster: Sandbox) -> None:
    async with counting(cluster, digests_max=0) as one:
        await one.does(lambda client: client.say("SELECT 1"))
        await one.until(queries=1)
        assert await one.digests() == {}
