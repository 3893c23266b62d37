"""What `pointsman serve` writes to its log, by what has happened to real clients."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

from middleware.logs.events import EVENTS
from middleware.logs.lines import LINE_BYTES_MAX
from middleware.sandbox import Sandbox
from middleware.wire.backend import DataRow
from middleware.wire.frontend import Query, StartupMessage, Terminate
from tests.conftest import Endpoint, pointsman, settings_for
from tests.differential.raw_client import Address, RawClient
from tests.waiting import eventually

pytestmark = pytest.mark.integration

LITERAL = "hunter2hunter2"
OF_A_LINE = {"timestamp", "level", "subject", "id", "event", "worker"}
DECLARED = {event.name: event for event in EVENTS}

Line = dict[str, Any]


class Raw(RawClient):
    """A client that can break its connection."""

    def reset(self) -> None:
        """Send RST, as a machine does that has forgotten the connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class Logged:
    """A Pointsman whose log is read: every line of it must be JSON, and an event as it is declared."""

    def __init__(self, endpoint: Endpoint, text: Callable[[], str]) -> None:
        self.endpoint = endpoint
        self.text = text

    def lines(self, name: str, **fields: object) -> list[Line]:
        """The lines of one event with these fields."""
        found = []
        # The last may be under way.
        for text in self.text().split("\n")[:-1]:
            line = json.loads(text)
            assert text.isascii()
            assert len(text) < LINE_BYTES_MAX
            event = DECLARED[line["id"]]
            assert line["event"] == event.text
            assert line["level"] in event.levels
            assert line["subject"] == event.subject
            assert line.keys() - OF_A_LINE <= set(event.fields), line
            if line["id"] == name and all(line.get(key) == value for key, value in fields.items()):
                found.append(line)
        return found

    def line(self, name: str, **fields: object) -> Line:
        """The only one, once it is there."""
        eventually(lambda: bool(self.lines(name, **fields)))
        time.sleep(0.05)
        (one,) = self.lines(name, **fields)
        return one

    def connect(self, name: str, **keys: Any) -> psycopg.Connection[Any]:
        """A client that calls itself `name`."""
        conninfo = psycopg.conninfo.make_conninfo(self.endpoint.conninfo(), application_name=name, **keys)
        return psycopg.connect(conninfo, autocommit=True)

    @contextlib.contextmanager
    def raw(self, name: str, database: str = "") -> Iterator["Raw"]:
        """The same, that sends and does what it is told to."""
        endpoint, database = self.endpoint, database or self.endpoint.database
        address = Address(endpoint.host, endpoint.port, endpoint.user, endpoint.password, database)
        with Raw(address) as client:
            names = {b"user": endpoint.user, b"database": database, b"application_name": name}
            client.log_in(StartupMessage(tuple((key, value.encode()) for key, value in names.items())).encode())
            yield client

    def gone(self, name: str) -> Line:
        """The end of the client that called itself that."""
        line = self.line("client_gone", application_name=name)
        assert self.line("login", application_name=name)["process_id"] == line["process_id"]
        return line


@contextlib.contextmanager
def logged(cluster: Sandbox, directory: Path, **settings: Any) -> Iterator[Logged]:
    log = {"format": "json", **settings.pop("log", {})}
    instance = pointsman(cluster, directory, log=log, **settings)
    with instance as endpoint:
        yield Logged(endpoint, instance.log)


def test_a_client_that_comes_and_says_goodbye(cluster: Sandbox, tmp_path: Path) -> None:
    routes = [{"name": "reports", "application_name": "report.*"}]
    with logged(cluster, tmp_path, routes=routes) as it:
        began = time.monotonic()
        client = it.connect("report one")
        came = it.line("login", application_name="report one")
        assert (came["user"], came["database"], came["address"], came["rule"]) == (
            it.endpoint.user,
            it.endpoint.database,
            "127.0.0.1",
            "reports",
        )
        assert 0 < came["login_s"] < time.monotonic() - began
        assert client.info.backend_pid == came["process_id"]
        assert "tls" not in came
        assert not it.lines("client_gone")
        client.close()
        gone = it.gone("report one")
        assert gone["reason"] == "goodbye"
        assert (gone["port"], gone["rule"], gone["user"]) == (came["port"], "reports", it.endpoint.user)
        assert came["login_s"] < gone["connected_s"] < time.monotonic() - began
        assert "sqlstate" not in gone
        opened = it.lines("server_open")
        assert opened
        assert {line["node"] for line in opened} <= {node.name for node in cluster.nodes}


def test_each_end_of_a_client_has_its_reason_once(cluster: Sandbox, tmp_path: Path) -> None:
    timeouts = {
        "idle": {"client_idle_timeout": 0.5},
        "transaction": {"transaction_timeout": 0.5},
        "idle_transaction": {"idle_transaction_timeout": 0.5},
        "canceled": {"query_timeout": 0.5},
    }
    routes = [{"application_name": name, **limits} for name, limits in timeouts.items()]
    names = (*timeouts, "goodbye", "closes", "breaks", "server", "refused")
    with logged(cluster, tmp_path, routes=routes, cancel_wait_timeout=0.5) as it, contextlib.ExitStack() as stack:
        clients = {name: stack.enter_context(it.raw(name)) for name in names}

        def ask(name: str, sql: str) -> None:
            clients[name].send(Query(sql.encode()).encode())

        # Each goes its own way.
        ask("transaction", "BEGIN; SELECT pg_sleep(20)")
        ask("idle_transaction", "BEGIN")
        # It refuses to be canceled, twice.
        ask(
            "canceled",
            f"DO $$ BEGIN {'BEGIN PERFORM pg_sleep(20); EXCEPTION WHEN query_canceled THEN END; ' * 3} END $$",
        )
        clients["goodbye"].send(Terminate().encode())
        clients["closes"].half_close()
        clients["breaks"].reset()
        ask("server", "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 300")
        clients["refused"].send(b"!\0\0\0\4")
        told = {name: it.gone(name) for name in names}
        assert {name: (line["reason"], line.get("sqlstate")) for name, line in told.items()} == {
            "idle": ("idle_timeout", "57P05"),
            "transaction": ("transaction_timeout", "25P04"),
            "idle_transaction": ("idle_transaction_timeout", "25P03"),
            "canceled": ("query_timeout", "57014"),
            "goodbye": ("goodbye", None),
            "closes": ("closed", None),
            "breaks": ("lost", None),
            "server": ("server", None),
            "refused": ("refused", "08P01"),
        }
        assert told["idle"]["why"] == "terminating connection due to client_idle_timeout"
        stack.enter_context(it.raw("last"))
        it.line("login", application_name="last")
        it.endpoint.process.send_signal(signal.SIGTERM)
        assert it.gone("last")["reason"] == "administrator"
        eventually(lambda: bool(it.lines("stopped")))
        ends = it.lines("client_gone")
        assert len(ends) == len({line["process_id"] for line in ends}) == len(it.lines("login")) == len(names) + 1


def test_each_end_of_a_console_client_has_its_reason_once(cluster: Sandbox, tmp_path: Path) -> None:
    names = ("goodbye", "closes", "breaks", "refused", "killed")
    with logged(cluster, tmp_path, admin_users=["app"]) as it, contextlib.ExitStack() as stack:
        clients = {name: stack.enter_context(it.raw(name, "pointsman")) for name in names}
        opened = {name: it.line("console_opened", application_name=name) for name in names}
        assert not it.lines("console_closed")
        clients["goodbye"].send(Terminate().encode())
        clients["closes"].half_close()
        clients["breaks"].reset()
        clients["refused"].send(b"!\0\0\0\4")
        with psycopg.connect(it.endpoint.conninfo(), dbname="pgbouncer", autocommit=True) as operator:
            operator.execute(f"KILL_CLIENT {opened['killed']['process_id']}".encode())
        closed = {name: it.line("console_closed", application_name=name) for name in names}
        assert {name: (line["reason"], line.get("sqlstate")) for name, line in closed.items()} == {
            "goodbye": ("goodbye", None),
            "closes": ("closed", None),
            "breaks": ("lost", None),
            "refused": ("refused", "08P01"),
            "killed": ("administrator", "57P01"),
        }
        for name in names:
            for key in ("process_id", "address", "port", "user", "admin"):
                assert opened[name][key] == closed[name][key]
            assert closed[name]["database"] == "pointsman"
            assert 0 <= closed[name]["connected_s"] < 60
        assert it.line("console_closed", database="pgbouncer")["reason"] == "goodbye"
        stack.enter_context(it.raw("last", "pointsman"))
        it.line("console_opened", application_name="last")
        it.endpoint.process.send_signal(signal.SIGTERM)
        assert it.line("console_closed", application_name="last")["reason"] == "administrator"
        eventually(lambda: bool(it.lines("stopped")))
        assert len(it.lines("console_closed")) == len(it.lines("console_opened")) == len(names) + 2
        assert not it.lines("client_gone")


def test_a_server_that_is_lost_within_a_message_takes_its_client_along(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path) as it, it.raw("half") as client:
        client.send(Query(b"BEGIN; SELECT pg_backend_pid()").encode())
        rows, _ = client.read(1, DataRow)
        value = rows[-1].values[0]  # type: ignore[attr-defined]
        client.read(1)
        # Too much of one row to have come whole: it is killed while its client does not read.
        client.send(Query(b"SELECT repeat('x', 200000000)").encode())
        time.sleep(0.5)
        os.kill(int(value), signal.SIGKILL)
        while client.read_bytes(1 << 20):
            pass
        assert it.gone("half")["reason"] == "server_lost"


def test_who_is_refused_and_who_leaves_before_that(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path, log={"levels.client": "debug"}) as it:
        with pytest.raises(psycopg.OperationalError):
            it.connect("wrong", password=LITERAL)
        refused = it.line("login_refused")
        assert (refused["user"], refused["sqlstate"]) == (it.endpoint.user, "28P01")
        assert refused["why"] == f'password authentication failed for user "{it.endpoint.user}"'
        with pytest.raises(psycopg.OperationalError):
            it.connect("options", options=f"-c application_name.x={LITERAL} {LITERAL}")
        assert it.line("login_refused", sqlstate="42601")["why"] == "settings in the startup packet that cannot be read"
        with pytest.raises(psycopg.OperationalError, match=LITERAL):
            it.connect("setting", options=f"-c work_mem={LITERAL}")
        assert it.line("login_refused", sqlstate="22023")["why"] == "its settings were refused by a node"
        socket.create_connection((it.endpoint.host, it.endpoint.port)).close()
        assert it.line("gone_before_login")["address"] == "127.0.0.1"
        assert not it.lines("login")
        assert LITERAL not in it.text()


def test_errors_of_its_own_are_told_without_what_the_client_has_said(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path) as it, it.connect("own") as client:
        with pytest.raises(errors.InvalidParameterValue, match=LITERAL):
            client.execute(f"SET pointsman.consistency = '{LITERAL}'")
        told = it.line("pooler_error")
        assert (told["sqlstate"], told["severity"]) == ("22023", "ERROR")
        assert told["why"] == 'invalid value for parameter "pointsman.consistency"'
        # PostgreSQL's own errors are none.
        with pytest.raises(errors.UndefinedTable):
            client.execute("SELECT * FROM missing")
        client.execute("SELECT 1")
        assert len(it.lines("pooler_error")) == 1
        assert LITERAL not in it.text()


def test_without_them_nothing_is_told(cluster: Sandbox, tmp_path: Path) -> None:
    off = dict.fromkeys(("log_connections", "log_disconnections", "log_pooler_errors"), "off")
    with logged(cluster, tmp_path, admin_users=["app"], **off) as it:
        with it.connect("admin", dbname="pointsman"):
            # Somebody may have done something.
            assert it.line("console_opened")["admin"]
        with it.connect("own") as client, pytest.raises(errors.InvalidParameterValue):
            client.execute("SET pointsman.consistency = 'x'")
        with pytest.raises(psycopg.OperationalError):
            it.connect("wrong", password="wrong")
        it.line("login_refused")
        for name in ("login", "client_gone", "server_open", "server_closed", "pooler_error", "console_closed"):
            assert not it.lines(name)


def test_a_fatal_is_an_error_of_its_own_where_ends_are_not_told(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path, log_disconnections="off", client_idle_timeout=0.3) as it, it.connect("idle"):
        told = it.line("pooler_error")
        assert (told["severity"], told["sqlstate"]) == ("FATAL", "57P05")
        assert not it.lines("client_gone")


HOSTILE = "a\r\nb \x1b[31mred\x1b]0;title\x07\t\x9b2J\u202egnp"
FORGED = "2026-01-01T00:00:00.000000Z [info     ] service: stopped"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_name_breaks_a_line_or_reaches_the_terminal(cluster: Sandbox, tmp_path: Path, form: str) -> None:
    """In the name of a user, a database, an application; raw, since drivers may refuse to send them."""
    hostile = f"{HOSTILE}\n{FORGED}"
    instance = pointsman(cluster, tmp_path, log={"format": form, "level": "debug"})
    with instance as endpoint:
        for user, database in ((hostile, "app"), ("app", hostile)):
            startup = StartupMessage(((b"user", user.encode()), (b"database", database.encode()))).encode()
            with socket.create_connection((endpoint.host, endpoint.port)) as raw:
                raw.sendall(startup)
                raw.settimeout(10)
                raw.recv(1000)
        with psycopg.connect(
            psycopg.conninfo.make_conninfo(endpoint.conninfo(), application_name=hostile), autocommit=True
        ) as client:
            client.execute("LISTEN x")
        eventually(lambda: "client is gone" in instance.log())
        eventually(lambda: "session state" in instance.log())
        text = instance.log()
    assert "red" in text
    assert "\r" not in text
    for line in text.split("\n"):
        assert line.isprintable()
        assert line != FORGED
        assert not line.startswith("2026-01-01T00:00:00.0")


def test_lines_of_two_workers_at_once_stay_whole(cluster: Sandbox, tmp_path: Path) -> None:
    """The log is a pipe here, as under a service manager, and its reader is slow at times."""
    read, write = os.pipe()
    got: list[bytes] = []

    def drain() -> None:
        while chunk := os.read(read, 700):
            got.append(chunk)

    config = tmp_path / "pointsman.toml"
    config.write_text(settings_for(cluster, workers=2, log={"format": "json", "event_rate_max": 0}))
    process = subprocess.Popen([sys.executable, "-m", "middleware", "serve", "-c", str(config)], stderr=write)
    os.close(write)
    reader = threading.Thread(target=drain)
    reader.start()
    try:
        eventually(lambda: b'"id": "ready"' in b"".join(got), 60)
        port = next(
            line["port"]
            for line in map(json.loads, b"".join(got).decode().split("\n")[:-1])
            if line["id"] == "listening"
        )
        name = "x" * 60
        conninfo = psycopg.conninfo.make_conninfo(
            host="127.0.0.1",
            port=port,
            user=cluster.user,
            password=cluster.passwords[cluster.user],
            dbname=cluster.database,
            application_name=name,
        )

        def come_and_go() -> None:
            for _ in range(40):
                psycopg.connect(conninfo).close()

        crowd = [threading.Thread(target=come_and_go) for _ in range(6)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
    finally:
        process.terminate()
        process.wait(20)
        reader.join(20)
        os.close(read)
    lines = [json.loads(line) for line in b"".join(got).decode().splitlines()]
    gone = [line for line in lines if line["id"] == "client_gone"]
    assert len(gone) == 240
    assert {line["application_name"] for line in gone} == {name}
    assert {line["worker"] for line in gone} == {0, 1}


def test_a_server_that_is_closed_has_its_reason(cluster: Sandbox, tmp_path: Path) -> None:
    routes = [{"application_name": "short", "server_user": cluster.user}]
    with logged(cluster, tmp_path, consistency="primary", server_idle_timeout=0.5, routes=routes) as it:
        with it.connect("idle") as client:
            client.execute("SELECT 1")
        opened = it.lines("server_open")[0]
        idle = it.line("server_closed", reason="idle_timeout", backend=opened["backend"])
        assert idle["connected_s"] >= 0.2
        with it.connect("killed") as client:
            client.execute("BEGIN")
            row = client.execute("SELECT pg_backend_pid()").fetchone()
            assert row is not None
            cluster.query(f"SELECT pg_terminate_backend({row[0]})")
            lost = it.line("server_closed", reason="lost", backend=row[0])
            assert lost["sqlstate"] == "57P01"
            assert lost["node"] == cluster.primary.name
            with pytest.raises(psycopg.Error):
                client.execute("SELECT 1")
        with it.raw("abandons") as raw:
            raw.send(Query(b"SELECT pg_sleep(20)").encode())
            eventually(
                lambda: bool(cluster.query("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"))
            )
            raw.reset()
            it.line("server_closed", reason="left_behind")


def test_a_line_of_figures_each_stats_period(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path, stats_period=0.7, workers=2) as it, it.connect("busy") as client:

        def told() -> bool:
            for _ in range(20):
                client.execute("SELECT 1")
            return any(line["queries_per_s"] > 0 for line in it.lines("stats"))

        eventually(told)
        line = next(line for line in it.lines("stats") if line["queries_per_s"])
        assert line["clients"] == 1
        assert line["waiting"] == 0
        assert 0 < line["xacts_per_s"] <= line["queries_per_s"]
        assert 0 < line["average_query_s"] < 1
        assert line["sent_bytes_per_s"] > line["received_bytes_per_s"] > 0
        assert "worker" not in line
    with logged(cluster, tmp_path, stats_period=0.3, log_stats="off") as it:
        time.sleep(1)
        assert not it.lines("stats")


def test_levels_and_statements_change_at_a_reload_for_who_is_connected_too(cluster: Sandbox, tmp_path: Path) -> None:
    with logged(cluster, tmp_path, workers=2, log={"levels.client": "error"}) as it, it.connect("before") as client:
        client.execute("SELECT pg_sleep(0.1)")
        # The file is as it was written, but for these.
        path = tmp_path / "pointsman.toml"
        text = path.read_text().replace('levels.client = "error"', 'levels.pool = "warning"')
        path.write_text("log_min_duration = 0.05\n" + text)
        it.endpoint.process.send_signal(signal.SIGHUP)

        def told() -> bool:
            with it.connect("after"):
                client.execute("SELECT pg_sleep(0.1)")
            return bool(it.lines("client_gone", application_name="after") and it.lines("slow_statement"))

        eventually(told)
        assert not it.lines("login", application_name="before")
        opened = len(it.lines("server_open"))
        assert opened
        with it.connect("other") as other:
            other.execute("BEGIN")
            client.execute("BEGIN")
            client.execute("SELECT 1")
            other.execute("SELECT 1")
        it.gone("other")
        assert len(it.lines("server_open")) == opened
