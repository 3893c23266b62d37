"""Clients that vanish, servers that die, limits that are reached: what is seen, and that all comes back to rest."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from middleware.sandbox import Sandbox
from middleware.wire.backend import CopyInResponse, DataRow
from middleware.wire.frontend import CopyData, Parse, Query
from tests.conftest import Endpoint, pointsman
from tests.differential.raw_client import Address, Ending, RawClient
from tests.waiting import eventually

pytestmark = pytest.mark.integration

POOL_SIZE = 2
OURS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'"
BUSY = f"{OURS} AND state <> 'idle'"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """A cluster of its own: its sessions are counted, and its standbys killed."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def small(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An endpoint with one worker and two servers per pool: a leaked one would be missed at once."""
    with pointsman(
        cluster,
        tmp_path_factory.mktemp("small"),
        workers=1,
        default_pool_size=POOL_SIZE,
        max_client_conn=20,
        query_wait_timeout=2,
        shutdown_timeout=1,
    ) as running:
        yield running


def connect(endpoint: Endpoint) -> psycopg.Connection:
    return psycopg.connect(endpoint.conninfo(), autocommit=True)


def address(endpoint: Endpoint) -> Address:
    return Address(endpoint.host, endpoint.port, endpoint.user, endpoint.password, endpoint.database)


def raw(endpoint: Endpoint) -> RawClient:
    client = RawClient(address(endpoint))
    client.log_in()
    return client


def assert_at_rest(cluster: Sandbox, endpoint: Endpoint) -> None:
    """No server is busy for anyone, and the pool can be used to its full size."""
    eventually(lambda: cluster.query(BUSY) == [["0"]])
    clients = [connect(endpoint) for _ in range(POOL_SIZE)]
    try:
        for client in clients:
            client.execute("BEGIN")
        assert int(cluster.query(OURS)[0][0]) <= POOL_SIZE
        for client in clients:
            client.execute("ROLLBACK")
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x7f\xff\xff\xff\x00\x03\x00\x00",
        b"\x00\x00\x00\x04",
        b"\x00\x00\x00\x09\x00\x03\x00\x00x",
        b"\x00",
    ],
    ids=["http", "huge", "short", "layout", "half"],
)
def test_garbage_before_login(cluster: Sandbox, small: Endpoint, data: bytes) -> None:
    with RawClient(address(small)) as client:
        client.send(data)
        client.half_close()
        messages, ending = client.read(1)
        assert ending is Ending.EOF
        assert not messages or "08P01" in repr(messages[0])
    assert_at_rest(cluster, small)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"password": "wrong"}, "password authentication failed"),
        ({"user": "nobody"}, "password authentication failed"),
        ({"dbname": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_logins_that_fail(small: Endpoint, settings: dict[str, str], words: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=words):
        psycopg.connect(psycopg.conninfo.make_conninfo(small.conninfo(), **settings))


def test_a_client_that_vanishes_in_a_transaction(cluster: Sandbox, small: Endpoint) -> None:
    for _ in range(POOL_SIZE + 1):
        client = raw(small)
        client.send(Query(b"BEGIN; CREATE TABLE vanished (a int)").encode())
        client.read(1)
        client.__exit__(None, None, None)
    assert_at_rest(cluster, small)
    assert cluster.query("SELECT to_regclass('vanished') IS NULL") == [["t"]]


def test_a_client_that_vanishes_in_a_statement(cluster: Sandbox, small: Endpoint) -> None:
    for _ in range(POOL_SIZE + 1):
        client = raw(small)
        client.send(Query(b"/* pointsman: primary */ SELECT pg_sleep(60)").encode())
        eventually(lambda: cluster.query(f"{BUSY} AND query LIKE '%pg_sleep%'") != [["0"]])
        client.__exit__(None, None, None)
        # The statement is cancelled: nobody waits for it.
        eventually(lambda: cluster.query(f"{BUSY} AND query LIKE '%pg_sleep%'") == [["0"]])
    assert_at_rest(cluster, small)


def test_a_client_that_vanishes_in_a_message(cluster: Sandbox, small: Endpoint) -> None:
    whole = Parse(b"", b"SELECT 1", ()).encode()
    for cut in (1, 5, len(whole) - 1):
        client = raw(small)
        client.send(whole[:cut])
        client.__exit__(None, None, None)
    assert_at_rest(cluster, small)


def test_a_client_that_vanishes_in_a_copy(cluster: Sandbox, small: Endpoint) -> None:
    cluster.query("CREATE TABLE copied (a text)", user="app")
    try:
        for tail in (b"", CopyData(b"x\n").encode(), CopyData(b"x\n").encode()[:3]):
            client = raw(small)
            client.send(Query(b"COPY copied FROM STDIN").encode())
            client.read(1, CopyInResponse)
            client.send(tail)
            client.__exit__(None, None, None)
        assert_at_rest(cluster, small)
        assert cluster.query("SELECT count(*) FROM copied") == [["0"]]
    finally:
        cluster.query("DROP TABLE copied")


def test_a_client_that_vanishes_before_a_large_result(cluster: Sandbox, small: Endpoint) -> None:
    for _ in range(POOL_SIZE + 1):
        client = raw(small)
        client.send(Query(b"SELECT repeat('x', 1000) FROM generate_series(1, 200000)").encode())
        client.__exit__(None, None, None)
    assert_at_rest(cluster, small)


def test_others_are_untouched_by_one_who_breaks_the_protocol(cluster: Sandbox, small: Endpoint) -> None:
    with connect(small) as other:
        other.execute("BEGIN")
        for data in (b"\x00\x00\x00\x00\x04", b"Q\x00\x00\x00\x00", b"Q\x7f\xff\xff\xff", b"S\x00\x01\x00\x00"):
            with raw(small) as client:
                client.send(data)
                messages, ending = client.read(1)
                assert ending is Ending.EOF
                assert "08P01" in repr(messages[-1])
        assert other.execute("SELECT 1").fetchone() == (1,)
        other.execute("COMMIT")
    assert_at_rest(cluster, small)


def test_no_server_in_time(cluster: Sandbox, small: Endpoint) -> None:
    holders = [connect(small) for _ in range(POOL_SIZE)]
    try:
        for holder in holders:
            holder.execute("BEGIN")
        with connect(small) as late:
            with pytest.raises(psycopg.errors.TooManyConnections, match="query_wait_timeout"):
                late.execute("CREATE TEMP TABLE t (a int)")
            holders[0].execute("COMMIT")
            assert late.execute("SELECT random() < 2").fetchone() == (True,)
    finally:
        for holder in holders:
            holder.close()
    assert_at_rest(cluster, small)


def test_too_many_clients(small: Endpoint) -> None:
    clients: list[psycopg.Connection] = []
    try:
        while len(clients) < 20:
            clients.append(connect(small))
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            connect(small)
    finally:
        for client in clients:
            client.close()
    eventually(lambda: connects(small))


def connects(endpoint: Endpoint) -> bool:
    try:
        connect(endpoint).close()
    except psycopg.OperationalError:
        return False
    return True


def test_cancel_through_any_worker(cluster: Sandbox, tmp_path: Path) -> None:
    with (
        pointsman(cluster, tmp_path, workers=2, default_pool_size=4) as endpoint,
        connect(endpoint) as client,
        connect(endpoint) as other,
    ):
        for _ in range(8):  # Each request lands on one of two workers.
            timer = threading.Timer(0.2, client.cancel_safe)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                client.execute("/* pointsman: primary */ SELECT pg_sleep(30)")
            timer.join()
            assert other.execute("/* pointsman: primary */ SELECT pg_sleep(0.01)").fetchone() is not None
    eventually(lambda: cluster.query(BUSY) == [["0"]])


def test_a_server_that_is_terminated(cluster: Sandbox, small: Endpoint) -> None:
    def terminate() -> bool:
        sleeping = "FROM pg_stat_activity WHERE usename = 'app' AND query LIKE '%sleep(59%'"
        return cluster.query(f"SELECT count(pg_terminate_backend(pid)) {sleeping}") != [["0"]]

    with connect(small) as client:
        killer = threading.Thread(target=lambda: eventually(terminate))
        killer.start()
        # A function might have written something.
        with pytest.raises(psycopg.errors.TransactionResolutionUnknown, match="due to administrator command"):
            client.execute("/* pointsman: primary */ SELECT pg_sleep(59)")
        killer.join()
    assert_at_rest(cluster, small)


def test_idle_servers_that_are_terminated_are_not_lent(cluster: Sandbox, small: Endpoint) -> None:
    with connect(small) as client:
        client.execute("SELECT random()")
        cluster.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND state = 'idle'")
        eventually(lambda: cluster.query(OURS) == [["0"]])
        assert client.execute("SELECT random() < 2").fetchone() == (True,)


def test_reads_go_on_without_a_standby(cluster: Sandbox, small: Endpoint) -> None:
    standby = cluster.standbys[0]
    who = "SELECT current_setting('cluster_name')"

    def served(client: psycopg.Connection) -> set[str]:
        return {str(row[0]) for _ in range(10) if (row := client.execute(who).fetchone()) is not None}

    with connect(small) as client:
        eventually(lambda: standby.name in served(client))
        standby.kill(signal.SIGKILL)
        try:
            # What ran there at that moment may have failed; what comes after does not.
            for _ in range(50):
                assert standby.name not in served(client)
        finally:
            standby.start()
        eventually(lambda: standby.name in served(client), timeout_s=20)


def test_a_worker_that_is_killed_costs_only_its_clients(cluster: Sandbox, tmp_path: Path) -> None:
    with pointsman(cluster, tmp_path, workers=1) as endpoint:
        with connect(endpoint) as client:
            endpoint.workers()[0].kill()
            with pytest.raises(psycopg.OperationalError):
                client.execute("SELECT 1")
        eventually(lambda: connects(endpoint))
        eventually(lambda: cluster.query(BUSY) == [["0"]])


def test_a_shutdown_lets_a_transaction_end(cluster: Sandbox, tmp_path: Path) -> None:
    with (
        pointsman(cluster, tmp_path, workers=1, shutdown_timeout=20) as endpoint,
        connect(endpoint) as busy,
        raw(endpoint) as idle,
    ):
        busy.execute("BEGIN")
        endpoint.process.terminate()
        messages, ending = idle.read(1)
        assert ending is Ending.EOF
        assert "57P01" in repr(messages[-1])
        assert busy.execute("SELECT 1").fetchone() == (1,)
        busy.execute("COMMIT")
        assert endpoint.process.wait(10) == 0


def test_a_shutdown_does_not_wait_for_ever(cluster: Sandbox, tmp_path: Path) -> None:
    with pointsman(cluster, tmp_path, workers=1, shutdown_timeout=1) as endpoint, connect(endpoint) as busy:
        busy.execute("BEGIN")
        began = time.monotonic()
        endpoint.process.terminate()
        assert endpoint.process.wait(10) == 0
        assert time.monotonic() - began >= 1
        with pytest.raises(psycopg.errors.AdminShutdown):
            busy.execute("SELECT 1")


def test_memory_stays_flat_with_a_slow_reader(small: Endpoint) -> None:
    """64 MB to a reader that does not read must wait at PostgreSQL, not in the worker."""
    with connect(small) as warm:
        warm.execute("SELECT 1")
    before = max(worker.memory_info().rss for worker in small.workers())
    with raw(small) as client:
        client.send(Query(b"SELECT repeat('x', 1000) FROM generate_series(1, 64000)").encode())
        highest = 0
        for _ in range(20):
            client.read(500, DataRow)
            highest = max(highest, *(worker.memory_info().rss for worker in small.workers()))
    assert highest - before < 16 * 1024 * 1024
