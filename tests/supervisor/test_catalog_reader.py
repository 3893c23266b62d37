"""From a real database to its Catalog: a few objects of each kind, under names that need care."""

import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple

import anyio
import asyncpg
import pytest

from middleware.sandbox import Sandbox
from middleware.supervisor.catalog_reader import read_rows
from parser.shapes import FactsTable
from routing.assemble import assemble
from routing.catalog import ANY, Catalog
from routing.function_hazards import EXECUTES
from routing.judgement import VOLATILE
from routing.overload import Overload, Thing
from routing.router import Target, decide, search_path_of

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

DATABASE = "read by tests"

OBJECTS = r'''
CREATE SCHEMA app;
CREATE SCHEMA "Odd Schema";

CREATE FUNCTION app.touch() RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.touch(int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.settled(int, int DEFAULT 2, int DEFAULT 3) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.many(text, VARIADIC int[]) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.by_default(int DEFAULT app.touch()) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.text_body() RETURNS int STABLE LANGUAGE sql AS 'SELECT app.touch()';
CREATE FUNCTION app.parsed_body() RETURNS int STABLE LANGUAGE sql RETURN app.touch();
CREATE FUNCTION app.executes() RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT 1''; RETURN 1; END';
CREATE FUNCTION app.harmless() RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN RETURN abs(-1); END';
CREATE FUNCTION app.asks() RETURNS text STABLE LANGUAGE sql AS 'SELECT current_setting(''port'')';
CREATE PROCEDURE app.proceed() LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION "Odd Schema"."It's ""odd""; --"() RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION "Odd Schema"."Odd One"() RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION "Odd Schema"."Calls Odd"() RETURNS int STABLE LANGUAGE sql AS 'SELECT "Odd Schema"."Odd One"()';
CREATE FUNCTION app.step(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + $2';
CREATE FUNCTION app.bad_step(int, int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE app.total(int) (SFUNC = app.step, STYPE = int);
CREATE AGGREGATE app.bad_total(int) (SFUNC = app.bad_step, STYPE = int);

CREATE TABLE app.plain (a int, b text);
CREATE UNLOGGED TABLE app.fleeting (a int);
CREATE TABLE public.common (a int);
CREATE SEQUENCE app.numbers;
CREATE TABLE "Odd Schema"."Odd ""Table""" ("Odd Column" int);
CREATE TABLE app.parted (a int) PARTITION BY LIST (a);
CREATE TABLE app.part1 PARTITION OF app.parted FOR VALUES IN (1);
CREATE UNLOGGED TABLE app.part2 PARTITION OF app.parted FOR VALUES IN (2);
CREATE TABLE app.heir () INHERITS (app.plain);
CREATE MATERIALIZED VIEW app.kept AS SELECT 1 AS a;
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE app.far (a int) SERVER nowhere;

CREATE FUNCTION app.full_name(app.plain) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.short_name(app.plain) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';

CREATE VIEW app.reads AS SELECT a, lower(b) AS b FROM app.plain WHERE a = 1;
CREATE VIEW app.of_common AS SELECT a FROM common;
CREATE VIEW app.touches AS SELECT app.touch() AS a;
CREATE VIEW app.above AS SELECT * FROM app.touches;
CREATE VIEW app.next AS SELECT nextval('app.numbers') AS a;
CREATE VIEW app.of_fleeting AS SELECT * FROM app.fleeting;
CREATE VIEW "Odd Schema"."Odd View" AS SELECT "Odd Column" FROM "Odd Schema"."Odd ""Table""";
CREATE VIEW "Odd Schema"."Bad View" AS SELECT "Odd Schema"."It's ""odd""; --"() AS "it's";

CREATE TABLE app.guarded (a int);
ALTER TABLE app.guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON app.guarded FOR SELECT USING (a = app.touch());
CREATE TABLE app.guarded_well (a int);
ALTER TABLE app.guarded_well ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON app.guarded_well USING (a > 0);
CREATE POLICY written ON app.guarded_well FOR INSERT WITH CHECK (a = app.touch());
CREATE TABLE app.unguarded (a int);
CREATE POLICY seen ON app.unguarded USING (a = app.touch());

CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE DOMAIN app.checked AS int CHECK (VALUE > 0);
ALTER DOMAIN app.checked ADD CONSTRAINT "odd one" CHECK (VALUE = app.touch()) NOT VALID;
CREATE DOMAIN "Odd Schema"."Odd Domain" AS app.checked;
CREATE TYPE app.pair AS (one int, other app.checked);
CREATE TYPE app.mood AS ENUM ('fine', 'it''s odd');
CREATE FUNCTION app.for_checked(app.checked) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.gives_checked(OUT a int, OUT b app.checked) STABLE LANGUAGE sql AS 'SELECT 1, 2';
CREATE FUNCTION app.for_positive(app.positive) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';

CREATE OPERATOR app.@#@ (LEFTARG = int, RIGHTARG = int, FUNCTION = app.bad_step);
CREATE OPERATOR app.### (LEFTARG = int, RIGHTARG = int, FUNCTION = app.step);
CREATE VIEW app.operates AS SELECT a OPERATOR(app.@#@) a AS a FROM app.plain;

CREATE TYPE app.casts AS (a int);
CREATE TYPE app.cast_goal AS (a int);
CREATE FUNCTION app.recast(app.casts) RETURNS app.cast_goal VOLATILE LANGUAGE sql AS 'SELECT NULL::app.cast_goal';
CREATE CAST (app.casts AS app.cast_goal) WITH FUNCTION app.recast(app.casts) AS IMPLICIT;
CREATE TABLE app.of_casts (a app.casts[]);
CREATE TYPE app.cast_to AS (a int);
CREATE FUNCTION app.text_cast(text) RETURNS app.cast_to VOLATILE LANGUAGE sql AS 'SELECT NULL::app.cast_to';
CREATE CAST (text AS app.cast_to) WITH FUNCTION app.text_cast(text);
CREATE TYPE app.sorted AS (a int);
CREATE FUNCTION app.compare(app.sorted, app.sorted) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 0';
CREATE OPERATOR CLASS app.sorts FOR TYPE app.sorted USING btree AS FUNCTION 1 app.compare(app.sorted, app.sorted);
CREATE TABLE app.of_sorted (a app.sorted);
'''


class Roles(NamedTuple):
    """Roles of the cluster that only this module has."""

    client: str
    monitor: str
    password: str


@pytest.fixture(scope="module")
def roles(cluster: Sandbox) -> Iterator[Roles]:
    made = Roles('odd "client"', "reading_monitor", secrets.token_hex(12))
    names = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in made[:2]]
    cluster.query(f'CREATE DATABASE "{DATABASE}"')
    cluster.query(OBJECTS, database=DATABASE)
    cluster.query("".join(f"CREATE ROLE {name} LOGIN PASSWORD '{made.password}';\n" for name in names))
    yield made
    cluster.query(f'DROP DATABASE "{DATABASE}" WITH (FORCE)')
    cluster.query("".join(f"DROP ROLE {name};\n" for name in names))


async def read(cluster: Sandbox, user: str = "pointsman", password: str = "") -> Catalog:
    """The catalog as the monitor's role, or another, reads it."""
    node = cluster.primary
    connection: Any = await asyncpg.connect(
        host=node.host,
        port=node.port,
        user=user,
        password=password or cluster.passwords[user],
        database=DATABASE,
        statement_cache_size=0,
    )
    try:
        rows = await read_rows(connection)
    finally:
        await connection.close()
    return assemble(DATABASE, 1, rows, FactsTable())


@pytest.fixture(scope="module")
def catalog(cluster: Sandbox, roles: Roles) -> Catalog:
    # Read once: none of the tests that look at objects changes them.
    return anyio.run(read, cluster, backend="asyncio")


CHECKED = "has a CHECK: it calls app.touch(), which is volatile"
OVER_CASTS = "the type casts, which has an implicit cast over a volatile function"


@pytest.mark.parametrize(
    ("name", "overloads"),
    [
        ("touch", [Overload("app", 0, 0, VOLATILE), Overload("app", 1, 1, VOLATILE)]),
        ("settled", [Overload("app", 1, 3, "")]),
        ("many", [Overload("app", 1, ANY, "")]),
        ("by_default", [Overload("app", 0, 1, "mentions touch, which is volatile")]),
        ("text_body", [Overload("app", 0, 0, "mentions touch, which is volatile")]),
        ("parsed_body", [Overload("app", 0, 0, "mentions touch, which is volatile")]),
        ("executes", [Overload("app", 0, 0, EXECUTES)]),
        ("harmless", [Overload("app", 0, 0, "")]),
        ("asks", [Overload("app", 0, 0, "asks for a setting that may differ between nodes")]),
        ("proceed", [Overload("app", 0, 0, "is a procedure")]),
        ('It\'s "odd"; --', [Overload("Odd Schema", 0, 0, VOLATILE)]),
        ("Calls Odd", [Overload("Odd Schema", 0, 0, "mentions odd one, which is volatile")]),
        ("total", [Overload("app", 1, 1, "")]),
        ("bad_total", [Overload("app", 1, 1, "is an aggregate over bad_step(), which is volatile")]),
        ("for_checked", [Overload("app", 1, 1, f"is for a type that {CHECKED}")]),
        ("gives_checked", [Overload("app", 0, 0, f"is for a type that {CHECKED}")]),
        ("for_positive", [Overload("app", 1, 1, "")]),
        ("random_normal", [Overload("pg_catalog", 0, 2, "")]),
        ("concat", [Overload("pg_catalog", 0, ANY, "")]),
        ("setval", [Overload("pg_catalog", 2, 2, VOLATILE), Overload("pg_catalog", 3, 3, VOLATILE)]),
        ("row_number", [Overload("pg_catalog", 0, 0, "")]),
    ],
)
async def test_functions(catalog: Catalog, name: str, overloads: list[Overload]) -> None:
    assert list(catalog.functions[name]) == overloads


@pytest.mark.parametrize(
    ("schema", "name", "hazard"),
    [
        ("app", "plain", ""),
        ("app", "heir", ""),
        ("app", "fleeting", "is unlogged"),
        ("app", "numbers", "is a sequence, whose values are ahead on a standby"),
        ("Odd Schema", 'Odd "Table"', ""),
        ("app", "part1", ""),
        ("app", "parted", "has the part part2, which is unlogged"),
        ("app", "kept", ""),
        ("app", "far", "is a foreign table, whose data is not the cluster's"),
        ("app", "reads", ""),
        # Whatever the path of those who ask, the name is qualified.
        ("app", "of_common", ""),
        ("app", "touches", "is a view: it calls app.touch(), which is volatile"),
        ("app", "above", "is a view: it reads app.touches, which is a view: it calls app.touch(), which is volatile"),
        ("app", "next", "is a view: it calls nextval(), which is volatile"),
        ("app", "of_fleeting", "is a view: it reads app.fleeting, which is unlogged"),
        ("Odd Schema", "Odd View", ""),
        ("Odd Schema", "Bad View", 'is a view: it calls Odd Schema.It\'s "odd"; --(), which is volatile'),
        ("app", "guarded", "is under row security: it calls app.touch(), which is volatile"),
        ("app", "guarded_well", ""),
        ("app", "unguarded", ""),
        ("app", "operates", "is a view: it applies the operator app.@#@, which is volatile"),
        ("app", "of_casts", f"has a column of the type _casts, which is made of {OVER_CASTS}"),
        ("app", "of_sorted", "has a column of the type sorted, which has an operator class over a volatile function"),
        ("pg_catalog", "pg_class", ""),
        ("information_schema", "tables", ""),
    ],
)
async def test_relations(catalog: Catalog, schema: str, name: str, hazard: str) -> None:
    assert catalog.relations[name] == (Thing(schema, hazard),)


@pytest.mark.parametrize(
    ("schema", "name", "hazard"),
    [
        ("pg_catalog", "int4", ""),
        ("app", "mood", ""),
        ("app", "positive", ""),
        ("app", "checked", CHECKED),
        ("app", "_checked", f"is made of a type that {CHECKED}"),
        ("Odd Schema", "Odd Domain", f"is made of a type that {CHECKED}"),
        ("app", "pair", f"is made of a type that {CHECKED}"),
        ("app", "casts", "has an implicit cast over a volatile function"),
        ("app", "cast_to", "has a cast that is volatile"),
        ("app", "sorted", "has an operator class over a volatile function"),
    ],
)
async def test_types(catalog: Catalog, schema: str, name: str, hazard: str) -> None:
    assert catalog.types[name] == (Thing(schema, hazard),)


async def test_operators_and_attributes(catalog: Catalog) -> None:
    assert catalog.operators["@#@"] == (Thing("app", VOLATILE),)
    assert catalog.operators["###"] == (Thing("app", ""),)
    assert catalog.operators["="] == (Thing("pg_catalog", ""),)
    assert "full_name" in catalog.attributes
    assert "short_name" not in catalog.attributes
    assert catalog.hazard == ""


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ('SELECT "Odd Column" FROM "Odd Schema"."Odd ""Table"""', Target.STANDBY),
        ('SELECT * FROM "Odd Schema"."Odd View"', Target.STANDBY),
        ('SELECT * FROM "Odd Schema"."Bad View"', Target.PRIMARY),
        ('SELECT "Odd Schema"."It\'s ""odd""; --"()', Target.PRIMARY),
        ("SELECT app.settled(1), app.total(a) FROM app.plain WHERE b = 'x'", Target.STANDBY),
        ("SELECT app.settled(1, 2, 3, 4)", Target.PRIMARY),
        ("SELECT p.short_name FROM app.plain p", Target.STANDBY),
        ("SELECT p.full_name FROM app.plain p", Target.PRIMARY),
        ("SELECT 'it''s odd'::app.mood", Target.STANDBY),
        ('SELECT 1::"Odd Schema"."Odd Domain"', Target.PRIMARY),
        ("SELECT * FROM pg_class", Target.STANDBY),
        ("SELECT * FROM pg_settings", Target.PRIMARY),
        ("SELECT * FROM pg_stat_activity", Target.PRIMARY),
        ("SELECT * FROM information_schema.tables", Target.STANDBY),
    ],
)
async def test_statements_over_them(catalog: Catalog, text: str, target: Target) -> None:
    decided = decide(FactsTable().facts_of(text.encode()), catalog, search_path_of("public", "app"))
    assert decided.target is target, decided.reason


async def test_a_second_look_finds_the_same(cluster: Sandbox, catalog: Catalog) -> None:
    assert await read(cluster) == catalog


async def test_temporary_tables_are_those_of_a_session(cluster: Sandbox, roles: Roles) -> None:
    node = cluster.primary
    own: Any = await asyncpg.connect(
        host=node.host, port=node.port, user="postgres", password=cluster.passwords["postgres"], database=DATABASE
    )
    try:
        await own.execute("CREATE TEMP TABLE passing (a int)")
        found = await read(cluster)
        assert "passing" not in found.relations
        assert "passing" not in found.types
    finally:
        await own.close()


# Settings of roles and of the database: each test takes back what it sets.

CLIENT = '"odd ""client"""'


async def test_the_search_path_of_the_server(cluster: Sandbox, roles: Roles) -> None:
    assert (await read(cluster)).settings["search_path"] == {"": '"$user", public'}


async def test_a_search_path_of_the_database_and_of_a_role(cluster: Sandbox, roles: Roles) -> None:
    changes = (
        (f'ALTER DATABASE "{DATABASE}" SET search_path = "Odd Schema", app', {"": '"Odd Schema", app'}),
        (f"ALTER ROLE {CLIENT} SET search_path = app", {"": '"Odd Schema", app', roles.client: "app"}),
        (
            f'ALTER ROLE {CLIENT} IN DATABASE "{DATABASE}" SET search_path = "$user", "Odd Schema"',
            {"": '"Odd Schema", app', roles.client: '"$user", "Odd Schema"'},
        ),
        # What is set for another database is not for this one.
        (f"ALTER ROLE {CLIENT} IN DATABASE app SET search_path = nowhere", None),
    )
    expected: dict[str, str] = {}
    try:
        for change, paths in changes:
            cluster.query(change)
            expected = paths or expected
            assert (await read(cluster)).settings["search_path"] == expected, change
    finally:
        cluster.query(
            f'ALTER DATABASE "{DATABASE}" RESET search_path; ALTER ROLE {CLIENT} RESET search_path;\n'
            f'ALTER ROLE {CLIENT} IN DATABASE "{DATABASE}" RESET search_path;\n'
            f"ALTER ROLE {CLIENT} IN DATABASE app RESET search_path"
        )


async def test_a_monitor_with_a_search_path_of_its_own_reads_the_same(
    cluster: Sandbox, roles: Roles, catalog: Catalog
) -> None:
    cluster.query(f'ALTER ROLE {roles.monitor} SET search_path = app, "Odd Schema"')
    try:
        found = await read(cluster, roles.monitor, roles.password)
        # What the server has it cannot see then, so nothing is said of the others.
        assert found.settings["search_path"] == {roles.monitor: 'app, "Odd Schema"'}
        assert found.relations == catalog.relations
        assert found.functions == catalog.functions
        assert found.types == catalog.types
        cluster.query(f'ALTER DATABASE "{DATABASE}" SET search_path = app')
        paths = {"": "app", roles.monitor: 'app, "Odd Schema"'}
        assert (await read(cluster, roles.monitor, roles.password)).settings["search_path"] == paths
    finally:
        cluster.query(f'ALTER ROLE {roles.monitor} RESET search_path; ALTER DATABASE "{DATABASE}" RESET search_path')


@pytest.mark.parametrize(
    ("whose", "value"),
    [
        (f"ROLE {CLIENT}", "serializable"),
        (f"ROLE {CLIENT}", "SERIALIZABLE"),
        (f'DATABASE "{DATABASE}"', "serializable"),
        # Under the database's default the monitor logs in itself, and asks PostgreSQL.
        (f'DATABASE "{DATABASE}"', "SERIALIZABLE"),
    ],
)
async def test_a_default_isolation(cluster: Sandbox, roles: Roles, whose: str, value: str) -> None:
    role = roles.client if whose.startswith("ROLE") else ""
    cluster.query(f"ALTER {whose} SET default_transaction_isolation = '{value}'")
    try:
        assert (await read(cluster)).settings["default_transaction_isolation"][role] == value
    finally:
        cluster.query(f"ALTER {whose} RESET default_transaction_isolation")
    assert (await read(cluster)).settings["default_transaction_isolation"] == {"": "read committed"}
