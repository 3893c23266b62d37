"""The admin console through real drivers: who may come in, both query protocols, and what it shows."""

import asyncio
import datetime as dt
import subprocess
from collections.abc import Iterator, Sequence
from decimal import Decimal

import asyncpg
import psycopg
import psycopg2
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman


@pytest.fixture(scope="module")
def console(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Two workers; the user may do anything in the console, `postgres` may look, `pointsman` may not come in."""
    with pointsman(
        cluster,
        tmp_path_factory.mktemp("console"),
        workers=2,
        default_pool_size=10,
        admin_users=[cluster.user],
        stats_users=["postgres"],
    ) as running:
        yield running._replace(database="pointsman")


def as_user(console: Endpoint, cluster: Sandbox, user: str) -> Endpoint:
    return console._replace(user=user, password=cluster.passwords[user])


@pytest.mark.parametrize("database", ["pointsman", "pgbouncer"])
def test_an_admin_comes_in_by_either_name(console: Endpoint, database: str) -> None:
    with psycopg.connect(console._replace(database=database).conninfo(), autocommit=True) as client:
        assert client.execute("SHOW VERSION").fetchall() == [("Pointsman 0.1.0",)]
        assert client.info.parameter_status("server_encoding") == "UTF8"


def test_who_may_only_look_may_only_look(console: Endpoint, cluster: Sandbox) -> None:
    with psycopg.connect(as_user(console, cluster, "postgres").conninfo(), autocommit=True) as client:
        assert [row[0] for row in client.execute("SHOW NODES").fetchall()] == ["db1", "db2", "db3"]
        for command in ("RELOAD", "PAUSE", "SHOW FDS", "SET query_timeout = 3"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                client.execute(command.encode())


def test_others_may_not_come_in(console: Endpoint, cluster: Sandbox) -> None:
    with pytest.raises(psycopg.OperationalError, match="FATAL:  not allowed"):
        psycopg.connect(as_user(console, cluster, "pointsman").conninfo())


# Drivers


def test_psycopg2_in_its_transactions(console: Endpoint) -> None:
    """It opens a transaction before whatever it is given, unless it is told otherwise."""
    client = psycopg2.connect(console.conninfo())
    with client, client.cursor() as cursor:
        cursor.execute("SHOW NODES")
        assert [column.name for column in cursor.description][:3] == ["name", "host", "port"]
        assert [row[0] for row in cursor.fetchall()] == ["db1", "db2", "db3"]
        cursor.execute("SHOW LISTS")
        assert dict(cursor.fetchall())["used_clients"] == 1
    with pytest.raises(psycopg2.errors.SyntaxError), client.cursor() as cursor:
        cursor.execute("SHOW POOOLS")
    client.rollback()
    with client.cursor() as cursor:
        cursor.execute("SHOW VERSION")
        assert cursor.fetchone() == ("Pointsman 0.1.0",)
    client.close()


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_reads_typed_columns(console: Endpoint, binary: bool) -> None:
    with psycopg.connect(console.conninfo(), autocommit=True) as client, client.cursor(binary=binary) as cursor:
        nodes = {row[0]: row for row in cursor.execute("SHOW NODES").fetchall()}
        assert [type(value) for value in nodes["db1"][:8]] == [str, str, int, str, str, bool, dt.datetime, float]
        assert nodes["db1"][8] is None
        [totals] = cursor.execute("SHOW TOTALS").fetchmany(1)
        assert totals == ("total_server_assignment_count", Decimal(totals[1]))
        # Prepared once it was executed often enough.
        for _ in range(8):
            assert len(cursor.execute("SHOW STATE", prepare=True).fetchall()) == 3
        assert cursor.execute("SELECT version()").fetchall()[0][0].startswith("PostgreSQL 14.0 (the admin console")


def test_psycopg_pipelines_streams_and_transactions(console: Endpoint) -> None:
    def status() -> psycopg.pq.TransactionStatus:
        return client.info.transaction_status

    with psycopg.connect(console.conninfo()) as client:
        with client.pipeline():
            cursors = [client.execute(f"SHOW {what}".encode()) for what in ("NODES", "STATE", "LISTS")]
        assert [len(cursor.fetchall()) for cursor in cursors] == [3, 3, 14]
        assert [row[0] for row in client.cursor().stream("SHOW STATE")] == ["active", "paused", "suspended"]
        assert status() is psycopg.pq.TransactionStatus.INTRANS
        with pytest.raises(psycopg.errors.SyntaxError, match="takes no parameters"):
            client.execute("PAUSE %s", ["app"])
        assert status() is psycopg.pq.TransactionStatus.INERROR
        client.rollback()
        assert client.execute("SHOW STATE").fetchall()[0] == ("active", "yes")


def test_asyncpg_describes_before_it_executes(console: Endpoint) -> None:
    async def use() -> None:
        client = await asyncpg.connect(console.url())
        statement = await client.prepare("SHOW NODES")
        assert [(one.name, one.type.name) for one in statement.get_attributes()][:7] == [
            ("name", "text"),
            ("host", "text"),
            ("port", "int4"),
            ("role", "text"),
            ("state", "text"),
            ("used", "bool"),
            ("since", "timestamptz"),
        ]
        rows = await statement.fetch()
        assert {row["name"]: row["role"] for row in rows} == {"db1": "primary", "db2": "standby", "db3": "standby"}
        assert await client.fetchval("SHOW VERSION") == "Pointsman 0.1.0"
        async with client.transaction():
            # Two rows at a time.
            found = [row["list"] async for row in client.cursor("SHOW LISTS", prefetch=2)]
        assert len(found) == 14
        with pytest.raises(asyncpg.PostgresSyntaxError):
            await client.execute("SHOW POOOLS")
        await client.reset()
        await client.close()

    async def share() -> None:
        async with asyncpg.create_pool(console.url(), min_size=2, max_size=2) as pool:
            for _ in range(5):
                assert await pool.fetchval("SHOW VERSION") == "Pointsman 0.1.0"

    asyncio.run(use())
    asyncio.run(share())


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_sqlalchemy(console: Endpoint, driver: str) -> None:
    engine = sqlalchemy.create_engine(console.url(f"postgresql+{driver}"), pool_pre_ping=True)
    for _ in range(2):
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SHOW STATE")).fetchall()[0] == ("active", "yes")
    engine.dispose()


def test_sqlalchemy_with_asyncpg(console: Endpoint) -> None:
    async def use() -> None:
        engine = create_async_engine(console.url("postgresql+asyncpg"))
        async with engine.connect() as connection:
            assert (await connection.execute(sqlalchemy.text("SHOW STATE"))).fetchall()[0] == ("active", "yes")
        await engine.dispose()

    asyncio.run(use())


def test_psql(console: Endpoint) -> None:
    commands = ["SHOW STATE; SHOW PEERS", "\\conninfo", "\\l", "\\d", "\\du"]
    told = psql(console, *commands, "SHOW POOOLS")
    assert "(3 rows)" in told.stdout
    assert "(0 rows)" in told.stdout
    assert 'You are connected to database "pointsman"' in told.stdout
    assert "WARNING" not in told.stderr
    assert "ERROR:  invalid command 'SHOW POOOLS', use SHOW HELP;" in told.stderr
    assert "HINT:  Perhaps you meant SHOW POOLS." in told.stderr


def psql(console: Endpoint, *commands: str, options: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    command = ["psql", "-X", *options, console.conninfo()]
    for one in commands:
        command += ["-c", one]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


# Tools


PGADMIN = (
    "SET DateStyle=ISO; SET client_min_messages=notice; SELECT set_config('bytea_output','hex',false) FROM pg_settings "
    "WHERE name = 'bytea_output'; SET client_encoding='UTF8';",
    "SELECT version()",
    "SELECT db.oid as did, db.datname, db.datallowconn, pg_encoding_to_char(db.encoding) AS serverencoding, "
    "has_database_privilege(db.oid, 'CREATE') as cancreate, datistemplate FROM pg_catalog.pg_database db "
    "WHERE db.datname = current_database()",
    "SELECT gss_authenticated, encrypted FROM pg_catalog.pg_stat_gssapi WHERE pid = pg_backend_pid()",
    "SELECT roles.oid as id, roles.rolname as name, roles.rolsuper as is_superuser, CASE WHEN roles.rolsuper THEN true "
    "ELSE roles.rolcreaterole END as can_create_role FROM pg_catalog.pg_roles as roles WHERE rolname = current_user",
)
"""What pgAdmin says when it connects; its driver is psycopg."""


def test_what_pgadmin_says(console: Endpoint) -> None:
    with psycopg.connect(console.conninfo(), autocommit=True, row_factory=psycopg.rows.dict_row) as client:
        client.execute(PGADMIN[0].encode())
        assert client.execute(PGADMIN[1].encode()).fetchone() is not None
        database = client.execute(PGADMIN[2].encode()).fetchone()
        assert database is not None
        assert database["datname"] == "pointsman"
        assert database["serverencoding"] == "UTF8"
        assert database["datallowconn"] is True
        assert client.execute(PGADMIN[3].encode()).fetchall() == []
        role = client.execute(PGADMIN[4].encode()).fetchone()
        assert role is not None
        assert role["name"] == console.user
        assert client.execute("SHOW STATE").fetchone() == {"key": "active", "value": "yes"}


DBEAVER = (
    "SET extra_float_digits = 3",
    "SET application_name = 'PostgreSQL JDBC Driver'",
    "SET application_name = 'DBeaver 25.0 - Main'",
    "SELECT current_schema(),session_user",
    "SHOW search_path",
    "SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datname=$1",
    "SELECT version()",
    "SHOW TRANSACTION ISOLATION LEVEL",
    "select string_agg(word, ',') from pg_catalog.pg_get_keywords() where word <> ALL ($1::text[])",
    "SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON "
    "d.objoid=n.oid ORDER BY nspname",
    "SELECT * FROM pg_catalog.pg_settings where name='standard_conforming_strings'",
)
"""What DBeaver says when it connects; its driver, JDBC's, says everything by the extended protocol."""


def test_what_dbeaver_says(console: Endpoint) -> None:
    async def talk() -> None:
        client = await asyncpg.connect(console.url())
        answers = []
        for text in DBEAVER:
            statement = await client.prepare(text)
            answers.append(await statement.fetch(*["app"] * len(statement.get_parameters())))
        assert [tuple(row) for row in answers[3]] == [("public", console.user)]
        assert answers[4][0]["search_path"] == '"$user", public'
        assert answers[5][0]["datname"] == "pointsman"
        assert answers[7][0][0] == "read committed"
        assert answers[10][0]["setting"] == "on"
        assert (await client.fetch("SHOW CLIENTS"))[0]["application_name"] == "DBeaver 25.0 - Main"
        await client.close()

    asyncio.run(talk())
