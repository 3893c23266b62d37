"""What is done about session state, as its settings say; and what its client, the log and the operator are told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

SECRET = "hunter2"

ROUTES = [
    {
        "application_name": "strict",
        **{
            f"session_state.{state}": "reject"
            for state in ("settings", "roles", "prepared_statements", "listen", "advisory_locks", "temporary_tables")
        },
        "session_state.hold_cursors": "reject",
        "session_state.unknown": "reject",
    },
    {"application_name": "keeps", "session_state.settings": "pin", "session_state.prepared_statements": "pin"},
    {
        "application_name": "loose",
        "session_state.settings": "allow",
        "session_state.temporary_tables": "allow",
        "session_state.advisory_locks": "allow",
    },
    {"application_name": "logged", "session_state_warnings": "log"},
    {"application_name": "silent", "session_state_warnings": "off"},
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def two(cluster: Sandbox, directory: Path) -> Iterator[Endpoint]:
    """Two servers to a node, in one worker."""
    with pointsman(cluster, directory, workers=1, default_pool_size=2, routes=ROUTES) as running:
        yield running


class Client:
    """A psycopg connection that remembers what it was told."""

    def __init__(self, endpoint: Endpoint, name: str, **options: Any) -> None:
        self.connection = psycopg.connect(
            endpoint.conninfo() + f" application_name={name}", autocommit=True, prepare_threshold=None, **options
        )
        self.told: list[str] = []
        self.connection.add_notice_handler(lambda notice: self.told.append(f"{notice.severity} {notice.sqlstate}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(self, sql: str) -> Any:
        cursor = self.connection.execute(sql)
        return cursor.fetchall()[0][0] if cursor.description else cursor.statusmessage

    def knows_the_catalog(self) -> bool:
        self.ask("SELECT 1")
        return "catalog" not in self.ask("SHOW pointsman.last_route")

    def backend(self) -> int:
        return int(self.ask("SELECT pg_backend_pid() FROM (SELECT txid_current()) x"))


REJECTED = [
    "SET work_mem = '3MB'",
    "SELECT set_config('work_mem', '3MB', false)",
    "SET ROLE app",
    "PREPARE p AS SELECT 1",
    "LISTEN c",
    "SELECT pg_try_advisory_lock(1)",
    "CREATE TEMP TABLE t ()",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "DO $$BEGIN END$$",
]


@pytest.mark.parametrize("sql", REJECTED)
@pytest.mark.parametrize("extended", [False, True])
def test_reject(two: Endpoint, sql: str, extended: bool) -> None:
    with Client(two, "strict") as client:
        if extended:
            with pytest.raises(psycopg.errors.FeatureNotSupported), client.connection.pipeline():
                client.connection.execute(sql)
        else:
            with pytest.raises(psycopg.errors.FeatureNotSupported) as refused:
                client.ask(sql)
            assert refused.value.diag.message_hint
        assert client.ask("SELECT 1") == 1
        client.ask("BEGIN")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            client.ask(sql)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            client.ask("SELECT 1")
        assert client.ask("COMMIT") == "ROLLBACK"
        assert client.ask("SELECT 1") == 1


def test_what_ends_with_its_transaction_is_not_rejected(two: Endpoint) -> None:
    with Client(two, "strict") as client:
        client.ask("BEGIN")
        client.ask("SET LOCAL work_mem = '3MB'")
        client.ask("SELECT pg_advisory_xact_lock(1)")
        client.ask("COMMIT")
        assert not client.told


def test_pinned_settings_keep_the_server(two: Endpoint) -> None:
    with Client(two, "keeps") as client, Client(two, "other") as other:
        client.ask("SET work_mem = '3MB'")
        mine = client.backend()
        others = set()
        for _ in range(6):
            other.ask("BEGIN")
            others.add(other.backend())
            assert client.backend() == mine
            other.ask("COMMIT")
        assert mine not in others
        client.ask("RESET work_mem")
        assert "keeps its server" not in client.ask("SHOW pointsman.last_route")


def test_allow_loses_it_and_leaks_nothing(two: Endpoint) -> None:
    with Client(two, "loose") as client, Client(two, "other") as other:
        client.ask("SET work_mem = '3MB'")
        assert client.ask("SELECT pg_try_advisory_lock(4242)")
        client.ask("CREATE TEMP TABLE lost ()")
        assert client.ask("SHOW work_mem") != "3MB"
        with pytest.raises(psycopg.errors.UndefinedTable):
            client.ask("TABLE lost")
        assert other.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242") == 0


PINS = [
    ("LISTEN c", "UNLISTEN *"),
    ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"),
    ("CREATE TEMP TABLE pinned ()", "DROP TABLE pinned"),
    ("DECLARE pinned CURSOR WITH HOLD FOR SELECT 1", "CLOSE pinned"),
    ("SELECT pg_advisory_lock(7)", "DISCARD ALL"),
    ("DO $$BEGIN PERFORM pg_advisory_lock(8); END$$", "SELECT pg_advisory_unlock_all()"),
]


@pytest.mark.parametrize(("begins", "ends"), PINS)
def test_a_pin_ends_with_its_state(two: Endpoint, begins: str, ends: str) -> None:
    with Client(two, "app") as client:
        client.ask(begins)
        client.ask("SELECT 1")
        assert "keeps its server" in client.ask("SHOW pointsman.last_route")
        client.ask(ends)
        client.ask("SELECT 1")
        assert "keeps its server" not in client.ask("SHOW pointsman.last_route")


def test_a_pin_that_came_to_nothing(two: Endpoint) -> None:
    with Client(two, "app") as client:
        client.ask("BEGIN")
        client.ask("LISTEN c")
        client.ask("CREATE TEMP TABLE t () ON COMMIT DROP")
        client.ask("ROLLBACK")
        client.ask("SELECT 1")
        assert "keeps its server" not in client.ask("SHOW pointsman.last_route")


def test_a_pinned_session_ends_with_its_server(two: Endpoint, cluster: Sandbox) -> None:
    with Client(two, "app") as client:
        client.ask("SELECT pg_advisory_lock(9)")
        cluster.query(f"SELECT pg_terminate_backend({client.backend()})", database="postgres")
        with pytest.raises(psycopg.OperationalError):
            client.ask("SELECT 1")
        assert client.connection.closed


def test_a_server_that_cannot_be_cleaned_is_closed(two: Endpoint, cluster: Sandbox) -> None:
    with Client(two, "app") as client:
        # While the catalog is not known each call of a function is looked into, and the server is cleaned for that.
        eventually(client.knows_the_catalog)
        client.ask("SELECT setseed(0.5)")
        pid = client.backend()
    gone = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"
    eventually(lambda: cluster.query(gone, database="postgres") == [["0"]])


WARNED = [
    ("SET work_mem = '3MB'", "01PS1"),
    ("SET ROLE app", "01PS2"),
    ("PREPARE p AS SELECT 1", "01PS3"),
    ("LISTEN c", "01PS4"),
    ("SELECT pg_try_advisory_lock_shared(1)", "01PS5"),
    ("CREATE TEMP VIEW v AS SELECT 1", "01PS6"),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "01PS7"),
    ("SELECT setseed(0.1)", "01PS9"),
    ("SELECT set_config('work' || '_mem', '3MB', false)", "01PS1"),
    ("DO $$BEGIN PERFORM set_config('work_mem', '3MB', false); END$$", "01PS1"),
]


@pytest.mark.parametrize(("sql", "sqlstate"), WARNED)
def test_a_class_is_told_of_once(two: Endpoint, sql: str, sqlstate: str) -> None:
    with Client(two, "app") as client:
        client.ask(sql)
        client.ask("SELECT 1")
        assert client.told == [f"WARNING {sqlstate}"]
        client.ask("DISCARD ALL")
        client.ask(sql)
        client.ask("SELECT 1")
        assert client.told == [f"WARNING {sqlstate}"]


@pytest.mark.parametrize(
    "sql",
    [
        "SET TimeZone = 'UTC'",
        "SET statement_timeout = 1000",
        "SELECT set_config('search_path', '', false)",
        "SET search_path TO ''",
        "RESET ALL",
        "UNLISTEN *",
        "DISCARD ALL",
        "SELECT pg_advisory_unlock_all()",
        "DO $$BEGIN END$$",
        "SET pointsman.route = 'primary'",
    ],
)
def test_what_tools_say_by_themselves_is_not_told_of(two: Endpoint, sql: str) -> None:
    with Client(two, "app") as client:
        client.ask(sql)
        client.ask("SELECT 1")
        assert not client.told


@pytest.mark.parametrize("name", ["logged", "silent"])
def test_not_told_to_the_client(two: Endpoint, name: str) -> None:
    with Client(two, name) as client:
        client.ask("SET work_mem = '3MB'")
        assert not client.told
        assert client.ask("SHOW work_mem") == "3MB"


def test_a_client_that_wants_no_warnings_gets_none(two: Endpoint) -> None:
    with Client(two, "app") as client:
        client.ask("SET client_min_messages = error")
        client.ask("SET work_mem = '3MB'")
        client.ask("SELECT 1")
        assert not client.told


def test_the_log_has_no_literals(two: Endpoint, directory: Path) -> None:
    with Client(two, "planted") as client:
        client.ask(f"SET app.password = '{SECRET}'")
        client.ask(f"SELECT set_config('app.password', '{SECRET}', false)")
        client.ask(f"SELECT pg_try_advisory_lock(hashtext('{SECRET}'))")
        client.ask(f"PREPARE p AS SELECT '{SECRET}'")
        client.ask(f"DO $$BEGIN PERFORM set_config('app.password', '{SECRET}', false); END$$")
    log = directory / "log"
    eventually(lambda: log.read_text().count("application_name=planted") >= 4)
    events = [line for line in log.read_text().splitlines() if "application_name=planted" in line]
    assert any('statement="SET app.password"' in line and "user=app" in line for line in events)
    assert SECRET not in log.read_text()


def test_who_uses_it_is_counted(cluster: Sandbox, tmp_path: Path) -> None:
    with pointsman(cluster, tmp_path, workers=2) as endpoint:
        clients = [Client(endpoint, "offender") for _ in range(6)]
        for client in clients:
            client.ask("SET work_mem = '3MB'")

        def counted() -> bool:
            rows = clients[0].connection.execute("SHOW pointsman.session_state").fetchall()
            return ("offender", "app", "app", "settings", "track", 6) in rows

        eventually(counted)
        for client in clients:
            client.connection.close()


def test_what_a_function_says_in_its_body_is_seen(two: Endpoint) -> None:
    """Also where the catalog has not been read since it was made."""
    with Client(two, "app") as client, Client(two, "other") as other:
        client.ask(
            "CREATE FUNCTION hides() RETURNS void LANGUAGE plpgsql AS"
            " $$BEGIN PERFORM set_config('work_mem', '3MB', false), pg_advisory_lock(4243); END$$"
        )
        try:
            client.ask("SELECT hides()")
            assert client.ask("SHOW work_mem") == "3MB"
            assert client.ask("SELECT pg_advisory_unlock(4243)")
            for _ in range(4):
                assert other.ask("SELECT current_setting('work_mem') FROM (SELECT txid_current()) x") != "3MB"
        finally:
            client.ask("DROP FUNCTION hides()")
