"""What is done by the console: cancelled and taken back, from the shell too; and how much it bears."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import psycopg
import pytest
from typer.testing import CliRunner, Result

from middleware.cli import app
from middleware.sandbox import Sandbox
from middleware.wire.backend import CommandComplete, ErrorResponse, ReadyForQuery, decode_backend
from middleware.wire.framing import Framer
from middleware.wire.frontend import Query
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually


class Operated(NamedTuple):
    """A Pointsman, and the ways to its console."""

    endpoint: Endpoint
    config: Path

    @property
    def console(self) -> Endpoint:
        return self.endpoint._replace(database="pointsman")

    def connect(self, **more: Any) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.console.conninfo(), autocommit=True, **more)

    def show(self, what: str) -> list[tuple[Any, ...]]:
        with self.connect() as client:
            return client.execute(f"SHOW {what}".encode()).fetchall()

    def state(self) -> str:
        """Active, paused or suspended."""
        return next(str(word) for word, yes in self.show("STATE") if yes == "yes")

    def run(self, *words: str) -> Result:
        """`pointsman`, with these settings."""
        return CliRunner().invoke(app, [words[0], "-c", str(self.config), *words[1:]])

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """The same as a process of its own."""
        command = [sys.executable, "-m", "middleware", words[0], "-c", str(self.config), *words[1:]]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def module_operated(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    directory = tmp_path_factory.mktemp("commands")
    # Of few workers, so that what one holds is soon seen.
    control = directory / "control"
    settings: dict[str, Any] = {"admin_users": [cluster.user], "control_socket": str(control), "workers": 2}
    with pointsman(cluster, directory, **settings) as running:
        yield Operated(running, directory / "pointsman.toml")


@pytest.fixture
def operated(module_operated: Operated) -> Iterator[Operated]:
    yield module_operated
    with module_operated.connect() as client, contextlib.suppress(psycopg.Error):
        client.execute("RESUME")


@pytest.fixture
def busy(operated: Operated) -> Iterator["psycopg.Connection[Any]"]:
    """A client with a transaction open: PAUSE waits for it."""
    with contextlib.closing(psycopg.connect(operated.endpoint.conninfo())) as client:
        client.execute("SELECT txid_current()")
        yield client


# Long commands, and what is taken back


def test_a_cancel_takes_a_pause_back(operated: Operated, busy: object) -> None:
    told: list[str] = []
    with operated.connect() as client:
        client.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        errors: list[BaseException] = []

        def pause() -> None:
            try:
                client.execute("PAUSE")
            except psycopg.errors.QueryCanceled as error:
                errors.append(error)

        thread = threading.Thread(target=pause)
        thread.start()
        eventually(lambda: bool(told))
        assert operated.state() == "paused"
        client.cancel_safe()
        thread.join(10)
        assert not thread.is_alive()
        assert len(errors) == 1
        assert operated.state() == "active"
        assert client.execute("SHOW VERSION").fetchall()
    assert told[0].startswith("waiting for 1 server")


def test_a_console_that_is_killed_takes_its_pause_back(operated: Operated, busy: object) -> None:
    process = subprocess.Popen(["psql", "-X", operated.console.conninfo(), "-c", "PAUSE"])
    try:
        eventually(lambda: operated.state() == "paused")
    finally:
        process.kill()
        process.wait(10)
    eventually(lambda: operated.state() == "active")


def test_a_worker_that_dies_takes_the_pauses_of_its_consoles_back(operated: Operated, busy: object) -> None:
    with operated.connect() as client:
        client.pgconn.send_query(b"PAUSE")
        eventually(lambda: operated.state() == "paused")
        pids = {worker: pid for worker, pid, *_ in operated.show("WORKERS")}
        os.kill(pids[client.info.backend_pid >> 20], signal.SIGKILL)
        eventually(lambda: operated.state() == "active")
        client.close()
    eventually(lambda: all(pid is not None and state == "running" for _, pid, state, *_ in operated.show("WORKERS")))


def test_commands_of_several_consoles_do_not_wait_for_each_other(operated: Operated, busy: object) -> None:
    with operated.connect() as first, operated.connect() as second:
        first.pgconn.send_query(b"PAUSE")
        eventually(lambda: second.execute("SHOW STATE").fetchall()[1] == ("paused", "yes"))
        second.execute("RESUME")
        result = None
        while result is None:
            first.pgconn.consume_input()
            if not first.pgconn.is_busy():
                result = first.pgconn.get_result()
        assert result.status in (psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.FATAL_ERROR)
        assert first.pgconn.get_result() is None


def test_a_client_is_killed_by_the_number_that_is_shown(operated: Operated) -> None:
    with psycopg.connect(operated.endpoint.conninfo(), autocommit=True, application_name="victim") as victim:
        victim.execute("SELECT 1")
        with operated.connect(row_factory=psycopg.rows.dict_row) as client:
            [number] = [row["id"] for row in client.execute("SHOW CLIENTS") if row["application_name"] == "victim"]
            client.execute(f"KILL_CLIENT {number}".encode())
        with pytest.raises(psycopg.errors.AdminShutdown):
            victim.execute("SELECT 1")


def test_a_setting_is_set_until_the_next_reload(operated: Operated) -> None:
    def config(key: str) -> str:
        return next(str(row[1]) for row in operated.show("CONFIG") if row[0] == key)

    told: list[str] = []
    with operated.connect() as client:
        client.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        client.execute("SET query_timeout = 3")
        assert config("query_timeout") == "3"
        with pytest.raises(psycopg.errors.UndefinedObject, match="unknown setting"):
            client.execute("SET no_such_setting = 3")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="default_pool_size"):
            client.execute("SET default_pool_size = 0")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="without a restart"):
            client.execute("SET listen_port = 3")
        client.execute("SET dashboard_password = 'unheard-of'")
        assert config("dashboard_password") == "********"
        client.execute("RELOAD")
        assert config("query_timeout") == "0"
    assert "query_timeout: 0 -> 3" in told
    assert "query_timeout: 3 -> 0" in told
    assert "unheard-of" not in repr(told) + (operated.config.parent / "log").read_text()
    assert operated.run("set", "query_timeout", "2").stdout == "query_timeout: 0 -> 2\n"
    assert operated.run("reload").stdout == "query_timeout: 2 -> 0\n"


# Who may come in when nobody else may


def test_an_admin_comes_in_when_all_places_are_taken(cluster: Sandbox, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"admin_users": ["postgres"], "stats_users": [cluster.user], "max_client_conn": 2}
    with pointsman(cluster, tmp_path, workers=1, admin_reserved_conn=1, **settings) as running:
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(psycopg.connect(running.conninfo()))
            console = running._replace(database="pointsman")
            with pytest.raises(psycopg.OperationalError, match="sorry, too many clients already"):
                psycopg.connect(console.conninfo())
            admin = console._replace(user="postgres", password=cluster.passwords["postgres"])
            with psycopg.connect(admin.conninfo(), autocommit=True) as client:
                assert ("used_clients", 3) in client.execute("SHOW LISTS").fetchall()
                with pytest.raises(psycopg.OperationalError, match="sorry, too many clients already"):
                    psycopg.connect(admin.conninfo())
        eventually(lambda: _comes_in(admin))


def _comes_in(endpoint: Endpoint) -> bool:
    try:
        psycopg.connect(endpoint.conninfo()).close()
    except psycopg.OperationalError:
        return False
    return True


# How much it bears


def test_a_reader_that_takes_nothing_costs_no_memory(operated: Operated) -> None:
    """It asks for a big table many times over, and does not read; what it reads in the end is whole."""
    asked = 320
    main = psutil.Process(operated.endpoint.process.pid)

    def memory() -> int:
        return sum(process.memory_info().rss for process in [main, *operated.endpoint.workers()])

    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(psycopg.connect(operated.endpoint.conninfo()))
        with operated.connect() as client:
            rows = len(client.execute("SHOW CLIENTS").fetchall())
            size = sum(len(str(row)) for row in client.execute("SHOW CLIENTS").fetchall())
        assert rows == 201
        with _raw(operated.console) as reader:
            query = Query(b"SHOW CLIENTS;" * 40).encode()
            before = memory()
            reader.sendall(query * (asked // 40))
            # All of it is some megabytes, of which only what the sockets hold may be under way.
            assert asked * size > 10 << 20
            steady = 0
            for _ in range(20):
                with operated.connect() as client:
                    client.execute("SHOW CLIENTS").fetchall()
                steady = memory()
            assert steady - before < 6 << 20
            framer = Framer(1 << 30)
            told: list[object] = []
            while sum(isinstance(one, ReadyForQuery) for one in told) < asked // 40:
                data = reader.recv(1 << 16)
                assert data
                told += [decode_backend(code, body) for code, body in framer.feed(data)]
            assert sum(isinstance(one, CommandComplete) for one in told) == asked


@contextlib.contextmanager
def _raw(console: Endpoint) -> Iterator[socket.socket]:
    """A socket that is logged in, by a driver that has given it up; it takes little before it is read."""
    client = psycopg.connect(console.conninfo(), autocommit=True)
    connection = socket.socket(fileno=os.dup(client.pgconn.socket))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.settimeout(30)
    connection.setblocking(True)
    try:
        with connection:
            yield connection
    finally:
        client.close()


# The shell


def test_the_shell_shows_tables(operated: Operated) -> None:
    told = operated.run("show", "nodes")
    assert told.exit_code == 0, told.stderr
    head, *rows = [line.split() for line in told.stdout.splitlines()]
    assert head[:4] == ["name", "host", "port", "role"]
    assert [row[0] for row in rows] == ["db1", "db2", "db3"]
    rows = json.loads(operated.run("show", "state", "--json").stdout)
    assert {row["key"]: row["value"] for row in rows} == {"active": "yes", "paused": "no", "suspended": "no"}
    told = operated.run("show", "digests", "order", "by", "mean", "limit", "3", "--json")
    assert told.exit_code == 0
    assert len(json.loads(told.stdout)) <= 3


def test_the_shell_says_what_is_wrong(operated: Operated) -> None:
    told = operated.run("show", "nodse")
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == (
        "pointsman: invalid command 'SHOW nodse', use SHOW HELP;\nHINT:  Perhaps you meant SHOW NODES.\n"
    )
    told = operated.run("attach", "db9")
    assert told.exit_code == 1
    assert 'node "db9" does not exist' in told.stderr
    assert operated.run("kill").exit_code == 2


def test_the_shell_does_things(operated: Operated) -> None:
    assert operated.run("pause").stdout == "PAUSE\n"
    assert operated.state() == "paused"
    assert json.loads(operated.run("resume", "--json").stdout) == {"tag": "RESUME", "notices": []}
    assert operated.state() == "active"
    assert operated.run("detach", "db3").exit_code == 0
    nodes = {row["name"]: row for row in json.loads(operated.run("show", "nodes", "--json").stdout)}
    assert (nodes["db3"]["state"], nodes["db3"]["used"]) == ("detached", False)
    assert operated.run("attach", "db3").exit_code == 0
    assert operated.run("drain", "db2").exit_code == 0
    assert operated.run("attach", "db2").exit_code == 0
    assert operated.run("disable", "no such").exit_code == 0
    assert operated.run("enable", "no such").exit_code == 0
    assert operated.run("reconnect").exit_code == 0
    assert operated.run("wait-close").exit_code == 0
    assert operated.run("console", "cache off").exit_code == 0
    assert operated.run("console", "CACHE DEFAULT;").stdout == "CACHE\n"


@pytest.fixture
def named(cluster: Sandbox, tmp_path: Path) -> Iterator[Operated]:
    """Rules name a database that nobody uses, and no catalog or counter knows of anything."""
    routes = [{"name": "night", "database": "night"}, {"name": "reports", "database": "report.*"}]
    settings: dict[str, Any] = {"admin_users": [cluster.user], "control_socket": str(tmp_path / "control")}
    with pointsman(cluster, tmp_path, routes=routes, **settings) as running:
        yield Operated(running, tmp_path / "pointsman.toml")


def test_a_name_that_nobody_uses_is_noticed_and_done(named: Operated) -> None:
    told: list[str | None] = []

    def said(command: str) -> list[str | None]:
        told.clear()
        client.execute(command.encode())
        return list(told)

    with named.connect() as client:
        client.add_notice_handler(lambda notice: told.append(notice.message_primary))
        for verb, undo in (("PAUSE", "RESUME"), ("KILL", "RESUME"), ("DISABLE", "ENABLE")):
            # A rule's pattern names nothing: it may be that one of these was meant.
            for name in ("shopp", "report_1"):
                assert said(f"{verb} {name}") == [f'no rule names database "{name}", and nobody has used it']
                # It is known from then on.
                assert said(f"{undo} {name}") == []
            assert said(f"{verb} night") == said(f"{undo} night") == []
        for verb in ("RECONNECT", "WAIT_CLOSE", "ENABLE"):
            assert said(f"{verb} shopp") == ['no rule names database "shopp", and nobody has used it']
            assert said(f"{verb} night") == []
        database = named.endpoint.database
        assert said(f"RECONNECT {database}")
        with psycopg.connect(named.endpoint.conninfo()):
            # It has come just now.
            assert said(f"RECONNECT {database}") == []
            assert said(f"KILL {database}") == []
        assert said(f"RESUME {database}") == []
    assert named.run("pause", "shopp").stdout == 'no rule names database "shopp", and nobody has used it\n'


def test_ctrl_c_takes_a_pause_back(operated: Operated, busy: object) -> None:
    process = operated.start("pause")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("waiting for 1 server")
    assert operated.state() == "paused"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (130, "given up\n")
    eventually(lambda: operated.state() == "active")


def test_what_is_watched_is_shown_again(operated: Operated) -> None:
    process = operated.start("show", "state", "--json", "--watch", "0.05")
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert lines[0] == lines[1] == lines[2]
    assert process.returncode == 0


def test_a_big_table_comes_through_the_control_socket(operated: Operated) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(250):
            stack.enter_context(psycopg.connect(operated.endpoint.conninfo(), application_name="x" * 60))
        rows = json.loads(operated.run("show", "clients", "--json").stdout)
        assert sum(row["application_name"] == "x" * 60 for row in rows) == 250


def test_what_breaks_the_protocol_behind_a_command_ends_its_own_connection_alone(operated: Operated) -> None:
    """It is looked at when the command is done; the worker serves its other clients all the same."""
    with operated.connect() as watching:
        pids = {process.pid for process in operated.endpoint.workers()}
        with _raw(operated.console) as client:
            client.sendall(Query(b"SHOW CLIENTS").encode() + b"d\0\0\0\x04" + b"y\0\0\0\x04")
            framer, told = Framer(1 << 30), list[object]()
            while data := client.recv(1 << 16):
                told += [decode_backend(code, body) for code, body in framer.feed(data)]
        assert CommandComplete(b"SHOW") in told
        assert isinstance(told[-1], ErrorResponse)
        assert (told[-1].field(b"S"), told[-1].field(b"C")) == (b"FATAL", b"08P01")
        assert watching.execute("SHOW VERSION").fetchall()
        assert {process.pid for process in operated.endpoint.workers()} == pids
