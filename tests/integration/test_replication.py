"""PostgreSQL's replication clients through the endpoint: each has a server of its own, and nothing is left behind."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
import psycopg2
import psycopg2.extras
import pytest

from middleware.sandbox import Sandbox
from tests.certificates import Certificates
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

pytestmark = pytest.mark.integration

PASSWORD: Final = "follow-me"
SENDERS: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND usename = 'follower'"
    " AND application_name <> 'db2'"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """A primary and a standby that decode logically, with a role that may replicate, and something in a table."""
    version = int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))
    with Sandbox(standbys=1, version=version, parameters={"wal_level": "logical"}) as alone:
        alone.query(f"CREATE ROLE follower LOGIN REPLICATION PASSWORD '{PASSWORD}'")
        alone.query(
            "CREATE TABLE ledger (id int PRIMARY KEY); INSERT INTO ledger SELECT generate_series(1, 1000);"
            " GRANT SELECT ON ledger TO follower; CREATE PUBLICATION all_of_it FOR ALL TABLES",
            database="app",
        )
        yield alone


class Place:
    """An endpoint, and replication clients of it."""

    def __init__(self, cluster: Sandbox, endpoint: Endpoint, instance: pointsman) -> None:
        self.cluster = cluster
        self.endpoint = endpoint._replace(user="follower", password=PASSWORD)
        self.log = instance.log
        self.running = contextlib.ExitStack()

    def conninfo(self, **more: str) -> str:
        return psycopg.conninfo.make_conninfo(self.endpoint.conninfo(), **{"dbname": "app", **more})

    def command(self, program: str, *arguments: str, **more: str) -> list[str]:
        return [str(self.cluster.program(program)), "-d", self.conninfo(**more), *arguments]

    def run(self, program: str, *arguments: str, **more: str) -> str:
        done = subprocess.run(
            self.command(program, *arguments, **more), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, program: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(program, *arguments, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="latin-1",
        )
        self.running.callback(_stop, process)
        return process

    def ask(self, sql: str, **more: str) -> list[str]:
        """By psql, which speaks to a walsender as to any server."""
        output = self.run("psql", "-XqAt", "-c", sql, **{"replication": "database", **more})
        return output.splitlines()

    def senders(self, name: str = "db1") -> int:
        node = self.cluster.node(name)
        return int(self.cluster.query(SENDERS, node)[0][0])

    def has_senders(self, count: int) -> bool:
        return self.senders() == count

    def settle(self) -> None:
        """The clients go, and with them all walsenders."""
        self.running.close()
        eventually(lambda: not any(self.senders(node.name) for node in self.cluster.nodes))
        assert "bug" not in self.log()

    def write(self) -> None:
        self.cluster.query("INSERT INTO ledger SELECT max(id) + 1 FROM ledger", database="app")


def _stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@contextlib.contextmanager
def serving(cluster: Sandbox, directory: Path, **settings: Any) -> Iterator[Place]:
    (directory / "users.txt").write_text(f'"follower" "{PASSWORD}"\n')
    instance = pointsman(cluster, directory, auth_file=str(directory / "users.txt"), **{"workers": 2, **settings})
    with instance as endpoint:
        made = Place(cluster, endpoint, instance)
        yield made
        made.settle()


@pytest.fixture(scope="module")
def served(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with serving(cluster, tmp_path_factory.mktemp("served")) as made:
        yield made


@pytest.fixture
def place(served: Place) -> Iterator[Place]:
    yield served
    served.settle()


def test_a_base_backup_is_whole(place: Place, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    more = ("-X", "stream", "-c", "fast", "--no-sync", "--manifest-checksums=SHA256")
    place.run("pg_basebackup", "-D", str(copy), *more)
    files = json.loads((copy / "backup_manifest").read_text())["Files"]
    assert len(files) > 500
    for file in files:
        assert hashlib.sha256((copy / file["Path"]).read_bytes()).hexdigest() == file["Checksum"], file["Path"]
    assert list((copy / "pg_wal").glob("0*"))


def test_a_base_backup_of_a_standby(place: Place, tmp_path: Path) -> None:
    route = "-c pointsman.route=standby"
    place.run("pg_basebackup", "-D", str(tmp_path / "copy"), "-X", "none", "-c", "fast", "--no-sync", options=route)
    label = (tmp_path / "copy" / "backup_label").read_text()
    assert "BACKUP FROM: standby" in label


def test_a_slow_reader_is_waited_for(place: Place) -> None:
    """The backup's bytes stay on their way: neither we nor the server hold what it does not take."""
    process = place.start("pg_basebackup", "-D", "-", "-F", "tar", "-X", "none", "-c", "fast", "--no-sync")
    assert process.stdout is not None
    eventually(lambda: place.senders() == 1)
    workers = place.endpoint.workers()

    def waits() -> bool:
        # Its pipe is full, so the walsender cannot send.
        wait = place.cluster.query(
            "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'walsender' AND usename = 'follower'"
        )
        return wait == [["WalSenderWriteData"]] or wait == [["ClientWrite"]]

    eventually(waits)
    assert all(worker.memory_info().rss < 200e6 for worker in workers)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert len(output) > 10e6


def test_wal_is_received_through_a_slot_and_a_switch(place: Place, tmp_path: Path) -> None:
    place.ask("CREATE_REPLICATION_SLOT received PHYSICAL RESERVE_WAL", replication="true")
    (tmp_path / "wal").mkdir()
    receiver = place.start("pg_receivewal", "-D", str(tmp_path / "wal"), "-S", "received", "--synchronous", "-v")
    flushed = (
        "SELECT flush_lsn >= '{}' FROM pg_stat_replication JOIN pg_replication_slots ON pid = active_pid"
        " WHERE slot_name = 'received'"
    )
    place.write()
    position = place.cluster.query("SELECT pg_current_wal_lsn()")[0][0]
    eventually(lambda: place.cluster.query(flushed.format(position)) == [["t"]])
    place.cluster.query("SELECT pg_switch_wal()")
    eventually(lambda: any(path.suffix == "" for path in (tmp_path / "wal").iterdir()))
    receiver.send_signal(signal.SIGINT)
    _, errors = receiver.communicate(timeout=20)
    assert receiver.returncode == 0, errors
    place.ask("DROP_REPLICATION_SLOT received WAIT", replication="true")


def test_changes_are_received_logically(place: Place, tmp_path: Path) -> None:
    slot = ("-S", "changes", "-P", "pgoutput", "-o", "proto_version=1", "-o", "publication_names=all_of_it")
    place.run("pg_recvlogical", "--create-slot", *slot)
    place.start("pg_recvlogical", "--start", *slot, "-f", str(tmp_path / "changes"), "-F", "1", "-s", "1")
    eventually(lambda: place.senders() == 1)
    place.write()
    eventually(lambda: (tmp_path / "changes").exists() and b"ledger" in (tmp_path / "changes").read_bytes())
    place.settle()
    place.run("pg_recvlogical", "--drop-slot", "-S", "changes")


def test_a_subscription(place: Place) -> None:
    with Sandbox(standbys=0, version=place.cluster.version) as other:
        other.query("CREATE TABLE ledger (id int PRIMARY KEY)", database="app")
        other.query(f"CREATE SUBSCRIPTION s CONNECTION '{place.conninfo()}' PUBLICATION all_of_it", database="app")
        place.write()
        wanted = place.cluster.query("SELECT count(*), max(id) FROM ledger", database="app")
        eventually(lambda: other.query("SELECT count(*), max(id) FROM ledger", database="app") == wanted, 30)
        other.query("DROP SUBSCRIPTION s", database="app")


def test_a_standby_streams_through_the_endpoint(cluster: Sandbox, tmp_path: Path) -> None:
    standby = cluster.node("db2")
    before = cluster.query("SHOW primary_conninfo", standby)[0][0]
    with serving(cluster, tmp_path) as place:
        through = "SELECT count(*) FROM pg_stat_replication WHERE usename = 'follower' AND application_name = 'db2'"
        cluster.configure({"primary_conninfo": place.conninfo(application_name="db2")}, standby)
        eventually(lambda: cluster.query(through) == [["1"]])
        place.write()
        cluster.wait_for_replay()
        cluster.configure({"primary_conninfo": before}, standby)
        eventually(lambda: cluster.query(through) == [["0"]])


def test_each_login_is_checked_and_settings_reach_the_walsender(place: Place) -> None:
    assert place.ask("SHOW datestyle", options="-c datestyle=SQL,DMY -c pointsman.route=primary") == ["SQL, DMY"]
    assert place.ask("SELECT id FROM ledger WHERE id = 7") == ["7"]
    # On a physical one there is no database to ask in.
    system = place.ask("IDENTIFY_SYSTEM", replication="true")[0].split("|")
    assert system[0] == place.cluster.query("SELECT system_identifier FROM pg_control_system()")[0][0]
    for more, words in (
        ({"password": "wrong"}, 'password authentication failed for user "follower"'),
        ({"replication": "perhaps"}, 'invalid value for parameter "replication"'),
        ({"dbname": "nowhere"}, 'database "nowhere" does not exist'),
    ):
        with pytest.raises(AssertionError, match=words):
            place.ask("IDENTIFY_SYSTEM", **more)
    app = place.endpoint._replace(user="app", password=place.cluster.passwords["app"])
    with pytest.raises(AssertionError, match="permission denied to start WAL sender"):
        place.ask("IDENTIFY_SYSTEM", user="app", password=app.password)


def test_max_wal_senders_is_over_all_workers(cluster: Sandbox, tmp_path: Path) -> None:
    with serving(cluster, tmp_path, max_wal_senders=2) as place:
        for number in (1, 2):
            (tmp_path / str(number)).mkdir()
            place.start("pg_receivewal", "-D", str(tmp_path / str(number)))
            eventually(partial(place.has_senders, number))
        words = 'number of requested standby connections exceeds "max_wal_senders" .currently 2.'
        with pytest.raises(AssertionError, match=words):
            place.ask("IDENTIFY_SYSTEM")
        place.settle()
        assert len(place.ask("IDENTIFY_SYSTEM")) == 1
    with serving(cluster, tmp_path, max_wal_senders=0) as place, pytest.raises(AssertionError, match="currently 0"):
        place.ask("IDENTIFY_SYSTEM")


def test_a_cancel_request_reaches_the_walsender(place: Place) -> None:
    with contextlib.closing(psycopg.connect(place.conninfo(), autocommit=True)) as other:
        other.execute("SELECT 1")
        psql = place.start("psql", "-XqAt", "-c", "SELECT pg_sleep(60)", replication="database")
        sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        eventually(lambda: place.cluster.query(sleeps) == [["1"]])
        psql.send_signal(signal.SIGINT)
        _, errors = psql.communicate(timeout=10)
        assert "canceling statement due to user request" in errors
        assert other.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "arguments",
    [
        ("pg_receivewal", "-D", "."),
        ("pg_basebackup", "-D", "-", "-F", "tar", "-X", "none", "-c", "fast", "--no-sync"),
        ("psql", "-X", "-c", "SELECT pg_sleep(600)"),
    ],
)
def test_a_client_that_is_killed_leaves_no_walsender(
    place: Place, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = place.start(*arguments, replication="database")
    eventually(lambda: place.senders() == 1)
    process.kill()
    eventually(lambda: place.senders() == 0)


def test_a_server_that_is_lost_ends_its_client(place: Place, tmp_path: Path) -> None:
    receiver = place.start("pg_receivewal", "-D", str(tmp_path), "--no-loop")
    eventually(lambda: place.senders() == 1)
    place.cluster.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'follower'")
    _, errors = receiver.communicate(timeout=10)
    assert "terminating connection due to administrator command" in errors


def test_a_node_that_does_not_answer_is_named(cluster: Sandbox, tmp_path: Path) -> None:
    with serving(cluster, tmp_path, server_connect_timeout=1) as place:
        cluster.primary.pause()
        try:
            with pytest.raises(AssertionError, match='could not connect to node "db1"'):
                place.ask("IDENTIFY_SYSTEM")
        finally:
            cluster.primary.resume()


def test_shutting_down_ends_streams_at_once_and_waits_for_commands(cluster: Sandbox, tmp_path: Path) -> None:
    with serving(cluster, tmp_path, shutdown_timeout=20) as place:
        (tmp_path / "wal").mkdir()
        receiver = place.start("pg_receivewal", "-D", str(tmp_path / "wal"), "--no-loop")
        command = place.start("psql", "-XqAt", "-c", "SELECT pg_sleep(2), 'done'", replication="database")
        eventually(lambda: place.senders() == 2)
        place.endpoint.process.send_signal(signal.SIGTERM)
        _, errors = receiver.communicate(timeout=10)
        assert "terminating connection due to administrator command" in errors
        assert command.poll() is None
        output, _ = command.communicate(timeout=10)
        assert output == "|done\n"
        assert place.endpoint.process.wait(10) == 0


def test_a_standby_that_is_promoted_lets_its_clients_go(tmp_path: Path) -> None:
    version = int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))
    with Sandbox(standbys=1, version=version) as own:
        own.query(f"CREATE ROLE follower LOGIN REPLICATION PASSWORD '{PASSWORD}'")
        own.wait_for_replay()
        with serving(own, tmp_path) as place:
            (tmp_path / "wal").mkdir()
            receiver = place.start(
                "pg_receivewal", "-D", str(tmp_path / "wal"), "--no-loop", options="-c pointsman.route=standby"
            )
            eventually(lambda: place.senders("db2") == 1)
            own.promote("db2")
            _, errors = receiver.communicate(timeout=20)
            assert 'node "db2" is no longer' in errors or 'node "db1" is no longer' in errors
            assert place.ask("IDENTIFY_SYSTEM")[0].split("|")[1] == "2"


def test_over_tls(cluster: Sandbox, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with serving(cluster, tmp_path, client_tls_sslmode="require", **certificates.server_settings()) as place:
        conninfo = place.conninfo(sslmode="verify-full", sslrootcert=certificates.path("ca.pem"), host="localhost")
        client = psycopg2.connect(conninfo, connection_factory=psycopg2.extras.PhysicalReplicationConnection)
        with contextlib.closing(client), contextlib.closing(client.cursor()) as cursor:
            assert client.info.ssl_in_use
            cursor.execute("IDENTIFY_SYSTEM")
            position = cursor.fetchone()[2]
            cursor.start_replication(start_lsn=position)
            place.write()
            eventually(lambda: cursor.read_message() is not None)
