"""Pool modes, and the rules that choose them: which server a client has, for how long, and what it leaves there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

PID = "SELECT pg_backend_pid()"


@pytest.fixture(scope="module")
def modes(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An endpoint where the application_name chooses the mode."""
    rules = [
        {"name": "whole", "application_name": "session.*", "pool_mode": "session", "pool_size": 2},
        {"application_name": "statement", "pool_mode": "statement"},
        {"database": "alias_.*", "server_database": "app"},
        {"application_name": "other", "server_user": "pointsman", "server_database": "postgres"},
    ]
    with pointsman(cluster, tmp_path_factory.mktemp("modes"), default_pool_size=2, routes=rules) as running:
        yield running


def connect(endpoint: Endpoint, mode: str, **keys: Any) -> psycopg.Connection[Any]:
    conninfo = psycopg.conninfo.make_conninfo(endpoint.conninfo(), application_name=mode, **keys)
    return psycopg.connect(conninfo, autocommit=True)


def one(client: psycopg.Connection[Any], sql: str) -> Any:
    row = client.execute(sql).fetchone()
    assert row is not None
    return row[0]


def test_in_session_pooling_a_client_has_its_server_to_itself(modes: Endpoint) -> None:
    notices: list[Any] = []
    with connect(modes, "session") as first, connect(modes, "session") as second:
        first.add_notice_handler(notices.append)
        pids = one(first, PID), one(second, PID)
        assert pids[0] != pids[1]
        for index, client in enumerate((first, second)):
            client.execute(f"SET work_mem = '{index + 3}MB'; CREATE TEMP TABLE mine AS SELECT {index} AS a")
            client.execute(f"PREPARE p AS SELECT {index}; LISTEN everything; SELECT pg_advisory_lock({index})")
        for index, client in enumerate((first, second)):
            assert one(client, PID) == pids[index]
            assert one(client, "SHOW work_mem") == f"{index + 3}MB"
            assert one(client, "SELECT a FROM mine") == index
            assert one(client, "EXECUTE p") == index
            with client.transaction():
                assert one(client, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 2
        assert not one(first, "SELECT pg_is_in_recovery()")
    assert notices == []


def test_a_session_leaves_nothing_behind(modes: Endpoint) -> None:
    with connect(modes, "session") as first:
        pid = one(first, PID)
        first.execute("SET work_mem = '3MB'; CREATE TEMP TABLE mine (a int); PREPARE p AS SELECT 1")
        first.execute("SELECT pg_advisory_lock(5)")
        first.execute("BEGIN")
    # A pool of two: one of the next two gets the same server.
    with connect(modes, "session") as second, connect(modes, "session") as third:
        same = [client for client in (second, third) if one(client, PID) == pid]
        for client in (second, third):
            assert one(client, "SHOW work_mem") != "3MB"
            assert one(client, "SELECT to_regclass('pg_temp.mine') IS NULL")
            assert one(client, "SELECT count(*) FROM pg_prepared_statements WHERE name = 'p'") == 0
            assert one(client, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        assert len(same) == 1


def test_a_client_that_finds_no_server_for_its_session_waits_for_one_to_end(modes: Endpoint) -> None:
    first, second = connect(modes, "session"), connect(modes, "session")
    with first, second, connect(modes, "session") as third:
        first.execute("SELECT 1")
        pid = one(second, PID)
        third.pgconn.send_query(PID.encode())
        with connect(modes, "transaction") as client:
            # A rule with a size of its own has pools of its own.
            client.execute("SELECT 1")
        assert third.pgconn.is_busy()
        second.close()
        eventually(lambda: not _busy(third))
        result = third.pgconn.get_result()
        assert result is not None
        assert result.get_value(0, 0) == str(pid).encode()
        assert third.pgconn.get_result() is None


def _busy(client: psycopg.Connection[Any]) -> bool:
    client.pgconn.consume_input()
    return bool(client.pgconn.is_busy())


def test_when_its_server_dies_a_session_ends(cluster: Sandbox, modes: Endpoint) -> None:
    client = connect(modes, "session")
    pid = one(client, PID)
    cluster.query(f"SELECT pg_terminate_backend({pid})")
    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    client.close()


def test_a_session_that_asks_for_a_standby_stays_there(modes: Endpoint) -> None:
    with connect(modes, "session", options="-c pointsman.route=standby") as client:
        assert one(client, "SELECT pg_is_in_recovery()")
        pid = one(client, PID)
        client.execute("SET work_mem = '5MB'")
        assert (one(client, PID), one(client, "SHOW work_mem")) == (pid, "5MB")


@pytest.mark.parametrize("begin", ["BEGIN", "START TRANSACTION READ ONLY"])
def test_in_statement_pooling_there_are_no_transaction_blocks(modes: Endpoint, begin: str) -> None:
    with connect(modes, "statement") as client:
        with pytest.raises(errors.FeatureNotSupported, match="statement pooling"):
            client.execute(begin)
        with pytest.raises(errors.FeatureNotSupported, match="statement pooling"):
            client.execute(begin.encode(), prepare=True)
        assert one(client, "SELECT 1") == 1
        client.execute("BEGIN; SELECT 1; COMMIT")


@pytest.mark.parametrize("more", ["", "SET work_mem = '3MB'; ", "SELECT 1 / 0; "])
def test_a_transaction_block_that_a_string_leaves_open_ends_the_connection(
    cluster: Sandbox, modes: Endpoint, more: str
) -> None:
    client = connect(modes, "statement")
    # Told instead of that its string is done, else libpq would take it for a notice.
    with pytest.raises(psycopg.Error, match="statement pooling" if "0" not in more else "division by zero"):
        client.execute(f"BEGIN; CREATE TABLE left_open (a int); {more}")
    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    client.close()
    assert cluster.query("SELECT to_regclass('left_open') IS NULL") == [["t"]]
    eventually(
        lambda: cluster.query("SELECT count(*) FROM pg_stat_activity WHERE state LIKE '%transaction%'") == [["0"]]
    )


def test_rules_map_databases_and_users(modes: Endpoint) -> None:
    with connect(modes, "x", dbname="alias_one") as first, connect(modes, "x", dbname="alias_two") as second:
        assert [one(client, "SELECT current_database()") for client in (first, second)] == ["app", "app"]
        first.execute("CREATE TABLE by_alias AS SELECT 1 AS a")
        assert one(second, "SELECT count(*) FROM by_alias") == 1
        second.execute("DROP TABLE by_alias")
    with connect(modes, "other") as client:
        assert one(client, "SELECT current_user || '@' || current_database()") == "pointsman@postgres"


def test_each_tenant_of_a_wildcard_rule_has_a_pool_of_its_own(cluster: Sandbox, tmp_path: Path) -> None:
    tenants = ("tenant_a", "tenant_b")
    for tenant in tenants:
        cluster.query(f"CREATE DATABASE {tenant} OWNER app")
    try:
        rules = [{"database": "tenant_.*", "pool_size": 1, "query_wait_timeout": 0.5}]
        with (
            pointsman(cluster, tmp_path, routes=rules) as endpoint,
            connect(endpoint, "", dbname="tenant_a") as a,
            connect(endpoint, "", dbname="tenant_b") as b,
            connect(endpoint, "", dbname="tenant_a") as c,
        ):
            a.execute("BEGIN; SELECT 1")
            b.execute("BEGIN; SELECT 1")
            with pytest.raises(errors.TooManyConnections):
                c.execute("BEGIN; SELECT 1")
    finally:
        for tenant in tenants:
            cluster.query(f"DROP DATABASE {tenant} WITH (FORCE)")
