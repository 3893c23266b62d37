"""Switchover over a real cluster: what clients notice of it, when it is refused, and what is left when it fails."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import psycopg
import pytest
from psycopg import pq

from healthcheck.handover import Switched
from healthcheck.switchover import Reason, Refused
from middleware.config import Settings
from middleware.sandbox import Sandbox
from middleware.sandbox.door import Door
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.supervisor.quick import DEADLINE_S, primary_of, quick_settings, until

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture(scope="module")
def kept() -> Iterator[Sandbox]:
    """A cluster for what leaves the roles as they are."""
    with Sandbox(standbys=2, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


@pytest.fixture
def three() -> Iterator[Sandbox]:
    with Sandbox(standbys=2, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


def stops_and_tells(sandbox: Sandbox) -> str:
    """What stops a node of a sandbox, and says up to where it has written."""
    file, program = "%D/postmaster.pid", sandbox.program("pg_controldata")
    wait = f"while [ -e {file} ]; do sleep 0.01; done"
    return f"sh -c 'kill -INT $(head -n 1 {file}) && {wait}; {program} %D | grep \"^Latest checkpoint location\"'"


def settings(sandbox: Sandbox, door: Path | None = None, **more: object) -> Settings:
    follow = f"{sys.executable} -m middleware.sandbox rejoin {door} %n %o" if door else ""
    nodes = {
        node.name: {
            "host": node.host,
            "port": node.port,
            "data_directory": sandbox.query("SHOW data_directory", node)[0][0],
        }
        for node in sandbox.nodes
    }
    orders: dict[str, object] = {
        "nodes": nodes,
        "failover": "promote",
        "failover_after": 0.3,
        "demote_command": stops_and_tells(sandbox),
        "follow_primary_command": follow,
    }
    return quick_settings(sandbox, **{**orders, **more})


def happened(supervisor: Supervisor) -> list[str]:
    return [one.what for one in supervisor.happenings if one.what.startswith(("switchover", "promoted", "follow"))]


@contextlib.asynccontextmanager
async def pointsman(sandbox: Sandbox, door: Path | None = None, **more: object) -> AsyncIterator[Supervisor]:
    chosen = await anyio.to_thread.run_sync(lambda: settings(sandbox, door, **more))
    async with running(chosen) as supervisor:

        def well() -> bool:
            seen = supervisor._monitor.observations()
            streaming = [node for node in supervisor.topology.standbys() if seen[node.name].heard_s_ago is not None]
            return primary_of(supervisor) == "db1" and len(streaming) == 2

        await until(well, supervisor)
        yield supervisor


def conninfo(supervisor: Supervisor, sandbox: Sandbox) -> str:
    host, port = supervisor.addresses[0]
    return f"host={host} port={port} user=app password={sandbox.passwords['app']} dbname=app"


class Load:
    """Clients that write and read as fast as they are served, each on one connection. Made of threads."""

    def __init__(self, conninfo: str, writers: int, readers: int) -> None:
        self.errors: list[str] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.reads = 0
        self.slowest_s = 0.0
        self._end = threading.Event()
        self._conninfo = conninfo
        acts = [(self._write, number) for number in range(writers)] + [(self._read, 0)] * readers
        self._threads = [threading.Thread(target=self._go, args=act) for act in acts]

    def start(self) -> None:
        with psycopg.connect(self._conninfo, autocommit=True) as client:
            client.execute("CREATE TABLE IF NOT EXISTS ledger (writer int, number int, PRIMARY KEY (writer, number))")
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()

    def _go(self, act: Callable[[psycopg.Connection, int, int], None], who: int) -> None:
        try:
            with psycopg.connect(self._conninfo, autocommit=True) as client:
                number = 0
                while not self._end.is_set():
                    number += 1
                    began = time.monotonic()
                    act(client, who, number)
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                    time.sleep(0.002)
        except psycopg.Error as error:
            self.errors.append(f"{act.__name__} {error.sqlstate} {error}")

    def _write(self, client: psycopg.Connection, who: int, number: int) -> None:
        if number % 2:
            client.execute("INSERT INTO ledger VALUES (%s, %s)", (who, number))
        else:
            with client.transaction():
                client.execute("INSERT INTO ledger VALUES (%s, %s)", (who, number))
                # The first of them takes its time.
                time.sleep(0.0 if who else 0.1)
                client.execute("SELECT 1")
        self.acknowledged.append((who, number))

    def _read(self, client: psycopg.Connection, _who: int, _number: int) -> None:
        client.execute("SELECT count(*) FROM ledger").fetchone()
        self.reads += 1


@contextlib.asynccontextmanager
async def load_on(supervisor: Supervisor, sandbox: Sandbox, writers: int, readers: int) -> AsyncIterator[Load]:
    load = Load(conninfo(supervisor, sandbox), writers, readers)
    await anyio.to_thread.run_sync(load.start)
    try:
        yield load
    finally:
        await anyio.to_thread.run_sync(load.stop)


async def test_clients_wait_and_nobody_gets_an_error(three: Sandbox, tmp_path: Path) -> None:
    door = tmp_path / "door"
    with Door(three, door):
        async with pointsman(three, door, workers=2) as supervisor:
            async with load_on(supervisor, three, writers=3, readers=3) as load:
                await until(lambda: len(load.acknowledged) > 100 and load.reads > 100, supervisor)
                switched = await supervisor.switch("db3")
                before = len(load.acknowledged)
                await until(lambda: len(load.acknowledged) > before + 100, supervisor)
                # And on: what was primary is one of those who can be.
                back = await supervisor.switch()
                before = len(load.acknowledged)
                await until(lambda: len(load.acknowledged) > before + 100, supervisor)
            assert load.errors == []
            assert switched == Switched("db3", "db1", switched.held_s, follows=True)
            assert (back.old, back.follows) == ("db3", True)
            print("held", switched.held_s, back.held_s, "slowest", load.slowest_s)
            new = three.node(back.primary)
            known = {
                (int(writer), int(number))
                for writer, number in three.query("SELECT writer, number FROM ledger", new, user="app")
            }
            assert set(load.acknowledged) <= known
            # Whoever is not the primary follows who is.
            streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            await until(lambda: three.query(streaming, new) == [["2"]], supervisor)
            assert primary_of(supervisor) == back.primary


async def test_an_open_transaction_that_does_not_end_takes_it_back(kept: Sandbox) -> None:
    async with pointsman(kept, switchover_timeout=0.5) as supervisor:
        where = conninfo(supervisor, kept)

        def hold_open(begun: threading.Event, end: threading.Event) -> None:
            with psycopg.connect(where) as client:
                client.execute("CREATE TABLE begun (writer int, number int)")
                client.execute("INSERT INTO begun VALUES (0, 0)")
                begun.set()
                assert end.wait(DEADLINE_S)
                # What it has begun on the old primary goes on there.
                client.execute("INSERT INTO begun VALUES (0, 1)")

        begun, end = threading.Event(), threading.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, hold_open, begun, end)
            assert await anyio.to_thread.run_sync(begun.wait, DEADLINE_S)
            with pytest.raises(Refused) as refused:
                await supervisor.switch("db2")
            assert refused.value.reason is Reason.TIMED_OUT
            assert "transactions or statements have not ended: 1 after 0.5 s" in str(refused.value)
            assert refused.value.detail == "db1 stays the primary, and gets what was held."
            end.set()
        assert primary_of(supervisor) == "db1"
        assert happened(supervisor) == [
            "switchover_begun",
            "switchover_holds",
            "switchover_trouble",
            "switchover_resumed",
        ]
        await anyio.to_thread.run_sync(write_once, where, "begun")
        assert kept.query("SELECT number FROM begun ORDER BY number", user="app") == [["0"], ["1"], ["2"]]


def write_once(where: str, table: str) -> None:
    with psycopg.connect(where, autocommit=True) as client:
        client.execute(f"CREATE TABLE IF NOT EXISTS {table} (writer int, number int)")
        client.execute(f"INSERT INTO {table} VALUES (0, 2)")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("sh -c 'echo no such service; exit 3'", "demote_command ended with status 3: no such service"),
        # It says that it has.
        ("true", "it still runs"),
    ],
)
async def test_an_old_primary_that_cannot_be_stopped_goes_on(kept: Sandbox, command: str, why: str) -> None:
    async with pointsman(kept, demote_command=command) as supervisor:
        with pytest.raises(Refused, match="was taken back") as refused:
            await supervisor.switch("db2")
        assert refused.value.reason is Reason.FAILED
        assert why in str(refused.value)
        assert primary_of(supervisor) == "db1"
        assert kept.query("SELECT pg_is_in_recovery()", kept.node("db2")) == [["t"]]
        await anyio.to_thread.run_sync(write_once, conninfo(supervisor, kept), "goes_on")


async def test_one_that_has_stopped_though_its_command_failed_is_left_to_the_failover(three: Sandbox) -> None:
    command = stops_and_tells(three).removesuffix("'") + "; exit 1'"
    async with pointsman(three, demote_command=command) as supervisor:
        with pytest.raises(Refused, match="has failed half-way: stopping the old primary: demote_command ended with"):
            await supervisor.switch("db2")
        await until(lambda: "failover_done" in [one.what for one in supervisor.happenings], supervisor)
        assert primary_of(supervisor) in ("db2", "db3")
        # Nobody was sent to one that is stopped.
        seen = [(one.node, one.what) for one in supervisor.happenings]
        assert seen.count(("db1", "node_up")) == 1


async def test_what_lacks_something_is_not_promoted(three: Sandbox) -> None:
    """The shutdown's record, by what the command says of it, has not come: as if its connection had been lost."""
    command = stops_and_tells(three).removesuffix("'") + "; echo Latest checkpoint location: FF/0'"
    async with pointsman(three, demote_command=command, promote_timeout=0.5, failover_after=600) as supervisor:
        with pytest.raises(Refused, match=r"db2 has replayed up to .* has left a record behind FF/0"):
            await supervisor.switch("db2")
        assert three.query("SELECT pg_is_in_recovery()", three.node("db2")) == [["t"]]
        # It is no longer kept out: whoever starts it again has the primary back.
        three.node("db1").start()
        await until(lambda: primary_of(supervisor) == "db1", supervisor)


async def test_what_is_refused_changes_nothing(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor:
        with pytest.raises(Refused, match='node "db9" does not exist'):
            await supervisor.switch("db9")
        kept.node("db2").kill()
        await until(lambda: len(supervisor.topology.standbys()) == 1, supervisor)
        with pytest.raises(Refused, match='node "db2" cannot be primary now'):
            await supervisor.switch("db2")
        assert happened(supervisor) == []
    kept.node("db2").start()
    async with pointsman(kept, demote_command="", failover_user="pointsman") as supervisor:
        with pytest.raises(Refused, match='primary "db1" cannot be stopped: there is no demote_command'):
            await supervisor.switch()


async def test_while_transactions_end_reads_go_on_and_writes_wait_and_who_hangs_up_has_it_back(
    kept: Sandbox, tmp_path: Path
) -> None:
    async with pointsman(kept, control_socket=str(tmp_path / "control")) as supervisor:
        where = conninfo(supervisor, kept)
        with (
            contextlib.closing(await anyio.to_thread.run_sync(open_transaction, where)) as client,
            contextlib.closing(await anyio.to_thread.run_sync(open_replication, supervisor, kept)) as replication,
            contextlib.closing(psycopg.connect(where, autocommit=True)) as pinned,
        ):
            await anyio.to_thread.run_sync(pinned.execute, "CREATE TEMPORARY TABLE mine (a int)")
            async with anyio.create_task_group() as tasks, load_on(supervisor, kept, writers=0, readers=2) as load:
                asking = await anyio.connect_unix(tmp_path / "control")
                await asking.send(b'{"do": "switchover"}\n')
                await until(lambda: "switchover_holds" in happened(supervisor), supervisor)
                tasks.start_soon(anyio.to_thread.run_sync, write_once, where, "waited")
                await until(lambda: supervisor.counters().waiting == 1, supervisor)
                before = load.reads
                await until(lambda: load.reads > before + 50, supervisor)
                # Who has left something there may use it as long as it is there,
                await anyio.to_thread.run_sync(pinned.execute, "INSERT INTO mine VALUES (1)")
                with pytest.raises(Refused, match="a switchover is going on") as refused:
                    await supervisor.switch()
                assert refused.value.reason is Reason.BUSY
                assert primary_of(supervisor) == ""
                await asking.aclose()
                # The one that writes gets its answer, and ends this block.
            assert load.errors == []
            assert primary_of(supervisor) == "db1"
            assert happened(supervisor)[-1] == "switchover_resumed"
            await anyio.to_thread.run_sync(client.commit)
            # and so after that. A base backup would go on, too.
            assert (await anyio.to_thread.run_sync(pinned.execute, "SELECT a FROM mine")).fetchall() == [(1,)]
            assert await anyio.to_thread.run_sync(replication.identify) == 1
        assert kept.query("SELECT count(*) FROM waited", user="app") == [["1"]]


class Replication:
    """A replication connection; psycopg has no interface of its own for those."""

    def __init__(self, conninfo: str) -> None:
        self._connection = pq.PGconn.connect(conninfo.encode())
        assert self._connection.status == pq.ConnStatus.OK, self._connection.error_message

    def identify(self) -> int:
        return self._connection.exec_(b"IDENTIFY_SYSTEM").ntuples

    def close(self) -> None:
        self._connection.finish()


def open_replication(supervisor: Supervisor, sandbox: Sandbox) -> Replication:
    host, port = supervisor.addresses[0]
    password = sandbox.passwords["postgres"]
    return Replication(f"host={host} port={port} user=postgres password={password} replication=true")


def open_transaction(where: str) -> psycopg.Connection:
    client = psycopg.connect(where)
    client.execute("CREATE TABLE kept (a int)")
    return client


async def test_a_superuser_needs_no_command_to_stop_the_old_primary(three: Sandbox) -> None:
    async with pointsman(three, demote_command="") as supervisor:
        switched = await supervisor.switch("db2")
        assert switched == Switched("db2", "db1", switched.held_s, follows=None)
        assert primary_of(supervisor) == "db2"
        await until(lambda: not three.node("db1").running, supervisor)
        # It has ended by a clean shutdown: it can follow as it is.
        assert "database system is shut down" in three.node("db1").log_tail()


async def test_whose_session_is_on_the_old_primary_is_told_that_it_ends(three: Sandbox, tmp_path: Path) -> None:
    door = tmp_path / "door"
    with Door(three, door):
        async with pointsman(three, door) as supervisor:
            where = conninfo(supervisor, three)
            with contextlib.closing(psycopg.connect(where, autocommit=True)) as pinned:
                await anyio.to_thread.run_sync(pinned.execute, "CREATE TEMPORARY TABLE mine (a int)")
                await supervisor.switch("db2")
                assert any(
                    one.what == "switchover_pinned" and one.text.endswith("connection: 1")
                    for one in supervisor.happenings
                )
                with pytest.raises(psycopg.Error) as lost:
                    await anyio.to_thread.run_sync(pinned.execute, "INSERT INTO mine VALUES (1)")
                assert lost.value.sqlstate == "57P01"
                assert pinned.closed


async def test_the_shell_switches_over(three: Sandbox, tmp_path: Path) -> None:
    door, control = tmp_path / "door", tmp_path / "control"
    (tmp_path / "pointsman.toml").write_text(
        f'control_socket = "{control}"\n[health_check]\nuser = "m"\n'
        '[nodes.db1]\nhost = "127.0.0.1"\nport = 1\n[users.app]\npassword = "x"\n'
    )

    async def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
        def run() -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "middleware", "switchover", *arguments]
            return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S)

        return await anyio.to_thread.run_sync(run)

    with Door(three, door):
        async with pointsman(three, door, control_socket=str(control)) as supervisor:
            refused = await shell("db1")
            assert refused.returncode == 1
            assert refused.stderr == 'pointsman: node "db1" is the primary already\n'
            done = await shell("db2")
            assert (done.returncode, done.stderr) == (0, "")
            lines = done.stdout.splitlines()
            whats = [line.split()[4] for line in lines[:-1]]
            assert whats[0] == "switchover_begun"
            assert whats[-1] == "switchover_done"
            assert lines[-1].startswith("db2 is the primary; writes were held for 0.")
            assert lines[-1].endswith("db1 follows it")
            assert primary_of(supervisor) == "db2"


async def test_the_console_switches_over_and_tells_what_happens(three: Sandbox) -> None:
    """By a client of it, who is told by notices; and one that asks for what cannot be is told by the SQLSTATE."""
    notices: list[str] = []
    async with pointsman(three, admin_users=["app"]) as supervisor:
        database = conninfo(supervisor, three).replace("dbname=app", "dbname=pointsman")

        def ask(command: str) -> None:
            with psycopg.connect(database, autocommit=True) as client:
                client.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
                client.execute(command.encode())

        with pytest.raises(psycopg.errors.UndefinedObject, match='node "db9" does not exist'):
            await anyio.to_thread.run_sync(ask, "PROMOTE db9")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match='node "db1" is the primary already'):
            await anyio.to_thread.run_sync(ask, "SWITCHOVER db1")
        assert notices == []
        await anyio.to_thread.run_sync(ask, "PROMOTE db2")
        assert primary_of(supervisor) == "db2"
        assert len(notices) > 1
        assert notices[-1].startswith("db2 is the primary; writes were held for 0.")
