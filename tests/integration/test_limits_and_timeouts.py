"""Each limit and timeout by its name: what happens at its bound, and that nothing is left behind."""

import contextlib
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import psycopg
import pytest
from psycopg import errors

from middleware.sandbox import Sandbox
from middleware.wire.backend import ErrorResponse, decode_backend
from middleware.wire.fields import Message
from middleware.wire.framing import Framer
from middleware.wire.frontend import Query, StartupMessage
from tests.conftest import Endpoint, pointsman
from tests.differential.raw_client import Address, RawClient
from tests.waiting import eventually

SERVERS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """A primary to which nobody but the endpoint of the test connects."""
    with Sandbox(standbys=0, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as alone:
        yield alone


class Running:
    """An endpoint with settings of its own, and its log."""

    def __init__(self, cluster: Sandbox, endpoint: Endpoint, log: pointsman) -> None:
        self.cluster = cluster
        self.endpoint = endpoint
        self.log = log.log
        self.clients = contextlib.ExitStack()
        """Closed in the end."""

    def connect(self, **keys: Any) -> psycopg.Connection[Any]:
        conninfo = psycopg.conninfo.make_conninfo(self.endpoint.conninfo(), **keys)
        return self.clients.enter_context(contextlib.closing(psycopg.connect(conninfo, autocommit=True)))

    def servers(self, database: str = "app") -> int:
        """Connections to the primary for the user."""
        return int(self.cluster.query(f"{SERVERS} AND datname = '{database}'")[0][0])


@contextlib.contextmanager
def running(cluster: Sandbox, directory: Path, **settings: Any) -> Iterator[Running]:
    eventually(lambda: cluster.query(SERVERS) == [["0"]])
    instance = pointsman(cluster, directory, consistency="primary", **settings)
    with instance as endpoint:
        it = Running(cluster, endpoint, instance)
        with it.clients:
            yield it


def test_query_timeout(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, query_timeout=0.5) as it, it.connect() as client:
        notices: list[str] = []
        client.add_notice_handler(lambda one: notices.append(one.message_primary or ""))
        with pytest.raises(errors.QueryCanceled):
            client.execute("SELECT pg_sleep(30)")
        assert notices == ["canceling statement due to query_timeout"]
        assert client.execute("SELECT 1").fetchone() == (1,)
        assert "pg_sleep" in it.log()
        assert "30" not in it.log().split("query_timeout")[1].splitlines()[0]


def test_query_timeout_does_not_count_for_how_long_its_server_was_idle(cluster: Sandbox, tmp_path: Path) -> None:
    """Also where the client's settings go in front of the statement."""
    with (
        running(cluster, tmp_path, query_timeout=1, default_pool_size=1) as it,
        it.connect(options="-c work_mem=5MB") as one,
        it.connect(options="-c work_mem=6MB") as other,
    ):
        one.execute("SELECT 1")
        time.sleep(1.2)
        # Longer than a tick.
        other.execute("SELECT pg_sleep(0.6)")
        assert other.execute("SHOW work_mem").fetchone() == ("6MB",)


def test_query_timeout_is_that_of_the_statement_that_runs(cluster: Sandbox, tmp_path: Path) -> None:
    """However much is sent behind it; and what waits behind others has not run yet."""
    with running(cluster, tmp_path, query_timeout=1, default_pool_size=1) as it, it.connect() as client:
        with client.pipeline() as pipeline:
            for _ in range(4):
                client.execute("SELECT pg_sleep(0.4)")
                pipeline.sync()
        endpoint = it.endpoint
        address = Address(endpoint.host, endpoint.port, endpoint.user, endpoint.password, endpoint.database)
        with RawClient(address) as raw:
            raw.log_in()
            raw.send(Query(b"SELECT pg_sleep(30)").encode())
            began = time.monotonic()
            came: list[Message] = []
            while not any(isinstance(one, ErrorResponse) for one in came):
                assert time.monotonic() - began < 10
                raw.send(Query(b"SELECT 1").encode())
                came += raw.read(1, deadline_s=0.1)[0]


def test_transaction_timeout(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, transaction_timeout=0.7, default_pool_size=1) as it:
        client = it.connect()
        client.execute("BEGIN")
        client.execute("SELECT 1")
        with pytest.raises(errors.TransactionTimeout, match="transaction_timeout") as caught:
            client.execute("SELECT pg_sleep(10)")
        assert caught.value.sqlstate == "25P04"
        with it.connect() as other:
            other.execute("SELECT 1")


def test_idle_transaction_timeout(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, idle_transaction_timeout=0.5, default_pool_size=1) as it:
        with it.connect() as idle:
            idle.execute("SELECT 1")
            client = it.connect()
            client.execute("BEGIN")
            for _ in range(8):
                client.execute("SELECT pg_sleep(0.1)")
            in_transactions = f"{SERVERS} AND state LIKE '%transaction%'"
            assert it.cluster.query(in_transactions) == [["1"]]
            eventually(lambda: it.cluster.query(in_transactions) == [["0"]])
            with pytest.raises(errors.IdleInTransactionSessionTimeout, match="idle_transaction_timeout") as caught:
                client.execute("SELECT 1")
            assert caught.value.sqlstate == "25P03"
            # Not in a transaction, it may be as idle as it likes.
            idle.execute("SELECT 1")
        assert it.cluster.query(in_transactions) == [["0"]]


@pytest.mark.parametrize("pool_mode", ["transaction", "session"])
def test_client_idle_timeout(cluster: Sandbox, tmp_path: Path, pool_mode: str) -> None:
    with running(cluster, tmp_path, client_idle_timeout=0.5, pool_mode=pool_mode) as it:
        idle, busy = it.connect(), it.connect()
        idle.execute("SELECT 1")
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            busy.execute("SELECT pg_sleep(0.1)")
        with pytest.raises(psycopg.OperationalError, match="client_idle_timeout") as caught:
            idle.execute("SELECT 1")
        assert caught.value.sqlstate == "57P05"


def test_query_wait_timeout_and_query_wait_notify(cluster: Sandbox, tmp_path: Path) -> None:
    limits = {"query_wait_timeout": 1.5, "query_wait_notify": 0.5}
    with (
        running(cluster, tmp_path, default_pool_size=1, **limits) as it,
        it.connect() as holder,
        it.connect() as client,
    ):
        notices: list[str] = []
        client.add_notice_handler(lambda one: notices.append(one.message_primary or ""))
        holder.execute("BEGIN")
        began = time.monotonic()
        with pytest.raises(errors.TooManyConnections, match="query_wait_timeout"):
            client.execute("SELECT 1")
        assert 1.2 < time.monotonic() - began < 10
        assert notices == ['still waiting for a connection to node "db1"']
        holder.execute("COMMIT")
        client.execute("SELECT 1")


def test_a_login_with_another_application_name_needs_no_server(cluster: Sandbox, tmp_path: Path) -> None:
    names = ["one", "two", "x" * 70, 'it\'s \\ "quoted"', "caf\u00e9 " + "\u00e9" * 40]

    def told(client: psycopg.Connection[Any]) -> bytes | None:
        return client.pgconn.parameter_status(b"application_name")

    with running(cluster, tmp_path, default_pool_size=1, query_wait_timeout=1) as it:
        holder = it.connect(application_name="first")
        with it.connect(application_name=names[-1]) as client:
            before = told(client)
        holder.execute("BEGIN")
        holder.execute("SELECT 1")
        clients = [it.connect(application_name=name) for name in names]
        with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
            it.connect(application_name="one", options="-c search_path=elsewhere")
        holder.execute("COMMIT")
        for name, client in zip(names, clients, strict=True):
            conninfo = psycopg.conninfo.make_conninfo(cluster.url(), application_name=name)
            with psycopg.connect(conninfo, autocommit=True) as direct:
                assert told(client) == told(direct)
                shown = "SELECT current_setting('application_name')"
                assert client.execute(shown).fetchone() == direct.execute(shown).fetchone()
        assert before == told(clients[-1])


def test_leak_warning(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, leak_warning=0.3) as it, it.connect() as client:
        client.execute("BEGIN")
        client.execute("SELECT 'secret', 4711")
        eventually(lambda: "leak_warning" in it.log())
        client.execute("COMMIT")
        line = next(line for line in it.log().splitlines() if "leak_warning" in line)
        assert "SELECT" in line
        assert "secret" not in line
        assert "4711" not in line


def test_max_client_conn_is_over_all_workers_and_admins_have_room(cluster: Sandbox, tmp_path: Path) -> None:
    limits = {"max_client_conn": 5, "admin_users": ["postgres"], "admin_reserved_conn": 1}
    with running(cluster, tmp_path, workers=2, **limits) as it, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(it.connect())
        with pytest.raises(psycopg.OperationalError, match="sorry, too many clients already"):
            it.connect()
        admin = (
            {"user": "postgres", "password": cluster.passwords["postgres"]} if "postgres" in cluster.passwords else {}
        )
        if admin:
            with it.connect(**admin):
                pass
    eventually(lambda: cluster.query(SERVERS) == [["0"]])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("limit", ["default_pool_size", "max_db_connections", "max_user_connections"])
@pytest.mark.parametrize("server_user", ["postgres", "app"])
def test_admins_have_servers_beyond_each_limit_whoever_they_are_there(
    cluster: Sandbox, tmp_path: Path, workers: int, limit: str, server_user: str
) -> None:
    limits = {"admin_users": ["postgres"], "admin_reserved_conn": 1, limit: 2, "query_wait_timeout": 1}
    rules = [{"user": "postgres", "server_user": server_user}]
    admin = {"user": "postgres", "password": cluster.passwords["postgres"]}
    with running(cluster, tmp_path, workers=workers, routes=rules, **limits) as it:
        ordinary = [it.connect() for _ in range(3)]
        admins = [it.connect(**admin) for _ in range(4)]
        mine = SERVERS.replace("'app'", f"'{server_user}' AND pid <> pg_backend_pid()")
        holders = ordinary if server_user == "app" else admins
        for client in holders[:2]:
            client.execute("BEGIN")
            client.execute("SELECT 1")
        if server_user == "app":
            with pytest.raises(errors.TooManyConnections):
                ordinary[2].execute("SELECT 1")
        # They have one more, and no other.
        admins[2].execute("BEGIN")
        admins[2].execute("SELECT 1")
        assert cluster.query(mine) == [["3"]]
        with pytest.raises(errors.TooManyConnections):
            admins[3].execute("SELECT 1")
        for client in (admins[2], *holders[:2]):
            client.execute("COMMIT")
        eventually(lambda: int(cluster.query(mine)[0][0]) <= 2)
        ordinary[0].execute("SELECT 1")


def test_max_db_client_connections_and_max_user_client_connections(cluster: Sandbox, tmp_path: Path) -> None:
    rules = [{"application_name": "few", "max_user_client_connections": 2}, {"max_db_client_connections": 3}]
    with running(cluster, tmp_path, workers=2, routes=rules) as it, contextlib.ExitStack() as stack:
        few = [stack.enter_context(it.connect(application_name="few")) for _ in range(2)]
        with pytest.raises(psycopg.OperationalError, match='too many connections for role "app"'):
            it.connect(application_name="few")
        stack.enter_context(it.connect())
        with pytest.raises(psycopg.OperationalError, match='too many connections for database "app"'):
            it.connect()
        few[0].close()
        eventually(lambda: _comes_in(it))


def _comes_in(it: Running) -> bool:
    try:
        it.connect().close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("limit", ["default_pool_size", "max_db_connections", "max_user_connections"])
def test_limits_of_servers_hold_over_all_workers_and_idle_ones_are_moved(
    cluster: Sandbox, tmp_path: Path, limit: str
) -> None:
    with running(cluster, tmp_path, workers=3, **{limit: 2}) as it:
        clients = [it.connect() for _ in range(9)]
        # One after the other: whatever worker has the idle servers, the next one may be another.
        for client in clients * 3:
            client.execute("SELECT pg_sleep(0.01)")
            assert it.servers() <= 2
        # And all at once.
        for client in clients:
            client.pgconn.send_query(b"SELECT pg_sleep(0.1)")
        seen = 0
        while any(client.pgconn.is_busy() for client in clients):
            seen = max(seen, it.servers())
            for client in clients:
                client.pgconn.consume_input()
        assert seen <= 2


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("limit", [1, 4])
def test_a_pool_that_is_always_busy_leaves_some_of_a_limit_to_another(
    cluster: Sandbox, tmp_path: Path, workers: int, limit: int
) -> None:
    cluster.query("CREATE DATABASE other OWNER app")
    try:
        with running(
            cluster, tmp_path, workers=workers, max_user_connections=limit, query_wait_timeout=20, query_wait_notify=0
        ) as it:
            stop, failures = threading.Event(), list[BaseException]()

            def be_busy() -> None:
                try:
                    with it.connect() as client:
                        while not stop.is_set():
                            client.execute("SELECT pg_sleep(0.02)")
                except BaseException as error:
                    failures.append(error)

            crowd = [threading.Thread(target=be_busy) for _ in range(3 * limit)]
            for one in crowd:
                one.start()
            try:
                eventually(lambda: it.servers() == limit)
                with it.connect(dbname="other") as client:
                    for _ in range(3):
                        assert client.execute("SELECT current_database()").fetchone() == ("other",)
                        assert int(cluster.query(SERVERS)[0][0]) <= limit
            finally:
                stop.set()
                for one in crowd:
                    one.join()
            assert failures == []
    finally:
        eventually(lambda: cluster.query("SELECT count(*) FROM pg_stat_activity WHERE datname = 'other'") == [["0"]])
        cluster.query("DROP DATABASE other")


def test_a_rule_with_a_limit_of_its_own_is_not_kept_out_by_what_others_leave_idle(
    cluster: Sandbox, tmp_path: Path
) -> None:
    rules = [{"application_name": "a", "max_db_connections": 50}]
    with running(cluster, tmp_path, default_pool_size=2, query_wait_timeout=5, routes=rules) as it:
        for name in ("a", "b", "a"):
            clients = [it.connect(application_name=name) for _ in range(2)]
            for client in clients:
                client.execute("BEGIN")
                client.execute("SELECT 1")
            for client in clients:
                client.execute("COMMIT")


def test_min_pool_size_is_kept_and_server_idle_timeout_closes_the_rest(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, min_pool_size=2, server_idle_timeout=0.5) as it:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(it.connect()) for _ in range(5)]
            for client in clients:
                client.execute("BEGIN")
            assert it.servers() == 5
        eventually(lambda: it.servers() == 2)
        cluster.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        eventually(lambda: it.servers() == 2)


def test_server_idle_timeout_0_is_never(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, server_idle_timeout=0) as it, it.connect() as client, it.connect() as other:
        client.execute("BEGIN")
        other.execute("SELECT 1")
        # Several looks at the pool, in which the other's server is idle.
        client.execute("SELECT pg_sleep(1.5)")
        assert it.servers() == 2


def test_a_client_outlives_the_pools_that_nobody_uses(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, server_idle_timeout=0.3) as it, it.connect() as client:
        for _ in range(2):
            client.execute("SELECT 1")
            eventually(lambda: it.servers() == 0)
            # Its pool is at rest for so long, too, and then retired: with a margin of some ticks.
            time.sleep(1.5)


def test_reserve_pool_size_is_for_those_who_waited_for_reserve_pool_timeout(cluster: Sandbox, tmp_path: Path) -> None:
    with (
        running(cluster, tmp_path, default_pool_size=1, reserve_pool_size=1, reserve_pool_timeout=0.7) as it,
        it.connect() as holder,
        it.connect() as client,
    ):
        holder.execute("BEGIN")
        began = time.monotonic()
        client.execute("SELECT 1")
        assert time.monotonic() - began > 0.4
        assert it.servers() == 2


def test_server_lifetime(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, server_lifetime=0.5) as it, it.connect() as client:
        first = client.execute("SELECT pg_backend_pid()").fetchone()
        eventually(lambda: client.execute("SELECT pg_backend_pid()").fetchone() != first)


def test_a_rule_refuses_databases_that_are_not_named(cluster: Sandbox, tmp_path: Path) -> None:
    rules = [{"database": "app"}, {"refuse": "on"}]
    with running(cluster, tmp_path, routes=rules) as it:
        for more in ({}, {"replication": "database"}):
            with pytest.raises(psycopg.OperationalError, match='FATAL:  database "postgres" does not exist'):
                it.connect(dbname="postgres", **more)
        # Who is not let in learns nothing of databases.
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(it.endpoint.conninfo(), dbname="postgres", password="wrong")
        assert it.connect().execute("SELECT current_database()").fetchone() == ("app",)
        assert "sqlstate=3D000" in it.log()


def test_server_check_delay_finds_what_has_died(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, server_check_delay=0) as it, it.connect() as client:
        for _ in range(3):
            client.execute("SELECT 1")
            cluster.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            client.execute("SELECT 1")


def test_server_keepalive_asks_idle_servers(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, server_keepalive=0.3) as it, it.connect() as client:
        client.execute("SELECT 1")
        changed = "SELECT state_change FROM pg_stat_activity WHERE usename = 'app'"
        before = cluster.query(changed)
        eventually(lambda: cluster.query(changed) != before)
        assert it.servers() == 1


def test_max_packet_size(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, max_packet_size=300_000) as it:
        with it.connect() as client:
            assert client.execute("SELECT length(%s)", ["x" * 290_000]).fetchone() == (290_000,)
        with it.connect() as client, pytest.raises(psycopg.OperationalError, match="max_packet_size") as caught:
            client.execute("SELECT length(%s)", ["x" * 400_000])
        assert caught.value.sqlstate == "08P01"


def test_statement_size_max(cluster: Sandbox, tmp_path: Path) -> None:
    """A named statement that is longer is refused, however it comes; the unnamed one and a simple query are not."""
    with running(cluster, tmp_path, statement_size_max=2048) as it:
        for size in (3000, 400_000):
            text = f"SELECT 1 /* {'x' * size} */"
            with it.connect() as client:
                assert client.execute(text).fetchone() == (1,)
                assert client.execute(text, (), prepare=False).fetchone() == (1,)
                assert client.execute("SELECT 3", prepare=True).fetchone() == (3,)
                with pytest.raises(psycopg.OperationalError, match="prepared statement is too long") as caught:
                    client.execute(text, prepare=True)
                assert caught.value.sqlstate == "54000"


def test_a_query_that_is_too_long_to_be_read_may_wait_for_a_server(cluster: Sandbox, tmp_path: Path) -> None:
    """It may begin a COPY, so nothing behind it is looked at before it is answered; but the whole of it is sent."""
    with running(cluster, tmp_path, statement_size_max=2048, default_pool_size=1) as it:
        holder, client = it.connect(), it.connect()
        for size in (400_000, 3_000_000):
            holder.execute("BEGIN")
            holder.execute("SELECT 1")
            answers: list[Any] = []
            text = f"SELECT 1 /* {'x' * size} */"
            waiting = threading.Thread(target=lambda: answers.append(client.execute(text).fetchone()))  # noqa: B023
            waiting.start()
            waiting.join(0.3)
            assert waiting.is_alive()
            holder.execute("COMMIT")
            waiting.join(20)
            assert answers == [(1,)]


def test_max_prepared_statements(cluster: Sandbox, tmp_path: Path) -> None:
    """A server keeps so many; the client does not notice which."""
    with running(cluster, tmp_path, max_prepared_statements=3, default_pool_size=1) as it, it.connect() as client:
        for _ in range(2):
            for number in range(6):
                row = client.execute(f"SELECT {number}, %s::int", [number], prepare=True).fetchone()
                assert row == (number, number)
                kept = client.execute("SELECT count(*) FROM pg_prepared_statements", prepare=False).fetchone()
                assert kept is not None
                assert kept[0] <= 3
        assert len(client._prepared._names) == 6


def test_cancel_wait_timeout(cluster: Sandbox, tmp_path: Path) -> None:
    """While a cancel request may still hit it, a server is lent to nobody: so long, if the node does not take it."""
    with running(cluster, tmp_path, cancel_wait_timeout=1.5, default_pool_size=1) as it:
        client, other = it.connect(), it.connect()
        server = client.execute("SELECT pg_backend_pid()").fetchone()
        with taking_no_connections(cluster):
            client.pgconn.send_query(b"SELECT pg_sleep(0.3)")
            asked = time.monotonic()
            client.cancel_safe(timeout=10)
            result = client.pgconn.get_result()
            assert result is not None
            assert result.status == psycopg.pq.ExecStatus.TUPLES_OK
            assert other.execute("SELECT pg_backend_pid()").fetchone() == server
            assert 1.2 < time.monotonic() - asked < 8


def test_unix_socket_mode_and_listening_on_ipv6(
    cluster: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    monkeypatch.setenv("POINTSMAN_LISTEN_ADDR", "127.0.0.1, ::1")
    with running(cluster, tmp_path, unix_socket_dir=str(tmp_path), unix_socket_mode="0750") as it:
        path = tmp_path / f".s.PGSQL.{it.endpoint.port}"
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o750
        for host in ("::1", "127.0.0.1", str(tmp_path)):
            with it.connect(host=host) as client:
                assert client.execute("SELECT 1").fetchone() == (1,)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_node_by_its_unix_socket(cluster: Sandbox, tmp_path: Path) -> None:
    """The node is a Pointsman."""
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.mkdir()
    outer.mkdir()
    with running(cluster, inner, unix_socket_dir=str(inner)) as first:
        node = SimpleNamespace(name="db1", host=str(inner), port=first.endpoint.port)
        names = {"user": cluster.user, "database": cluster.database, "passwords": cluster.passwords}
        behind = SimpleNamespace(nodes=[node], query=cluster.query, **names)
        with running(cast(Sandbox, behind), outer) as it, it.connect() as client:
            assert client.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
            threading.Timer(0.3, client.cancel_safe).start()
            with pytest.raises(errors.QueryCanceled):
                client.execute("SELECT pg_sleep(30)")


def test_max_client_logins(cluster: Sandbox, tmp_path: Path) -> None:
    """Connections that say nothing keep nobody out, and no cancel request."""
    with running(cluster, tmp_path, max_client_logins=5) as it, contextlib.ExitStack() as stack:
        place = it.endpoint.host, it.endpoint.port

        def knock() -> socket.socket:
            return stack.enter_context(socket.create_connection(place, timeout=10))

        silent = [knock() for _ in range(5)]
        client = it.connect()
        assert silent[0].recv(1) == b""
        client.pgconn.send_query(b"SELECT pg_sleep(30)")
        silent += [knock() for _ in range(5)]
        eventually(lambda: it.cluster.query(f"{SERVERS} AND query ~ 'pg_sleep'") == [["1"]])
        client.cancel_safe(timeout=10)
        result = client.pgconn.get_result()
        assert result is not None
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
        # One that is half-way in makes room only for those who are as far.
        half, startup = knock(), StartupMessage(((b"user", b"app"), (b"database", b"app"))).encode()
        half.sendall(startup)
        assert half.recv(1) == b"R"
        silent += [knock() for _ in range(9)]
        half.sendall(b"X")
        for _ in range(5):
            other = knock()
            other.sendall(startup)
            assert other.recv(1) == b"R"
        came = b"".join(iter(lambda: half.recv(65536), b""))
        assert b"C53300" in came
        eventually(lambda: "max_client_logins=5" in it.log())


def test_client_login_timeout(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, client_login_timeout=0.5) as it:
        place = it.endpoint.host, it.endpoint.port
        startup = StartupMessage(((b"user", b"app"), (b"database", b"app"))).encode()
        for said, heard in ((b"", []), (startup, [b"R", b"E"])):
            begun = time.monotonic()
            with socket.create_connection(place, timeout=10) as client:
                client.sendall(said)
                came = b"".join(iter(lambda: client.recv(65536), b""))
            assert 0.5 <= time.monotonic() - begun < 5
            messages = Framer(10_000).feed(came)
            assert [bytes([code]) for code, _ in messages] == heard
            if messages:
                error = decode_backend(*messages[-1])
                assert isinstance(error, ErrorResponse)
                assert (error.field(b"S"), error.field(b"C")) == (b"FATAL", b"57014")
        with it.connect() as client:
            assert client.execute("SELECT 1").fetchone() == (1,)


@contextlib.contextmanager
def taking_no_connections(cluster: Sandbox) -> Iterator[int]:
    """The primary's port: its postmaster is stopped, while its backends go on."""
    directory = cluster.query("SHOW data_directory")[0][0]
    postmaster = psutil.Process(int((Path(directory) / "postmaster.pid").read_text().split()[0]))
    postmaster.suspend()
    try:
        yield cluster.nodes[0].port
    finally:
        postmaster.resume()


def test_server_connect_timeout(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, server_connect_timeout=0.6, server_login_retry=0.1) as it:
        first, second = it.connect(), it.connect()
        first.execute("BEGIN")
        first.execute("SELECT 1")
        with taking_no_connections(cluster):
            second.pgconn.send_query(b"SELECT 1")
            eventually(lambda: "could not connect to node" in it.log() or "timeout" in it.log())
        second.pgconn.get_result()
        while second.pgconn.get_result():
            continue
        # What was given up is not counted, nor left behind.
        assert second.execute("SELECT 2").fetchone() == (2,)
        first.execute("COMMIT")
        eventually(lambda: it.servers() <= 2)


def test_a_database_that_does_not_exist_is_in_the_log_once_whatever_else_can_be_opened(
    cluster: Sandbox, tmp_path: Path
) -> None:
    with running(cluster, tmp_path, server_login_retry=0.05, server_lifetime=0.05) as it, it.connect() as client:
        for _ in range(4):
            with pytest.raises(psycopg.OperationalError, match='database "nowhere" does not exist'):
                it.connect(dbname="nowhere")
            before = client.execute("SELECT pg_backend_pid()").fetchone()
            # Another server has been opened for the good one.
            eventually(lambda: client.execute("SELECT pg_backend_pid()").fetchone() != before)  # noqa: B023 - called here
        assert it.log().count("no connection to the node could be opened") == 1
        assert "can be opened again" not in it.log()


def test_max_server_logins(cluster: Sandbox, tmp_path: Path) -> None:
    with running(cluster, tmp_path, max_server_logins=2, default_pool_size=10) as it:
        clients = [it.connect() for _ in range(7)]
        holder = clients.pop()
        holder.execute("BEGIN")
        holder.execute("SELECT 1")
        (worker,) = it.endpoint.workers()
        with taking_no_connections(cluster) as port:

            def openings() -> int:
                return [one.raddr[1:] for one in worker.net_connections("tcp")].count((port,)) - 1

            for client in clients:
                client.pgconn.send_query(b"SELECT pg_sleep(0.3)")
            eventually(lambda: openings() == 2)
            # That there are never more shows in time alone: over two ticks, in which pools look again.
            until = time.monotonic() + 0.6
            while time.monotonic() < until:
                assert openings() == 2
        for client in clients:
            result = client.pgconn.get_result()
            assert result is not None
            assert result.status == psycopg.pq.ExecStatus.TUPLES_OK
            assert client.pgconn.get_result() is None
        holder.execute("COMMIT")
