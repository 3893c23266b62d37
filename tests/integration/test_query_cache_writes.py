"""Writes that are not what they look like: whoever asks after them is not given what was true before.

By SQL and by raw messages: names that mean something else, transactions whose end is hidden, statements that run long
after they were sent, catalogs that change in between.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg
import pytest

from middleware.sandbox import Sandbox
from middleware.wire.frontend import Bind, Execute, Flush, Parse, Query, Sync
from tests.conftest import Endpoint, pointsman
from tests.differential.raw_client import Address, RawClient
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SCHEMA: Final = """
CREATE TABLE stock (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO stock VALUES (1, 0);
CREATE SCHEMA other;
CREATE TABLE other.stock (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO other.stock VALUES (1, 0);
CREATE TABLE seen (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO seen VALUES (1, 0);
CREATE FUNCTION raise_seen() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN UPDATE public.seen SET n = n + 1; RETURN NULL; END';
CREATE FUNCTION go_elsewhere() RETURNS void LANGUAGE plpgsql AS 'BEGIN SET LOCAL search_path = other; END';
GRANT ALL ON ALL TABLES IN SCHEMA public, other TO app;
GRANT ALL ON SCHEMA public, other TO app;
ALTER TABLE stock OWNER TO app;
"""
UPDATE: Final = "UPDATE stock SET n = n + 1 WHERE id = 1"
HERE: Final = "SELECT n FROM public.stock WHERE id = 1"
THERE: Final = "SELECT n FROM other.stock WHERE id = 1"
CLIENTS: Final = 4
"""Of two workers."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    with Sandbox(standbys=0) as sandbox:
        sandbox.query(SCHEMA)
        yield sandbox


@pytest.fixture(scope="module")
def endpoint(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    settings = {"query_cache": "on", "cache_watch": "off"}
    impatient = {"application_name": "impatient", "idle_transaction_timeout": 2, "client_idle_timeout": 2}
    directory = tmp_path_factory.mktemp("cached")
    with pointsman(cluster, directory, workers=2, routes=[impatient], **settings) as running:
        yield running


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as entered:
        yield entered


def connect(stack: contextlib.ExitStack, endpoint: Endpoint) -> psycopg.Connection[Any]:
    return stack.enter_context(psycopg.connect(endpoint.conninfo(), autocommit=True))


def raw(stack: contextlib.ExitStack, endpoint: Endpoint) -> RawClient:
    at = Address(endpoint.host, endpoint.port, endpoint.user, endpoint.password, endpoint.database)
    client = stack.enter_context(RawClient(at))
    client.log_in()
    return client


def value(connection: psycopg.Connection[Any], sql: str) -> Any:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]


def was_cached(connection: psycopg.Connection[Any], sql: str) -> bool:
    connection.execute(sql)
    return str(value(connection, "SHOW pointsman.last_route")).startswith("query cache:")


def check(
    cluster: Sandbox, endpoint: Endpoint, stack: contextlib.ExitStack, sql: str, act: Callable[[], object]
) -> None:
    """Have `sql` cached, act, and have everybody told what is true then."""
    readers = [connect(stack, endpoint) for _ in range(CLIENTS)]
    for reader in readers:
        eventually(lambda reader=reader: was_cached(reader, sql))  # type: ignore[misc]
    act()
    true = int(cluster.query(sql)[0][0])
    assert [value(reader, sql) for reader in readers] == [true] * CLIENTS


ELSEWHERE: Final = {
    "SET LOCAL": ["BEGIN", "SET LOCAL search_path = other", UPDATE, "COMMIT"],
    "SET": ["BEGIN", "SET search_path = other", UPDATE, "COMMIT", "RESET search_path"],
    "set_config": ["BEGIN", "SELECT set_config('search_path', 'other', true)", UPDATE, "COMMIT"],
    "computed": ["BEGIN", "SELECT set_config('search' || '_path', 'other', true)", UPDATE, "COMMIT"],
    "a string": [f"SET search_path = other; {UPDATE}", "RESET search_path"],
    "a function": ["BEGIN", "SELECT go_elsewhere()", UPDATE, "COMMIT"],
    "DO": ["BEGIN", "DO $$BEGIN SET LOCAL search_path = other; END$$", UPDATE, "COMMIT"],
    "before": ["SET search_path = other", UPDATE, "RESET search_path"],
}


@pytest.mark.parametrize("way", ELSEWHERE)
def test_a_name_may_mean_another_table(
    cluster: Sandbox, endpoint: Endpoint, stack: contextlib.ExitStack, way: str
) -> None:
    writer = connect(stack, endpoint)
    before = cluster.query(THERE)
    check(cluster, endpoint, stack, THERE, lambda: [writer.execute(one) for one in ELSEWHERE[way]])
    assert cluster.query(THERE) != before


FAILED: Final = [f"COMMIT; {UPDATE}", f"ROLLBACK; {UPDATE}", f"ROLLBACK TO a; {UPDATE}; COMMIT"]


@pytest.mark.parametrize("end", FAILED)
def test_a_failed_transaction_ends_and_a_write_follows(
    cluster: Sandbox, endpoint: Endpoint, stack: contextlib.ExitStack, end: str
) -> None:
    writer = connect(stack, endpoint)
    writer.execute("BEGIN")
    writer.execute("SAVEPOINT a")
    with pytest.raises(psycopg.errors.DivisionByZero):
        writer.execute("SELECT 1 / 0")
    check(cluster, endpoint, stack, HERE, lambda: writer.execute(end))


def parsed(sql: str, statement: bytes = b"", portal: bytes = b"") -> bytes:
    """Parse and Bind."""
    return Parse(statement, sql.encode(), ()).encode() + Bind(portal, statement, (), (), ()).encode()


RUN: Final = Execute(b"", 0).encode()
SYNC: Final = Sync().encode()
FLUSH: Final = Flush().encode()


def query(sql: str) -> bytes:
    return Query(sql.encode()).encode()


MESSAGES: Final[dict[str, list[tuple[bytes, int]]]] = {
    "one write": [(query("BEGIN") + query(UPDATE) + query("COMMIT"), 3)],
    "one batch": [(parsed("BEGIN") + RUN + parsed(UPDATE) + RUN + parsed("COMMIT") + RUN + SYNC, 1)],
    "Execute in a later batch": [
        (query("BEGIN"), 1),
        (parsed(UPDATE, b"s", b"p") + SYNC, 1),
        (Execute(b"p", 0).encode() + SYNC, 1),
        (query("COMMIT"), 1),
    ],
    "COMMIT bound before the write": [
        (query("BEGIN"), 1),
        (parsed("COMMIT", b"c", b"pc") + SYNC, 1),
        (query(UPDATE), 1),
        (Execute(b"pc", 0).encode() + SYNC, 1),
    ],
    "a write behind a bound COMMIT": [
        (query("BEGIN"), 1),
        (parsed("COMMIT", b"d", b"pd") + SYNC, 1),
        (Execute(b"pd", 0).encode() + parsed(UPDATE) + RUN + SYNC, 1),
    ],
    "failed, COMMIT and a write in one batch": [
        (query("BEGIN"), 1),
        (query("SELECT 1 / 0"), 1),
        (parsed("COMMIT") + RUN + parsed(UPDATE) + RUN + SYNC, 1),
    ],
    "failed, ROLLBACK and a write in one batch": [
        (query("BEGIN"), 1),
        (query("SELECT 1 / 0"), 1),
        (parsed("ROLLBACK") + RUN + parsed(UPDATE) + RUN + SYNC, 1),
    ],
    "failed, ended and begun again behind Flush": [
        (query("BEGIN"), 1),
        (query("SELECT 1 / 0"), 1),
        (parsed("ROLLBACK") + RUN + FLUSH, 0),
        (parsed("BEGIN") + RUN + FLUSH, 0),
        (parsed(UPDATE) + RUN + FLUSH, 0),
        (parsed("COMMIT") + RUN + SYNC, 1),
    ],
    "failed, rolled back to a savepoint behind Flush": [
        (query("BEGIN"), 1),
        (query(UPDATE), 1),
        (query("SAVEPOINT a"), 1),
        (query("SELECT 1 / 0"), 1),
        (parsed("ROLLBACK TO a") + RUN + FLUSH, 0),
        (parsed("COMMIT") + RUN + SYNC, 1),
    ],
    "COMMIT AND CHAIN": [(query("BEGIN"), 1), (query(UPDATE), 1), (query("COMMIT AND CHAIN"), 1)],
    "bound, flushed, executed": [(parsed(UPDATE) + FLUSH, 0), (RUN + FLUSH, 0), (SYNC, 1)],
    "a hint for a standby": [(parsed(f"/* pointsman: standby */ {UPDATE}") + RUN + SYNC, 1)],
    "prepared long ago": [
        (Parse(b"w", UPDATE.encode(), ()).encode() + SYNC, 1),
        (Bind(b"", b"w", (), (), ()).encode() + RUN + SYNC, 1),
    ],
    "an error behind it": [(parsed(UPDATE) + RUN + SYNC + parsed("SELECT 1 / 0") + RUN + SYNC, 2)],
    "COMMIT in a batch that fails": [
        (parsed(UPDATE) + RUN + parsed("COMMIT") + RUN + parsed("SELECT 1 / 0") + RUN + SYNC, 1)
    ],
    "too long to be read": [(query(UPDATE + " /* " + "x" * 300_000 + " */"), 1)],
}


@pytest.mark.parametrize("way", MESSAGES)
def test_it_is_seen_by_whatever_messages_it_comes(
    cluster: Sandbox, endpoint: Endpoint, stack: contextlib.ExitStack, way: str
) -> None:
    writer = raw(stack, endpoint)
    before = cluster.query(HERE)

    def act() -> None:
        for data, answers in MESSAGES[way]:
            writer.send(data)
            if answers:
                writer.read(answers, deadline_s=15)

    check(cluster, endpoint, stack, HERE, act)
    assert cluster.query(HERE) != before


def test_a_statement_that_is_only_prepared_keeps_nobody_waiting(
    cluster: Sandbox, endpoint: Endpoint, stack: contextlib.ExitStack
) -> None:
    writer, reader = raw(stack, endpoint), connect(stack, endpoint)
    writer.send(Parse(b"w", UPDATE.encode(), ()).encode() + FLUSH)
    eventually(lambda: was_cached(reader, HERE))
    assert was_cached(reader, HERE)
    writer.send(SYNC)
    writer.read(1)


def test_a_trigger_of_another_workers_client_fires(
    cluster: Sandbox, endpoint: Endpoint, stack: contextlib.ExitStack
) -> None:
    """The writer's worker has not heard of the trigger when the statement is sent."""
    owner = connect(stack, endpoint)
    writers = [connect(stack, endpoint) for _ in range(CLIENTS)]
    seen = "SELECT n FROM public.seen WHERE id = 1"
    for writer in writers:
        owner.execute("DROP TRIGGER IF EXISTS seeing ON stock")
        check(cluster, endpoint, stack, seen, lambda: None)

        def act(writer: psycopg.Connection[Any] = writer) -> None:
            owner.execute("CREATE TRIGGER seeing AFTER UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION raise_seen()")
            writer.execute(UPDATE)

        check(cluster, endpoint, stack, seen, act)
    owner.execute("DROP TRIGGER seeing ON stock")


def test_a_trigger_comes_between_a_statement_and_its_commit(
    cluster: Sandbox, endpoint: Endpoint, stack: contextlib.ExitStack
) -> None:
    owner, writer = connect(stack, endpoint), connect(stack, endpoint)
    owner.execute("DROP TRIGGER IF EXISTS seeing ON stock")
    seen = "SELECT n FROM public.seen WHERE id = 1 AND n >= 0"
    writer.execute("BEGIN")
    writer.execute("SELECT 1")
    owner.execute("CREATE TRIGGER seeing AFTER UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION raise_seen()")
    writer.execute(UPDATE)
    check(cluster, endpoint, stack, seen, lambda: writer.execute("COMMIT"))
    owner.execute("DROP TRIGGER seeing ON stock")


def test_a_trigger_comes_while_a_write_waits_for_its_table(
    cluster: Sandbox, endpoint: Endpoint, stack: contextlib.ExitStack
) -> None:
    owner, writer, reader = (connect(stack, endpoint) for _ in range(3))
    owner.execute("DROP TRIGGER IF EXISTS seeing ON stock")
    seen = "SELECT n FROM public.seen WHERE id = 1 AND n > -1"
    owner.execute("BEGIN")
    owner.execute("CREATE TRIGGER seeing AFTER UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION raise_seen()")
    waiting = threading.Thread(target=writer.execute, args=(f"{UPDATE} AND pg_sleep(1) IS NOT NULL",))
    waiting.start()
    eventually(lambda: cluster.query("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0] != "0")
    owner.execute("COMMIT")
    while waiting.is_alive():
        value(reader, seen)
    waiting.join()
    assert value(reader, seen) == int(cluster.query(seen)[0][0])
    owner.execute("DROP TRIGGER seeing ON stock")


def test_what_has_come_to_nothing_changes_nothing(endpoint: Endpoint, stack: contextlib.ExitStack) -> None:
    writer, reader = connect(stack, endpoint), connect(stack, endpoint)

    def survives(mistake: str) -> bool:
        eventually(lambda: was_cached(reader, HERE))
        with pytest.raises(psycopg.Error):
            writer.execute(mistake)
        return was_cached(reader, HERE)

    for mistake in (
        "SELEC 1",
        "SELECT no_such_function(1)",
        "INSERT INTO stock VALUES (1, 1)",
        f"{UPDATE}; SELECT 1 / 0",
    ):
        # The catalog may still be read, for what other tests have done.
        eventually(lambda mistake=mistake: survives(mistake))  # type: ignore[misc]


def test_what_is_to_be_asked_of_the_primary_is(endpoint: Endpoint, stack: contextlib.ExitStack) -> None:
    reader = connect(stack, endpoint)
    eventually(lambda: was_cached(reader, HERE))
    reader.execute("SET pointsman.consistency = 'primary'")
    assert not was_cached(reader, HERE)


@pytest.mark.parametrize("begin", ["", "BEGIN READ ONLY"])
def test_who_is_served_from_the_cache_is_not_idle(
    cluster: Sandbox, endpoint: Endpoint, stack: contextlib.ExitStack, begin: str
) -> None:
    conninfo = f"{endpoint.conninfo()} application_name=impatient"
    reader = stack.enter_context(psycopg.connect(conninfo, autocommit=True))
    if begin:
        reader.execute(begin)
    for _ in range(30):
        value(reader, HERE)
        time.sleep(0.1)
    assert value(reader, HERE) == int(cluster.query(HERE)[0][0])
