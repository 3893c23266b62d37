"""Weights, rules, and who reads when: asked of PostgreSQL itself, in each row that it returns."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.integration.unanswered import no_commit_is_answered
from tests.waiting import eventually

pytestmark = pytest.mark.integration

WHO = "SELECT current_setting('cluster_name')"
READS = 30


def connect(endpoint: Endpoint, **keywords: str) -> psycopg.Connection:
    conninfo = psycopg.conninfo.make_conninfo(endpoint.conninfo(), **keywords)
    return psycopg.connect(conninfo, autocommit=True)


def node(client: psycopg.Connection, sql: str = WHO) -> str:
    """Where a statement ran."""
    row = client.execute(sql).fetchone()
    assert row is not None
    return str(row[0])


def nodes(client: psycopg.Connection, reads: int = READS) -> set[str]:
    return {node(client) for _ in range(reads)}


def once_known(client: psycopg.Connection) -> psycopg.Connection:
    """The client, once the catalog has been read, and replayed by all standbys: its reads leave the primary."""
    eventually(lambda: node(client) != "db1" and "the catalog" not in plan(client), told=lambda: plan(client))
    return client


def plan(client: psycopg.Connection) -> str:
    return "\n".join(row[0] for row in client.execute("EXPLAIN (ROUTE) SELECT 1").fetchall())


@pytest.fixture
def counter(cluster: Sandbox) -> Iterator[str]:
    """A write."""
    cluster.query("CREATE TABLE balance (a int)", user="app")
    cluster.wait_for_replay()
    yield "INSERT INTO balance VALUES (1)"
    cluster.query("DROP TABLE balance")


def test_a_node_of_weight_0_gets_no_reads(cluster: Sandbox, tmp_path: Path) -> None:
    settings = {"db2": {"weight": 0}, "db3": {"weight": 7, "zone": "b"}}
    with pointsman(cluster, tmp_path, nodes=settings) as endpoint, connect(endpoint) as client:
        once_known(client)
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(connect(endpoint)) for _ in range(4)]
            assert {node(other) for other in others for _ in range(READS)} == {"db3"}
        told = plan(client)
        assert "node db1, primary: takes it if no standby may" in told
        assert "node db2, standby, weight 0: takes no reads" in told
        assert "node db3, standby, weight 7, zone b: may take it" in told


def test_reads_are_shared_out_by_weight(cluster: Sandbox, tmp_path: Path) -> None:
    with (
        pointsman(cluster, tmp_path, consistency="eventual", nodes={"db3": {"weight": 4}}) as endpoint,
        connect(endpoint) as client,
    ):
        once_known(client)
        served = [node(client) for _ in range(50)]
        assert (served.count("db2"), served.count("db3")) == (10, 40)


def test_our_own_zone_comes_first(cluster: Sandbox, tmp_path: Path) -> None:
    zones = {"db1": {"zone": "b"}, "db2": {"zone": "a"}, "db3": {"zone": "b"}}
    with (
        pointsman(cluster, tmp_path, consistency="eventual", zone="b", nodes=zones) as endpoint,
        connect(endpoint) as client,
    ):
        once_known(client)
        assert nodes(client) == {"db3"}
        assert "node db3, standby, weight 1, our zone b: may take it" in plan(client)


def test_rules_hold_for_their_applications_users_and_databases(cluster: Sandbox, tmp_path: Path) -> None:
    rules = [
        {"application_name": "report.*", "prefer": ["db3"]},
        {"user": "postgres", "consistency": "primary"},
        {"database": "postgres|template1", "prefer": ["db2"]},
    ]
    with pointsman(cluster, tmp_path, consistency="eventual", routes=rules) as endpoint:
        with connect(endpoint) as client:
            once_known(client)
            assert nodes(client) == {"db2", "db3"}
        with connect(endpoint, application_name="reports") as client:
            assert nodes(client) == {"db3"}
            assert "node db3, standby, weight 1, preferred: may take it" in plan(client)
            # What a rule says is where a session begins.
            client.execute("SET pointsman.consistency = 'primary'")
            assert nodes(client) == {"db1"}
            client.execute("RESET pointsman.consistency")
            assert nodes(client) == {"db3"}
        with connect(endpoint, options="-c application_name=report") as client:
            assert nodes(client) == {"db3"}
        with connect(endpoint, application_name="my report") as client:
            assert nodes(client) == {"db2", "db3"}
        with connect(endpoint, user="postgres", password=cluster.passwords["postgres"]) as client:
            assert nodes(client) == {"db1"}
            client.execute("SET pointsman.consistency = 'eventual'")
            eventually(lambda: node(client) != "db1")
            client.execute("RESET pointsman.consistency")
            assert nodes(client) == {"db1"}
        with connect(endpoint, dbname="postgres") as client:
            once_known(client)
            assert nodes(client) == {"db2"}


def test_the_primary_reads_too_where_it_always_does(cluster: Sandbox, tmp_path: Path, counter: str) -> None:
    with pointsman(cluster, tmp_path, read_from_primary="always") as endpoint, connect(endpoint) as client:
        once_known(client)
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(connect(endpoint)) for _ in range(9)]
            served = [node(other) for other in others]
            assert sorted(served) == ["db1"] * 3 + ["db2"] * 3 + ["db3"] * 3
        client.execute("SET pointsman.consistency = 'eventual'")
        assert nodes(client) == {"db1", "db2", "db3"}
        assert "node db1, primary, weight 1: may take it" in plan(client)
        eventually(lambda: node(client) == "db1")
        assert node(client, "SHOW pointsman.last_route").endswith("and the primary is one of the readers")
        # It reads its own writes, and leaves the primary again.
        client.execute("SET pointsman.consistency = 'session'")
        for number in range(1, 6):
            client.execute(counter)
            assert node(client, "SELECT count(*) FROM balance") == str(number)
        once_known(client)
        # Who asks for a standby gets one.
        client.execute("SET pointsman.route = 'standby'")
        assert nodes(client) <= {"db2", "db3"}


def test_never_on_the_primary_means_waiting_for_a_standby(cluster: Sandbox, tmp_path: Path, counter: str) -> None:
    settings = {"read_from_primary": "never", "query_wait_timeout": 1}
    with pointsman(cluster, tmp_path, **settings) as endpoint, connect(endpoint) as client:
        once_known(client)
        assert "node db1, primary: takes no read that a standby may serve" in plan(client)
        for number in range(1, 11):
            client.execute(counter)
            row = client.execute(f"{WHO}, count(*) FROM balance").fetchone()
            assert row is not None
            assert row[0] != "db1"
            assert row[1] == number
        # What no standby may serve is not for them to wait for.
        assert node(client, f"{WHO} FROM balance FOR UPDATE") == "db1"
        assert node(client, f"/* pointsman: primary */ {WHO}") == "db1"
        with cluster.replay_paused():
            client.execute(counter)
            for cursor in (client.cursor(), psycopg.ClientCursor(client)):
                began = time.monotonic()
                with pytest.raises(psycopg.errors.CannotConnectNow, match="no standby could serve this read within"):
                    cursor.execute(WHO)
                assert time.monotonic() - began >= 0.9
            # The rest of a pipeline's batch is skipped, and the session goes on.
            # psycopg believes of a Parse that fails in a pipeline that it has not.
            with pytest.raises(psycopg.errors.CannotConnectNow), client.pipeline():
                client.execute(WHO, prepare=False)
            client.execute(counter)
            client.execute("SET pointsman.consistency = 'primary'")
            assert node(client) == "db1"
            client.execute("RESET pointsman.consistency")
        eventually(lambda: node(client) != "db1")


def test_a_read_that_waits_is_served_as_soon_as_it_can_be_and_can_be_cancelled(
    cluster: Sandbox, tmp_path: Path, counter: str
) -> None:
    with pointsman(cluster, tmp_path, read_from_primary="never") as endpoint, connect(endpoint) as client:
        once_known(client)
        with cluster.replay_paused():
            client.execute(counter)
            canceller = threading.Timer(0.3, client.cancel_safe)
            canceller.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                client.execute(WHO)
            canceller.join()
            served: list[str] = []
            reader = threading.Thread(target=lambda: served.append(node(client)))
            reader.start()
            reader.join(0.3)
            assert served == []
        reader.join(10)
        assert served[0] != "db1"


def test_never_on_the_primary_even_when_no_standby_is_up(sandbox: Sandbox, tmp_path: Path) -> None:
    settings = {"read_from_primary": "never", "query_wait_timeout": 2}
    sandbox.query("CREATE TABLE still_writes (a int)", user="app")
    with pointsman(sandbox, tmp_path, **settings) as endpoint, connect(endpoint) as client:
        once_known(client)
        sandbox.standbys[0].stop()
        # At first it is thought to be up, and only refuses connections.
        for _ in range(2):
            with pytest.raises(psycopg.errors.CannotConnectNow, match="no standby"):
                client.execute(WHO)
        eventually(lambda: "not used" in plan(client))
        began = time.monotonic()
        with pytest.raises(psycopg.errors.CannotConnectNow, match="no standby is available for this read"):
            client.execute(WHO)
        assert time.monotonic() - began < 1
        client.execute("INSERT INTO still_writes VALUES (1)")
        sandbox.standbys[0].start()
        deadline = time.monotonic() + 20
        served = ""
        while not served and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.errors.CannotConnectNow):
                served = node(client)
        assert served == "db2"


def test_what_was_meant_for_a_standby_that_fails_is_not_run_on_the_primary(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.query("CREATE TABLE meant (a int)", user="app")
    with (
        pointsman(sandbox, tmp_path) as endpoint,
        connect(endpoint, options="-c pointsman.route=standby") as client,
    ):
        eventually(lambda: node(client) == "db2")
        sandbox.standbys[0].stop()
        for _ in range(3):
            with pytest.raises(psycopg.OperationalError):
                client.execute("INSERT INTO meant VALUES (1)")
    assert sandbox.query("SELECT count(*) FROM meant") == [["0"]]


@pytest.mark.parametrize("balance", ["least_outstanding", "round_robin", "random"])
def test_a_client_keeps_the_standby_of_its_first_read(cluster: Sandbox, tmp_path: Path, balance: str) -> None:
    rules = [{"application_name": "loose", "session_affinity": "off"}]
    settings = {"session_affinity": "on", "consistency": "eventual", "balance": balance}
    with pointsman(cluster, tmp_path, routes=rules, **settings) as endpoint, contextlib.ExitStack() as stack:
        once_known(stack.enter_context(connect(endpoint)))
        clients = [stack.enter_context(connect(endpoint)) for _ in range(12)]
        kept = [nodes(client) for client in clients]
        assert all(len(one) == 1 for one in kept)
        assert set().union(*kept) == {"db2", "db3"}
        assert nodes(stack.enter_context(connect(endpoint, application_name="loose"))) == {"db2", "db3"}


@pytest.mark.parametrize("level", ["session", "global"])
def test_what_one_standby_has_shown_before_its_commit_was_answered_the_next_one_shows(
    cluster: Sandbox, counter: str, tmp_path: Path, level: str
) -> None:
    behind = cluster.standbys[1]
    count = "SELECT count(*) FROM balance"
    with (
        pointsman(cluster, tmp_path, consistency=level, balance="round_robin") as endpoint,
        connect(endpoint) as client,
        connect(endpoint) as writer,
    ):
        once_known(client)
        cluster.query("SELECT pg_wal_replay_pause()", behind)
        with no_commit_is_answered(cluster):
            writing = threading.Thread(target=writer.execute, args=(counter,))
            writing.start()
            eventually(lambda: node(client, count) == "1")
            assert {node(client, count) for _ in range(READS)} == {"1"}
            cluster.query("SELECT pg_wal_replay_resume()", behind)
        writing.join()
        cluster.wait_for_replay()
