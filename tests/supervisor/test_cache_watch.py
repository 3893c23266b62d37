"""The watcher over real nodes: what others write is told, by decoding or by counters, and is confirmed only then.

Every test that can runs in each way a database may be watched: by test_decoding where an installation has it (those of
the package have not), by pgoutput and a publication, and by counters.
"""

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import asyncpg
import pytest

from healthcheck.line import Credentials
from healthcheck.topology import Node, Role, Topology
from middleware.cache.versions import Versions, bytes_for, slot_of
from middleware.sandbox import Sandbox
from middleware.sandbox.privileges import server_account
from middleware.service import running as running_supervisor
from middleware.supervisor import cache_watch
from middleware.supervisor.cache_watch import Mode, Watcher, WatchStatus
from tests.certificates import Certificates
from tests.supervisor.conftest import ECHO_WORKER, ask
from tests.supervisor.test_cluster import over

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

DEADLINE_S = 30.0
TIMEOUT_S = 5.0
SOON_S = 5.0
"""Within this decoding tells; it is some ten milliseconds on a machine with nothing else to do."""
LATE_S = 20.0
"""Within this counters tell: a backend reports up to ten seconds after its last transaction."""
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
ROLE = "ALTER ROLE pointsman REPLICATION;"
PUBLICATION = "CREATE PUBLICATION pointsman_cache FOR ALL TABLES;"
VERSION = int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))


def sandbox_of(way: str, standbys: int = 0, parameters: Mapping[str, str] | None = None) -> Sandbox:
    """Not started, and with what the way of watching needs."""
    if way == "test_decoding" and "POINTSMAN_PG_BIN" not in os.environ:
        if not (DEBIAN_15.parent / "lib/test_decoding.so").exists():
            pytest.skip("needs test_decoding, which is part of contrib")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("POINTSMAN_PG_BIN", str(DEBIAN_15))
            return Sandbox(standbys=standbys, parameters={"wal_level": "logical", **(parameters or {})})
    level = "replica" if way == "poll" else "logical"
    version = 16 if way == "pgoutput16" else VERSION
    return Sandbox(standbys=standbys, version=version, parameters={"wal_level": level, **(parameters or {})})


@asynccontextmanager
async def running(way: str, standbys: int = 0, parameters: Mapping[str, str] | None = None) -> AsyncIterator[Sandbox]:
    """One for one test."""
    own = sandbox_of(way, standbys, parameters)
    with pytest.MonkeyPatch.context() as patch:
        if way == "test_decoding" and "POINTSMAN_PG_BIN" not in os.environ:
            patch.setenv("POINTSMAN_PG_BIN", str(DEBIAN_15))
        with own:
            if way != "poll":
                own.query(ROLE + (PUBLICATION if way.startswith("pgoutput") else ""))
            yield own


@pytest.fixture(scope="module", params=["test_decoding", "pgoutput", "pgoutput16"])
def decoded(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A primary whose changes can be decoded, for tests that leave it as it is."""
    own = sandbox_of(request.param)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "test_decoding" and "POINTSMAN_PG_BIN" not in os.environ:
            patch.setenv("POINTSMAN_PG_BIN", str(DEBIAN_15))
        with own:
            own.query(ROLE + (PUBLICATION if request.param.startswith("pgoutput") else ""))
            yield own


@pytest.fixture(scope="module")
def polled() -> Iterator[Sandbox]:
    """A primary whose changes cannot be."""
    with sandbox_of("poll") as own:
        yield own


def topology_of(sandbox: Sandbox, version: int = 1) -> Topology:
    """The sandbox's nodes as monitors would find them."""
    primary = sandbox.primary
    nodes = [Node(primary.name, primary.host, primary.port, Role.PRIMARY, True)]
    nodes += [Node(node.name, node.host, node.port, Role.STANDBY, True) for node in sandbox.standbys]
    return Topology(version, tuple(nodes), 1, version)


class Watch:
    """A watcher, and what it has told."""

    def __init__(
        self, sandbox: Sandbox, mode: Mode, interval_s: float, database: str, tls: ssl.SSLContext | None
    ) -> None:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - its memory stays mapped
        file.truncate(bytes_for(1))
        self.versions = Versions(file.fileno(), 0, 1, mine=1)
        file.close()
        self.sandbox = sandbox
        self.database = database
        self.suspected: list[str] = []
        self.watcher = Watcher(
            Credentials("pointsman", sandbox.passwords["pointsman"], "postgres", lambda: tls),
            self.versions,
            self.suspected.append,
            mode=mode,
            interval_s=interval_s,
            publication="pointsman_cache",
            timeout_s=TIMEOUT_S,
        )

    def count(self, relation: int = 0) -> int:
        """How often it has told of a table, or of the whole database."""
        return self.versions.version((slot_of(self.database, relation),))

    def last_lsn(self, relation: int = 0) -> int:
        """The position of the last change that it has told of."""
        return self.versions.last_lsn((slot_of(self.database, relation),))

    def status(self) -> WatchStatus:
        status = self.watcher.status()
        return status[0] if status else WatchStatus(self.database, "", "not begun", None, 0)

    async def until(self, condition: Callable[[], bool], what: str, within_s: float = DEADLINE_S) -> None:
        with anyio.move_on_after(within_s):
            while not condition():
                await anyio.sleep(0.002)
            return
        pytest.fail(f"waited for {what}: {self.watcher.status()}")

    async def until_confirmed(self, moment: float | None = None, within_s: float = DEADLINE_S) -> None:
        """Until all that was committed before is known."""
        moment = time.monotonic() if moment is None else moment
        with anyio.move_on_after(within_s):
            while self.versions.watched_until() < moment:
                self.watcher.wanted()
                await anyio.sleep(0.002)
            return
        pytest.fail(f"not confirmed: {self.watcher.status()}")

    def tells(self, *relations: int, within_s: float = SOON_S) -> "Telling":
        """Begin to look whether these are told of, and all that is told."""
        return Telling(self, relations, within_s)


class Telling:
    """A block after which some tables must have been told of."""

    def __init__(self, watch: Watch, relations: tuple[int, ...], within_s: float) -> None:
        self._watch, self._relations, self._within_s = watch, relations, within_s
        self._before = {one: watch.count(one) for one in relations}

    async def done(self) -> None:
        watch, before = self._watch, self._before
        await watch.until(
            lambda: all(watch.count(one) > before[one] for one in self._relations),
            f"all of {self._relations}",
            self._within_s,
        )


@asynccontextmanager
async def watching(
    sandbox: Sandbox,
    mode: Mode = "auto",
    interval_s: float = 0.2,
    database: str = "app",
    *,
    confirmed: bool = True,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Watch]:
    """A watcher of one database while the block runs."""
    watch = Watch(sandbox, mode, interval_s, database, tls)
    watch.watcher.topology_changed(topology_of(sandbox))
    watch.watcher.databases_changed([database])
    watch.watcher.use(True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.watcher.run)
        if confirmed:
            await watch.until_confirmed()
        yield watch
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def connected(sandbox: Sandbox, user: str = "app", **settings: str) -> AsyncIterator[Any]:
    """Somebody else, who does not go through Pointsman."""
    connection = await asyncpg.connect(sandbox.url(user=user), server_settings=settings, statement_cache_size=0)
    try:
        yield connection
    finally:
        connection.terminate()


async def oid_of(connection: Any, name: str) -> int:
    oid: int = await connection.fetchval("SELECT $1::regclass::oid::int8", name)
    return oid


CHANGES = (
    "INSERT INTO plain VALUES (1, 'a'), (2, 'b')",
    "UPDATE plain SET b = 'c' WHERE a = 1",
    "DELETE FROM plain WHERE a = 2",
    "TRUNCATE plain",
    "WITH gone AS (DELETE FROM plain RETURNING a) SELECT count(*) FROM gone",
    "INSERT INTO plain VALUES (1, 'a') ON CONFLICT (a) DO UPDATE SET b = 'd'",
)
EMPTY = ("WITH gone AS (DELETE FROM plain RETURNING a) SELECT count(*) FROM gone",)


async def test_each_kind_of_change_is_told(decoded: Sandbox) -> None:
    async with connected(decoded) as other:
        await other.execute("DROP TABLE IF EXISTS plain, besides; CREATE TABLE plain (a int PRIMARY KEY, b text)")
        await other.execute("CREATE TABLE besides (a int)")
        plain, besides = await oid_of(other, "plain"), await oid_of(other, "besides")
        async with watching(decoded) as watch:
            assert watch.status().mode == "logical"
            untouched, database = watch.count(besides), watch.count()
            for sql in CHANGES:
                told = watch.tells(plain)
                await other.execute(sql)
                if sql not in EMPTY:
                    await told.done()
            told = watch.tells(plain)
            await other.copy_records_to_table("plain", records=[(number, "x") for number in range(10, 5000)])
            await told.done()
            await watch.until_confirmed()
            assert (watch.count(besides), watch.count()) == (untouched, database)
            assert watch.versions.last_lsn((slot_of("app", plain),)) > 0
            assert watch.versions.watched_lsn() >= watch.versions.last_lsn((slot_of("app", plain),))


async def test_what_a_statement_changes_elsewhere_is_told(decoded: Sandbox) -> None:
    async with connected(decoded) as other:
        await other.execute("DROP TABLE IF EXISTS children, parents, audit, rows CASCADE")
        await other.execute(
            "CREATE TABLE parents (a int PRIMARY KEY);"
            "CREATE TABLE children (a int PRIMARY KEY REFERENCES parents ON DELETE CASCADE);"
            "CREATE TABLE audit (a int);"
            "CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN INSERT INTO audit VALUES (1); RETURN NULL; END$$;"
            "CREATE TRIGGER noted AFTER DELETE ON children FOR EACH ROW EXECUTE FUNCTION note();"
            "CREATE TABLE rows (a int PRIMARY KEY) PARTITION BY RANGE (a);"
            "CREATE TABLE low PARTITION OF rows FOR VALUES FROM (0) TO (10);"
            "CREATE TABLE high PARTITION OF rows FOR VALUES FROM (10) TO (20);"
            "INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1)"
        )
        parents, children, audit, low, high = [
            await oid_of(other, name) for name in ("parents", "children", "audit", "low", "high")
        ]
        async with watching(decoded) as watch:
            told = watch.tells(parents, children, audit)
            await other.execute("DELETE FROM parents")
            await told.done()
            told, untouched = watch.tells(low), watch.count(high)
            await other.execute("INSERT INTO rows VALUES (1)")
            await told.done()
            assert watch.count(high) == untouched
            # From one partition to another.
            told = watch.tells(low, high)
            await other.execute("UPDATE rows SET a = 11")
            await told.done()
            told = watch.tells(low, high)
            await other.execute("TRUNCATE rows")
            await told.done()
            told = watch.tells(parents, children)
            await other.execute("TRUNCATE parents CASCADE")
            await told.done()


async def test_a_rollback_is_not_told(decoded: Sandbox) -> None:
    async with connected(decoded) as other:
        await other.execute("CREATE TABLE IF NOT EXISTS undone (a int)")
        undone = await oid_of(other, "undone")
        async with watching(decoded) as watch:
            before = watch.count(undone), watch.count()
            await other.execute("BEGIN; INSERT INTO undone VALUES (1); ROLLBACK")
            await other.execute("BEGIN")
            for _ in range(5):
                await other.execute("INSERT INTO undone VALUES (1)")
                # The last page of an open transaction is flushed by nobody else for up to 15 seconds.
                await watch.until_confirmed(within_s=SOON_S)
            assert (watch.count(undone), watch.count()) == before
            told = watch.tells(undone)
            await other.execute("COMMIT")
            await told.done()
            # And what is undone of a transaction, the rest of which is committed.
            before = watch.count(undone), watch.count()
            await other.execute("BEGIN; SAVEPOINT a; INSERT INTO undone VALUES (1); ROLLBACK TO a; COMMIT")
            await watch.until_confirmed()
            assert (watch.count(undone), watch.count()) == before


async def test_two_phases_are_told_when_the_second_is_done(decoded: Sandbox) -> None:
    async with connected(decoded) as other:
        await other.execute("CREATE TABLE IF NOT EXISTS prepared (a int)")
        prepared = await oid_of(other, "prepared")
        async with watching(decoded) as watch:
            if await other.fetchval("SHOW max_prepared_transactions") == "0":
                await other.execute("BEGIN; INSERT INTO prepared VALUES (1)")
                with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
                    await other.execute("PREPARE TRANSACTION 'one'")
            told = watch.tells(prepared)
            await other.execute("ROLLBACK; INSERT INTO prepared VALUES (1)")
            await told.done()


NAMES = (
    "My Table",
    "a.b",
    "colon: INSERT:",
    'say "hello"',
    '"',
    "select",
    "größe",
    "line\nend",
    "x, y",
    "t" * 63,
    '"' * 63,
)


async def test_names_that_need_quoting(decoded: Sandbox) -> None:
    async with connected(decoded) as other:
        for schema in ("public", "My.Schema", 'q"uo"te: TRUNCATE:'):
            quoted_schema = '"' + schema.replace('"', '""') + '"'
            await other.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted_schema}") if schema != "public" else None
            tables = []
            for name in NAMES:
                table = quoted_schema + '."' + name.replace('"', '""') + '"'
                await other.execute(f"CREATE TABLE IF NOT EXISTS {table} (a int)")
                tables.append((table, await oid_of(other, table)))
            async with watching(decoded) as watch:
                database = watch.count()
                for table, oid in tables:
                    told = watch.tells(oid)
                    await other.execute(f"INSERT INTO {table} VALUES (1)")
                    await told.done()
                told = watch.tells(*(oid for _, oid in tables))
                await other.execute("TRUNCATE " + ", ".join(table for table, _ in tables))
                await told.done()
                assert watch.count() == database


async def test_asynchronous_commits_are_not_confirmed_before_they_are_told(decoded: Sandbox) -> None:
    """They are acknowledged before they are flushed, and decoded after that."""
    async with connected(decoded, synchronous_commit="off") as other:
        await other.execute("CREATE TABLE IF NOT EXISTS later (a int)")
        later = await oid_of(other, "later")
        async with watching(decoded) as watch:
            for _ in range(20):
                before = watch.count(later)
                await other.execute("INSERT INTO later VALUES (1)")
                await watch.until_confirmed(time.monotonic())
                assert watch.count(later) > before


async def test_what_is_confirmed_has_been_told(decoded: Sandbox) -> None:
    """Many write at once, and each looks after its own."""
    async with connected(decoded) as first:
        await first.execute("CREATE TABLE IF NOT EXISTS busy0 (a int); CREATE TABLE IF NOT EXISTS busy1 (a int)")
        await first.execute("CREATE TABLE IF NOT EXISTS busy2 (a int); CREATE TABLE IF NOT EXISTS busy3 (a int)")
        oids = [await oid_of(first, f"busy{number}") for number in range(4)]
    async with watching(decoded) as watch, anyio.create_task_group() as tasks:

        async def write(number: int) -> None:
            async with connected(decoded) as other:
                for _ in range(25):
                    before = watch.count(oids[number])
                    await other.execute(f"INSERT INTO busy{number} SELECT generate_series(1, 100)")
                    await watch.until_confirmed(time.monotonic())
                    assert watch.count(oids[number]) > before

        for number in range(4):
            tasks.start_soon(write, number)


async def test_ddl_is_told_and_suspected(decoded: Sandbox) -> None:
    async with connected(decoded) as other:
        await other.execute("DROP TABLE IF EXISTS shaped; CREATE TABLE shaped (a int)")
        await other.execute("CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'")
        shaped = await oid_of(other, "shaped")
        async with watching(decoded) as watch:
            for sql in (
                "ALTER TABLE shaped ADD b int DEFAULT 7",
                "ALTER TABLE shaped RENAME b TO c",
                "ALTER TABLE shaped ALTER c TYPE text USING c + 1",
                "BEGIN; SAVEPOINT inner_one; ALTER TABLE shaped DROP c; RELEASE inner_one; COMMIT",
            ):
                watch.suspected.clear()
                told, database = watch.tells(shaped), watch.count()
                await other.execute(sql)
                await told.done()
                await watch.until(lambda: watch.suspected == ["app"], "the catalog to be suspected")
                assert watch.count() == database
            told = watch.tells(0)
            await other.execute("CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2'")
            await told.done()
            # What leaves no trace for others is none.
            await anyio.sleep(1.5)
            watch.suspected.clear()
            database = watch.count()
            await other.execute("CREATE TEMP TABLE mine (a int); INSERT INTO mine VALUES (1); DROP TABLE mine")
            await other.execute("ANALYZE shaped")
            await anyio.sleep(2.5)
            assert watch.suspected == []
            assert watch.count() == database


async def test_a_table_that_takes_the_name_of_another(decoded: Sandbox) -> None:
    """What was written before is of the table that had the name then."""
    async with connected(decoded) as other:
        await other.execute("DROP TABLE IF EXISTS named, named_new, named_old, gone")
        await other.execute("CREATE TABLE named (a int); CREATE TABLE named_new (a int)")
        old, new = await oid_of(other, "named"), await oid_of(other, "named_new")
        async with watching(decoded) as watch:
            before = watch.count(old)
            await other.execute(
                "BEGIN; INSERT INTO named VALUES (1); ALTER TABLE named RENAME TO named_old;"
                "ALTER TABLE named_new RENAME TO named; ALTER TABLE named_old RENAME TO named_new; COMMIT"
            )
            await watch.until_confirmed()
            assert watch.count(old) > before
            database, before = watch.count(), watch.count(new)
            # Names that nobody has any more may have been anybody's.
            await other.execute("BEGIN; INSERT INTO named VALUES (1); ALTER TABLE named RENAME TO gone; COMMIT")
            await watch.until_confirmed()
            assert watch.count() > database or watch.count(new) > before
            await other.execute("DROP TABLE gone")


async def test_a_watch_whose_server_processes_are_killed_is_begun_anew(decoded: Sandbox) -> None:
    async with connected(decoded) as other:
        await other.execute("CREATE TABLE IF NOT EXISTS killed (a int)")
        killed = await oid_of(other, "killed")
    walsender = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender'"
    ordinary = "SELECT pid FROM pg_stat_activity WHERE usename = 'pointsman' AND backend_type = 'client backend'"
    async with watching(decoded) as watch, connected(decoded, "postgres") as boss:
        for whose in (walsender, ordinary):
            database = watch.count()
            # What is written while nobody looks.
            ended = await boss.fetchval(f"SELECT bool_and(pg_terminate_backend(pid)) FROM ({whose}) AS theirs;")
            assert ended
            await boss.execute("INSERT INTO killed VALUES (1)")
            moment = time.monotonic()
            await watch.until_confirmed(moment)
            assert watch.count() > database
            told = watch.tells(killed)
            await boss.execute("INSERT INTO killed VALUES (1)")
            await told.done()
            assert await boss.fetchval("SELECT count(*) FROM pg_replication_slots") == 1


async def test_nothing_is_left_when_it_is_turned_off(decoded: Sandbox) -> None:
    ours = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'pointsman'"
    async with watching(decoded) as watch, connected(decoded, "postgres") as boss:
        assert await boss.fetchval(ours) == 2
        watch.watcher.use(False)
        with anyio.fail_after(DEADLINE_S):
            while await boss.fetchval(ours) or await boss.fetchval("SELECT count(*) FROM pg_replication_slots"):
                await anyio.sleep(0.01)
        assert watch.watcher.status() == []
        until = watch.versions.watched_until()
        database = watch.count()
        await anyio.sleep(0.5)
        assert watch.versions.watched_until() == until
        watch.watcher.use(True)
        await watch.until_confirmed()
        assert watch.count() > database


async def test_a_database_that_has_come_anew_holds_back_what_is_confirmed(decoded: Sandbox) -> None:
    async with connected(decoded, "postgres") as boss:
        if not await boss.fetchval("SELECT count(*) FROM pg_database WHERE datname = 'second'"):
            await boss.execute("CREATE DATABASE second")
    second = decoded.url(user="postgres", database="second")
    blocker = await asyncpg.connect(second)
    other = await asyncpg.connect(second)
    try:
        if not await other.fetchval("SELECT count(*) FROM pg_publication"):
            await other.execute(PUBLICATION)
        await other.execute("CREATE TABLE IF NOT EXISTS there (a int)")
        there = await oid_of(other, "there")
        async with watching(decoded, "logical") as watch:
            await blocker.execute("BEGIN; INSERT INTO there VALUES (1)")
            watch.watcher.databases_changed(["app", "second"])
            await anyio.sleep(0.3)
            until = watch.versions.watched_until()
            watch.watcher.wanted()
            await anyio.sleep(0.5)
            # Its slot waits for the transaction.
            assert watch.versions.watched_until() == until
            before = watch.versions.version((slot_of("second"),))
            await blocker.execute("COMMIT")
            await watch.until_confirmed()
            assert watch.versions.version((slot_of("second"),)) > before
            assert [(one.database, one.mode) for one in watch.watcher.status()] == [
                ("app", "logical"),
                ("second", "logical"),
            ]
            before = watch.versions.version((slot_of("second", there),))
            await other.execute("INSERT INTO there VALUES (1)")
            await watch.until_confirmed()
            assert watch.versions.version((slot_of("second", there),)) > before
            # One that does not exist does not hold back the others.
            watch.watcher.databases_changed(["app", "nowhere"])
            await watch.until_confirmed()
    finally:
        blocker.terminate()
        other.terminate()


async def test_a_slot_that_must_wait_is_polled_for_meanwhile(decoded: Sandbox) -> None:
    async with connected(decoded) as blocker, connected(decoded) as other:
        await other.execute("CREATE TABLE IF NOT EXISTS waiting (a int)")
        waiting = await oid_of(other, "waiting")
        await blocker.execute("BEGIN; INSERT INTO waiting VALUES (1)")
        async with watching(decoded, confirmed=False) as watch:
            await watch.until(lambda: watch.status().mode == "poll", "polling")
            assert "in progress" in watch.status().why
            await watch.until_confirmed()
            assert watch.versions.watched_lsn() == 0
            told = watch.tells(waiting, within_s=LATE_S)
            await other.execute("INSERT INTO waiting VALUES (1)")
            await told.done()
            database = watch.count()
            await blocker.execute("COMMIT")
            await watch.until(lambda: watch.status().mode == "logical", "decoding")
            await watch.until_confirmed()
            assert watch.count() > database
            assert watch.versions.watched_lsn() > 0


async def test_a_killed_supervisor_leaves_no_slot(decoded: Sandbox) -> None:
    """Its slots would hold back WAL for ever."""
    command = [sys.executable, "-m", "tests.supervisor.watch_alone", str(decoded.primary.port)]
    process = subprocess.Popen(  # noqa: ASYNC220 - it does not take long
        [*command, decoded.passwords["pointsman"]], cwd=Path(__file__).parent.parent.parent
    )
    slots = "SELECT count(*) FROM pg_replication_slots WHERE active"
    try:
        async with connected(decoded, "postgres") as boss:
            with anyio.fail_after(DEADLINE_S):
                while not await boss.fetchval(slots):
                    await anyio.sleep(0.02)
            process.kill()
            process.wait()
            with anyio.fail_after(DEADLINE_S):
                while await boss.fetchval("SELECT count(*) FROM pg_replication_slots"):
                    await anyio.sleep(0.02)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("way", ["test_decoding", "pgoutput"])
async def test_a_commit_that_waits_for_a_standby_is_told_again_when_it_is_seen(way: str) -> None:
    """It is decoded, and nobody sees it: what is read meanwhile is out of date once its backend has waited."""
    async with running(way, standbys=1) as own, connected(own) as other, connected(own) as reader:
        await other.execute("CREATE TABLE hung (a int)")
        hung = await oid_of(other, "hung")
        own.configure({"synchronous_standby_names": "*"})
        own.node("db2").pause()
        resumed = False
        try:
            async with watching(own) as watch, connected(own) as writer:
                told = watch.tells(hung)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(writer.execute, "INSERT INTO hung VALUES (1)")
                    # Decoded, and told at once.
                    await told.done()
                    for _ in range(5):
                        assert await reader.fetchval("SELECT count(*) FROM hung") == 0
                        filled, version = time.monotonic(), watch.count(hung)
                        # As of then that is still what the primary says, and so it may be confirmed.
                        await watch.until_confirmed(filled)
                        assert watch.count(hung) == version
                        # But nobody is to think that it has this commit.
                        assert 0 < watch.versions.vouched()[1] < watch.last_lsn(hung)
                    own.node("db2").resume()
                    resumed = True
                acknowledged = time.monotonic()
                await watch.until_confirmed(acknowledged)
                assert await reader.fetchval("SELECT count(*) FROM hung") == 1
                # What was read as 0 is not what it was.
                assert watch.count(hung) > version
                assert watch.versions.vouched()[1] >= watch.last_lsn(hung)
        finally:
            if not resumed:
                own.node("db2").resume()


async def test_what_waits_for_a_standby_while_the_slot_is_made_is_told_when_it_is_seen() -> None:
    async with running("pgoutput", standbys=1) as own, connected(own) as other:
        await other.execute("CREATE TABLE hung (a int)")
        own.configure({"synchronous_standby_names": "*"})
        own.node("db2").pause()
        resumed = False
        try:
            async with connected(own) as writer, anyio.create_task_group() as tasks:
                tasks.start_soon(writer.execute, "INSERT INTO hung VALUES (1)")
                async with watching(own, confirmed=False) as watch:
                    await watch.until(lambda: watch.status().mode == "poll", "polling")
                    await watch.until_confirmed()
                    database = watch.count()
                    own.node("db2").resume()
                    resumed = True
                    await watch.until(lambda: watch.status().mode == "logical", "decoding")
                    await watch.until_confirmed()
                    assert watch.count() > database
        finally:
            if not resumed:
                own.node("db2").resume()


async def test_what_was_committed_while_a_slot_was_made_is_told_when_it_is_seen() -> None:
    """Its commit record stands before the point from which on is decoded, and its backend waits on behind that."""
    async with running("pgoutput", standbys=1) as own, connected(own) as first, connected(own) as second:
        await first.execute("CREATE TABLE hung (a int); CREATE TABLE free (a int)")
        await first.execute("BEGIN; INSERT INTO free VALUES (1)")
        resumed = False
        try:
            async with watching(own, confirmed=False) as watch, connected(own) as writer, connected(own) as reader:
                await awaited(reader, first)
                await second.execute("BEGIN; INSERT INTO free VALUES (1)")
                await first.execute("ROLLBACK")
                # From here on transactions are decoded, if they end after those that are in progress now.
                await awaited(reader, second)
                own.configure({"synchronous_standby_names": "*"})
                own.node("db2").pause()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(writer.execute, "INSERT INTO hung VALUES (1)")
                    with anyio.fail_after(DEADLINE_S):
                        while not await reader.fetchval(
                            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                        ):
                            await anyio.sleep(0.01)
                    await second.execute("ROLLBACK")
                    await watch.until(lambda: watch.status().mode == "logical", "decoding")
                    await watch.until_confirmed()
                    assert await reader.fetchval("SELECT count(*) FROM hung") == 0
                    assert watch.versions.vouched() == (0, 0)
                    database = watch.count()
                    own.node("db2").resume()
                    resumed = True
                await watch.until_confirmed()
                assert watch.versions.vouched()[1] >= watch.last_lsn() > 0
                assert await reader.fetchval("SELECT count(*) FROM hung") == 1
                assert watch.count() > database
        finally:
            if not resumed:
                own.node("db2").resume()


async def test_it_vouches_for_positions_of_a_timeline(decoded: Sandbox) -> None:
    """As of a round; and what was vouched for before the round began could be seen before it began."""
    async with watching(decoded) as watch, connected(decoded) as other:
        await other.execute("CREATE TABLE vouched (a int)")
        table = await oid_of(other, "vouched")
        position = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8"
        for _ in range(3):
            before = await other.fetchval(position)
            await other.execute("INSERT INTO vouched VALUES (1)")
            await watch.until_confirmed()
            timeline, lsn = watch.versions.vouched()
            assert timeline == 1
            assert before < watch.last_lsn(table) <= lsn <= await other.fetchval(position)
            assert watch.versions.watched_lsn() >= lsn
            await watch.until_confirmed()
            await watch.until_confirmed()
            assert watch.last_lsn(table) <= watch.versions.vouched_before() <= watch.versions.vouched()[1]
        # All of its database was taken for changed when its slot began.
        assert 0 < watch.last_lsn() < watch.versions.vouched()[1]
        await other.execute("DROP TABLE vouched")


async def test_counters_vouch_for_nothing(polled: Sandbox) -> None:
    async with watching(polled, "poll") as watch:
        await watch.until_confirmed()
        assert (watch.versions.vouched(), watch.versions.vouched_before()) == ((0, 0), 0)


async def awaited(asking: Any, holder: Any) -> None:
    """Until a slot that is being made waits for the transaction of `holder` to end."""
    sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid = $1::text::xid"
    xid = await holder.fetchval("SELECT pg_current_xact_id()::xid::text")
    with anyio.fail_after(DEADLINE_S):
        while not await asking.fetchval(sql, xid):
            await anyio.sleep(0.01)


async def test_over_tls() -> None:
    """The stream takes over a connection that asyncpg has made, however it was made."""
    directory = Path(tempfile.mkdtemp(prefix="pointsman-tls-"))
    try:
        # The account that PostgreSQL runs as may read them, too.
        os.chmod(directory, 0o755)
        certificates, account = Certificates(directory), server_account()
        for file in ("server.key", "server.pem"):
            os.chown(certificates.path(file), account.uid, account.gid)
        parameters = {
            "ssl": "on",
            "ssl_cert_file": certificates.path("server.pem"),
            "ssl_key_file": certificates.path("server.key"),
        }
        context = ssl.create_default_context(cafile=certificates.path("ca.pem"))
        async with running("test_decoding", parameters=parameters) as own, connected(own, "postgres") as other:
            await other.execute("CREATE TABLE hidden (a int, b text)")
            hidden = await oid_of(other, "hidden")
            async with watching(own, "logical", tls=context) as watch:
                plain = (
                    "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                    " WHERE usename = 'pointsman' AND NOT ssl"
                )
                assert await other.fetchval(plain) == 0
                told = watch.tells(hidden)
                await other.execute("INSERT INTO hidden SELECT g, repeat('x', 5000) FROM generate_series(1, 2000) g")
                await told.done()
                await watch.until_confirmed()
    finally:
        shutil.rmtree(directory)


async def test_where_a_segment_of_wal_ends_nothing_is_written_to_get_on(decoded: Sandbox) -> None:
    """The insert position is behind the header of a page to which nothing was written."""
    async with watching(decoded) as watch, connected(decoded, "postgres") as boss:
        for _ in range(5):
            await boss.execute("SELECT pg_switch_wal()")
            await boss.execute("CHECKPOINT; SELECT pg_switch_wal()")
            before = await boss.fetchval("SELECT pg_current_wal_insert_lsn()::text")
            for _ in range(3):
                await watch.until_confirmed()
            if await boss.fetchval("SELECT pg_current_wal_insert_lsn()::text") == before:
                return
        pytest.fail("WAL was written each time")


@pytest.mark.parametrize("way", ["test_decoding", "pgoutput", "poll"])
async def test_after_a_failover_everything_counts_as_changed(way: str) -> None:
    async with running(way, standbys=2) as own:
        async with connected(own) as other:
            await other.execute("CREATE TABLE moved (a int)")
            moved = await oid_of(other, "moved")
        own.wait_for_replay()
        async with watching(own) as watch:
            database, until = watch.count(), watch.versions.watched_until()
            await anyio.to_thread.run_sync(own.node("db1").kill)
            await anyio.sleep(0.5)
            stopped = watch.versions.watched_until()
            await anyio.sleep(0.5)
            assert until <= watch.versions.watched_until() == stopped
            await anyio.to_thread.run_sync(own.promote, "db2")
            watch.watcher.topology_changed(topology_of(own, version=2))
            await watch.until_confirmed()
            assert watch.count() > database
            async with connected(own) as other:
                told = watch.tells(moved, within_s=LATE_S)
                await other.execute("INSERT INTO moved VALUES (1)")
                await told.done()


@pytest.mark.parametrize("way", ["test_decoding", "pgoutput", "poll"])
async def test_a_server_that_is_restarted_is_watched_anew(way: str) -> None:
    async with running(way) as own:
        async with connected(own) as other:
            await other.execute("CREATE TABLE kept (a int)")
        async with watching(own) as watch:
            for stop in ("fast", "immediate"):
                database = watch.count()
                await anyio.to_thread.run_sync(own.primary.restart, stop)
                async with connected(own) as other:
                    await other.execute("INSERT INTO kept VALUES (1)")
                await watch.until_confirmed()
                assert watch.count() > database


async def test_a_slot_that_has_lost_its_wal_is_made_anew() -> None:
    limits = {"max_slot_wal_keep_size": "1MB", "wal_keep_size": "0", "max_wal_size": "64MB"}
    async with running("pgoutput", parameters=limits) as own, connected(own, "postgres") as boss:
        await boss.execute("CREATE TABLE grown (a int, b text)")
        async with watching(own) as watch:
            database = watch.count()
            slot = await boss.fetchval("SELECT slot_name FROM pg_replication_slots")
            pid = await boss.fetchval("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender'")
            # It cannot go on, and its slot cannot be advanced.
            os.kill(pid, 19)
            try:
                await boss.execute("INSERT INTO grown SELECT g, repeat('x', 200) FROM generate_series(1, 200000) g")
                await boss.execute("SELECT pg_switch_wal()")
                with anyio.move_on_after(2.0):
                    await boss.execute("CHECKPOINT")
            finally:
                os.kill(pid, 18)
            async with connected(own, "postgres") as again:
                with anyio.fail_after(DEADLINE_S):
                    while watch.count() == database:
                        await anyio.sleep(0.02)
                await watch.until_confirmed()
                slots = await again.fetch("SELECT slot_name FROM pg_replication_slots WHERE active")
                assert len(slots) == 1
                assert slots[0]["slot_name"] != slot


# By counters


def may_not_replicate(why: str) -> bool:
    """As PostgreSQL's versions say it."""
    return "permission" in why or "replication role" in why


async def test_counters_tell_of_each_kind_of_change(polled: Sandbox) -> None:
    async with connected(polled) as other:
        await other.execute("DROP TABLE IF EXISTS plain, besides; CREATE TABLE plain (a int PRIMARY KEY, b text)")
        await other.execute("CREATE TABLE besides (a int)")
        plain, besides = await oid_of(other, "plain"), await oid_of(other, "besides")
        async with watching(polled, interval_s=0.1) as watch:
            assert watch.status().mode == "poll"
            assert "wal_level" in watch.status().why or may_not_replicate(watch.status().why)
            untouched = watch.count(besides)
            for sql in CHANGES:
                if sql in EMPTY:
                    continue
                told = watch.tells(plain, within_s=LATE_S)
                await other.execute(sql)
                # Soon: somebody who goes on working reports each second.
                with anyio.move_on_after(1.1):
                    await told.done()
                    continue
                await other.execute("SELECT 1")
                await told.done()
            assert watch.count(besides) == untouched
            assert watch.versions.watched_lsn() == 0


async def test_counters_come_late_and_they_come(polled: Sandbox) -> None:
    """Of a backend that has nothing more to do, within PGSTAT_IDLE_INTERVAL."""
    async with connected(polled) as other:
        await other.execute("CREATE TABLE IF NOT EXISTS slow (a int)")
        slow = await oid_of(other, "slow")
        async with watching(polled, interval_s=0.1) as watch:
            await other.execute("INSERT INTO slow VALUES (1)")
            told = watch.tells(slow, within_s=LATE_S)
            await other.execute("INSERT INTO slow VALUES (1)")
            await told.done()


async def test_counters_that_are_reset_count_as_changes(polled: Sandbox) -> None:
    async with connected(polled, "postgres") as other:
        await other.execute("CREATE TABLE IF NOT EXISTS counted (a int)")
        counted = await oid_of(other, "counted")
        async with watching(polled, interval_s=0.1) as watch:
            told = watch.tells(counted, within_s=LATE_S)
            await other.execute("INSERT INTO counted VALUES (1)")
            await told.done()
            told = watch.tells(counted, within_s=LATE_S)
            await other.execute("SELECT pg_stat_reset()")
            await told.done()


async def test_ddl_is_seen_while_polling(polled: Sandbox) -> None:
    async with connected(polled) as other:
        await other.execute("DROP TABLE IF EXISTS shaped; CREATE TABLE shaped (a int)")
        shaped = await oid_of(other, "shaped")
        async with watching(polled, interval_s=0.1) as watch:
            told = watch.tells(shaped)
            await other.execute("ALTER TABLE shaped ADD b int")
            await told.done()
            await watch.until(lambda: "app" in watch.suspected, "the catalog to be suspected")


async def test_where_nothing_is_counted_nothing_is_confirmed() -> None:
    async with (
        running("poll", parameters={"track_counts": "off"}) as own,
        watching(own, "poll", confirmed=False) as watch,
    ):
        await watch.until(lambda: watch.status().why == "track_counts is off", "the reason")
        assert watch.versions.watched_until() == 0
        assert watch.status().mode == ""


async def test_where_decoding_is_asked_for_and_cannot_be_nothing_is_confirmed(
    polled: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_watch, "AGAIN_S", 0.2)
    async with watching(polled, "logical", confirmed=False) as watch:
        await watch.until(lambda: may_not_replicate(watch.status().why), "the reason")
        polled.query(ROLE)
        try:
            await watch.until(lambda: "wal_level" in watch.status().why, "the other reason")
            assert watch.versions.watched_until() == 0
        finally:
            polled.query("ALTER ROLE pointsman NOREPLICATION")


async def test_what_is_taken_by_others_is_waited_for_while_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_watch, "AGAIN_S", 0.2)
    limits = {"max_replication_slots": "1", "max_wal_senders": "1"}
    async with running("pgoutput", parameters=limits) as own, connected(own, "postgres") as boss:
        await boss.execute("SELECT pg_create_physical_replication_slot('taken')")
        async with watching(own) as watch:
            assert watch.status().mode == "poll"
            assert "slots are in use" in watch.status().why
            await boss.execute("SELECT pg_drop_replication_slot('taken')")
            await watch.until(lambda: watch.status().mode == "logical", "decoding")
        # The walsender, too, once ours has ended.
        with anyio.fail_after(DEADLINE_S):
            while await boss.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"):
                await anyio.sleep(0.01)
        async with connected(own, "pointsman", replication="database"), watching(own) as watch:
            assert watch.status().mode == "poll"
            assert "max_wal_senders" in watch.status().why


@pytest.mark.skipif("POINTSMAN_PG_BIN" in os.environ, reason="needs an installation without test_decoding")
async def test_a_publication_that_leaves_something_out_is_not_gone_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_watch, "AGAIN_S", 0.2)
    async with running("pgoutput") as own, watching(own, interval_s=0.1) as watch:
        assert watch.status().mode == "logical"
        for change, why in (
            ("ALTER PUBLICATION pointsman_cache SET (publish = 'insert, update, delete')", "not of all changes"),
            ("ALTER PUBLICATION pointsman_cache SET (publish_via_partition_root)", "root"),
            ("DROP PUBLICATION pointsman_cache", "there is no publication"),
        ):
            own.query(change)
            await watch.until(lambda: watch.status().mode == "poll" and why in watch.status().why, why)  # noqa: B023
            own.query("DROP PUBLICATION IF EXISTS pointsman_cache;" + PUBLICATION)
            await watch.until(lambda: watch.status().mode == "logical", "decoding")


@pytest.mark.parametrize("mode", ["auto", "logical"])
async def test_without_a_primary_nothing_is_confirmed(decoded: Sandbox, mode: Mode) -> None:
    async with watching(decoded, mode) as watch:
        watch.watcher.topology_changed(Topology())
        await watch.until(lambda: watch.status().why == "there is no primary", "the reason")
        until = watch.versions.watched_until()
        await anyio.sleep(0.3)
        assert watch.versions.watched_until() == until
        database = watch.count()
        watch.watcher.topology_changed(topology_of(decoded, version=2))
        await watch.until_confirmed()
        assert watch.count() > database


async def test_off_is_off(decoded: Sandbox) -> None:
    async with watching(decoded, "off", confirmed=False) as watch, connected(decoded, "postgres") as boss:
        await anyio.sleep(0.3)
        assert watch.watcher.status() == []
        assert await boss.fetchval("SELECT count(*) FROM pg_stat_activity WHERE usename = 'pointsman'") == 0


async def test_a_supervisor_watches_what_its_workers_serve_while_the_cache_is_on() -> None:
    async with running("pgoutput") as own:
        for mode in ("on", "off"):
            known = over(own).model_copy(update={"query_cache": mode})
            async with running_supervisor(known, worker_command=ECHO_WORKER) as supervisor:
                await ask(supervisor, order="wanted app")
                with anyio.fail_after(DEADLINE_S):
                    while "app" not in supervisor.catalogs:
                        await anyio.sleep(0.01)
                if mode == "off":
                    assert supervisor.watch_status() == []
                    continue
                with anyio.fail_after(DEADLINE_S):
                    while [(one.database, one.mode) for one in supervisor.watch_status()] != [("app", "logical")]:
                        await anyio.sleep(0.01)
