"""The query cache as its clients see it: what is answered from there, and what must not be any more."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection, IsolationLevel

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SCHEMA = """
CREATE TABLE stock (id int PRIMARY KEY, n int NOT NULL, note text);
INSERT INTO stock SELECT i, 0, 'x' FROM generate_series(1, 100) i;
CREATE TABLE other (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO other VALUES (1, 0);
CREATE VIEW stocked AS SELECT id, n FROM stock WHERE n >= 0;
CREATE TABLE parts (id int, n int) PARTITION BY LIST (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
INSERT INTO parts VALUES (1, 0), (2, 0);
CREATE FUNCTION raise_stock(int) RETURNS void LANGUAGE sql AS 'UPDATE stock SET n = n + 1 WHERE id = $1';
CREATE PROCEDURE raise_other(int) LANGUAGE sql AS 'UPDATE other SET n = n + 1 WHERE id = $1';
CREATE TABLE slow (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO slow VALUES (1, 0);
CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON slow DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION rest();
CREATE TABLE doubtful (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO doubtful VALUES (1, 0);
CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON doubtful DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION rest();
GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
"""
STOCK = "SELECT n FROM stock WHERE id = 1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    with Sandbox(standbys=1) as sandbox:
        sandbox.query(SCHEMA)
        sandbox.wait_for_replay()
        yield sandbox


@pytest.fixture(scope="module")
def endpoint(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Two workers: who is told of a write by one may read at the other."""
    settings = {
        "query_cache": "on",
        "cache_watch": "off",
        "max_cached_result_size": 50_000,
        # What is not cached, too, has what others were told of.
        "consistency": "global",
    }
    with pointsman(cluster, tmp_path_factory.mktemp("cached"), workers=2, **settings) as running:
        with psycopg.connect(running.conninfo(), autocommit=True) as first:
            eventually(lambda: cached(first, STOCK))
        yield running


@pytest.fixture
def connect(endpoint: Endpoint) -> Iterator[Callable[..., Connection[Any]]]:
    with contextlib.ExitStack() as stack:

        def one(**options: Any) -> Connection[Any]:
            return stack.enter_context(psycopg.connect(endpoint.conninfo(), autocommit=True, **options))

        yield one


def cached(connection: Connection[Any], sql: str) -> bool:
    """Whether a statement is answered from the cache."""
    connection.execute(sql)
    return was_cached(connection)


def was_cached(connection: Connection[Any]) -> bool:
    row = connection.execute("SHOW pointsman.last_route").fetchone()
    assert row is not None
    return str(row[0]).startswith("query cache:")


def status(connection: Connection[Any]) -> str:
    return connection.info.transaction_status.name


def value(connection: Connection[Any], sql: str, *arguments: Any, **options: Any) -> Any:
    row = connection.execute(sql, arguments or None, **options).fetchone()
    assert row is not None
    return row[0]


def settled(connections: list[Connection[Any]], sql: str) -> None:
    """Have it in the cache of each of them: of two workers, that is."""
    for one in connections:
        eventually(lambda one=one: cached(one, sql))  # type: ignore[misc]


WRITES = {
    "UPDATE": "UPDATE stock SET n = n + 1 WHERE id = 1",
    "WITH": "WITH w AS (UPDATE stock SET n = n + 1 WHERE id = 1 RETURNING 1) SELECT * FROM w",
    "function": "SELECT raise_stock(1)",
    "DO": "DO $$BEGIN UPDATE stock SET n = n + 1 WHERE id = 1; END$$",
    "view": "UPDATE stocked SET n = n + 1 WHERE id = 1",
    "several": "SELECT 1; UPDATE stock SET n = n + 1 WHERE id = 1; SELECT 2",
    "MERGE": "MERGE INTO stock USING other ON stock.id = other.id WHEN MATCHED THEN UPDATE SET n = stock.n + 1",
    "EXPLAIN": "EXPLAIN ANALYZE UPDATE stock SET n = n + 1 WHERE id = 1",
}


@pytest.mark.parametrize("way", WRITES)
def test_who_is_told_of_a_write_and_whoever_asks_then_sees_it(
    connect: Callable[..., Connection[Any]], way: str
) -> None:
    clients = [connect() for _ in range(4)]
    for _ in range(3):
        before = value(clients[0], STOCK)
        settled(clients, STOCK)
        clients[0].execute(WRITES[way])
        assert [value(one, STOCK) for one in clients] == [before + 1] * 4


def test_a_table_is_left_alone_by_writes_to_others(connect: Callable[..., Connection[Any]]) -> None:
    one, two = connect(), connect()
    settled([one], STOCK)
    two.execute("UPDATE other SET n = n + 1")
    two.execute("CALL raise_other(1)")
    assert cached(one, STOCK)


@pytest.mark.parametrize("end", ["ROLLBACK", "ROLLBACK TO a; COMMIT"])
def test_a_rollback_leaves_what_is_cached(connect: Callable[..., Connection[Any]], end: str) -> None:
    one, two = connect(), connect()
    settled([one], STOCK)
    before = value(one, STOCK)
    two.execute("BEGIN")
    two.execute("SAVEPOINT a")
    two.execute("UPDATE stock SET n = n + 1 WHERE id = 1")
    assert value(two, STOCK) == before + 1
    assert not was_cached(two)
    assert value(one, STOCK) == before
    assert was_cached(one)
    for statement in end.split("; "):
        two.execute(statement)
    assert value(one, STOCK) == before
    if end == "ROLLBACK":
        assert was_cached(one)


def test_nothing_is_given_while_a_commit_is_under_way(connect: Callable[..., Connection[Any]]) -> None:
    one, two = connect(), connect()
    slow = "SELECT n FROM slow"
    settled([one], slow)
    two.execute("BEGIN")
    two.execute("UPDATE slow SET n = n + 1")
    assert cached(one, slow)
    committing = threading.Thread(target=lambda: two.execute("COMMIT"))
    committing.start()
    eventually(lambda: not cached(one, slow))
    assert committing.is_alive()
    committing.join()
    settled([one], slow)


def test_a_commit_whose_server_is_lost_is_in_doubt(cluster: Sandbox, connect: Callable[..., Connection[Any]]) -> None:
    one, two = connect(), connect()
    doubtful = "SELECT n FROM doubtful"
    settled([one], doubtful)
    two.execute("BEGIN")
    two.execute("UPDATE doubtful SET n = n + 1")
    committing = threading.Thread(target=lambda: lost(two))
    committing.start()
    eventually(lambda: not cached(one, doubtful))
    cluster.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'")
    committing.join()
    until = time.monotonic() + 1
    while time.monotonic() < until:
        assert not cached(one, doubtful)


def lost(connection: Connection[Any]) -> None:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute("COMMIT")
    assert caught.value.sqlstate == "08007"


@pytest.mark.parametrize(
    "sql", ["SELECT sum(n) FROM parts", "SELECT n FROM parts_1", "SELECT n FROM stocked WHERE id = 1"]
)
def test_partitions_and_views_are_their_tables(connect: Callable[..., Connection[Any]], sql: str) -> None:
    one, two, third = connect(), connect(), connect()
    third.execute("SET pointsman.query_cache = off")
    for write in (
        "UPDATE parts SET n = n + 1",
        "UPDATE parts_1 SET n = n + 1",
        "WITH a AS (UPDATE stock SET n = n + 1 WHERE id = 1) SELECT 1",
    ):
        settled([one, two], sql)
        two.execute(write)
        assert value(one, sql) == value(third, sql)


@pytest.mark.parametrize("prepare", [False, True])
def test_parameters_are_part_of_the_question(connect: Callable[..., Connection[Any]], prepare: bool) -> None:
    one = connect()
    one.execute("UPDATE stock SET note = 'note ' || id")
    for _ in range(3):
        for number in (1, 2, 3):
            assert value(one, "SELECT note FROM stock WHERE id = %s", number, prepare=prepare) == f"note {number}"
    assert value(one, "SELECT note FROM stock WHERE id = %s", 3, prepare=prepare) == "note 3"
    assert was_cached(one)


def test_settings_are_part_of_it(connect: Callable[..., Connection[Any]]) -> None:
    one, two = connect(), connect(options="-c datestyle=german")
    sql = "SELECT make_date(2024, 2, n + 1)::text FROM other WHERE id = 1"
    for _ in range(3):
        assert str(value(one, sql)).startswith("2024-02-")
        assert str(value(two, sql)).endswith(".02.2024")
    one.execute("SET datestyle = 'SQL, DMY'")
    assert str(value(one, sql)).endswith("/02/2024")


def test_a_transaction_that_only_reads_is_served(connect: Callable[..., Connection[Any]]) -> None:
    one = connect()

    def served(sql: str) -> bool:
        one.execute("BEGIN READ ONLY")
        found = cached(one, sql)
        assert status(one) == "INTRANS"
        one.execute("COMMIT")
        assert status(one) == "IDLE"
        return found

    settled([one], STOCK)
    # It must not be newer than what its standby would show it next.
    eventually(lambda: served(STOCK))
    another = "SELECT n FROM stock WHERE id = 7"
    assert not served(another)
    eventually(lambda: served(another))
    assert cached(one, another)


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_one_snapshot_is_one_snapshot(connect: Callable[..., Connection[Any]], level: IsolationLevel) -> None:
    one, two = connect(), connect()
    settled([one], STOCK)
    one.execute(f"BEGIN ISOLATION LEVEL {level.name.replace('_', ' ')} READ ONLY")
    before = value(one, "SELECT n FROM other WHERE id = 1"), value(one, STOCK)
    assert not was_cached(one)
    two.execute("UPDATE stock SET n = n + 1 WHERE id = 1")
    settled([two], STOCK)
    assert (value(one, "SELECT n FROM other WHERE id = 1"), value(one, STOCK)) == before
    one.execute("COMMIT")


def test_what_is_not_cached(connect: Callable[..., Connection[Any]]) -> None:
    one = connect()
    for sql in (
        "SELECT now()",
        "SELECT n, random() FROM stock WHERE id = 1",
        "SELECT count(*) FROM pg_class",
        "SELECT n FROM stock WHERE id = 1 FOR SHARE",
        "SELECT n FROM stock WHERE 'today'::date > '2000-01-01'",
        "SELECT current_setting('application_name'), n FROM stock WHERE id = 1",
        "SELECT id, repeat('x', 1000) FROM stock",
        "/* pointsman: no cache */ SELECT n FROM stock WHERE id = 1",
        "/*NO QUERY CACHE*/ SELECT n FROM stock WHERE id = 1",
        "/* pointsman: primary */ SELECT n FROM stock WHERE id = 1",
    ):
        for _ in range(3):
            assert not cached(one, sql), sql


def test_an_error_is_not_kept(connect: Callable[..., Connection[Any]]) -> None:
    one = connect()
    one.execute("UPDATE other SET n = 0")
    for _ in range(3):
        with pytest.raises(psycopg.errors.DivisionByZero):
            one.execute("SELECT 1 / n FROM other WHERE id = 1")
        assert not was_cached(one)


def test_a_session_may_have_none_of_it(connect: Callable[..., Connection[Any]]) -> None:
    one = connect()
    settled([one], STOCK)
    one.execute("SET pointsman.query_cache = off")
    assert not cached(one, STOCK)
    one.execute("SET pointsman.query_cache = hint")
    assert not cached(one, STOCK)
    hinted = "/* pointsman: cache 5min */ " + STOCK
    assert not cached(one, hinted)
    assert cached(one, hinted)
    one.execute("RESET pointsman.query_cache")
    assert cached(one, STOCK)
    with pytest.raises(psycopg.Error, match="query_cache"):
        one.execute("SET pointsman.query_cache = perhaps")


def test_time_runs_out(connect: Callable[..., Connection[Any]]) -> None:
    one = connect()
    hinted = "/* pointsman: cache 1s */ SELECT n + 0 FROM stock WHERE id = 1"
    assert not cached(one, hinted)
    assert cached(one, hinted)
    eventually(lambda: not cached(one, hinted))


def test_what_is_asked_at_once_is_read_once(cluster: Sandbox, connect: Callable[..., Connection[Any]]) -> None:
    clients = [connect() for _ in range(12)]
    heavy = (
        "SELECT count(*) FROM stock a, stock b, stock c, (SELECT 1 FROM stock LIMIT 20) d WHERE a.n + b.n + c.n > -1"
    )
    active = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT count(*) FROM stock a,%'"
    )
    threads = [threading.Thread(target=one.execute, args=(heavy,)) for one in clients]
    most = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = sum(int(cluster.query(active, node=node)[0][0]) for node in cluster.nodes)
        most = max(most, found)
    assert 1 <= most <= 2, "one for each worker"


def test_what_a_lagging_standby_says_is_not_kept(cluster: Sandbox, connect: Callable[..., Connection[Any]]) -> None:
    (standby,) = cluster.standbys
    eventual, session = connect(), connect()
    eventual.execute("SET pointsman.consistency = eventual")
    session.execute("SET pointsman.consistency = session")
    lagging = "SELECT n FROM other WHERE id = 1 AND n > -1"
    eventually(lambda: "db2" in str(value(eventual, "SELECT current_setting('cluster_name') FROM other LIMIT 1")))
    cluster.query("SELECT pg_wal_replay_pause()", node=standby, user="postgres")
    try:
        session.execute("UPDATE other SET n = n + 1")
        new = value(session, "SELECT n FROM other WHERE id = 1")
        for _ in range(3):
            value(eventual, lagging)
            assert value(session, lagging) == new
            session.execute("UPDATE other SET n = n + 1")
            new += 1
    finally:
        cluster.query("SELECT pg_wal_replay_resume()", node=standby, user="postgres")
