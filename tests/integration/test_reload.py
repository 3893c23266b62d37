"""New settings under load: what changes, for whom, and that no client notices."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

from middleware.sandbox import Sandbox
from tests.integration.reloading import Load, Reloadable, reloadable
from tests.waiting import eventually

pytestmark = pytest.mark.integration

CLIENTS = 60
ALL = ("db1", "db2", "db3")
SETTLED_S = 1.0
"""For how long a pool is looked at that must not be larger."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """One that nobody else uses: connections are counted."""
    with Sandbox(version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


@pytest.fixture
def three() -> Iterator[Sandbox]:
    """One to be broken."""
    with Sandbox(version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


def assert_never_more(it: Reloadable, most: int) -> None:
    """Servers on the primary, once they have come down to that."""
    eventually(lambda: it.servers("db1") <= most)
    until = time.monotonic() + SETTLED_S
    while time.monotonic() < until:
        assert it.servers("db1") <= most
        time.sleep(0.05)


def test_under_load_everything_changes_and_no_client_notices(cluster: Sandbox, tmp_path: Path) -> None:
    new = cluster.node("db3").port
    # Servers that nobody uses go soon, such as those of the pool that rules have taken clients from.
    settings: dict[str, Any] = {"workers": 2, "default_pool_size": 10, "server_idle_timeout": 1}
    with reloadable(cluster, tmp_path, ("db1", "db2"), **settings) as it, Load(it.endpoint, CLIENTS) as load:
        for round_ in range(2):
            # A standby comes.
            assert "nodes.db3: none -> node at" in it.use(ALL, **settings)
            load.wait_for_reads_at(new)
            # Pools shrink, and grow.
            it.use(ALL, **{**settings, "default_pool_size": 3})
            assert_never_more(it, 3)
            load.assert_well()
            it.use(ALL, **{**settings, "default_pool_size": 15})
            eventually(lambda: it.servers("db1") > 3)
            # Rules, timeouts, the cache.
            rules = [{"name": "load", "application_name": "load", "pool_size": 5, "query_timeout": 20}]
            it.use(ALL, **settings, routes=rules, query_timeout=30, query_cache="on", max_prepared_statements=20)
            load.assert_well()
            assert_never_more(it, 5)
            it.use(ALL, **settings, routes=[{**rules[0], "pool_size": 2}], consistency="global")
            load.assert_well()
            assert_never_more(it, 2)
            preferring = [{"application_name": "load", "prefer": ["db3"]}]
            it.use(ALL, **settings, routes=preferring, primary_queries=["never_seen"])
            load.wait_for_reads_at(new)
            # It goes.
            assert "nodes.db3: node at" in it.use(("db1", "db2"), **settings)
            eventually(lambda: it.servers("db3") == 0)
            at_rest = load.served[new]
            load.assert_well()
            assert load.served[new] == at_rest, f"round {round_}"
            assert it.servers("db3") == 0


def test_nodes_move_and_are_renamed_under_load(cluster: Sandbox, tmp_path: Path) -> None:
    with reloadable(cluster, tmp_path, ALL, workers=2) as it, Load(it.endpoint, CLIENTS) as load:
        for _ in range(2):
            for hosts in ({"db1": "localhost", "db2": "localhost"}, {}):
                it.use(ALL, workers=2, hosts=hosts)
                load.wait_for_reads_at(cluster.node("db2").port)
                load.assert_well()
            for names in ({"db1": "first", "db3": "third"}, {}):
                it.use(ALL, workers=2, names=names)
                load.wait_for_reads_at(cluster.node("db3").port)
                load.assert_well()


def test_the_primary_cannot_be_taken_away(cluster: Sandbox, tmp_path: Path) -> None:
    with reloadable(cluster, tmp_path, ALL) as it:
        it.write(("db2", "db3"))
        assert "nodes.db1: is the primary" in it.reload("not_reloaded")
        with it.connect() as client:
            client.execute("CREATE TEMPORARY TABLE t ()")


BAD = {
    "syntax": ("default_pool_size = = 3\n", "not a TOML file"),
    "an unknown key": ("default_pool_sise = 3\n", "unknown, did you mean default_pool_size?"),
    "a contradiction": ("max_cached_result_size = 100\nquery_cache_size = 10\n", "at most query_cache_size"),
    "no certificate": (
        'client_tls_sslmode = "require"\nclient_tls_cert_file = "/nowhere"\nclient_tls_key_file = "/nowhere"\n',
        "client_tls_cert_file",
    ),
}


def test_a_bad_file_changes_nothing(cluster: Sandbox, tmp_path: Path) -> None:
    with reloadable(cluster, tmp_path, ALL, default_pool_size=4) as it, Load(it.endpoint, CLIENTS) as load:
        assert_never_more(it, 4)
        for what, (lines, told) in BAD.items():
            it.write(("db1",), default_pool_size=20)
            it.path.write_text(lines + it.path.read_text())
            assert told in it.reload("not_reloaded"), what
        load.wait_for_reads_at(cluster.node("db3").port)
        assert_never_more(it, 4)
        load.assert_well()


def canceled_in_time(it: Reloadable, client: psycopg.Connection[Any]) -> bool:
    """Whether query_timeout is no longer than some seconds."""
    begun = time.monotonic()
    try:
        client.execute("SELECT pg_sleep(3)")
    except errors.QueryCanceled:
        return True
    assert time.monotonic() - begun > 2.5
    return False


def test_timeouts_hold_for_who_is_connected(cluster: Sandbox, tmp_path: Path) -> None:
    with reloadable(cluster, tmp_path, ALL) as it, it.connect() as client, it.connect() as pinned:
        pinned.execute("CREATE TEMPORARY TABLE kept (i int)")
        assert not canceled_in_time(it, client)
        it.use(ALL, query_timeout=0.5)
        assert canceled_in_time(it, client)
        assert canceled_in_time(it, pinned)
        assert pinned.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        it.use(ALL, client_idle_timeout=1)
        time.sleep(2.5)
        for one in (client, pinned):
            with pytest.raises(psycopg.OperationalError, match="client_idle_timeout"):
                one.execute("SELECT 1")


def test_a_statement_that_runs_keeps_its_timeouts(cluster: Sandbox, tmp_path: Path) -> None:
    with reloadable(cluster, tmp_path, ALL) as it, it.connect() as client:
        client.execute("BEGIN")
        it.use(ALL, query_timeout=0.5)
        assert not canceled_in_time(it, client)
        client.execute("COMMIT")
        assert canceled_in_time(it, client)


def test_the_mode_of_pooling_changes_at_rest(cluster: Sandbox, tmp_path: Path) -> None:
    with reloadable(cluster, tmp_path, ALL) as it, it.connect() as client:
        client.execute("SELECT 1")
        it.use(ALL, pool_mode="statement")
        with pytest.raises(errors.FeatureNotSupported):
            client.execute("BEGIN")
        it.use(ALL, pool_mode="session")
        client.execute("SET work_mem = '7MB'")
        pid = client.execute("SELECT pg_backend_pid()").fetchone()
        it.use(ALL, pool_mode="transaction")
        # What it has on its server it keeps.
        assert client.execute("SELECT pg_backend_pid()").fetchone() == pid
        with it.connect() as other:
            other.execute("BEGIN")
            assert client.execute("SELECT pg_backend_pid()").fetchone() == pid
            other.execute("COMMIT")


def test_who_may_come_in_changes(cluster: Sandbox, tmp_path: Path) -> None:
    cluster.query("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD 'right'")
    hba = tmp_path / "hba"
    hba.write_text("host all guest 0.0.0.0/0 reject\nhost all all 0.0.0.0/0 scram-sha-256\n")
    with reloadable(cluster, tmp_path, ("db1",)) as it:

        def comes_in(password: str) -> bool:
            try:
                with it.connect(user="guest", password=password) as client:
                    return client.execute("SELECT 1").fetchone() == (1,)
            except psycopg.OperationalError:
                return False

        assert not comes_in("right")
        it.use(("db1",), users={"guest": "right"})
        assert comes_in("right")
        with it.connect(user="guest", password="right") as client:
            it.use(("db1",), users={"guest": "another"})
            assert not comes_in("right")
            # Who is there stays.
            assert client.execute("SELECT 1").fetchone() == (1,)
            it.use(("db1",), users={"guest": "right"}, auth_type="hba", auth_hba_file=str(hba))
            assert not comes_in("right")
            hba.write_text("host all all 0.0.0.0/0 scram-sha-256\n")
            assert "auth_hba_file: its content has changed" in it.reload()
            assert comes_in("right")
            rules = [{"user": "guest", "refuse": "on"}]
            it.use(("db1",), users={"guest": "right"}, routes=rules)
            assert not comes_in("right")
            assert client.execute("SELECT 1").fetchone() == (1,)


def test_functions_and_expressions_change_where_statements_go(cluster: Sandbox, tmp_path: Path) -> None:
    cluster.query(
        "CREATE OR REPLACE FUNCTION here() RETURNS int LANGUAGE sql STABLE AS 'SELECT inet_server_port()'",
        user="app",
        database="app",
    )
    cluster.wait_for_replay()
    primary = cluster.node("db1").port
    with reloadable(cluster, tmp_path, ALL) as it, it.connect() as client:
        prepared = "SELECT here() AS prepared"

        def on_primary(statement: str) -> bool:
            row = client.execute(statement, prepare=statement is prepared).fetchone()
            return row is not None and row[0] == primary

        eventually(lambda: not on_primary(prepared))
        eventually(lambda: not on_primary("SELECT here()"))
        it.use(ALL, primary_functions=["here"])
        for _ in range(10):
            assert on_primary("SELECT here()")
            assert on_primary(prepared)
        it.use(ALL, primary_queries=["prepared"])
        eventually(lambda: not on_primary("SELECT here()"))
        for _ in range(10):
            assert on_primary(prepared)
        it.use(ALL)
        eventually(lambda: not on_primary(prepared))


def test_a_worker_that_is_started_again_has_the_new_settings(cluster: Sandbox, tmp_path: Path) -> None:
    with reloadable(cluster, tmp_path, ("db1", "db2")) as it:
        it.use(ALL, query_timeout=0.5)
        (worker,) = it.endpoint.workers()
        os.kill(worker.pid, signal.SIGKILL)
        eventually(lambda: [one.pid for one in it.endpoint.workers()] not in ([], [worker.pid]))
        eventually(lambda: it.log().count("worker ready") == 2)
        with it.connect() as client:
            assert canceled_in_time(it, client)
            new = (cluster.node("db3").port,)
            eventually(lambda: client.execute("SELECT inet_server_port()").fetchone() == new)


def test_a_failover_goes_by_the_new_nodes(three: Sandbox, tmp_path: Path) -> None:
    """Also by those that are gone: the first standby is taken out, and never promoted."""
    settings = {"failover": "promote", "failover_after": 0.5, "failover_user": "postgres"}
    with reloadable(three, tmp_path, ("db1", "db2")) as it:
        it.use(("db1", "db3"), **settings)
        eventually(lambda: "node up" in it.log().split("node added")[1])
        three.node("db1").kill()
        eventually(lambda: "db3 is the primary" in it.log(), 30)
        with it.connect() as client:
            client.execute("CREATE TABLE after_all ()")
        assert three.query("SELECT pg_is_in_recovery()", three.node("db2")) == [["t"]]
        # The old primary, which is dead, may be taken out now.
        it.use(("db3",), **settings)
        with it.connect() as client:
            client.execute("CREATE TABLE after_that ()")


def told(it: Reloadable, command: str) -> list[str]:
    """What the console says to a command."""
    notices: list[str] = []
    with psycopg.connect(it.endpoint._replace(database="pointsman").conninfo(), autocommit=True) as console:
        console.add_notice_handler(lambda one: notices.append(one.message_primary or ""))
        done = console.execute(command.encode())
        assert done.statusmessage == command.split()[0]
    return notices


def test_by_the_console(cluster: Sandbox, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"admin_users": ["app"], "default_pool_size": 4}
    with reloadable(cluster, tmp_path, ALL, **settings) as it, Load(it.endpoint, CLIENTS) as load:
        it.write(ALL, **{**settings, "default_pool_size": 5})
        assert told(it, "RELOAD") == ["default_pool_size: 4 -> 5"]
        assert told(it, "SET default_pool_size = 2") == ["default_pool_size: 5 -> 2"]
        assert_never_more(it, 2)
        assert told(it, "SET nodes.db3.weight TO '0'") == ["nodes.db3.weight: 1 -> 0"]
        at_rest = load.served[cluster.node("db3").port]
        load.assert_well()
        # Of those that were under way.
        assert load.served[cluster.node("db3").port] <= at_rest + CLIENTS
        assert set(told(it, "RELOAD")) == {"default_pool_size: 2 -> 5", "nodes.db3.weight: 0 -> 1"}
        load.wait_for_reads_at(cluster.node("db3").port)
        refusals = {
            "SET workers = 3": (errors.ObjectNotInPrerequisiteState, "cannot be changed without a restart"),
            "SET pool_sise = 3": (errors.UndefinedObject, 'unknown setting "pool_sise"'),
            "SET query_timeout = 'long'": (errors.InvalidParameterValue, 'invalid value for setting "query_timeout"'),
        }
        for command, (kind, message) in refusals.items():
            with pytest.raises(kind, match=message):
                told(it, command)
        it.path.write_text("default_pool_sise = 3\n" + it.path.read_text())
        with pytest.raises(errors.ConfigFileError) as refused:
            told(it, "RELOAD")
        assert "default_pool_sise: unknown, did you mean default_pool_size?" in (
            refused.value.diag.message_detail or ""
        )
        load.assert_well()
