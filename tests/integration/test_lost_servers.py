"""Servers that are lost under their clients: what each client hears, and that it goes on."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from middleware.sandbox import Sandbox
from middleware.wire.backend import ErrorResponse, ParameterStatus, ReadyForQuery
from middleware.wire.fields import Message
from middleware.wire.frontend import Bind, Execute, Parse, Query, Sync
from tests.conftest import Endpoint, pointsman
from tests.differential.raw_client import Address, Ending, RawClient
from tests.waiting import eventually

pytestmark = pytest.mark.integration

WAITS = "SELECT pid FROM pg_stat_activity WHERE usename = 'app' AND pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """A cluster of its own, whose servers die."""
    with Sandbox() as sandbox:
        sandbox.query(
            """
            CREATE TABLE lost (a int);
            GRANT ALL ON lost TO app;
            CREATE TABLE slow_commit (a int);
            GRANT ALL ON slow_commit TO app;
            CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(59); RETURN NULL; END';
            CREATE CONSTRAINT TRIGGER late AFTER INSERT ON slow_commit
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleeps();
            """,
        )
        yield sandbox


@pytest.fixture(scope="module")
def endpoint(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with pointsman(cluster, tmp_path_factory.mktemp("lost"), workers=1, query_wait_timeout=20) as running:
        with psycopg.connect(running.conninfo(), autocommit=True) as first:
            # Until the catalog is read nobody knows what a function leaves behind, and all run on the primary.
            eventually(lambda: first.execute("SELECT current_setting('cluster_name')").fetchone() != ("db1",))
        yield running


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[psycopg.Connection]:
    with contextlib.closing(psycopg.connect(endpoint.conninfo(), autocommit=True)) as connection:
        yield connection


@pytest.fixture
def raw(endpoint: Endpoint) -> Iterator[RawClient]:
    at = Address(endpoint.host, endpoint.port, endpoint.user, endpoint.password, endpoint.database)
    with RawClient(at) as one:
        one.log_in()
        yield one


@pytest.fixture(scope="module")
def meanwhile() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def terminate(cluster: Sandbox, where: str, node: int = 0) -> None:
    """End the backends of app for which `where` holds, once there are some."""
    found = f"{WAITS} AND {where}"
    at = cluster.nodes[node]
    eventually(lambda: cluster.query(f"SELECT pg_terminate_backend(pid) FROM ({found}) AS found", at) != [])
    eventually(lambda: cluster.query(found, at) == [])


EXECUTE = Bind().encode() + Execute().encode() + Sync().encode()
IN_TRANSACTION = "state LIKE 'idle in transaction%'"


def lose_transaction(cluster: Sandbox, client: psycopg.Connection, *statements: str) -> None:
    """Begin a transaction, carry out the statements, and lose its server."""
    client.execute("BEGIN")
    client.execute("INSERT INTO lost VALUES (1)")
    for statement in statements:
        client.execute(statement)
    terminate(cluster, IN_TRANSACTION)


def states(messages: list[Message]) -> list[str]:
    """SQLSTATEs and transaction states, in their order."""
    told: list[str] = []
    for message in messages:
        if isinstance(message, ErrorResponse):
            told.append(message.field(b"C").decode())
        elif isinstance(message, ReadyForQuery):
            told.append(message.status.decode())
    return told


def test_a_lost_transaction_fails_and_its_session_goes_on(cluster: Sandbox, client: psycopg.Connection) -> None:
    lose_transaction(cluster, client)
    with pytest.raises(errors.AdminShutdown) as told:
        client.execute("INSERT INTO lost VALUES (2)")
    assert told.value.diag.severity == "ERROR"
    assert told.value.diag.message_detail == 'The node is "db1".'
    assert client.info.transaction_status.name == "INERROR"
    # PostgreSQL itself goes on refusing.
    with pytest.raises(errors.InFailedSqlTransaction):
        client.execute("SELECT 1")
    with pytest.raises(errors.InvalidSavepointSpecification):
        client.execute("ROLLBACK TO SAVEPOINT a")
    client.execute("ROLLBACK")
    assert client.info.transaction_status.name == "IDLE"
    assert client.execute("INSERT INTO lost VALUES (3) RETURNING a").fetchone() == (3,)
    assert client.execute("/* pointsman: primary */ SELECT a FROM lost").fetchall() == [(3,)]
    client.execute("TRUNCATE lost")


def test_a_rollback_of_a_lost_transaction_succeeds(cluster: Sandbox, client: psycopg.Connection) -> None:
    lose_transaction(cluster, client)
    assert client.execute("ROLLBACK").statusmessage == "ROLLBACK"
    assert client.info.transaction_status == TransactionStatus.IDLE
    assert client.execute("/* pointsman: primary */ SELECT count(*) FROM lost").fetchone() == (0,)


def test_a_rollback_in_the_extended_protocol(cluster: Sandbox, raw: RawClient) -> None:
    raw.send(Query(b"BEGIN").encode() + Query(b"INSERT INTO lost VALUES (1)").encode())
    raw.read(2)
    terminate(cluster, IN_TRANSACTION)
    raw.send(Parse(b"", b"ROLLBACK", ()).encode() + EXECUTE)
    assert states(raw.read(1)[0]) == ["I"]
    raw.send(Query(b"/* pointsman: primary */ SELECT count(*) FROM lost").encode())
    assert "values=(b'0',)" in repr(raw.read(1)[0])


def test_a_commit_of_a_lost_transaction_fails(cluster: Sandbox, client: psycopg.Connection) -> None:
    lose_transaction(cluster, client)
    with pytest.raises(errors.AdminShutdown):
        client.execute("COMMIT")
    assert client.info.transaction_status == TransactionStatus.IDLE
    assert client.execute("/* pointsman: primary */ SELECT count(*) FROM lost").fetchone() == (0,)


def test_a_commit_behind_the_error_rolls_back(cluster: Sandbox, client: psycopg.Connection) -> None:
    lose_transaction(cluster, client)
    with pytest.raises(errors.AdminShutdown):
        client.execute("SELECT 1")
    assert client.execute("COMMIT").statusmessage == "ROLLBACK"
    assert client.info.transaction_status == TransactionStatus.IDLE


def test_what_is_pipelined_behind_a_loss(cluster: Sandbox, raw: RawClient) -> None:
    """Each batch is answered once, as a failed transaction answers it."""
    raw.send(Query(b"BEGIN").encode())
    raw.read(1)
    terminate(cluster, IN_TRANSACTION)
    insert = Parse(b"", b"INSERT INTO lost VALUES (1)", ()).encode() + EXECUTE
    end = Parse(b"", b"COMMIT", ()).encode() + EXECUTE
    raw.send(insert + insert + Query(b"SELECT 1").encode() + Sync().encode() + end + Query(b"SELECT 1").encode())
    messages, _ = raw.read(6)
    assert states(messages) == ["57P01", "E", "25P02", "E", "25P02", "E", "E", "I", "I"]


def busy(client: psycopg.Connection, sql: str, meanwhile: ThreadPoolExecutor) -> "Future[psycopg.Cursor]":
    return meanwhile.submit(client.execute, sql)


def test_a_statement_that_is_lost_in_a_transaction(
    cluster: Sandbox, client: psycopg.Connection, meanwhile: ThreadPoolExecutor
) -> None:
    client.execute("BEGIN")
    client.execute("INSERT INTO lost VALUES (1)")
    running = busy(client, "SELECT pg_sleep(59)", meanwhile)
    terminate(cluster, "query LIKE '%pg_sleep(59)%'")
    with pytest.raises(errors.AdminShutdown):
        running.result(20)
    assert client.info.transaction_status == TransactionStatus.INERROR
    client.execute("ROLLBACK")
    assert client.execute("/* pointsman: primary */ SELECT count(*) FROM lost").fetchone() == (0,)


def test_a_commit_whose_answer_is_lost_has_an_unknown_outcome(
    cluster: Sandbox, client: psycopg.Connection, meanwhile: ThreadPoolExecutor
) -> None:
    client.execute("BEGIN")
    client.execute("INSERT INTO slow_commit VALUES (1)")
    running = busy(client, "COMMIT", meanwhile)
    terminate(cluster, "query = 'COMMIT' AND state = 'active'")
    with pytest.raises(errors.TransactionResolutionUnknown) as told:
        running.result(20)
    assert told.value.diag.message_hint == "See whether its changes are there before it is tried again."
    assert 'The node is "db1".' in (told.value.diag.message_detail or "")
    assert client.info.transaction_status == TransactionStatus.IDLE
    assert client.execute("/* pointsman: primary */ SELECT count(*) FROM slow_commit").fetchone() == (0,)


def test_a_commit_that_nobody_could_read_has_an_unknown_outcome(
    cluster: Sandbox, client: psycopg.Connection, meanwhile: ThreadPoolExecutor
) -> None:
    """In such an encoding a text is not looked into: nobody has seen the transaction begin or end."""
    client.execute("SET client_encoding TO 'SJIS'")
    client.execute("BEGIN")
    client.execute("INSERT INTO slow_commit VALUES (1)")
    running = busy(client, "COMMIT", meanwhile)
    terminate(cluster, "query = 'COMMIT' AND state = 'active'")
    # Nor is it known what else it has left on its server: its session ends.
    with pytest.raises(psycopg.OperationalError, match="Whether the transaction was committed is not known"):
        running.result(20)


def test_a_rollback_whose_answer_is_lost_is_none(cluster: Sandbox, raw: RawClient) -> None:
    raw.send(Query(b"BEGIN").encode() + Query(b"INSERT INTO lost VALUES (1)").encode())
    raw.read(2)
    raw.send(Query(b"SELECT pg_sleep(59)").encode() + Query(b"ROLLBACK").encode())
    terminate(cluster, "query LIKE '%pg_sleep(59)%'")
    messages, _ = raw.read(2)
    assert states(messages) == ["57P01", "I", "57P01", "I"]
    raw.send(Query(b"SELECT 1").encode())
    assert states(raw.read(1)[0]) == ["I"]


def test_a_write_whose_answer_is_lost_has_an_unknown_outcome(
    cluster: Sandbox, client: psycopg.Connection, meanwhile: ThreadPoolExecutor
) -> None:
    running = busy(client, "INSERT INTO lost SELECT 1 FROM pg_sleep(59)", meanwhile)
    terminate(cluster, "query LIKE '%pg_sleep(59)%'")
    with pytest.raises(errors.TransactionResolutionUnknown):
        running.result(20)
    assert client.execute("/* pointsman: primary */ SELECT count(*) FROM lost").fetchone() == (0,)


@pytest.mark.parametrize("prepare", [False, True], ids=["simple", "prepared"])
def test_a_read_is_read_again_elsewhere(
    cluster: Sandbox, client: psycopg.Connection, meanwhile: ThreadPoolExecutor, prepare: bool
) -> None:
    """It waits for a lock, which is held on the standbys too; then the server is ended on which it waits."""
    client.prepare_threshold = 0 if prepare else None
    with contextlib.closing(psycopg.connect(cluster.url(cluster.nodes[0], user="postgres"), autocommit=True)) as locker:
        locker.execute("BEGIN; LOCK TABLE lost IN ACCESS EXCLUSIVE MODE")
        # A lock is replicated with the next commit.
        cluster.query("CREATE TABLE pushes (a int); DROP TABLE pushes")
        locked = "SELECT 1 FROM pg_locks WHERE relation = 'lost'::regclass AND mode = 'AccessExclusiveLock'"
        eventually(lambda: all(cluster.query(locked, node) for node in cluster.nodes))
        parameters = [1] if prepare else None
        sql = f"SELECT count(*) + {'%s' if prepare else '1'} FROM lost"
        running = meanwhile.submit(client.execute, sql, parameters)

        def waits() -> list[tuple[int, str]]:
            asked = f"{WAITS} AND wait_event_type = 'Lock'"
            return [(node, str(row[0])) for node in range(3) for row in cluster.query(asked, cluster.nodes[node])]

        eventually(lambda: len(waits()) == 1)
        for _ in range(2):
            before = waits()
            ((node, pid),) = before
            cluster.query(f"SELECT pg_terminate_backend({pid})", cluster.nodes[node])
            eventually(lambda before=before: len(waits()) == 1 and waits() != before)  # type: ignore[misc]
        locker.execute("COMMIT")
        assert running.result(20).fetchone() == (1,)
    assert client.info.transaction_status == TransactionStatus.IDLE


def test_a_read_of_which_something_was_seen_is_not_read_again(cluster: Sandbox, raw: RawClient) -> None:
    raw.send(Query(b"SELECT a, repeat('x', 100) FROM generate_series(1, 3000000) AS s (a)").encode())
    # The socket's buffers are full by now, with answers that were passed on.
    time.sleep(0.3)
    for node in range(3):
        cluster.query(
            f"SELECT pg_terminate_backend(pid) FROM ({WAITS} AND query LIKE '%3000000%') AS p", cluster.nodes[node]
        )
    messages, ending = raw.read(1)
    # Within a message there is nothing that could be said.
    assert ending is Ending.EOF or states(messages) in (["57P01", "I"], ["08006", "I"])


def test_settings_of_a_lost_transaction_are_taken_back(cluster: Sandbox, raw: RawClient) -> None:
    raw.send(Query(b"SET DateStyle TO 'German'").encode())
    raw.read(1)
    raw.send(Query(b"BEGIN; SET DateStyle TO 'SQL'; SET work_mem TO '99MB'").encode())
    raw.read(1)
    terminate(cluster, IN_TRANSACTION)
    raw.send(Query(b"ROLLBACK").encode() + Query(b"SHOW DateStyle").encode() + Query(b"SHOW work_mem").encode())
    messages, _ = raw.read(3)
    told = [message for message in messages if isinstance(message, ParameterStatus)]
    assert [one.value for one in told] == [b"German, DMY"]
    assert b"German, DMY" in repr(messages).encode()
    assert "99MB" not in repr(messages)


@pytest.mark.parametrize("statement", ["SELECT pg_advisory_lock(7)", "PREPARE p AS SELECT 1", "DO 'BEGIN END'"])
def test_a_session_whose_state_was_on_its_server_ends(
    cluster: Sandbox, client: psycopg.Connection, statement: str
) -> None:
    lose_transaction(cluster, client, statement)
    with pytest.raises(psycopg.OperationalError) as told:
        client.execute("ROLLBACK")
    assert told.value.sqlstate in ("57P01", None)
    assert client.closed


def test_what_a_rollback_takes_back_ends_no_session(cluster: Sandbox, client: psycopg.Connection) -> None:
    lose_transaction(cluster, client, "CREATE TEMP TABLE passing (a int)", "LISTEN something")
    client.execute("ROLLBACK")
    assert client.execute("SELECT to_regclass('passing')").fetchone() == (None,)


def test_a_backend_that_crashes_takes_the_others_with_it(
    cluster: Sandbox, endpoint: Endpoint, client: psycopg.Connection, meanwhile: ThreadPoolExecutor
) -> None:
    """kill -9 of one: PostgreSQL ends all, and starts again. Who holds nothing there only waits."""
    with (
        contextlib.closing(psycopg.connect(endpoint.conninfo(), autocommit=True)) as in_transaction,
        contextlib.closing(psycopg.connect(endpoint.conninfo(), autocommit=True)) as idle,
    ):
        in_transaction.execute("BEGIN")
        in_transaction.execute("INSERT INTO lost VALUES (1)")
        running = busy(client, "INSERT INTO lost SELECT 1 FROM pg_sleep(59)", meanwhile)
        eventually(lambda: cluster.query(f"{WAITS} AND query LIKE '%pg_sleep(59)%'") != [])
        ((pid,),) = cluster.query(f"{WAITS} AND query LIKE '%pg_sleep(59)%'")
        os.kill(int(pid), 9)
        with pytest.raises(errors.TransactionResolutionUnknown):
            running.result(20)
        assert idle.execute("INSERT INTO lost VALUES (2) RETURNING a").fetchone() == (2,)
        with pytest.raises(psycopg.Error) as told:
            in_transaction.execute("SELECT 1")
        assert told.value.sqlstate in ("57P02", "08006")
        in_transaction.execute("ROLLBACK")
        assert in_transaction.execute("DELETE FROM lost").rowcount == 1


def test_new_work_waits_for_a_primary(
    cluster: Sandbox, endpoint: Endpoint, client: psycopg.Connection, meanwhile: ThreadPoolExecutor
) -> None:
    client.execute("INSERT INTO lost VALUES (4)")
    cluster.nodes[0].kill()
    try:
        held = meanwhile.submit(insist, client, "DELETE FROM lost RETURNING a")
        login = meanwhile.submit(lambda: psycopg.connect(endpoint.conninfo() + " options='-c geqo_seed=0.5'"))
        time.sleep(1.5)
        assert not held.done()
        # A standby tells it what it must know.
        login.result(10).close()
    finally:
        cluster.nodes[0].start()
    assert held.result(20).fetchall() == [(4,)]


def test_the_wait_for_a_primary_is_told_of_bounded_and_can_be_cancelled(
    cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory, meanwhile: ThreadPoolExecutor
) -> None:
    with (
        pointsman(
            cluster, tmp_path_factory.mktemp("short"), workers=1, query_wait_timeout=1.5, query_wait_notify=0.5
        ) as endpoint,
        contextlib.closing(psycopg.connect(endpoint.conninfo(), autocommit=True)) as client,
    ):
        heard: list[str] = []
        client.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
        client.execute("TRUNCATE lost")
        cluster.nodes[0].kill()
        try:
            with pytest.raises(errors.CannotConnectNow, match="no primary is available") as told:
                insist(client, "INSERT INTO lost VALUES (1)")
            assert "within 1.5 s (query_wait_timeout)" in (told.value.diag.message_detail or "")
            assert heard
            assert heard[0].startswith("still waiting for a primary")
            timer = threading.Timer(0.2, client.cancel_safe)
            timer.start()
            with pytest.raises(errors.QueryCanceled):
                client.execute("INSERT INTO lost VALUES (1)")
            timer.join()
        finally:
            cluster.nodes[0].start()
        eventually(lambda: succeeds(client, "INSERT INTO lost VALUES (5)"), timeout_s=20)
        client.execute("TRUNCATE lost")


def insist(client: psycopg.Connection, sql: str) -> psycopg.Cursor:
    """Carry it out on a primary that was just killed: its connection may not be known to be dead yet."""
    try:
        return client.execute(sql)
    except errors.TransactionResolutionUnknown:
        return client.execute(sql)


def succeeds(client: psycopg.Connection, sql: str) -> bool:
    try:
        client.execute(sql)
    except psycopg.Error:
        return False
    return True


def test_reads_go_on_at_the_standbys_without_a_primary(
    cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also when it is gone for longer than a standby may be behind."""
    with (
        pointsman(
            cluster, tmp_path_factory.mktemp("reads"), workers=1, query_wait_timeout=2, max_replica_lag=1
        ) as endpoint,
        contextlib.closing(psycopg.connect(endpoint.conninfo(), autocommit=True)) as client,
        contextlib.closing(psycopg.connect(endpoint.conninfo(), autocommit=True)) as writer,
    ):
        where = "SELECT current_setting('cluster_name')"
        eventually(lambda: client.execute(where).fetchone() != ("db1",))
        writer.execute("TRUNCATE lost")
        cluster.nodes[0].kill()
        try:
            until = time.monotonic() + 3
            while time.monotonic() < until:
                began = time.monotonic()
                assert client.execute(where).fetchone() != ("db1",)
                assert time.monotonic() - began < 1.5
                time.sleep(0.05)
        finally:
            cluster.nodes[0].start()
        eventually(lambda: succeeds(writer, "TRUNCATE lost"), timeout_s=20)


def test_a_node_that_answers_again_is_connected_to_at_once(
    cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long no server was to be opened after one could not be; the node has never counted as down."""
    monkeypatch.setenv("POINTSMAN_HEALTH_CHECK__MAX_RETRIES", "1000")
    monkeypatch.setenv("POINTSMAN_HEALTH_CHECK__RETRY_DELAY", "0.2")
    with (
        pointsman(cluster, tmp_path_factory.mktemp("again"), workers=1, server_login_retry=60) as endpoint,
        contextlib.closing(psycopg.connect(endpoint.conninfo(), autocommit=True)) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        client.execute("TRUNCATE lost")
        cluster.nodes[0].kill()
        try:
            held = threads.submit(insist, client, "TRUNCATE lost")
            # An opening has failed by now.
            time.sleep(1)
            assert not held.done()
        finally:
            cluster.nodes[0].start()
        held.result(20)
