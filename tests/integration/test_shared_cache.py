"""Two Pointsmans that share a Redis: one is given what the other has read, and never what holds no more."""

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import Connection

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.redis_server import PASSWORD, RedisServer, needs_redis
from tests.waiting import eventually

pytestmark = pytest.mark.integration

ROWS = 2000
TABLES = 8
REGISTERS = 40
TABLES_SQL = "".join(
    f"CREATE TABLE t{table} (id int PRIMARY KEY, n int NOT NULL);"
    f"INSERT INTO t{table} SELECT i, 0 FROM generate_series(1, {REGISTERS}) i;"
    for table in range(TABLES)
)
SCHEMA = f"""
ALTER ROLE pointsman REPLICATION;
CREATE PUBLICATION pointsman_cache FOR ALL TABLES;
CREATE TABLE stock (id int PRIMARY KEY, n int NOT NULL, note text);
INSERT INTO stock SELECT i, 0, 'x' FROM generate_series(1, {ROWS}) i;
CREATE TABLE moments (id int PRIMARY KEY, at timestamptz NOT NULL);
INSERT INTO moments VALUES (1, '2020-01-01 12:00+00');
CREATE TABLE warm (id int PRIMARY KEY);
INSERT INTO warm VALUES (1);
{TABLES_SQL}
CREATE MATERIALIZED VIEW sums AS SELECT sum(n) AS n FROM stock;
CREATE VIEW stocked AS SELECT id, n FROM stock;
GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
ALTER MATERIALIZED VIEW sums OWNER TO app;
ALTER VIEW stocked OWNER TO app;
"""
REDIS_TIMEOUT_S = 0.5
PATIENCE_S = 1.0
"""What a machine that does a lot beside it may add to that, and to all that is done here."""


class Instance(NamedTuple):
    """One of two."""

    endpoint: Endpoint
    directory: Path

    def connect(self, **options: Any) -> Connection[Any]:
        return psycopg.connect(self.endpoint.conninfo(), autocommit=True, **options)

    def counters(self) -> dict[str, Any]:
        """As `pointsman cache stats` tells them; up to a second old."""
        command = [sys.executable, "-m", "middleware", "cache", "stats", "--json"]
        command += ["-c", str(self.directory / "pointsman.toml")]
        found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["counters"]
        return found

    def log(self) -> str:
        return (self.directory / "log").read_text()


class Pair(NamedTuple):
    """Two, and what they have in common."""

    cluster: Sandbox
    redis: RedisServer
    one: Instance
    other: Instance


@contextlib.contextmanager
def instance(cluster: Sandbox, directory: Path, redis: RedisServer, **settings: Any) -> Iterator[Instance]:
    directory.mkdir()
    chosen: dict[str, Any] = {
        "workers": 1,
        "query_cache": "on",
        "cache_watch": "logical",
        "cache_redis_url": redis.url,
        "cache_redis_timeout": REDIS_TIMEOUT_S,
        "control_socket": str(directory / "c"),
        **settings,
    }
    with pointsman(cluster, directory, **chosen) as endpoint:
        ready = Instance(endpoint, directory)
        with ready.connect() as client:
            eventually(lambda: cached(client, "SELECT id FROM warm"), 30)
        # All is taken for changed when the cache is turned on; then the catalog is read once more.
        questions = (f"SELECT {number}::int4 FROM warm" for number in range(10_000))
        eventually(lambda: shares(ready, redis, next(questions)), 30)
        yield ready


def shares(ready: Instance, redis: RedisServer, sql: str) -> bool:
    """Whether it asks Redis."""
    before = calls(redis, "mget")
    with ready.connect() as client:
        client.execute(sql)
    return calls(redis, "mget") > before


def calls(redis: RedisServer, command: str) -> int:
    """How often a command was carried out."""
    with redis.client() as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    needs_redis()
    directory = tmp_path_factory.mktemp("shared")
    with Sandbox(standbys=1, parameters={"wal_level": "logical"}) as cluster, RedisServer() as redis:
        cluster.query(SCHEMA)
        cluster.wait_for_replay()
        with instance(cluster, directory / "1", redis) as one, instance(cluster, directory / "2", redis) as other:
            yield Pair(cluster, redis, one, other)
            for each in one, other:
                assert PASSWORD not in each.log()
                assert "bug" not in each.log()


def cached(client: Connection[Any], sql: str, *arguments: object, **options: Any) -> bool:
    """Whether a statement is answered from the cache."""
    client.execute(sql, arguments or None, **options)
    return was_cached(client)


def was_cached(client: Connection[Any]) -> bool:
    row = client.execute("SHOW pointsman.last_route").fetchone()
    assert row is not None
    return str(row[0]).startswith("query cache:")


def value(client: Connection[Any], sql: str, *arguments: object, **options: Any) -> Any:
    row = client.execute(sql, arguments or None, **options).fetchone()
    assert row is not None
    return row[0]


@contextlib.contextmanager
def locked(cluster: Sandbox, table: str) -> Iterator[None]:
    """Nobody can read it on the primary, nor, after a moment, on the standby."""
    with psycopg.connect(cluster.url(user="postgres")) as holder:
        holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


def kept(pair: Pair, act: Callable[[], object]) -> None:
    """Do something whose answer is shared, and wait until it is."""
    before = calls(pair.redis, "set")
    deadline = time.monotonic() + 20.0
    while calls(pair.redis, "set") == before:
        assert time.monotonic() < deadline
        # After DDL nothing is kept until the catalog has been read again.
        act()
        time.sleep(0.3)
    # It may have been another one, which was stored before.
    time.sleep(0.6)


numbers = iter(range(1, ROWS))


@pytest.mark.parametrize("way", ["simple", "extended", "prepared", "binary"])
def test_what_one_has_read_the_other_does_not_ask_a_node_for(pair: Pair, way: str) -> None:
    options: dict[str, Any] = {"prepare": way == "prepared", "binary": way == "binary"}

    def read(client: Connection[Any], number: int) -> Any:
        if way == "simple":
            return value(client, f"SELECT n, note FROM stock WHERE id = {number}")
        return value(client, "SELECT n, note FROM stock WHERE id = %s", number, **options)

    def served() -> bool:
        """False where its answer did not come from the other: on a busy machine Redis may not be waited for."""
        number = next(numbers)
        with pair.one.connect() as one, pair.other.connect(options="-c statement_timeout=5000") as other:
            kept(pair, lambda: read(one, number))
            # Where it is prepared first, a server sees that: what comes next waits for the watcher.
            read(other, next(numbers))
            time.sleep(1.2)
            with locked(pair.cluster, "stock"):
                try:
                    assert read(other, number) == 0
                except psycopg.errors.QueryCanceled:
                    return False
                return was_cached(other)

    assert any(served() for _ in range(3))


def test_all_in_which_an_answer_may_differ_is_told_apart(pair: Pair) -> None:
    sql = "SELECT id, at FROM moments WHERE id = 1"
    with pair.one.connect(options="-c TimeZone=UTC") as one:
        kept(pair, lambda: one.execute(sql))
        expected = one.execute(sql).fetchone()
    with (
        pair.other.connect(options="-c TimeZone=UTC") as same,
        pair.other.connect(options="-c TimeZone=Asia/Tokyo") as far,
    ):
        row = far.execute(sql).fetchone()
        assert not was_cached(far)
        assert row is not None
        assert row[1].hour == 12 + 9
        assert same.execute(sql).fetchone() == expected
        assert was_cached(same)


def test_a_client_that_goes_on_is_served_again_and_again(pair: Pair) -> None:
    def shared() -> bool:
        sql = f"SELECT n FROM stock WHERE id = {next(numbers)}"
        with pair.one.connect() as one, pair.other.connect() as other:
            kept(pair, lambda: one.execute(sql))
            return cached(other, sql)

    # After DDL of a test before this one, both have read the catalog again.
    eventually(shared)
    mine = [next(numbers) for _ in range(20)]
    with pair.one.connect() as one, pair.other.connect() as other:
        for number in mine:
            kept(pair, lambda number=number: one.execute(f"SELECT n FROM stock WHERE id = {number}"))  # type: ignore[misc]
        hits = [cached(other, f"SELECT n FROM stock WHERE id = {number}") for number in mine]
    # Who has read at a node waits for the watcher, once.
    assert hits.count(True) >= 18


def test_a_write_through_one_is_not_hidden_by_the_other(pair: Pair) -> None:
    """What was stored before is there still, and holds no more."""
    number = next(numbers)
    sql = f"SELECT n FROM stock WHERE id = {number}"
    with pair.one.connect() as one, pair.other.connect() as other:
        for round_ in range(1, 60):
            if round_ % 10 == 1:
                # What is there by now is shared.
                time.sleep(0.6)
            writer, reader = (one, other) if round_ % 2 else (other, one)
            writer.execute(f"UPDATE stock SET n = {round_} WHERE id = {number}")
            assert value(writer, sql) == round_
            # The other instance hears of it by the watcher; a client of its that has seen it goes by that.
            assert value(reader, "/* pointsman: no cache */ " + sql) in (round_ - 1, round_)
            eventually(lambda: value(reader, sql) == round_, 5)  # noqa: B023
            for _ in range(3):
                assert value(reader, sql) == round_


def test_time_does_not_go_back_while_all_write_and_read(pair: Pair) -> None:
    """Registers that only grow, in several tables: who writes sees his write, and nobody sees an older value again."""
    registers = [(table, number) for table in range(TABLES) for number in range(1, REGISTERS + 1)]
    end = time.monotonic() + 15.0
    failures: list[str] = []
    written = dict.fromkeys(range(TABLES), 0)
    guard = threading.Lock()

    def sql(table: int, number: int) -> str:
        return f"SELECT n FROM t{table} WHERE id = {number}"

    def write(where: Instance, draw: random.Random) -> None:
        with where.connect() as client:
            while time.monotonic() < end:
                table = draw.randrange(TABLES)
                with guard:
                    written[table] += 1
                    client.execute(f"UPDATE t{table} SET n = {written[table]}")
                    seen = value(client, sql(table, draw.randint(1, REGISTERS)))
                    if seen != written[table]:
                        failures.append(f"wrote {written[table]}, read {seen}")
                time.sleep(draw.uniform(0.1, 0.5))

    def read(where: Instance, past: bool, draw: random.Random) -> None:
        """All registers of a table are written at once, so whoever has seen one has seen all."""
        with where.connect() as client:
            last = dict.fromkeys(range(TABLES), 0)
            while time.monotonic() < end:
                table, number = draw.choice(registers)
                text = sql(table, number)
                if past and draw.random() < 0.3:
                    text = "/* pointsman: no cache */ " + text
                seen = value(client, text)
                if seen < last[table]:
                    failures.append(f"{last[table]}, and then {seen} ({client.info.port}): {text}")
                last[table] = seen
                time.sleep(draw.uniform(0.0, 0.05))

    both = (pair.one, pair.other)
    threads = [threading.Thread(target=write, args=(where, random.Random(at))) for at, where in enumerate(both)]
    threads += [
        threading.Thread(target=read, args=(where, past, random.Random(f"{at}{past}{where.endpoint.port}")))
        for where in both
        for at in range(4)
        for past in (False, True)
    ]
    before = sum(each.counters()["second_level_hits"] for each in both)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    time.sleep(1.1)
    hits = sum(each.counters()["second_level_hits"] for each in both) - before
    assert hits > 10, "the test has shown nothing"


def test_a_write_that_passes_by_both_is_seen_in_time(pair: Pair) -> None:
    number = next(numbers)
    sql = f"SELECT n FROM stock WHERE id = {number}"
    with pair.one.connect() as one, pair.other.connect() as other:
        for round_ in range(1, 6):
            value(one, sql)
            time.sleep(0.6)
            value(other, sql)
            pair.cluster.query(f"UPDATE stock SET n = {round_} WHERE id = {number}")
            for client in one, other:
                eventually(lambda client=client: value(client, sql) == round_, 3)  # type: ignore[misc] # noqa: B023
            with pair.other.connect() as new:
                # What others have seen is promised to them alone: a standby may be asked that has not got it yet.
                eventually(lambda: value(new, sql) == round_, 3)  # noqa: B023
                assert [value(new, sql) for _ in range(5)] == [round_] * 5


def test_what_reads_a_materialized_view_is_not_shared(pair: Pair) -> None:
    with pair.one.connect() as one, pair.other.connect() as other:
        eventually(lambda: cached(one, "SELECT n FROM sums"))
        time.sleep(1.0)
        assert not cached(other, "SELECT n FROM sums")
        one.execute("UPDATE stock SET n = n + 1 WHERE id = 1")
        other.execute("REFRESH MATERIALIZED VIEW sums")
        assert value(other, "SELECT n FROM sums") == value(other, "/* pointsman: no cache */ SELECT sum(n) FROM stock")


def test_ddl_is_not_undone(pair: Pair) -> None:
    """What was shared before a view was changed is of another catalog, even where its columns are the same."""
    number = next(numbers)
    sql = f"SELECT n FROM stocked WHERE id = {number}"
    with pair.one.connect() as one, pair.other.connect() as other:
        for round_ in range(1, 4):
            eventually(lambda: cached(one, sql))
            time.sleep(0.6)
            value(other, sql)
            other.execute(f"CREATE OR REPLACE VIEW stocked AS SELECT id, n + {round_} AS n FROM stock")
            for _ in range(20):
                assert value(other, sql) == round_
                time.sleep(0.05)
            eventually(lambda: value(one, sql) == round_, 5)  # noqa: B023


def test_code_that_nobody_sees_into_is_not_undone(pair: Pair) -> None:
    number = next(numbers)
    sql = f"SELECT n FROM stocked WHERE id = {number}"
    with pair.one.connect() as one, pair.other.connect() as other:
        other.execute("CREATE OR REPLACE VIEW stocked AS SELECT id, n FROM stock")
        eventually(lambda: value(one, sql) == 0, 5)
        for round_ in range(1, 4):
            eventually(lambda: cached(one, sql))
            time.sleep(0.6)
            value(other, sql)
            view = f"CREATE OR REPLACE VIEW stocked AS SELECT id, n + {round_} AS n FROM stock"
            other.execute(f"DO $$ BEGIN EXECUTE '{view}'; END $$")
            for _ in range(20):
                assert value(other, sql) == round_
                time.sleep(0.05)
            eventually(lambda: value(one, sql) == round_, 10)  # noqa: B023


def test_garbage_is_a_miss(pair: Pair) -> None:
    number = next(numbers)
    sql = f"SELECT n FROM stock WHERE id = {number}"
    keys = pair.redis.client()
    with pair.one.connect() as one, pair.other.connect() as other:
        before = set(keys.keys())
        kept(pair, lambda: one.execute(sql))
        new = set(keys.keys()) - before
        assert new
        for key in new:
            good = keys.get(key)
            assert isinstance(good, bytes)
            keys.set(key, good[:-1] + b"?", keepttl=True)
        assert value(other, sql) == 0
        assert not was_cached(other)


def test_keys_and_values_show_no_text(pair: Pair) -> None:
    with pair.one.connect() as one:
        kept(
            pair, lambda: one.execute("SELECT n FROM stock WHERE note = 'nobody-must-see' OR id = %s", (next(numbers),))
        )
    keys = pair.redis.client()
    for key in keys.scan_iter():
        assert key.startswith(b"pointsman:1:")
        assert b"nobody" not in key
        found = keys.get(key)
        assert isinstance(found, bytes)
        assert b"nobody" not in found
        assert b"SELECT n" not in found
        assert keys.pttl(key) <= 60_000


def test_one_that_hangs_costs_one_timeout(pair: Pair) -> None:
    """Clients hear of it by nothing else: no error, and no wait beyond the bound."""
    mine = [next(numbers) for _ in range(300)]
    slowest = 0.0
    with pair.other.connect() as client:
        pair.redis.pause()
        try:
            begun = time.monotonic()
            for number in mine:
                before = time.monotonic()
                assert value(client, f"SELECT n FROM stock WHERE id = {number}") == 0
                slowest = max(slowest, time.monotonic() - before)
                time.sleep(0.005)
            took = time.monotonic() - begun
        finally:
            pair.redis.resume()
        assert slowest < REDIS_TIMEOUT_S + PATIENCE_S
        # Not each of them has waited for it.
        assert took < len(mine) * REDIS_TIMEOUT_S / 2
        assert pair.other.log().count("is not there: nodes are asked instead") >= 1
        eventually(lambda: "is there again" in pair.other.log().splitlines()[-1], 40)


def test_one_that_dies_costs_hits(pair: Pair) -> None:
    number, after = next(numbers), next(numbers)
    pair.redis.kill()
    try:
        with pair.one.connect() as one, pair.other.connect() as other:
            for client in one, other:
                assert value(client, f"SELECT n FROM stock WHERE id = {number}") == 0
    finally:
        pair.redis.start()
    lost = "is not there: nodes are asked instead"
    for each in pair.one, pair.other:
        eventually(lambda each=each: each.log().count(lost) == each.log().count("is there again"), 60)  # type: ignore[misc]
    with pair.one.connect() as one, pair.other.connect() as other:
        kept(pair, lambda: one.execute(f"SELECT n FROM stock WHERE id = {after}"))
        assert cached(other, f"SELECT n FROM stock WHERE id = {after}")


@pytest.fixture
def patient(pair: Pair, tmp_path: Path) -> Iterator[Instance]:
    """One that waits for Redis for longer than its clients do."""
    with instance(pair.cluster, tmp_path / "p", pair.redis, cache_redis_timeout=4.0) as own:
        yield own


@contextlib.contextmanager
def hanging(pair: Pair) -> Iterator[None]:
    pair.redis.pause()
    try:
        yield
    finally:
        pair.redis.resume()


def test_who_waits_for_it_can_be_cancelled_and_can_go(pair: Pair, patient: Instance) -> None:
    sql = f"SELECT n FROM stock WHERE id = {next(numbers)}"
    with patient.connect() as first, patient.connect() as second, patient.connect() as third, hanging(pair):
        said: dict[int, str] = {}

        def ask(at: int, client: Connection[Any]) -> None:
            try:
                said[at] = str(value(client, sql))
            except psycopg.Error as error:
                said[at] = str(error.sqlstate)

        begun = time.monotonic()
        threads = []
        for at, client in enumerate((first, second, third)):
            threads.append(threading.Thread(target=ask, args=(at, client)))
            threads[-1].start()
            time.sleep(0.2)
        assert said == {}
        first.cancel_safe()
        # One of those who have waited for the same leads now, and none of them asks Redis again.
        for thread in threads:
            thread.join(2)
        assert said == {0: "57014", 1: "0", 2: "0"}
        assert time.monotonic() - begun < 3.5
        assert value(first, sql) == 0


def test_who_waits_for_it_gets_its_answer_before_a_shutdown(pair: Pair, patient: Instance) -> None:
    sql = f"SELECT n FROM stock WHERE id = {next(numbers)}"
    said: list[int] = []
    with patient.connect() as client, hanging(pair):
        thread = threading.Thread(target=lambda: said.append(value(client, sql)))
        thread.start()
        time.sleep(0.3)
        begun = time.monotonic()
        patient.endpoint.process.terminate()
        thread.join(10)
        assert said == [0]
        assert patient.endpoint.process.wait(10) == 0
        assert time.monotonic() - begun < 9
