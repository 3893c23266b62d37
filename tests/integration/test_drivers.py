"""Drivers at their usual work: the same assertions directly and through Pointsman in transaction mode."""

import io
import subprocess
from collections.abc import Iterator

import asyncpg
import psycopg
import psycopg2
import pytest
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint

pytestmark = pytest.mark.integration


class Way:
    """A way to the database: directly, or through the endpoint. Tables made by `make` are gone after the test."""

    def __init__(self, cluster: Sandbox, url: str) -> None:
        self.cluster = cluster
        self.url = url

    def make(self, ddl: str) -> None:
        """Run DDL on the primary, as the user, and wait until the standbys have it."""
        self.cluster.query(ddl, user=self.cluster.user)
        self.cluster.wait_for_replay()

    def sqlalchemy(self, driver: str) -> str:
        return self.url.replace("postgresql://", f"postgresql+{driver}://")


@pytest.fixture(params=["direct", "pointsman"])
def way(request: pytest.FixtureRequest, cluster: Sandbox, endpoint: Endpoint) -> Iterator[Way]:
    yield Way(cluster, cluster.url() if request.param == "direct" else endpoint.url())
    cluster.query("DROP OWNED BY app; GRANT ALL ON SCHEMA public TO app", database=cluster.database)
    cluster.wait_for_replay()


@pytest.fixture
def items(way: Way) -> str:
    """A table with the numbers 1 to 1000."""
    way.make("CREATE TABLE items (id int PRIMARY KEY, name text)")
    way.make("INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 1000) n")
    return "items"


def psql(way: Way, *arguments: str, given: str = "") -> str:
    """What psql prints."""
    program = str(way.cluster.program("psql"))
    answer = subprocess.run(
        [program, "-X", "-v", "ON_ERROR_STOP=1", *arguments, way.url],
        input=given,
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout


def test_psql(way: Way, items: str) -> None:
    assert "items" in psql(way, "-c", r"\d")
    assert "Indexes:" in psql(way, "-c", rf"\d {items}")
    assert psql(way, "-Atc", "SELECT count(*) FROM items", "-c", "SELECT 1; SELECT 2") == "1000\n1\n2\n"
    given = "BEGIN;\n\\set id 7\nSELECT name FROM items WHERE id = :id;\nCOMMIT;\n"
    assert psql(way, "-Atf", "-", given=given) == "BEGIN\nitem 7\nCOMMIT\n"
    assert psql(way, "-Atf", "-", given="\\copy items from stdin\n2001\tnew\n2002\tnewer\n\\.\n") == "COPY 2\n"
    assert psql(way, "-c", r"\copy (SELECT id FROM items WHERE id < 4 ORDER BY id) TO STDOUT") == "1\n2\n3\n"


def test_psql_in_the_extended_protocol(way: Way, items: str) -> None:
    if int(psql(way, "--version").split()[2].partition(".")[0]) < 16:
        pytest.skip("this psql has no \\bind")
    assert psql(way, "-Atf", "-", given=f"SELECT name FROM {items} WHERE id = $1 \\bind 5 \\g\n") == "item 5\n"


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["select", "tpcb"])
def test_pgbench(way: Way, mode: str, script: str) -> None:
    program = str(way.cluster.program("pgbench"))
    subprocess.run([program, "-i", "-q", way.cluster.url()], check=True, capture_output=True)
    way.cluster.wait_for_replay()
    only = ["-S"] if script == "select" else []
    # A thread for each client: pgbench waits for each Parse, and would hold up its thread's other transactions.
    command = [program, "-n", *only, "-M", mode, "-c", "12", "-j", "12", "-t", "30", way.url]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "number of transactions actually processed: 360/360" in answer.stdout
    assert "number of failed transactions: 0" in answer.stdout


def test_psycopg(way: Way, items: str) -> None:
    with psycopg.connect(way.url, autocommit=True) as client:
        assert client.execute("SELECT count(*) FROM items").fetchone() == (1000,)
        for number in range(1, 20):
            query = "SELECT name FROM items WHERE id = %s"
            assert client.execute(query, (number,), prepare=True).fetchone() == (f"item {number}",)
            assert client.execute(query, (number,), binary=True).fetchone() == (f"item {number}",)
        with client.transaction(), client.cursor("server_side") as cursor:
            cursor.execute("SELECT id FROM items ORDER BY id")
            assert len(cursor.fetchmany(10)) == 10
            assert len(cursor.fetchall()) == 990
        with client.cursor().copy("COPY items FROM STDIN") as copy:
            for number in range(3000, 3100):
                copy.write_row((number, "copied"))
        with client.cursor().copy("COPY (SELECT * FROM items WHERE id <= 50) TO STDOUT") as copy:
            assert len(list(copy.rows())) == 50
        with pytest.raises(psycopg.errors.UniqueViolation):
            client.execute("INSERT INTO items VALUES (1, 'again')")
        heard: list[str | None] = []
        client.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        client.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        assert heard == ["hello"]


def test_psycopg_pipeline(way: Way, items: str) -> None:
    with psycopg.connect(way.url, autocommit=True) as client:
        with client.pipeline() as pipeline:
            first = client.execute("SELECT name FROM items WHERE id = %s", (1,))
            second = client.execute("INSERT INTO items VALUES (%s, 'piped') RETURNING id", (5000,))
            pipeline.sync()
            third = client.execute("SELECT count(*) FROM items WHERE id <= %s", (10,))
        assert (first.fetchone(), second.fetchone(), third.fetchone()) == (("item 1",), (5000,), (10,))

        def fail() -> None:
            with client.pipeline():
                client.execute("INSERT INTO items VALUES (6000, 'undone')")
                client.execute("SELECT 1/0")
                client.execute("INSERT INTO items VALUES (6001, 'skipped')")

        with pytest.raises(psycopg.errors.DivisionByZero):
            fail()
        with client.transaction():
            assert client.execute("SELECT count(*) FROM items WHERE id >= 6000").fetchone() == (0,)


def test_psycopg2(way: Way, items: str) -> None:
    client = psycopg2.connect(way.url)
    try:
        with client, client.cursor() as cursor:
            cursor.execute("SELECT name FROM items WHERE id = %s", (3,))
            assert cursor.fetchone() == ("item 3",)
            cursor.copy_from(io.StringIO("7000\ta\n7001\tb\n"), "items")
            cursor.execute("SELECT count(*) FROM items WHERE id >= 7000")
            assert cursor.fetchone() == (2,)
        with client, client.cursor("named") as cursor:
            cursor.execute("SELECT id FROM items")
            assert len(cursor.fetchmany(100)) == 100
        with pytest.raises(psycopg2.errors.SyntaxError), client, client.cursor() as cursor:
            cursor.execute("SELEC")
    finally:
        client.close()


@pytest.mark.anyio
async def test_asyncpg(way: Way, items: str) -> None:
    client = await asyncpg.connect(way.url)
    try:
        assert await client.fetchval("SELECT count(*) FROM items") == 1000
        statement = await client.prepare("SELECT name FROM items WHERE id = $1")
        assert [await statement.fetchval(n) for n in range(1, 20)] == [f"item {n}" for n in range(1, 20)]
        await client.executemany("INSERT INTO items VALUES ($1, $2)", [(8000 + n, "many") for n in range(100)])
        await client.copy_records_to_table("items", records=[(9000 + n, "copied") for n in range(100)])
        async with client.transaction():
            found = [row["id"] async for row in client.cursor("SELECT id FROM items WHERE id >= 8000")]
            assert len(found) == 200
        with pytest.raises(asyncpg.UndefinedTableError):
            await client.execute("SELECT * FROM nowhere")
        with pytest.raises(TimeoutError):
            await client.execute("SELECT pg_sleep(60)", timeout=0.3)
        assert await client.fetchval("SELECT 1") == 1
    finally:
        await client.close()


@pytest.mark.anyio
async def test_asyncpg_pool(way: Way, items: str) -> None:
    async with asyncpg.create_pool(way.url, min_size=2, max_size=4) as pool:
        for number in range(1, 30):
            async with pool.acquire() as client:
                assert await client.fetchval("SELECT name FROM items WHERE id = $1", number) == f"item {number}"


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def test_sqlalchemy_with_psycopg(way: Way, items: str) -> None:
    engine = sa.create_engine(way.sqlalchemy("psycopg"), pool_pre_ping=True)
    try:
        with Session(engine) as session:
            session.add(Item(id=4000, name="orm"))
            session.flush()
            assert session.scalars(sa.select(Item).where(Item.id == 4000)).one().name == "orm"
            session.commit()
        with engine.connect() as connection:
            assert sa.inspect(connection).get_columns("items")[0]["name"] == "id"
            for number in range(1, 20):
                assert connection.scalar(sa.select(Item.name).where(Item.id == number)) == f"item {number}"
    finally:
        engine.dispose()


@pytest.mark.anyio
async def test_sqlalchemy_with_asyncpg(way: Way, items: str) -> None:
    engine = create_async_engine(way.sqlalchemy("asyncpg"))
    try:
        async with AsyncSession(engine) as session:
            session.add(Item(id=4001, name="orm"))
            await session.flush()
            assert (await session.scalars(sa.select(Item).where(Item.id == 4001))).one().name == "orm"
            await session.commit()
        async with engine.connect() as connection:
            for number in range(1, 20):
                assert await connection.scalar(sa.select(Item.name).where(Item.id == number)) == f"item {number}"
    finally:
        await engine.dispose()


def test_settings_of_a_client_are_its_own(cluster: Sandbox, endpoint: Endpoint) -> None:
    """Clients that share servers, with different startup parameters, by turns."""

    def connect(**settings: str) -> psycopg.Connection:
        return psycopg.connect(psycopg.conninfo.make_conninfo(endpoint.conninfo(), **settings), autocommit=True)

    def shown(client: psycopg.Connection, name: str) -> object:
        row = client.execute(sql.SQL("SELECT current_setting({})").format(name)).fetchone()
        assert row is not None
        return row[0]

    with (
        connect(application_name="one", options="-c search_path=pg_catalog -c statement_timeout=12345") as one,
        connect(
            application_name="two", client_encoding="LATIN1", options="-c DateStyle=German -c TimeZone=Japan"
        ) as two,
        connect() as plain,
    ):
        time_zone = cluster.query("SHOW TimeZone")[0][0]
        assert two.info.parameter_status("TimeZone") == "Japan"
        assert two.info.parameter_status("client_encoding") == "LATIN1"
        for _ in range(30):
            assert shown(one, "statement_timeout") == "12345ms"
            assert shown(one, "search_path") == "pg_catalog"
            assert shown(plain, "statement_timeout") == "0"
            assert shown(plain, "TimeZone") == time_zone
            assert shown(two, "TimeZone") == "Japan"
            assert shown(two, "DateStyle") == "German, DMY"
            assert shown(two, "application_name") == "two"
    with pytest.raises(psycopg.OperationalError, match='invalid value for parameter "TimeZone"'):
        connect(options="-c TimeZone=Nowhere")
