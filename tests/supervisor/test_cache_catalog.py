"""What is read and what is changed behind names, held against a real PostgreSQL: it says itself what it did.

What a statement read can be told by the locks that its transaction holds; what it changed, by the counters of the
transaction and by the contents of all tables before and after.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import asyncpg
import msgspec
import pytest

from middleware.sandbox import Sandbox
from middleware.supervisor.catalog_reader import read_rows
from parser.dates import time_words
from parser.shapes import FactsTable
from routing.assemble import assemble
from routing.cache_functions import LASTING, NOT_LASTING, RELOAD, RUN_SQL
from routing.cached import EVERYWHERE, Cached, cached, touched
from routing.catalog import Catalog
from routing.router import search_path_of
from routing.rows import NOTHING_SAID, Overrides, Rows

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

DATABASE = "cached by tests"
PATH = search_path_of("app, public", "postgres")

OBJECTS = r'''
CREATE SCHEMA app;
CREATE SCHEMA other;
SET search_path = app;

CREATE TABLE plain (id int PRIMARY KEY, a int, b text, d date, ts timestamptz, day timestamp, tm time);
INSERT INTO plain SELECT i, i, 'x', '2024-01-01', '2024-01-01', '2024-01-01', '10:00' FROM generate_series(1, 3) AS i;
CREATE TABLE other.plain (id int);
CREATE TABLE "Odd ""Table""" (a int);

CREATE TABLE parent (a int);
CREATE TABLE heir (c int) INHERITS (parent);
CREATE TABLE grandchild () INHERITS (heir);
INSERT INTO grandchild VALUES (1, 2);
CREATE TABLE parted (a int, b text) PARTITION BY LIST (a);
CREATE TABLE part1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE part2 PARTITION OF parted FOR VALUES IN (2) PARTITION BY LIST (b);
CREATE TABLE part2x PARTITION OF part2 DEFAULT;
INSERT INTO parted VALUES (1, 'x'), (2, 'x');

CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE lines (id int, ord int REFERENCES orders ON DELETE SET NULL);
CREATE TABLE tags (id int PRIMARY KEY, ord int DEFAULT 0 REFERENCES orders ON DELETE SET DEFAULT);
CREATE TABLE bills (ord int REFERENCES orders);
INSERT INTO customers VALUES (0, 'none'), (1, 'one'), (2, 'two');
INSERT INTO orders VALUES (0, 0), (10, 1), (20, 2);
INSERT INTO lines VALUES (1, 10);
INSERT INTO tags VALUES (1, 10);
CREATE TABLE roots (id int PRIMARY KEY) PARTITION BY LIST (id);
CREATE TABLE root1 PARTITION OF roots FOR VALUES IN (1);
CREATE TABLE root2 PARTITION OF roots FOR VALUES IN (2);
CREATE TABLE leaves (root int REFERENCES roots ON UPDATE CASCADE ON DELETE CASCADE);
INSERT INTO roots VALUES (1);
INSERT INTO leaves VALUES (1);
CREATE TABLE knot (id int PRIMARY KEY, up int REFERENCES knot ON DELETE CASCADE);
INSERT INTO knot VALUES (1, NULL), (2, 1), (3, 2);

CREATE TABLE audit (what text);
CREATE TABLE audit_sum (n int);
INSERT INTO audit_sum VALUES (0);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.updated_at = clock_timestamp(); RETURN NEW; END';
CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO app.audit VALUES (TG_OP); RETURN NULL; END';
CREATE FUNCTION sum_up() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN UPDATE audit_sum SET n = n + 1; RETURN NULL; END' SET search_path = app;
CREATE FUNCTION made_up() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN EXECUTE format(''INSERT INTO app.%I VALUES (1)'', ''aud'' || ''it''); RETURN NULL; END';
CREATE TABLE stamped (a int, updated_at timestamptz);
CREATE TRIGGER one BEFORE INSERT OR UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION stamp();
INSERT INTO stamped VALUES (1);
CREATE TABLE watched (a int);
CREATE TRIGGER one AFTER INSERT OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION log_it();
CREATE TRIGGER two AFTER TRUNCATE ON watched EXECUTE FUNCTION log_it();
CREATE TRIGGER chain AFTER INSERT ON audit FOR EACH ROW EXECUTE FUNCTION sum_up();
INSERT INTO watched VALUES (1);
CREATE TABLE dynamic (a int);
CREATE TRIGGER one AFTER INSERT ON dynamic FOR EACH ROW EXECUTE FUNCTION made_up();
CREATE TABLE off (a int);
CREATE TRIGGER one AFTER INSERT ON off FOR EACH ROW EXECUTE FUNCTION log_it();
ALTER TABLE off DISABLE TRIGGER one;
CREATE TABLE parted_watched (a int) PARTITION BY LIST (a);
CREATE TABLE parted_watched1 PARTITION OF parted_watched FOR VALUES IN (1);
CREATE TRIGGER one AFTER INSERT ON parted_watched FOR EACH ROW EXECUTE FUNCTION log_it();
CREATE TABLE conditional (a int);
CREATE FUNCTION writes_when(int) RETURNS boolean LANGUAGE sql AS
    'INSERT INTO app.audit VALUES (''when''); SELECT false';
CREATE TRIGGER one BEFORE UPDATE ON conditional FOR EACH ROW WHEN (writes_when(OLD.a)) EXECUTE FUNCTION log_it();
INSERT INTO conditional VALUES (1);

CREATE TABLE ruled (a int);
CREATE TABLE rule_log (a int);
CREATE RULE kept AS ON INSERT TO ruled DO ALSO INSERT INTO rule_log VALUES (NEW.a);
CREATE RULE gone AS ON DELETE TO ruled DO INSTEAD DELETE FROM watched;
INSERT INTO ruled VALUES (1);

CREATE VIEW easy AS SELECT id, a, b FROM plain;
CREATE VIEW upper AS SELECT * FROM easy WHERE a > 0 WITH CHECK OPTION;
CREATE VIEW joined AS SELECT c.name, o.id FROM customers c JOIN orders o ON o.customer = c.id;
CREATE VIEW counted AS SELECT count(*) AS n FROM parted;
CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO app.customers VALUES (NEW.n, NULL); RETURN NEW; END';
CREATE TRIGGER one INSTEAD OF INSERT ON counted FOR EACH ROW EXECUTE FUNCTION instead();
CREATE MATERIALIZED VIEW kept AS SELECT a FROM parent;

CREATE TABLE members (who text, team int);
CREATE TABLE guarded (a int, who text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded USING (who = current_user OR EXISTS (SELECT FROM members m WHERE m.who = guarded.who));
CREATE TABLE tenants (a int, tenant text);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON tenants USING (tenant = current_setting('app.tenant'));

CREATE FUNCTION adds(int) RETURNS int LANGUAGE sql AS 'INSERT INTO app.audit VALUES ($1::text); SELECT 1';
CREATE FUNCTION atomic() RETURNS int LANGUAGE sql BEGIN ATOMIC DELETE FROM lines; SELECT 1; END;
CREATE FUNCTION looks() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM app.audit';
CREATE FUNCTION lasting_look() RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT count(*) FROM app.audit';
CREATE FUNCTION stable_look() RETURNS bigint STABLE LANGUAGE plpgsql AS 'BEGIN RETURN app.lasting_look(); END';
CREATE FUNCTION lying() RETURNS date IMMUTABLE LANGUAGE sql AS 'SELECT CURRENT_DATE';
CREATE FUNCTION calls() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM app.adds(1); RETURN 1; END';
CREATE FUNCTION empties() RETURNS int LANGUAGE plpgsql AS 'BEGIN TRUNCATE app.orders CASCADE; RETURN 1; END';
CREATE FUNCTION odd() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO app."Odd ""Table""" VALUES (1); RETURN 1; END';
CREATE FUNCTION passing() RETURNS int LANGUAGE plpgsql AS
    'BEGIN CREATE TEMP TABLE passes (a int); INSERT INTO passes VALUES (1); RETURN 1; END';
CREATE FUNCTION defines() RETURNS int LANGUAGE plpgsql AS
    'BEGIN ALTER TABLE app.plain ALTER a SET DEFAULT 1; RETURN 1; END';
CREATE FUNCTION names_roles() RETURNS int LANGUAGE plpgsql AS
    'BEGIN ALTER ROLE CURRENT_USER SET a.b = 1; RETURN 1; END';
CREATE PROCEDURE proceeds() LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.customers WHERE id = 1; END';
CREATE PROCEDURE proceeds(int, OUT int) LANGUAGE plpgsql AS 'BEGIN DELETE FROM app.lines; END';
CREATE FUNCTION "Größe"() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO app.Übersicht VALUES (1); RETURN 1; END';
CREATE TABLE "Übersicht" (a int);
CREATE TABLE a_name_that_is_longer_than_postgresql_keeps_of_any_name_at_all_ (a int);
CREATE FUNCTION long_name() RETURNS int LANGUAGE plpgsql AS
    'BEGIN DELETE FROM app.a_name_that_is_longer_than_postgresql_keeps_of_any_name_at_all_really; RETURN 1; END';
CREATE VIEW looking AS SELECT lasting_look() AS n, a FROM parent;
CREATE VIEW writing AS SELECT adds(1) AS n;
CREATE TABLE defaulted (a int DEFAULT adds(1), b int);
CREATE FUNCTION checks(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM app.adds($1); RETURN true; END';
CREATE TABLE checked (a int CHECK (checks(a)));
CREATE FUNCTION plus(int, text) RETURNS int LANGUAGE sql AS 'INSERT INTO app.rule_log VALUES ($1); SELECT 1';
CREATE AGGREGATE collects(int) (SFUNC = int4pl, STYPE = int);
CREATE FUNCTION steps(int, int) RETURNS int LANGUAGE sql AS 'INSERT INTO app.rule_log VALUES ($2); SELECT 1';
CREATE AGGREGATE collects_more(int) (SFUNC = steps, STYPE = int);
CREATE FUNCTION full_name(plain) RETURNS int LANGUAGE sql AS 'INSERT INTO app.audit VALUES (1); SELECT 1';

CREATE TABLE zoned (t timetz);
CREATE VIEW recent AS SELECT * FROM plain WHERE d > CURRENT_DATE - 7;
CREATE VIEW text_day AS SELECT b::date AS bd FROM plain;
CREATE TYPE mood AS ENUM ('fine', 'x');
CREATE DOMAIN day_of AS date;
CREATE TABLE texts (d_text text, value date, max date);
'''


@pytest.fixture(scope="module")
def database(cluster: Sandbox) -> Iterator[str]:
    cluster.query(f'CREATE DATABASE "{DATABASE}"')
    cluster.query(OBJECTS, database=DATABASE)
    yield DATABASE
    cluster.query(f'DROP DATABASE "{DATABASE}" WITH (FORCE)')


@contextlib.asynccontextmanager
async def connected(cluster: Sandbox) -> AsyncIterator[Any]:
    node = cluster.primary
    connection: Any = await asyncpg.connect(
        host=node.host,
        port=node.port,
        user="postgres",
        password=cluster.passwords["postgres"],
        database=DATABASE,
        statement_cache_size=0,
    )
    try:
        yield connection
    finally:
        await connection.close()


async def rows_of(cluster: Sandbox) -> Rows:
    async with connected(cluster) as connection:
        return await read_rows(connection)


def catalog_of(rows: Rows, overrides: Overrides = NOTHING_SAID) -> Catalog:
    return assemble(DATABASE, 1, rows, FactsTable(), overrides)


@pytest.fixture(scope="module")
def rows(cluster: Sandbox, database: str) -> Rows:
    return anyio.run(rows_of, cluster, backend="asyncio")


@pytest.fixture(scope="module")
def catalog(rows: Rows) -> Catalog:
    return catalog_of(rows)


def names(rows: Rows, oids: tuple[int, ...]) -> set[str]:
    """Relations of the schema app by their names, others with their schemas."""
    known = {one.oid: one.name if one.schema == "app" else f"{one.schema}.{one.name}" for one in rows.relations}
    return {known[oid] for oid in oids}


def ask(text: str, catalog: Catalog) -> Cached:
    return cached(FactsTable().facts_of(text.encode()), catalog, PATH)


def changed(text: str, catalog: Catalog) -> tuple[int, ...] | None:
    return touched(FactsTable().facts_of(text.encode()), catalog, PATH)


# What may be cached, and what it reads

READS = {
    "SELECT * FROM plain WHERE a = 1": "plain",
    "TABLE plain": "plain",
    "VALUES (1)": "",
    "SELECT * FROM other.plain": "other.plain",
    "SELECT * FROM upper": "upper easy plain",
    "SELECT * FROM parent": "parent heir grandchild",
    "SELECT * FROM ONLY heir": "heir grandchild",
    "SELECT * FROM parted": "parted part1 part2 part2x",
    "SELECT * FROM part2": "part2 part2x",
    "SELECT * FROM counted": "counted parted part1 part2 part2x",
    "SELECT * FROM joined JOIN plain USING (id)": "joined customers orders plain",
    "SELECT * FROM kept": "kept",
    "SELECT * FROM guarded": "guarded members",
    "SELECT lasting_look()": "audit",
    "SELECT * FROM looking": "looking audit parent heir grandchild",
    "WITH x AS (SELECT * FROM plain) SELECT * FROM x WHERE EXISTS (SELECT FROM lines)": "plain lines",
    "SELECT d::timestamptz, ts::date, day::date, max(ts)::date FROM plain GROUP BY 1, 2, 3": "plain",
    "SELECT (ts + interval '1 day')::date, date_trunc('day', ts)::date, coalesce(ts, '2024-01-01')::date FROM plain":
        "plain",
    "SELECT ts AT TIME ZONE 'UTC', (day + interval '1 day') AT TIME ZONE 'UTC' FROM plain": "plain",
    "SELECT ts > d, to_char(ts, 'YYYY'), concat(a, b), to_json(p), date_part('year', ts) FROM plain AS p": "plain",
    "SELECT json_agg(a), string_agg(b, ','), array_agg(d), age(max(ts), min(ts)) FROM plain": "plain",
    "SELECT b::mood, b::text, a::text::int FROM plain": "plain",
    "SELECT '2024-01-01'::date, '2024-01-01'::text::date, DATE '2024-01-01'": "",
    "SELECT CURRENT_USER, SESSION_USER, CURRENT_SCHEMA, current_database()": "",
    "SELECT to_tsvector(b) @@ to_tsquery('x') FROM plain": "plain",
    "SELECT a, xmin FROM plain ORDER BY a LIMIT 1": "plain",
}  # fmt: skip


@pytest.mark.parametrize("text", READS)
async def test_what_is_read_is_found(cluster: Sandbox, rows: Rows, catalog: Catalog, text: str) -> None:
    found = ask(text, catalog)
    assert found.why == ""
    assert names(rows, found.relations) == set(READS[text].split())
    async with connected(cluster) as connection, connection.transaction():
        await connection.execute("SET search_path = app, public")
        await connection.fetch(text)
        locked = await connection.fetch(
            "SELECT relation::int8 FROM pg_locks JOIN pg_class c ON c.oid = relation WHERE pid = pg_backend_pid()"
            " AND relation >= 16384 AND relkind IN ('r', 'p', 'v', 'm')"
        )
    # Its parent is opened for what a partition may hold, not for what it does.
    parents = {one.oid for one in rows.relations if not set(found.relations).isdisjoint(one.children)}
    assert {row["relation"] for row in locked} - parents <= set(found.relations)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("INSERT INTO plain VALUES (1)", "it is no SELECT"),
        ("EXPLAIN SELECT 1", "it is no SELECT"),
        ("SELECT * FROM plain FOR SHARE", "it locks rows"),
        ("SELECT now()", "it calls now(), which is only stable"),
        ("SELECT random()", "it calls random(), which is volatile"),
        ("SELECT CURRENT_DATE", "it asks for the time (CURRENT_DATE)"),
        ("SELECT LOCALTIMESTAMP(3)", "it asks for the time (LOCALTIMESTAMP)"),
        ("SELECT current_setting('TimeZone')", "it calls current_setting(), which is only stable"),
        ("SELECT inet_server_addr()", "it calls inet_server_addr(), which is only stable"),
        ("SELECT age(ts) FROM plain", "it calls age(), which is"),
        ("SELECT * FROM plain TABLESAMPLE system (1)", "it draws a sample"),
        ("SELECT ctid FROM plain", "it asks for ctid"),
        ("SELECT p.xmax FROM plain p", "it asks for xmax"),
        ("SELECT * FROM pg_class", "it reads pg_class, which belongs to the system catalogs"),
        ("SELECT * FROM information_schema.tables", "it reads information_schema.tables, which"),
        ("SELECT 'plain'::regclass", "it casts to regclass, which depends on the system catalogs"),
        ("SELECT * FROM tenants", "it reads tenants, which is under row security"),
        ("SELECT looks()", "it calls looks(), which is volatile"),
        ("SELECT stable_look()", "it calls stable_look(), which is only stable"),
        ("SELECT lying()", "it calls lying(), which asks for current_date"),
        ("SELECT * FROM writing", "it reads writing, which is a view"),
        ("SELECT b::date FROM plain", "it casts b to date, and a text may say 'today'"),
        ("SELECT b::day_of FROM plain", "it casts b to day_of, and a text"),
        ("SELECT (b || '')::timestamptz FROM plain", "it casts an expression to timestamptz"),
        ("SELECT date(b) FROM plain", "it casts b to date"),
        ("SELECT (b).date FROM plain", "it casts an expression to date"),
        ("SELECT string_to_array(b, ',')::date[] FROM plain", "it casts an expression to date"),
        ("SELECT d::date FROM (SELECT b AS d FROM plain) AS s", "it casts d to date"),
        ("SELECT d::date FROM (SELECT b FROM plain) AS s (d)", "it casts d to date"),
        ("WITH s (d) AS (SELECT b FROM plain) SELECT d::date FROM s", "it casts d to date"),
        ("SELECT max::date FROM (SELECT max(b) FROM plain) AS s", "it casts max to date"),
        ("SELECT d::date FROM unnest(ARRAY['x']) AS d", "it casts d to date"),
        ("SELECT value::date FROM jsonb_each_text('{}')", "it casts value to date"),
        ("SELECT d::date FROM jsonb_to_record('{}') AS x (d text)", "it calls jsonb_to_record(), which is only stable"),
        ("SELECT tm AT TIME ZONE 'UTC' FROM plain", "it applies AT TIME ZONE to what may be a time of day"),
        ("SELECT '10:00'::time AT TIME ZONE 'UTC'", "it applies AT TIME ZONE"),
        ("SELECT $1 AT TIME ZONE 'UTC'", "it applies AT TIME ZONE"),
        ("SELECT '10:00'::timetz", "it casts to timetz, which depends on the day"),
        ("SELECT * FROM zoned", "it reads zoned, which has a column of time with time zone"),
        ("SELECT * FROM recent", "it reads recent, which is a view: it asks for the time (CURRENT_DATE)"),
        ("SELECT bd FROM text_day", "it reads text_day, which is a view: it casts b to date"),
        ("SELECT * FROM missing", "it reads missing, which is not known"),
        ("/* pointsman: primary */ SELECT 1", "a comment in it asks for the primary"),
        ("/* pointsman: session */ SELECT 1", "it does more than read"),
    ],
)
async def test_what_may_not_be_cached_says_why(catalog: Catalog, text: str, why: str) -> None:
    found = ask(text, catalog)
    assert (found.why[: len(why)], found.relations) == (why, ())


async def test_what_an_operator_says_of_the_cache(rows: Rows) -> None:
    catalog = catalog_of(rows, Overrides(cache_safe=("stable_.*", "now", "looks")))
    assert names(rows, ask("SELECT stable_look(), now()", catalog).relations) == {"audit"}
    # A volatile one is not talked into lasting.
    assert ask("SELECT looks()", catalog).why == "it calls looks(), which is volatile"

    catalog = catalog_of(rows, Overrides(cache_unsafe_relations=("plain", "other\\..*", "part2x")))
    assert ask("SELECT 1 FROM lines", catalog).why == ""
    for text in ("SELECT 1 FROM plain", "SELECT 1 FROM upper", "SELECT 1 FROM other.plain", "SELECT 1 FROM parted"):
        assert "is on the list cache_unsafe_relations" in ask(text, catalog).why

    catalog = catalog_of(rows, Overrides(cache_safe_relations=("upper", "other\\.plain")))
    assert names(rows, ask("SELECT 1 FROM upper", catalog).relations) == {"upper", "easy", "plain"}
    assert ask("SELECT 1 FROM other.plain", catalog).why == ""
    assert ask("SELECT 1 FROM plain", catalog).why == "it reads plain, which is not on the list cache_safe_relations"


# What is changed

CHANGES: dict[str, str | None] = {
    "INSERT INTO plain VALUES (9)": "plain",
    "INSERT INTO plain VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 7": "plain",
    "INSERT INTO customers VALUES (9)": "customers",
    "DELETE FROM customers WHERE id = 1": "customers orders lines tags",
    "UPDATE customers SET id = 5 WHERE id = 1": "customers orders",
    "UPDATE orders SET customer = 2": "orders",
    "TRUNCATE customers CASCADE": "customers orders lines tags bills",
    "TRUNCATE lines, bills": "lines bills",
    "DELETE FROM knot WHERE id = 1": "knot",
    "INSERT INTO parted VALUES (1)": "parted part1 part2 part2x",
    "UPDATE parted SET a = 3 - a": "parted part1 part2 part2x",
    "DELETE FROM part2": "part2 part2x",
    "TRUNCATE parted": "parted part1 part2 part2x",
    "UPDATE parent SET a = 2": "parent heir grandchild",
    "TRUNCATE parent": "parent heir grandchild",
    "UPDATE roots SET id = 2": "roots root1 root2 leaves",
    "DELETE FROM root1": "root1 leaves",
    "UPDATE stamped SET a = 2": "stamped",
    "INSERT INTO watched VALUES (2)": "watched audit audit_sum",
    "UPDATE watched SET a = 2": "watched",
    "TRUNCATE watched": "watched audit audit_sum",
    "INSERT INTO dynamic VALUES (1)": None,
    "UPDATE dynamic SET a = 1": "dynamic",
    "INSERT INTO off VALUES (1)": "off",
    "INSERT INTO parted_watched VALUES (1)": "parted_watched parted_watched1 audit audit_sum",
    "INSERT INTO parted_watched1 VALUES (1)": "parted_watched1 audit audit_sum",
    "UPDATE conditional SET a = 2": "conditional audit audit_sum",
    # Of a rule it is known which relations it uses, and not how.
    "INSERT INTO ruled VALUES (2)": "ruled rule_log watched audit audit_sum",
    "DELETE FROM ruled": "ruled rule_log watched audit audit_sum",
    "UPDATE ruled SET a = 2": "ruled",
    "UPDATE upper SET a = 8": "upper easy plain",
    "INSERT INTO counted VALUES (77)": "counted customers parted part1 part2 part2x",
    "REFRESH MATERIALIZED VIEW kept": "kept",
    "WITH x AS (DELETE FROM watched RETURNING a) SELECT * FROM x": "watched audit audit_sum",
    "MERGE INTO watched USING plain ON true WHEN NOT MATCHED THEN INSERT VALUES (1)": "watched audit audit_sum",
    "EXPLAIN ANALYZE INSERT INTO watched VALUES (1)": "watched audit audit_sum",
    "SELECT adds(1)": "audit audit_sum",
    "SELECT calls()": "audit audit_sum",
    "SELECT atomic()": "lines",
    "SELECT looks(), nextval(pg_get_serial_sequence('app.plain', 'id'))": "",
    "SELECT empties()": "orders lines tags bills",
    "SELECT odd()": 'Odd "Table"',
    "SELECT passing()": "",
    "SELECT * FROM writing": "audit audit_sum",
    "SELECT id FROM writing, plain FOR UPDATE OF plain": "audit audit_sum",
    "SELECT collects(a) FROM plain": "",
    "SELECT collects_more(a) FROM plain": "rule_log",
    "SELECT p.full_name FROM plain AS p": "audit audit_sum",
    "INSERT INTO defaulted (b) VALUES (1)": "defaulted audit audit_sum",
    "INSERT INTO checked VALUES (1)": "checked audit audit_sum",
    "DECLARE c CURSOR FOR SELECT adds(1)": "audit audit_sum",
    "CREATE TEMP TABLE own AS SELECT adds(1)": "audit audit_sum",
    "CALL proceeds()": "customers orders lines tags",
    "CALL proceeds(1, NULL)": "customers orders lines tags",
    'SELECT "Größe"()': "Übersicht",
    "SELECT long_name()": "a_name_that_is_longer_than_postgresql_keeps_of_any_name_at_all_",
    "DO $$BEGIN DELETE FROM app.watched; END$$": "watched audit audit_sum",
    "DO $$BEGIN PERFORM 1; END$$": "",
    "DO $$BEGIN EXECUTE 'DELETE FROM ' || 'app.lines'; END$$": None,
    "DELETE FROM lines; INSERT INTO plain VALUES (9)": "lines plain",
    "SELECT defines()": None,
    "ALTER TABLE plain ADD more int": None,
    "CREATE TABLE more AS SELECT 1 AS a": None,
}


async def contents(connection: Any) -> dict[str, str]:
    """A hash of what each table and materialized view of app holds."""
    tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'm')"
    )
    found = {}
    for (name,) in tables:
        quoted = name.replace('"', '""')
        found[name] = await connection.fetchval(
            f"SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM ONLY app.\"{quoted}\" AS t"
        )
    return found


async def what_changed(connection: Any, text: str) -> set[str]:
    """The tables of app that a statement has changed, and is rolled back."""
    counted = (
        "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del AS n FROM pg_stat_xact_user_tables WHERE schemaname = 'app'"
    )
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("SET search_path = app, public; SELECT pg_stat_clear_snapshot()")
        before = await contents(connection)
        await connection.execute(text)
        after = await contents(connection)
        busy = {row["relname"] for row in await connection.fetch(counted) if row["n"]}
    finally:
        await transaction.rollback()
    return busy | {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize("text", CHANGES)
async def test_whatever_changed_is_among_what_was_expected(
    cluster: Sandbox, rows: Rows, catalog: Catalog, text: str
) -> None:
    found = changed(text, catalog)
    expected = CHANGES[text]
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert names(rows, found) == ({expected} if '"' in expected else set(expected.split()))
    async with connected(cluster) as connection:
        really = await what_changed(connection, text)
    assert found is None or really <= names(rows, found)


async def test_the_check_itself_finds_what_is_missing(cluster: Sandbox, rows: Rows) -> None:
    """Without foreign keys in the catalog, say: so a hole would be seen."""
    blind = catalog_of(msgspec.structs.replace(rows, foreign_keys=()))
    text = "DELETE FROM customers WHERE id = 1"
    found = changed(text, blind)
    assert found is not None
    async with connected(cluster) as connection:
        assert await what_changed(connection, text) - names(rows, found) == {"orders", "lines", "tags"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COMMIT", ()),
        ("ROLLBACK", ()),
        ("SAVEPOINT a", ()),
        ("PREPARE TRANSACTION 'x'", None),
        ("COMMIT PREPARED 'x'", None),
        ("ROLLBACK PREPARED 'x'", ()),
        ("EXECUTE x", None),
        ("EXPLAIN ANALYZE EXECUTE x", None),
        ("CREATE TEMP TABLE y AS EXECUTE x", None),
        ("EXPLAIN ANALYZE CREATE TABLE y AS SELECT 1", None),
        ("DO LANGUAGE plpython3u 'x'", None),
        ("SELECT not_known()", None),
        ("INSERT INTO not_known VALUES (1)", None),
        ("SELECT * FROM not_known", ()),
        ("CALL not_known()", None),
        ("SELECT query_to_xml('SELECT app.adds(1)', true, true, '')", None),
        ("nonsense", None),
        ("", ()),
        ("SET a.b = 1", ()),
        ("VACUUM plain", ()),
        ("ANALYZE", ()),
        ("CHECKPOINT", ()),
        ("LOCK TABLE plain", ()),
        ("LISTEN a", ()),
        ("NOTIFY a", ()),
        ("FETCH c", ()),
        ("REINDEX TABLE plain", ()),
        ("DISCARD ALL", ()),
        ("CREATE TEMP TABLE y (a int)", ()),
        ("DROP TABLE plain", None),
        ("GRANT SELECT ON plain TO PUBLIC", None),
        ("CREATE INDEX ON plain (a)", None),
        ("SELECT * INTO y FROM plain", None),
        ("GRANT a TO b", EVERYWHERE),
        ("ALTER ROLE a SET b.c = 1", EVERYWHERE),
        ("ALTER ROLE a RENAME TO b", EVERYWHERE),
        ("ALTER DATABASE a SET b.c = 1", EVERYWHERE),
        ("ALTER SYSTEM SET work_mem = 1", EVERYWHERE),
        ("SELECT pg_reload_conf()", EVERYWHERE),
        ("SELECT names_roles()", EVERYWHERE),
        ("DELETE FROM plain; GRANT a TO b", EVERYWHERE),
    ],
)
async def test_statements_that_change_nothing_or_all(catalog: Catalog, text: str, expected: Any) -> None:
    assert changed(text, catalog) == expected


async def test_a_name_that_may_be_one_of_two_relations_is_both(rows: Rows, catalog: Catalog) -> None:
    insert, select = (FactsTable().facts_of(text) for text in (b"DELETE FROM plain", b"SELECT * FROM plain"))
    found = touched(insert, catalog, ())
    assert found is not None
    assert names(rows, found) == {"plain", "other.plain"}
    assert names(rows, cached(select, catalog, ()).relations) == {"plain", "other.plain"}
    # Whoever may not use the first schema of a path finds it in the second.
    both = search_path_of("other, app", "joe")
    assert names(rows, cached(select, catalog, both).relations) == {"plain", "other.plain"}


async def test_temporary_relations_are_their_sessions_own(rows: Rows, catalog: Catalog) -> None:
    facts = FactsTable().facts_of(b"INSERT INTO passing_by SELECT adds(1)")
    assert touched(facts, catalog, PATH) is None
    found = touched(facts, catalog, PATH, frozenset({"passing_by"}))
    assert found is not None
    assert names(rows, found) == {"audit", "audit_sum"}


async def test_without_a_catalog_little_is_known() -> None:
    for text, expected in (("SELECT 1", ()), ("COMMIT", ()), ("SELECT lower('x')", None), ("DELETE FROM t", None)):
        assert touched(FactsTable().facts_of(text.encode()), None, PATH) == expected


# What else changes answers


async def test_a_change_of_privileges_or_columns_makes_another_catalog(cluster: Sandbox, rows: Rows) -> None:
    changes = (
        "GRANT SELECT ON app.plain TO PUBLIC",
        "REVOKE SELECT ON app.plain FROM PUBLIC",
        "GRANT SELECT (id) ON app.lines TO PUBLIC",
        "CREATE ROLE cache_tests NOLOGIN",
        "GRANT pg_monitor TO cache_tests",
        "ALTER ROLE cache_tests SET timezone = 'UTC'",
        "ALTER TABLE app.lines OWNER TO cache_tests",
        "ALTER TABLE app.lines OWNER TO postgres",
        "ALTER TABLE app.lines RENAME id TO ident",
        "ALTER TABLE app.lines RENAME ident TO id",
        "ALTER POLICY mine ON app.guarded TO cache_tests",
        "ALTER POLICY mine ON app.guarded TO PUBLIC",
        "ALTER TYPE app.mood ADD VALUE 'worse'",
        f"ALTER DATABASE \"{DATABASE}\" SET datestyle = 'SQL'",
        f'ALTER DATABASE "{DATABASE}" RESET datestyle',
        "DROP ROLE cache_tests",
        "CREATE TABLE app.shared (a int)",
        "ALTER TABLE app.shared ADD b int DEFAULT 7",
        "ALTER TABLE app.shared ALTER b TYPE int USING b + 1",
        "ALTER TABLE app.shared ALTER b SET DEFAULT 8",
        "CREATE TABLE app.shared_heir () INHERITS (app.shared)",
        "ALTER TABLE app.shared_heir NO INHERIT app.shared",
        "CREATE VIEW app.shown AS SELECT a AS b FROM app.shared",
        "CREATE OR REPLACE VIEW app.shown AS SELECT a + 1 AS b FROM app.shared",
        "CREATE FUNCTION app.counts(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION app.counts(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2'",
        "CREATE DOMAIN app.whole AS int",
        "ALTER DOMAIN app.whole ADD CHECK (VALUE > 0)",
        "CREATE OPERATOR app.=#= (FUNCTION = app.counts, RIGHTARG = int)",
        "CREATE TEXT SEARCH CONFIGURATION app.words (COPY = simple)",
        "ALTER TEXT SEARCH CONFIGURATION app.words DROP MAPPING FOR url",
        "DROP TEXT SEARCH CONFIGURATION app.words; DROP OPERATOR app.=#= (NONE, int); DROP FUNCTION app.counts(int)",
        "DROP DOMAIN app.whole; DROP VIEW app.shown; DROP TABLE app.shared_heir, app.shared",
    )
    seen = {rows.fingerprint}
    last = rows.fingerprint
    for change in changes:
        cluster.query(change, database=DATABASE)
        now = (await rows_of(cluster)).fingerprint
        assert now != last, change
        last = now
        seen.add(now)
    assert len(seen) > len(changes) / 2


async def test_what_changes_no_answer_leaves_the_catalog_as_it_is(cluster: Sandbox, rows: Rows) -> None:
    before = await rows_of(cluster)
    async with connected(cluster) as connection:
        await connection.execute("CREATE TEMP TABLE own (a int); CREATE TEMP VIEW mine AS SELECT 1 AS a")
        for statement in (
            "VACUUM FULL app.parent",
            "TRUNCATE app.off",
            "ANALYZE",
            "CLUSTER app.plain USING plain_pkey",
        ):
            await connection.execute(statement)
        await connection.execute("INSERT INTO app.off VALUES (1); DELETE FROM app.off")
        after = await rows_of(cluster)
    assert catalog_of(after) == catalog_of(before)


# The lists


async def test_the_lists_name_functions_that_there_are(cluster: Sandbox, rows: Rows) -> None:
    stable = {one.name for one in rows.functions if one.builtin and one.volatility == "s"}
    named = {one.name for one in rows.functions if one.builtin}
    # Those that only later versions have are not missing in an earlier one.
    if int(cluster.query("SHOW server_version_num")[0][0]) >= 180000:
        assert stable >= LASTING
    assert RUN_SQL | RELOAD | NOT_LASTING.keys() <= named


async def test_a_stable_function_that_is_not_listed_is_not_cached(catalog: Catalog, rows: Rows) -> None:
    for one in rows.functions:
        if one.builtin and one.schema == "pg_catalog" and one.volatility != "i" and one.name not in LASTING:
            hazard = any(
                other.hazard and (other.least, other.most) == (one.least, one.most)
                for table in (catalog.cache.functions, catalog.functions)
                for other in table.get(one.name, ())
            )
            assert hazard, f"{one.name} of {one.least} arguments"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'today'::date",
        "SELECT 'TODAY'::date",
        "SELECT ' ToMorrow '::date",
        "SELECT 'today10:00'::timestamp",
        "SELECT '10:00yesterday'::timestamp",
        "SELECT '(today)'::date",
        "SELECT '[today,tomorrow)'::daterange",
        "SELECT '{now}'::timestamptz[]",
        "SELECT E't\\157day'::date",
        "SELECT E'it''s' || E'\\'', e'\\x74oday'::date",
        "SELECT U&'t\\006fday'::date",
        "SELECT u&'t!006fday' UESCAPE '!'::text::date",
        "SELECT 'to'\n  'day'::date",
        "SELECT 'to' -- a comment\n  -- another\n 'day'::date",
        "SELECT $$today$$::date",
    ],
)
async def test_every_way_to_say_today_is_seen(cluster: Sandbox, database: str, text: str) -> None:
    """PostgreSQL takes each of them."""
    async with connected(cluster) as connection:
        try:
            await connection.execute(text)
        except asyncpg.PostgresError as error:
            pytest.fail(f"PostgreSQL does not know it: {error}")
    assert time_words(text.encode())
