"""Transactions that change their node while nobody can tell: see middleware/relay/transaction.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg
import psycopg
import pytest

from middleware.sandbox import Sandbox, SandboxNode
from middleware.wire.frontend import Bind, Execute, Parse
from tests.conftest import Endpoint, pointsman
from tests.differential.raw_client import Address
from tests.talk import SYNC, Talk, queries, run, words
from tests.waiting import eventually

pytestmark = pytest.mark.integration

WHO: Final = "SELECT current_setting('cluster_name') FROM (SELECT count(*) FROM moved) x"
INSERT: Final = "INSERT INTO moved VALUES (1) RETURNING current_setting('cluster_name')"

Steps = tuple[tuple[str | bytes, str], ...]


def portal(sql: str, rows: int) -> bytes:
    """Some rows of a portal that may be asked for more."""
    return Parse(b"", sql.encode()).encode() + Bind(b"c").encode() + Execute(b"c", rows).encode() + SYNC


UNTIL_WRITE: Final[dict[str, Steps]] = {
    "reads only": (("BEGIN", "T"), (WHO, "standby T"), (run(WHO) + SYNC, "standby T"), ("COMMIT", "I")),
    "rolled back": (("BEGIN", "T"), (WHO, "standby T"), ("ROLLBACK", "I"), (WHO, "standby I")),
    "a write after a read": (
        ("BEGIN", "T"),
        (WHO, "standby T"),
        (INSERT, "primary T"),
        (WHO, "primary T"),
        ("SELECT n FROM moved", "1 T"),
        ("ROLLBACK", "I"),
        ("SELECT n FROM moved", "I"),
    ),
    "a write that is committed": (
        ("START TRANSACTION ISOLATION LEVEL READ COMMITTED", "T"),
        (WHO, "standby T"),
        (run(INSERT) + SYNC, "primary T"),
        ("COMMIT", "I"),
        ("SELECT n FROM moved", "1 I"),
    ),
    "a write at once": (("BEGIN", "T"), (INSERT, "primary T"), ("ROLLBACK", "I")),
    "a write in the same string": ((f"BEGIN; {INSERT}", "primary T"), ("ROLLBACK", "I")),
    "all in one write": (
        (queries("BEGIN", WHO, INSERT, WHO, "ROLLBACK", WHO), "T standby T primary T primary T I primary I"),
    ),
    "a pipeline with a write": ((run("BEGIN", WHO, INSERT) + SYNC, "primary primary T"), ("ROLLBACK", "I")),
    "a pipeline of reads": ((run("BEGIN", WHO) + SYNC, "standby T"), ("COMMIT", "I")),
    "a savepoint": (
        ("BEGIN", "T"),
        (WHO, "standby T"),
        ("SAVEPOINT a", "T"),
        (WHO, "primary T"),
        (INSERT, "primary T"),
        ("ROLLBACK TO a", "T"),
        ("SELECT n FROM moved", "T"),
        ("COMMIT", "I"),
    ),
    "SET LOCAL": (
        ("BEGIN", "T"),
        (WHO, "standby T"),
        ("SET LOCAL work_mem = '8MB'", "T"),
        ("SHOW work_mem", "8MB T"),
        (INSERT, "primary T"),
        ("SHOW work_mem", "8MB T"),
        ("ROLLBACK", "I"),
    ),
    "a cursor": (
        ("BEGIN", "T"),
        (WHO, "standby T"),
        ("DECLARE c CURSOR FOR SELECT current_setting('cluster_name') FROM generate_series(1, 3)", "T"),
        ("FETCH c", "primary T"),
        (INSERT, "primary T"),
        ("FETCH c", "primary T"),
        ("ROLLBACK", "I"),
    ),
    "a portal": (
        ("BEGIN", "T"),
        (WHO, "standby T"),
        (portal("SELECT current_setting('cluster_name') FROM generate_series(1, 3)", 1), "primary .. T"),
        (INSERT, "primary T"),
        (Execute(b"c", 1).encode() + SYNC, "primary .. T"),
        ("ROLLBACK", "I"),
    ),
    "a portal, and BEGIN in the same pipeline": (
        (run("BEGIN") + portal("SELECT current_setting('cluster_name') FROM generate_series(1, 3)", 1), "primary .. T"),
        (INSERT, "primary T"),
        (Execute(b"c", 1).encode() + SYNC, "primary .. T"),
        ("ROLLBACK", "I"),
    ),
    "a failed read": (
        ("BEGIN", "T"),
        ("SELECT 1 / 0 FROM (SELECT count(*) FROM moved) x", "!22012 E"),
        (INSERT, "!25P02 E"),
        ("COMMIT", "I"),
        ("SELECT n FROM moved", "I"),
    ),
    "a failed read, and a write in the same breath": (
        (
            queries("BEGIN", "SELECT 1 / 0 FROM (SELECT count(*) FROM moved) x", INSERT, "COMMIT", INSERT),
            "T !22012 E !25P02 E I primary I",
        ),
        ("SELECT n FROM moved", "1 I"),
    ),
    "a lock": (("BEGIN", "T"), (WHO, "standby T"), ("LOCK TABLE moved", "T"), (WHO, "primary T"), ("COMMIT", "I")),
    "chained": (
        ("BEGIN", "T"),
        (WHO, "standby T"),
        ("COMMIT AND CHAIN", "T"),
        (INSERT, "primary T"),
        ("ROLLBACK", "I"),
    ),
    "read-write by its own word": (("BEGIN READ WRITE", "T"), (WHO, "primary T"), ("COMMIT", "I")),
    "one snapshot": (("BEGIN ISOLATION LEVEL REPEATABLE READ", "T"), (WHO, "primary T"), ("COMMIT", "I")),
    "one snapshot, said later": (
        ("BEGIN", "T"),
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "T"),
        (WHO, "primary T"),
        ("SHOW transaction_isolation", "repeatable read T"),
        ("COMMIT", "I"),
    ),
    "whether it is read-only": (
        ("BEGIN", "T"),
        (WHO, "standby T"),
        ("SHOW transaction_read_only", "off T"),
        ("COMMIT", "I"),
    ),
    "read-only after all": (
        ("BEGIN", "T"),
        ("SET TRANSACTION READ ONLY", "T"),
        (WHO, "standby T"),
        (INSERT, "!25006 E"),
        ("ROLLBACK", "I"),
    ),
    "BEGIN within": (("BEGIN", "T"), (WHO, "standby T"), ("BEGIN", "T"), (INSERT, "primary T"), ("ROLLBACK", "I")),
    "BEGIN anew in one breath": (
        (queries("BEGIN", WHO, "COMMIT", "BEGIN", INSERT, "ROLLBACK"), "T standby T I T primary T I"),
    ),
    "a hint": (("/* pointsman: primary */ BEGIN", "T"), (WHO, "primary T"), ("COMMIT", "I")),
    "a hint for a standby": (("/* pointsman: standby */ BEGIN", "T"), (INSERT, "!25006 E"), ("ROLLBACK", "I")),
    "a session that asks for a standby": (
        ("SET pointsman.route = 'standby'", "I"),
        ("BEGIN", "T"),
        (INSERT, "!25006 E"),
        ("ROLLBACK", "I"),
        ("BEGIN READ ONLY", "T"),
        ("LISTEN moved", "!25006 E"),
        ("ROLLBACK", "I"),
    ),
}

READ_ONLY_LATER: Final[dict[str, Steps]] = {
    "in a session that asks for the primary": (
        ("SET pointsman.route = 'primary'", "I"),
        ("BEGIN", "T"),
        ("SET TRANSACTION READ ONLY", "T"),
        (WHO, "primary T"),
        ("COMMIT", "I"),
    ),
    "with a hint": (
        ("/* pointsman: primary */ BEGIN", "T"),
        ("SET TRANSACTION READ ONLY", "T"),
        (WHO, "primary T"),
        ("COMMIT", "I"),
    ),
    "first": (
        ("BEGIN", "T"),
        ("SET TRANSACTION READ ONLY", "T"),
        (WHO, "standby T"),
        ("SHOW transaction_read_only", "on T"),
        (INSERT, "!25006 E"),
        ("ROLLBACK", "I"),
    ),
    "with an isolation": (
        ("BEGIN ISOLATION LEVEL REPEATABLE READ", "T"),
        (run("SET TRANSACTION READ ONLY") + SYNC, "T"),
        ("SHOW transaction_isolation", "repeatable read T"),
        (WHO, "standby T"),
        ("COMMIT", "I"),
    ),
    "and read-write again": (
        ("BEGIN", "T"),
        ("SET TRANSACTION READ ONLY", "T"),
        ("SET TRANSACTION READ WRITE", "T"),
        (INSERT, "primary T"),
        ("ROLLBACK", "I"),
    ),
    "serializable": (
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "T"),
        ("SET TRANSACTION READ ONLY", "T"),
        (WHO, "primary T"),
        ("COMMIT", "I"),
    ),
    "after a read": (
        ("BEGIN", "T"),
        (WHO, "primary T"),
        ("SET TRANSACTION READ ONLY", "T"),
        (WHO, "primary T"),
        ("COMMIT", "I"),
    ),
    "after a write": (
        ("BEGIN", "T"),
        (INSERT, "primary T"),
        ("SET TRANSACTION READ ONLY", "T"),
        ("SELECT n FROM moved", "1 T"),
        ("ROLLBACK", "I"),
    ),
    "in one breath": (
        (queries("BEGIN", "SET TRANSACTION READ ONLY", WHO, "COMMIT", INSERT), "T T standby T I primary I"),
    ),
}

READ_ONLY_BY_DEFAULT: Final[dict[str, Steps]] = {
    "a transaction": (("BEGIN", "T"), (WHO, "standby T"), (INSERT, "!25006 E"), ("ROLLBACK", "I")),
    "a write at once": (("BEGIN", "T"), (INSERT, "!25006 E"), ("ROLLBACK", "I")),
    "read-write by its own word": (("BEGIN READ WRITE", "T"), (INSERT, "primary T"), ("ROLLBACK", "I")),
    "read-write later": (("BEGIN", "T"), ("SET TRANSACTION READ WRITE", "T"), (INSERT, "primary T"), ("ROLLBACK", "I")),
    "a single write": ((INSERT, "!25006 I"),),
    "serializable": (("BEGIN ISOLATION LEVEL SERIALIZABLE", "T"), (WHO, "primary T"), ("COMMIT", "I")),
}


@pytest.fixture(scope="module", autouse=True)
def moved(cluster: Sandbox) -> Iterator[None]:
    cluster.query("CREATE TABLE moved (n int)", user=cluster.user)
    cluster.wait_for_replay()
    yield
    cluster.query("DROP TABLE moved", user=cluster.user)


@pytest.fixture(scope="module")
def until_write(cluster: Sandbox, moved: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with pointsman(cluster, tmp_path_factory.mktemp("until-write"), transaction_reads="until_write") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def plain(cluster: Sandbox, moved: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with pointsman(cluster, tmp_path_factory.mktemp("plain")) as endpoint:
        yield endpoint


def address_of(endpoint: Endpoint) -> Address:
    return Address(endpoint.host, endpoint.port, endpoint.user, endpoint.password, endpoint.database)


def play(cluster: Sandbox, endpoint: Endpoint, steps: Steps, **settings: str) -> None:
    cluster.query("TRUNCATE moved", user=cluster.user)
    cluster.wait_for_replay()
    with Talk(address_of(endpoint), **settings) as talk:
        eventually(lambda: talk.say(WHO) == "standby I")
        assert [(sent, talk.say(sent)) for sent, _ in steps] == list(steps)


@pytest.mark.parametrize("name", UNTIL_WRITE)
def test_reads_on_a_standby_until_the_first_write(cluster: Sandbox, until_write: Endpoint, name: str) -> None:
    play(cluster, until_write, UNTIL_WRITE[name])


@pytest.mark.parametrize("name", READ_ONLY_LATER)
def test_set_transaction_read_only(cluster: Sandbox, plain: Endpoint, name: str) -> None:
    play(cluster, plain, READ_ONLY_LATER[name])


@pytest.mark.parametrize("name", READ_ONLY_BY_DEFAULT)
def test_a_client_whose_transactions_are_read_only(cluster: Sandbox, plain: Endpoint, name: str) -> None:
    play(cluster, plain, READ_ONLY_BY_DEFAULT[name], options="-c default_transaction_read_only=on")


def test_a_role_whose_transactions_are_read_only(cluster: Sandbox, tmp_path: Path) -> None:
    change = f"ALTER ROLE {cluster.user} IN DATABASE {cluster.database}"
    cluster.query(f"{change} SET default_transaction_read_only = yes")
    try:
        cluster.wait_for_replay()
        with pointsman(cluster, tmp_path) as endpoint, Talk(address_of(endpoint)) as talk:
            eventually(lambda: talk.say(WHO) == "standby I")
            assert [talk.say(sql) for sql in ("BEGIN", WHO, INSERT, "ROLLBACK")] == [
                "T",
                "standby T",
                "!25006 E",
                "I",
            ]
    finally:
        cluster.query(f"{change} RESET default_transaction_read_only")
        cluster.wait_for_replay()


@pytest.mark.parametrize("setting", ["default_transaction_isolation=repeatable read", "pointsman.consistency=global"])
def test_reads_stay_where_they_would_see_less(cluster: Sandbox, until_write: Endpoint, setting: str) -> None:
    options = "-c " + setting.replace(" ", "\\ ")
    play(cluster, until_write, (("BEGIN", "T"), (WHO, "primary T"), ("COMMIT", "I")), options=options)


GLOBAL: Final = "-c pointsman.consistency=global"
COUNT: Final = "SELECT count(*) FROM moved"
READ_ONLY: Final = "BEGIN READ ONLY"
REPEATABLE_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
WRITE: Final = ""
"""Another client's, which it is told of."""

GLOBALLY: Final[dict[str, Steps]] = {
    "each statement": (
        (READ_ONLY, "T"),
        (WHO, "primary T"),
        (WRITE, "I"),
        (COUNT, "1 T"),
        (WRITE, "I"),
        (run(COUNT) + SYNC, "2 T"),
        ("SHOW transaction_read_only", "on T"),
        ("COMMIT", "I"),
    ),
    "each statement of one that says so later": (
        ("BEGIN", "T"),
        ("SET TRANSACTION READ ONLY", "T"),
        (WRITE, "I"),
        (COUNT, "1 T"),
        ("COMMIT", "I"),
    ),
    "each statement of a pipeline": (
        (run(READ_ONLY, COUNT) + SYNC, "0 T"),
        (WRITE, "I"),
        (run(COUNT) + SYNC, "1 T"),
        (run("COMMIT", READ_ONLY, WHO) + SYNC, "primary T"),
        ("COMMIT", "I"),
    ),
    "one snapshot": (
        (REPEATABLE_READ, "T"),
        (WHO, "standby T"),
        (COUNT, "0 T"),
        (WRITE, "I"),
        (COUNT, "0 T"),
        ("SAVEPOINT a", "T"),
        (WHO, "standby T"),
        ("COMMIT", "I"),
        (COUNT, "1 I"),
    ),
    "one snapshot, said later": (
        ("BEGIN", "T"),
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", "T"),
        (WHO, "standby T"),
        ("COMMIT", "I"),
    ),
    "one snapshot, and what was told of before": (
        (WRITE, "I"),
        (REPEATABLE_READ, "T"),
        (COUNT, "1 T"),
        ("COMMIT", "I"),
    ),
    "where it asks for a standby": (
        (f"/* pointsman: standby */ {READ_ONLY}", "T"),
        (WHO, "standby T"),
        (WRITE, "I"),
        (COUNT, "0 T"),
        ("COMMIT", "I"),
    ),
}


@pytest.mark.parametrize("name", GLOBALLY)
def test_what_anybody_was_told_of_is_seen_in_a_transaction(cluster: Sandbox, plain: Endpoint, name: str) -> None:
    """At `global`, by each of its snapshots. No standby has what is written here, as none replays."""
    cluster.query("TRUNCATE moved", user=cluster.user)
    cluster.wait_for_replay()
    address = address_of(plain)
    with Talk(address, options=GLOBAL) as talk, Talk(address) as other:
        eventually(lambda: talk.say(WHO) == "standby I")
        with cluster.replay_paused():
            steps = GLOBALLY[name]
            said = [(sent, talk.say(sent) if sent else other.say("INSERT INTO moved VALUES (1)")) for sent, _ in steps]
            assert said == list(steps)


def test_a_hint_holds_for_all_of_a_transaction(cluster: Sandbox, plain: Endpoint) -> None:
    local: Steps = ((READ_ONLY, "T"), (WHO, "standby T"), ("COMMIT", "I"))
    play(cluster, plain, (*local, (f"/* pointsman: global */ {READ_ONLY}", "T"), (WHO, "primary T"), ("COMMIT", "I")))


def test_what_must_not_burden_the_primary_stays_on_its_standby(cluster: Sandbox, tmp_path: Path) -> None:
    with pointsman(cluster, tmp_path, consistency="global", read_from_primary="never") as endpoint:
        play(cluster, endpoint, ((READ_ONLY, "T"), (WHO, "standby T"), ("COMMIT", "I")))


def test_why_a_transaction_went_to_the_primary_is_told(cluster: Sandbox, tmp_path: Path) -> None:
    with pointsman(cluster, tmp_path, consistency="global", workers=1) as endpoint:
        play(cluster, endpoint, ((READ_ONLY, "T"), (WHO, "primary T"), ("COMMIT", "I")))
        with Talk(address_of(endpoint)) as talk:
            eventually(lambda: 'its consistency is "global"' in talk.say("SHOW pointsman.reasons"), 10)


@pytest.mark.anyio
async def test_a_read_sees_what_was_told_of_since_its_statement_was_parsed(cluster: Sandbox, plain: Endpoint) -> None:
    """asyncpg parses a statement with a Flush, and goes on with the same batch when it is asked for its rows."""
    cluster.query("TRUNCATE moved", user=cluster.user)
    cluster.wait_for_replay()
    with Talk(address_of(plain), options=GLOBAL) as talk:
        eventually(lambda: talk.say(WHO) == "standby I")
    client = await asyncpg.connect(plain.url(), server_settings={"options": GLOBAL})
    try:
        with cluster.replay_paused(), psycopg.connect(plain.conninfo(), autocommit=True) as other:
            counting = await client.prepare(COUNT)
            other.execute("INSERT INTO moved VALUES (1)")
            assert await counting.fetchval() == 1
            assert await client.fetchval("SELECT count(*) + $1 FROM moved", 1) == 2
    finally:
        await client.close()


def test_a_read_sees_what_was_told_of_while_the_one_before_it_ran(cluster: Sandbox, plain: Endpoint) -> None:
    cluster.query("TRUNCATE moved", user=cluster.user)
    cluster.wait_for_replay()
    slow = "SELECT n FROM (SELECT count(*) AS n FROM moved) x, (SELECT count(*) FROM generate_series(1, 8000000)) y"
    with Talk(address_of(plain), options=GLOBAL) as talk, Talk(address_of(plain)) as other:
        eventually(lambda: talk.say(WHO) == "standby I")
        with cluster.replay_paused():
            talk.send(queries(slow))
            eventually(lambda: any(running(cluster, node, slow) for node in cluster.standbys))
            assert other.say("INSERT INTO moved VALUES (1)") == "I"
            assert words(talk.hear(queries(COUNT, WHO), batches=3)) == "0 I 1 I primary I"


def running(cluster: Sandbox, node: SandboxNode, sql: str) -> bool:
    found = cluster.query(f"SELECT 1 FROM pg_stat_activity WHERE query = $look${sql}$look$ AND state = 'active'", node)
    return found == [["1"]]
