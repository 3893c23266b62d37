"""What SHOW says is so: equal to the sum over the workers, to what PostgreSQL says, and to what programs go by that
were written for PgBouncer."""

import contextlib
import csv
import io
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from middleware.admin.columns import COLUMNS
from middleware.admin.grammar import HELP
from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

CROWD: Final = 100


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """One that nobody else uses: connections are counted."""
    with Sandbox(version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


@pytest.fixture(scope="module")
def served(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Two workers."""
    directory = tmp_path_factory.mktemp("tables")
    settings: dict[str, Any] = {"admin_users": [cluster.user], "stats_users": ["postgres"]}
    with pointsman(cluster, directory, workers=2, default_pool_size=10, **settings) as running:
        yield running


@pytest.fixture
def console(served: Endpoint) -> Iterator[psycopg.Connection[Any]]:
    conninfo = served._replace(database="pgbouncer").conninfo()
    with psycopg.connect(conninfo, autocommit=True, row_factory=psycopg.rows.dict_row) as client:
        yield client


@pytest.fixture
def crowd(served: Endpoint) -> Iterator[list[psycopg.Connection[Any]]]:
    """A hundred clients, which have all said something."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(psycopg.connect(served.conninfo(), autocommit=True, application_name=f"c{at % 3}"))
            for at in range(CROWD)
        ]
        for client in clients:
            client.execute("SELECT 1")
        yield clients


def watching(served: Endpoint, cluster: Sandbox) -> "psycopg.Connection[dict[str, Any]]":
    """A console of a stats user's."""
    monitor = served._replace(user="postgres", password=cluster.passwords["postgres"], database="pgbouncer")
    return psycopg.connect(monitor.conninfo(), autocommit=True, row_factory=psycopg.rows.dict_row)


def show(console: psycopg.Connection[Any], what: str) -> list[dict[str, Any]]:
    return console.execute(f"SHOW {what}".encode()).fetchall()


@pytest.mark.parametrize("subject", sorted(COLUMNS))
def test_every_table_has_its_columns(console: psycopg.Connection[Any], crowd: object, subject: str) -> None:
    cursor = console.execute(f"SHOW {subject}".encode())
    assert cursor.description is not None
    assert [column.name for column in cursor.description] == [column.name for column in COLUMNS[subject]]
    cursor.fetchall()


def test_a_hundred_clients_are_a_hundred(
    console: psycopg.Connection[Any], crowd: list[psycopg.Connection[Any]], served: Endpoint
) -> None:
    """They are spread over the workers; each is in the tables once."""
    rows = [row for row in show(console, "CLIENTS") if row["database"] == served.database]
    assert len(rows) == CROWD
    assert len({row["id"] for row in rows}) == CROWD
    assert {row["id"] for row in rows} == {client.info.backend_pid for client in crowd}
    assert len({row["id"] >> 20 for row in rows}) == 2
    ports = {client.pgconn.socket for client in crowd}
    assert len(ports) == CROWD
    assert Counter(row["application_name"] for row in rows) == {"c0": 34, "c1": 33, "c2": 33}
    [pool] = [row for row in show(console, "POOLS") if row["database"] == served.database]
    assert (pool["user"], pool["cl_active"], pool["cl_waiting"]) == (served.user, CROWD, 0)
    lists = {row["list"]: row["items"] for row in show(console, "LISTS")}
    assert lists["used_clients"] == CROWD + 1
    [database] = [row for row in show(console, "DATABASES") if row["name"] == served.database]
    assert database["current_client_connections"] == CROWD
    [user] = [row for row in show(console, "USERS") if row["name"] == served.user]
    # The console's own client is of the same user.
    assert user["current_client_connections"] == CROWD + 1
    eventually(lambda: sum(row["clients"] for row in show(console, "WORKERS")) == CROWD + 1)
    [own] = [row for row in show(console, "POOLS") if row["database"] == "pgbouncer"]
    assert (own["user"], own["cl_active"], own["pool_mode"]) == ("pgbouncer", 1, "statement")


def test_servers_are_those_that_the_nodes_have(
    console: psycopg.Connection[Any], crowd: list[psycopg.Connection[Any]], served: Endpoint, cluster: Sandbox
) -> None:
    for client in crowd[:4]:
        client.execute("BEGIN")
        client.execute("SELECT txid_current()")

    def backends() -> set[tuple[str, int]]:
        found = set()
        for node in cluster.nodes:
            rows = cluster.query("SELECT pid FROM pg_stat_activity WHERE usename = 'app'", node)
            found |= {(node.name, int(row[0])) for row in rows}
        return found

    def shown() -> list[dict[str, Any]]:
        return show(console, "SERVERS")

    eventually(lambda: {(row["ptr"].split("/")[0], row["remote_pid"]) for row in shown()} == backends())
    rows = shown()
    active = [row for row in rows if row["state"] == "active"]
    assert len(active) == 4
    assert {row["link"] for row in active} == {f"client/{client.info.backend_pid}" for client in crowd[:4]}
    linked = {row["link"]: row["ptr"] for row in show(console, "CLIENTS") if row["link"]}
    assert linked == {row["ptr"]: row["link"] for row in active}
    [pool] = [row for row in show(console, "POOLS") if row["database"] == served.database]
    states = ("sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login")
    assert pool["sv_active"] == 4
    assert sum(pool[state] for state in states) == len(rows)
    by_node = show(console, "NODE_POOLS")
    assert sum(row[state] for row in by_node for state in states) == len(rows)
    assert {row["node"] for row in by_node} <= {node.name for node in cluster.nodes}
    for client in crowd[:4]:
        client.execute("ROLLBACK")


def test_a_client_that_waits_is_shown_to_wait(cluster: Sandbox, tmp_path: Path) -> None:
    with (
        pointsman(cluster, tmp_path, workers=1, default_pool_size=1, stats_users=["postgres"]) as running,
        psycopg.connect(running.conninfo()) as first,
        psycopg.connect(running.conninfo(), autocommit=True) as second,
        watching(running, cluster) as console,
    ):
        first.execute("SELECT txid_current()")
        waiting = threading.Thread(target=second.execute, args=(b"SELECT txid_current()",))
        waiting.start()

        def waits() -> bool:
            [pool] = [row for row in show(console, "POOLS") if row["database"] == running.database]
            return (pool["cl_active"], pool["cl_waiting"]) == (1, 1) and pool["maxwait"] + pool["maxwait_us"] > 0

        eventually(waits)
        states = {row["id"]: (row["state"], row["wait"] + row["wait_us"] > 0) for row in show(console, "CLIENTS")}
        assert states[second.info.backend_pid] == ("waiting", True)
        assert states[first.info.backend_pid] == ("active", False)
        first.rollback()
        waiting.join(10)


# Programs that were written for PgBouncer

EXPORTER: Final = {
    "DATABASES": (
        ("name", "host", "port", "database", "force_user", "pool_mode"),
        (
            "pool_size",
            "reserve_pool_size",
            "max_connections",
            "current_connections",
            "paused",
            "disabled",
        ),
    ),
    "STATS_TOTALS": (
        ("database",),
        (
            "query_count",
            "query_time",
            "bytes_received",
            "bytes_sent",
            "wait_time",
            "xact_count",
            "xact_time",
            "client_parse_count",
            "server_parse_count",
            "bind_count",
            "server_assignment_count",
        ),
    ),
    "POOLS": (
        ("database", "user"),
        (
            "cl_active",
            "cl_active_cancel_req",
            "cl_waiting",
            "cl_waiting_cancel_req",
            "sv_active",
            "sv_active_cancel",
            "sv_being_canceled",
            "sv_idle",
            "sv_used",
            "sv_tested",
            "sv_login",
            "maxwait",
        ),
    ),
}
"""What prometheus-pgbouncer-exporter asks for: the columns it makes labels of, and those it makes numbers of."""
EXPORTED_LISTS: Final = (
    "databases",
    "users",
    "pools",
    "free_clients",
    "used_clients",
    "login_clients",
    "free_servers",
    "used_servers",
    "dns_names",
    "dns_zones",
    "dns_queries",
)


def test_what_prometheus_pgbouncer_exporter_asks_for(served: Endpoint, cluster: Sandbox, crowd: object) -> None:
    """As a stats user, by simple queries, reading text: labels that differ from row to row, and numbers."""
    with watching(served, cluster) as client:
        assert re.fullmatch(r"[A-Za-z]+ \d+\.\d+\.\d+", show(client, "VERSION;")[0]["version"])
        show(client, "STATS")
        for what, (labels, numbers) in EXPORTER.items():
            rows = show(client, f"{what};")
            names = [tuple(row[label] for label in labels) for row in rows]
            assert len(names) == len(set(names)), what
            assert all(isinstance(float(row[number]), float) for row in rows for number in numbers), what
        assert {row["list"] for row in show(client, "LISTS;")} >= set(EXPORTED_LISTS)
        config = show(client, "CONFIG;")
        assert list(config[0]) == ["key", "value", "default", "changeable"]
        known = {row["key"]: row["value"] for row in config}
        assert int(known["max_client_conn"]) > 0
        assert int(known["max_user_connections"]) >= 0
        counted = Counter(
            (row["database"], row["user"], row["application_name"], row["state"]) for row in show(client, "CLIENTS;")
        )
        assert sum(count for (database, *_), count in counted.items() if database == served.database) == CROWD


def test_what_nagios_checks_read_by_psql(served: Endpoint, cluster: Sandbox, crowd: object) -> None:
    """check_postgres.pl runs psql in its expanded format, and reads `column | value` lines."""
    monitor = served._replace(user="postgres", password=cluster.passwords["postgres"], database="pgbouncer")

    def records(what: str) -> list[dict[str, str]]:
        command = ["psql", "-X", "-q", "-x", "-A", "-F", "|", monitor.conninfo(), "-c", what]
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        return [
            dict(line.split("|", 1) for line in block.splitlines() if "|" in line)
            for block in told.strip().split("\n\n")
        ]

    [limit] = [one["value"] for one in records("SHOW CONFIG") if one["key"] == "max_client_conn"]
    pools = [one for one in records("SHOW POOLS") if one["database"] == served.database]
    clients = sum(int(one["cl_active"]) + int(one["cl_waiting"]) for one in pools)
    assert (clients, clients < int(limit)) == (CROWD, True)
    assert all(int(one["maxwait"]) >= 0 for one in pools)


def test_scripts_that_cut_lines_at_bars(served: Endpoint, crowd: object) -> None:
    """`psql -tA -c 'SHOW POOLS' | cut -d'|' -f3`, as shells have it, and CSV."""
    console = served._replace(database="pgbouncer")
    command = ["psql", "-X", "-t", "-A", console.conninfo(), "-c", "show pools;"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    assert [line.split("|")[2] for line in lines if line.startswith(f"{served.database}|")] == [str(CROWD)]
    command = ["psql", "-X", "--csv", console.conninfo(), "-c", "show clients"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    rows = list(csv.DictReader(io.StringIO(told)))
    assert sum(row["database"] == served.database for row in rows) == CROWD


# PgBouncer itself

PGBOUNCER: Final = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
ADDED_SINCE: Final = {
    "databases": {
        "min_pool_size",
        "reserve_pool_size",
        "server_lifetime",
        "load_balance_hosts",
        "max_client_connections",
        "current_client_connections",
    },
    "pools": {
        "cl_active_cancel_req",
        "cl_waiting_cancel_req",
        "sv_active_cancel",
        "sv_being_canceled",
        "load_balance_hosts",
    },
    "stats": {
        "total_server_assignment_count",
        "total_client_parse_count",
        "total_server_parse_count",
        "total_bind_count",
        "avg_server_assignment_count",
        "avg_client_parse_count",
        "avg_server_parse_count",
        "avg_bind_count",
    },
    "stats_totals": {"server_assignment_count", "client_parse_count", "server_parse_count", "bind_count"},
    "stats_averages": {
        "server_assignment_count",
        "avg_client_parse_count",
        "avg_server_parse_count",
        "avg_bind_count",
    },
    "users": {
        "pool_size",
        "reserve_pool_size",
        "max_user_connections",
        "current_connections",
        "max_user_client_connections",
        "current_client_connections",
    },
    "sockets": {"replication", "prepared_statements", "id"},
    "fds": {"password", "scram_client_key", "scram_server_key"},
}
"""Columns that PgBouncer has had since 1.18, the oldest that is compared with."""
RENAMED: Final = {"reserve_pool": "reserve_pool_size"}


@pytest.fixture
def pgbouncer() -> Iterator[str]:
    """The conninfo of the console of a PgBouncer."""
    if not Path(PGBOUNCER).exists():
        pytest.skip("needs pgbouncer")
    # As root it will run as somebody else, who has no business in pytest's directories.
    with tempfile.TemporaryDirectory(prefix="pgbouncer") as made:
        directory = Path(made)
        (directory / "userlist.txt").write_text('"admin" "secret"\n')
        (directory / "pgbouncer.ini").write_text(
            "[databases]\napp = host=127.0.0.1 port=1\n[pgbouncer]\nlisten_addr =\nlisten_port = 6000\n"
            f"unix_socket_dir = {made}\nauth_type = plain\nauth_file = {made}/userlist.txt\nadmin_users = admin\n"
        )
        directory.chmod(0o777)
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        command = [PGBOUNCER, "-q", *user, str(directory / "pgbouncer.ini")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            eventually((directory / ".s.PGSQL.6000").exists)
            yield f"host={made} port=6000 user=admin password=secret dbname=pgbouncer"
        finally:
            process.terminate()
            process.wait(10)


def _described(cursor: psycopg.Cursor[Any]) -> list[tuple[str, int]]:
    assert cursor.description is not None
    return [(column.name, column.type_code) for column in cursor.description]


def test_columns_are_pgbouncers(pgbouncer: str, console: psycopg.Connection[Any]) -> None:
    """Each of its columns is there, in its order and of its type; what is beside them it has got since."""
    with psycopg.connect(pgbouncer, autocommit=True) as client:
        [[version]] = client.execute("SHOW VERSION").fetchall()
        for subject in sorted(COLUMNS):
            if subject in ("help", "peers", "peer_pools"):
                continue
            try:
                theirs = _described(client.execute(f"SHOW {subject}".encode()))
            except psycopg.Error:
                continue
            ours = _described(console.execute(f"SHOW {subject}".encode()))
            theirs = [(RENAMED.get(name, name), code) for name, code in theirs]
            added = _added(subject)
            kept = [column for column in ours if column in theirs or column[0] not in added]
            assert kept == theirs, f"SHOW {subject} of {version}"
        compared = {command.split()[1].lower() for command, _ in HELP if command.startswith("SHOW ")}
        assert {"pools", "clients", "servers", "stats", "databases", "lists"} <= compared


def _added(subject: str) -> set[str]:
    kin = "sockets" if subject in ("clients", "servers", "active_sockets") else subject
    return ADDED_SINCE.get(kin, set())


def test_commands_of_pgbouncer_are_commands(pgbouncer: str, console: psycopg.Connection[Any]) -> None:
    """Its SHOW HELP names nothing that is refused as unknown."""
    with psycopg.connect(pgbouncer, autocommit=True) as client:
        notices: list[str] = []
        client.add_notice_handler(lambda notice: notices.append(notice.message_detail or ""))
        client.execute("SHOW HELP")
    eventually(lambda: bool(notices))
    verbs = {line.split()[0] for line in notices[0].splitlines() if line.strip()}
    shown = {what for line in notices[0].splitlines() if "SHOW" in line for what in line.split()[1].split("|")}
    ours = {command.split()[0] for command, _ in HELP}
    assert verbs <= ours
    for what in sorted(shown):
        show(console, what)


def test_what_is_secret_is_not_shown(cluster: Sandbox, console: psycopg.Connection[Any]) -> None:
    said = repr([show(console, subject) for subject in sorted(COLUMNS)])
    for password in cluster.passwords.values():
        assert password not in said
    known = {row["key"]: row["value"] for row in show(console, "CONFIG")}
    assert known["health_check.password"] == "********"


def test_a_worker_that_does_not_answer_is_named(served: Endpoint, console: psycopg.Connection[Any]) -> None:
    notices: list[str] = []
    console.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    mine = console.info.backend_pid >> 20
    pids = {row["worker"]: row["pid"] for row in show(console, "WORKERS")}
    other = next(process for process in served.workers() if process.pid != pids[mine])
    other.suspend()
    try:
        began = time.monotonic()
        assert [row["id"] for row in show(console, "CLIENTS")] == [console.info.backend_pid]
        assert time.monotonic() - began < 10
    finally:
        other.resume()
    assert notices == [f"worker {1 - mine} has not answered, and is left out"]
