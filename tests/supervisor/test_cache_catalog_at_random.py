"""Databases made at random, of foreign keys, triggers, rules, views, partitions and functions that write: whatever a
statement changes there is among what the catalog says it may, and whatever is read is among what it says is read.
"""

import random
from collections import Counter
from typing import Any

import asyncpg
import pytest

from middleware.sandbox import Sandbox
from middleware.supervisor.catalog_reader import read_rows
from parser.shapes import FactsTable
from routing.assemble import assemble
from routing.cached import cached, touched
from routing.router import search_path_of

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

TABLES = 8
STATEMENTS = 60
PATH = search_path_of("app", "postgres")
ACTIONS = ("CASCADE", "SET NULL", "SET DEFAULT", "NO ACTION", "RESTRICT")


class World:
    """The SQL of a random database."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tables = [f"t{number}" for number in range(TABLES)]
        self.views: list[str] = []
        self.functions: list[str] = []
        self.sql = ["CREATE SCHEMA app", "SET search_path = app"]
        for number, table in enumerate(self.tables):
            self._table(number, table)
        for number in range(4):
            self._function(number)
        for number in range(6):
            self._trigger(number)
        for number in range(4):
            self._view(number)
        self._rule()
        for number, table in enumerate(self.tables):
            self.sql.append(f"INSERT INTO {table} (id, n) SELECT i, {number} FROM generate_series(0, 3) AS i")
            self.sql.append(f"UPDATE {table} SET ref = id")

    def _table(self, number: int, table: str) -> None:
        ref = "ref int DEFAULT 0"
        if number and self.random.random() < 0.8:
            to = self.random.choice(self.tables[:number])
            actions = f"ON DELETE {self.random.choice(ACTIONS)} ON UPDATE {self.random.choice(ACTIONS)}"
            ref += f" REFERENCES {to} {actions}"
        columns = f"(id int PRIMARY KEY, n int, {ref})"
        if self.random.random() < 0.3:
            self.sql.append(f"CREATE TABLE {table} {columns} PARTITION BY HASH (id)")
            for part in range(2):
                self.sql.append(
                    f"CREATE TABLE {table}_{part} PARTITION OF {table} FOR VALUES WITH (MODULUS 2, REMAINDER {part})"
                )
        else:
            self.sql.append(f"CREATE TABLE {table} {columns}")
            if self.random.random() < 0.2:
                self.sql.append(f"CREATE TABLE {table}_heir () INHERITS ({table})")
                self.sql.append(f"INSERT INTO {table}_heir VALUES (2, 2, NULL)")

    def _writes(self) -> str:
        """A statement for a body."""
        table = f"app.{self.random.choice(self.tables)}"
        number = self.random.randrange(4)
        return self.random.choice(
            (
                f"INSERT INTO {table} (id, n) VALUES ({number + 10}, 1) ON CONFLICT DO NOTHING",
                f"UPDATE {table} SET n = n + 1 WHERE id = {number}",
                f"UPDATE {table} SET id = id + 20 WHERE id = {number}",
                f"DELETE FROM {table} WHERE id = {number}",
                f"MERGE INTO {table} AS a USING (SELECT 1) AS b ON a.id = {number} WHEN MATCHED THEN DELETE",
            )
        )

    def _function(self, number: int) -> None:
        name = f"f{number}"
        does = self._writes()
        if self.functions and self.random.random() < 0.5:
            does = f"PERFORM app.{self.random.choice(self.functions)}()"
        self.sql.append(
            f"CREATE FUNCTION {name}() RETURNS int LANGUAGE plpgsql AS 'BEGIN {does}; RETURN 1; END'"
            if "PERFORM" in does or self.random.random() < 0.5
            else f"CREATE FUNCTION {name}() RETURNS int LANGUAGE sql AS '{does}; SELECT 1'"
        )
        self.functions.append(name)

    def _trigger(self, number: int) -> None:
        table = self.random.choice(self.tables)
        event = self.random.choice(("INSERT", "UPDATE", "DELETE", "INSERT OR UPDATE", "TRUNCATE"))
        does = self.random.choice((self._writes(), f"PERFORM app.{self.random.choice(self.functions)}()"))
        self.sql.append(
            f"CREATE FUNCTION on_{number}() RETURNS trigger LANGUAGE plpgsql AS"
            f" 'BEGIN IF pg_trigger_depth() < 4 THEN {does}; END IF; RETURN NULL; END'"
        )
        each = "" if event == "TRUNCATE" or self.random.random() < 0.3 else "FOR EACH ROW"
        self.sql.append(f"CREATE TRIGGER on_{number} AFTER {event} ON {table} {each} EXECUTE FUNCTION on_{number}()")

    def _view(self, number: int) -> None:
        name = f"v{number}"
        over = self.random.choice(self.tables + self.views)
        self.sql.append(f"CREATE VIEW {name} AS SELECT id, n, ref FROM {over} WHERE id < 100")
        self.views.append(name)

    def _rule(self) -> None:
        table, other = self.random.sample(self.tables, 2)
        self.sql.append(f"CREATE RULE also AS ON DELETE TO {table} DO ALSO UPDATE {other} SET n = n + 1")

    def statement(self) -> str:
        """One to carry out."""
        on = self.random.choice(self.tables + self.views)
        table = self.random.choice(self.tables)
        number = self.random.randrange(4)
        return self.random.choice(
            (
                f"INSERT INTO {on} (id, n) VALUES ({number + 30}, 1)",
                f"INSERT INTO {table} (id, n) VALUES ({number}, 1) ON CONFLICT (id) DO UPDATE SET n = 5",
                f"UPDATE {on} SET n = n + 1",
                f"UPDATE {on} SET id = id + 40 WHERE id = {number}",
                f"UPDATE {on} SET ref = {number}",
                f"DELETE FROM {on} WHERE id = {number}",
                f"TRUNCATE {table} CASCADE",
                f"WITH gone AS (DELETE FROM {on} WHERE id = {number} RETURNING id) SELECT * FROM gone, {table}",
                f"SELECT {self.random.choice(self.functions)}() FROM {on}",
                f"DO $$BEGIN {self._writes()}; END$$",
                f"SELECT * FROM {on} AS a JOIN {table} AS b USING (id)",
            )
        )


async def contents(connection: Any, tables: list[str]) -> dict[str, str]:
    return {
        table: await connection.fetchval(f"SELECT string_agg(t::text, ',' ORDER BY t::text) FROM ONLY {table} AS t")
        for table in tables
    }


async def counters(connection: Any) -> dict[str, int]:
    """The session's own, which may not have been passed on yet: also those of its last transactions."""
    counted = "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del AS n FROM pg_stat_xact_user_tables"
    return {row["relname"]: row["n"] for row in await connection.fetch(counted)}


async def carried_out(connection: Any, text: str, tables: list[str]) -> set[str] | None:
    """What a statement changed; None of one that failed. It is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        before, counted = await contents(connection, tables), await counters(connection)
        await connection.execute(text)
        after, counts = await contents(connection, tables), await counters(connection)
        return {name for name in tables if before[name] != after[name] or counts[name] != counted[name]}
    except asyncpg.PostgresError:
        return None
    finally:
        await transaction.rollback()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_a_statement_changes_was_expected(cluster: Sandbox, seed: int) -> None:
    world = World(seed)
    database = f"random_{seed}"
    cluster.query(f"CREATE DATABASE {database}")
    node = cluster.primary
    connection: Any = await asyncpg.connect(
        host=node.host,
        port=node.port,
        user="postgres",
        password=cluster.passwords["postgres"],
        database=database,
        statement_cache_size=0,
    )
    try:
        for sql in world.sql:
            # What triggers do while it is filled may fail: it has rows enough.
            try:
                await connection.execute(sql)
            except asyncpg.PostgresError:
                assert sql.startswith(("INSERT", "UPDATE")), sql
        catalog = assemble(database, 1, await read_rows(connection), FactsTable())
        await connection.execute("SET search_path = app")
        oids = {name: place.oid for name, places in catalog.cache.oids.items() for place in places}
        tables = [name for name in oids if name not in world.views]
        outcomes: Counter[str] = Counter()
        for _ in range(STATEMENTS):
            text = world.statement()
            facts = FactsTable().facts_of(text.encode())
            expected = touched(facts, catalog, PATH)
            assert expected is not None, text
            done = await carried_out(connection, text, tables)
            outcomes["failed" if done is None else "changed" if done else "read"] += 1
            if done is not None:
                changed = {oids[name] for name in done}
                outcomes["several"] += len(changed) > 1
                assert changed <= set(expected), (text, done)
                if not cached(facts, catalog, PATH).why:
                    assert not done
        assert outcomes["changed"] > STATEMENTS / 6, outcomes
        assert outcomes["several"], outcomes
    finally:
        await connection.close()
        cluster.query(f"DROP DATABASE {database} WITH (FORCE)")
