"""How drivers and frameworks set up their sessions, in transaction mode: as on a connection of their own.

Each scenario returns what its client has seen. It is run directly and through the endpoint, beside other clients that
take turns on the same few servers, and both must have seen the same. What the next client finds is looked at each time.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

import asyncpg
import psycopg
import psycopg2
import psycopg2.extensions
import pytest
import sqlalchemy as sa
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import create_async_engine

from middleware.wire.backend import BackendKeyData, NoticeResponse
from middleware.wire.fields import Message
from tests.differential.raw_client import Address, Ending, RawClient
from tests.integration.conftest import Shared
from tests.talk import SYNC, batches_in, queries, run
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("crowd")]

Seen = TypeVar("Seen")
Rows = list[tuple[Any, ...]]


def alike(shared: Shared, scenario: Callable[[str], Seen]) -> Seen:
    """What a scenario has seen, the same either way."""
    seen = {way: scenario(url) for way, url in shared.urls().items()}
    assert seen["pointsman"] == seen["direct"]
    return seen["direct"]


# pgAdmin


def test_pgadmin(shared: Shared) -> None:
    """What it sends first on each connection, and questions like those of its tree."""

    def scenario(url: str) -> list[Any]:
        with psycopg.connect(url, autocommit=True, row_factory=dict_row, prepare_threshold=None) as client:
            said: list[str | None] = []
            client.add_notice_handler(lambda notice: said.append(notice.message_primary))
            cursor = client.execute(
                "SET DateStyle=ISO; SET client_min_messages=notice;"
                " SELECT set_config('bytea_output', 'hex', false) FROM pg_show_all_settings()"
                " WHERE name = 'bytea_output'; SET client_encoding='UTF8';"
            )
            seen: list[Any] = [cursor.statusmessage]
            questions = (
                "SELECT version()",
                "SELECT oid, datname, datallowconn, pg_encoding_to_char(encoding), datistemplate,"
                " has_database_privilege(oid, 'CREATE') FROM pg_database WHERE datname = current_database()",
                "SELECT gss_authenticated, encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()",
                "WITH RECURSIVE of AS (SELECT oid, rolname FROM pg_roles WHERE rolname = current_user UNION ALL"
                " SELECT m.roleid, r.rolname FROM of JOIN pg_auth_members m ON m.member = of.oid"
                " JOIN pg_roles r ON r.oid = m.roleid) SELECT r.oid, r.rolname, rolsuper, rolcreaterole, rolcreatedb,"
                " 'pg_signal_backend' IN (SELECT rolname FROM of) FROM pg_roles r WHERE r.rolname = current_user",
                "SELECT datname, spcname, shobj_description(d.oid, 'pg_database') FROM pg_database d"
                " JOIN pg_tablespace t ON t.oid = dattablespace WHERE datallowconn ORDER BY 1",
                "SELECT nspname, has_schema_privilege(oid, 'CREATE') FROM pg_namespace"
                " WHERE nspname !~ '^pg_' ORDER BY nspname",
                "SELECT name, setting, unit, short_desc FROM pg_settings WHERE category ~ '^Client' ORDER BY name",
                "SHOW search_path",
            )
            seen += [client.execute(question.encode()).fetchall() for question in questions]
            assert said == []
            return seen

    seen = alike(shared, scenario)
    assert any(row["name"] == "bytea_output" and row["setting"] == "hex" for row in seen[-2])


# Rails


RAILS: Final = (
    "SET client_min_messages TO 'warning'",
    "SET standard_conforming_strings = on",
    "SET intervalstyle = iso_8601",
    "SET SESSION timezone TO 'UTC'",
    "SET SESSION statement_timeout TO '15s'",
)


def test_rails(shared: Shared) -> None:
    """Its adapter's set-up, parameters and prepared statements without names of SQL, and a migration under its lock."""
    shared.make("CREATE TABLE items (id bigserial PRIMARY KEY, lasts interval, at timestamptz)")

    def scenario(url: str) -> list[Any]:
        with psycopg.connect(url, autocommit=True) as client:
            said: list[str | None] = []
            client.add_notice_handler(lambda notice: said.append(notice.sqlstate))
            for statement in RAILS:
                client.execute(statement.encode())
            assert said == []
            raw = client.pgconn
            seen: list[Any] = []

            def tell(result: Any) -> None:
                rows = range(result.ntuples)
                seen.append((result.status, [result.get_value(row, 0) for row in rows], result.error_message))

            for name in ("client_min_messages", "intervalstyle", "timezone", "statement_timeout"):
                tell(raw.exec_params(f"SHOW {name}".encode(), None))
            tell(raw.exec_params(b"SELECT $1::interval", [b"1 day 2 hours"]))
            tell(raw.exec_params(b"SELECT pg_try_advisory_lock($1)", [b"4242"]))
            tell(raw.exec_(b"BEGIN"))
            tell(raw.exec_(b"ALTER TABLE items ADD IF NOT EXISTS name text DEFAULT 'some'"))
            tell(raw.exec_(b"COMMIT"))
            tell(raw.exec_params(b"SELECT pg_advisory_unlock($1)", [b"4242"]))
            tell(raw.exec_params(b"SELECT pg_advisory_unlock($1)", [b"4242"]))
            tell(raw.prepare(b"a1", b"SELECT timestamptz '2024-01-01 12:00+02' + $1::interval"))
            for days in (b"P1D", b"P2D"):
                tell(raw.exec_prepared(b"a1", [days]))
            tell(raw.exec_(b"DEALLOCATE a1"))
            tell(raw.exec_prepared(b"a1", [b"P1D"]))
            heard[url] = said
            return seen

    heard: dict[str, list[str | None]] = {}
    alike(shared, scenario)
    # PostgreSQL's own is about the lock that is released twice.
    urls = shared.urls()
    assert (heard[urls["direct"]], heard[urls["pointsman"]]) == (["01000"], ["01PS5", "01000"])


def test_two_migrations_at_once(shared: Shared) -> None:
    """The second finds the lock taken, until the first has released it or is gone."""
    url = shared.urls()["pointsman"]
    ask = "SELECT pg_try_advisory_lock(4242)"
    with psycopg.connect(url, autocommit=True) as second:
        with psycopg.connect(url, autocommit=True) as first:
            assert first.execute(ask).fetchone() == (True,)
            assert second.execute(ask).fetchone() == (False,)
            assert first.execute("SELECT pg_advisory_unlock(4242)").fetchone() == (True,)
            assert second.execute(ask).fetchone() == (True,)
            assert first.execute(ask).fetchone() == (False,)
            assert second.execute("SELECT pg_advisory_unlock(4242)").fetchone() == (True,)
            assert first.execute(ask).fetchone() == (True,)
        # The server's end comes after its client's.
        eventually(lambda: second.execute(ask).fetchone() == (True,))


# JDBC


JDBC: Final = (
    run("SET extra_float_digits = 3") + SYNC + run("SET application_name = 'PostgreSQL JDBC Driver'") + SYNC,
    run("BEGIN", "SELECT 0.1::float4 + 0.2, current_setting('extra_float_digits')") + SYNC,
    run("SHOW application_name") + SYNC + run("COMMIT") + SYNC,
    run("BEGIN", "SET extra_float_digits = 1", "SELECT 1 / 0") + SYNC + run("ROLLBACK") + SYNC,
    run("SHOW extra_float_digits") + SYNC,
    run("BEGIN", "SET statement_timeout = 60000") + SYNC + run("SHOW statement_timeout") + SYNC + run("COMMIT") + SYNC,
    run("SHOW statement_timeout") + SYNC + run("SHOW TRANSACTION ISOLATION LEVEL") + SYNC,
)
"""Its set-up in old servers' manner, BEGIN in front of the first statement and a Sync behind both, and a timeout."""
CHARACTERISTICS: Final = (
    run("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY") + SYNC,
    run("BEGIN", "SHOW transaction_read_only") + SYNC + run("COMMIT") + SYNC,
    run("CREATE TABLE forbidden (id int)") + SYNC + run("SELECT 1") + SYNC,
    run("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE") + SYNC,
    run("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE") + SYNC,
    run("BEGIN", "SHOW transaction_isolation") + SYNC + run("COMMIT") + SYNC + run("SHOW transaction_isolation") + SYNC,
    queries("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED; SHOW transaction_isolation"),
)
"""setReadOnly() and setTransactionIsolation()."""


def conversation(url: str, writes: tuple[bytes, ...]) -> tuple[list[list[Message]], list[str]]:
    """What is answered to each write, and the SQLSTATEs of warnings, which are left out of the former."""
    told = psycopg.conninfo.conninfo_to_dict(url)
    names = ("host", "port", "user", "password", "dbname")
    host, port, user, password, database = (str(told[name]) for name in names)
    answers: list[list[Message]] = []
    warnings = []
    with RawClient(Address(host, int(port), user, password, database)) as client:
        _, ending = client.log_in()
        assert ending is Ending.ENOUGH
        for write in writes:
            client.send(write)
            came, ending = client.read(batches_in(write))
            assert ending is Ending.ENOUGH, came
            answers.append([one for one in came if not isinstance(one, NoticeResponse | BackendKeyData)])
            warnings += [one.field(b"C").decode() for one in came if isinstance(one, NoticeResponse)]
    return answers, warnings


def test_jdbc(shared: Shared) -> None:
    answers, warnings = alike(shared, lambda url: conversation(url, JDBC))
    assert warnings == []
    assert b"3" in str(answers[1]).encode()


def test_jdbc_session_characteristics(shared: Shared) -> None:
    heard = {way: conversation(url, CHARACTERISTICS) for way, url in shared.urls().items()}
    assert heard["pointsman"][0] == heard["direct"][0]
    # A setting that is not quiet is told of, once.
    assert (heard["direct"][1], heard["pointsman"][1]) == ([], ["01PS1"])


# psycopg


def test_psycopg_with_few_prepared_statements(shared: Shared) -> None:
    """It gives up names of the protocol's statements by itself, and says so in its own ways."""

    def scenario(url: str) -> Rows:
        seen: Rows = []
        with psycopg.connect(url, autocommit=True, prepare_threshold=0) as client:
            client.prepared_max = 2
            for turn in range(3):
                for number in range(5):
                    seen += client.execute(f"SELECT %s::int + {number}".encode(), (turn,)).fetchall()
            client.prepare_threshold = 1
            with client.transaction():
                for number in range(4):
                    seen += client.execute("SELECT %s::text", (number,)).fetchall()
            with pytest.raises(psycopg.errors.DivisionByZero), client.transaction():
                client.execute("SELECT 1 / %s::int", (0,))
            client.execute("DEALLOCATE ALL")
            seen += client.execute("SELECT %s::text", ("again",)).fetchall()
            client.execute("DISCARD ALL")
            seen += client.execute("SELECT %s::text", ("and again",)).fetchall()
        return seen

    alike(shared, scenario)


def test_psycopg_listens(shared: Shared) -> None:
    def scenario(url: str) -> list[tuple[str, str]]:
        with psycopg.connect(url, autocommit=True) as listener, psycopg.connect(url, autocommit=True) as other:
            listener.execute("LISTEN news")
            other.execute("NOTIFY news, 'first'")
            with other.transaction():
                other.execute("SELECT pg_notify('news', 'second')")
                other.execute("NOTIFY elsewhere")
            heard = [(one.channel, one.payload) for one in listener.notifies(timeout=10, stop_after=2)]
            listener.execute("UNLISTEN news")
            other.execute("NOTIFY news, 'nobody hears'")
            listener.execute("LISTEN others")
            other.execute("NOTIFY others, 'third'")
            heard += [(one.channel, one.payload) for one in listener.notifies(timeout=10, stop_after=1)]
        return heard

    assert alike(shared, scenario) == [("news", "first"), ("news", "second"), ("others", "third")]


def test_psycopg2(shared: Shared) -> None:
    """set_session() is SET in autocommit mode, and part of BEGIN otherwise."""

    def scenario(url: str) -> list[Any]:
        client = psycopg2.connect(url)
        seen: list[Any] = []

        def ask(question: str) -> None:
            with client.cursor() as cursor:
                cursor.execute(question)
                seen.append(cursor.fetchall())

        try:
            client.set_session(isolation_level="SERIALIZABLE", readonly=True, autocommit=True)
            ask("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
            client.set_session(isolation_level="DEFAULT", readonly="DEFAULT", autocommit=False)
            ask("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
            client.rollback()
            client.set_client_encoding("LATIN1")
            ask("SELECT current_setting('client_encoding'), 'Ärger'")
            client.rollback()
            client.reset()
            ask("SELECT current_setting('client_encoding')")
            client.rollback()
        finally:
            client.close()
        return seen

    alike(shared, scenario)


# asyncpg


@pytest.mark.anyio
async def test_asyncpg_pool(shared: Shared) -> None:
    """Its clients are reset as they go back to its pool; types it does not know cost a setting of its own."""
    shared.make("CREATE TYPE mood AS ENUM ('fine'); CREATE TYPE pair AS (a int, m mood[])")

    async def scenario(url: str) -> list[Any]:
        seen: list[Any] = []
        settings = {"jit": "on", "search_path": "pg_catalog, public"}
        async with asyncpg.create_pool(url, min_size=1, max_size=2, server_settings=settings) as pool:
            for turn in range(3):
                async with pool.acquire() as client:
                    seen += await client.fetch("SELECT (1, ARRAY['fine'::mood])::pair, $1::int", turn)
                    seen += await client.fetch("SELECT current_setting('jit'), current_setting('search_path')")
                    seen += await client.fetch("SELECT current_setting('work_mem'), pg_try_advisory_lock(7)")
                    await client.execute("SET work_mem = '1MB'; LISTEN somewhere")
                    seen += await client.fetch("SELECT current_setting('work_mem'), pg_listening_channels()")
                    async with client.transaction(isolation="serializable", readonly=True):
                        seen += await client.fetch("SHOW transaction_isolation")
        return [tuple(row) for row in seen]

    seen = {way: await scenario(url) for way, url in shared.urls().items()}
    assert seen["pointsman"] == seen["direct"]


@pytest.mark.anyio
async def test_asyncpg_listens(shared: Shared) -> None:
    heard: dict[str, list[object]] = {}
    for way, url in shared.urls().items():
        listener, other = await asyncpg.connect(url), await asyncpg.connect(url)
        try:
            told: asyncio.Queue[object] = asyncio.Queue()
            await listener.add_listener("news", lambda *what, told=told: told.put_nowait(what[2:]))
            await other.execute("NOTIFY news, 'first'")
            await other.execute("NOTIFY news, 'second'")
            heard[way] = [await asyncio.wait_for(told.get(), 10) for _ in range(2)]
            await listener.reset()
        finally:
            await listener.close()
            await other.close()
    assert heard["pointsman"] == heard["direct"] == [("news", "first"), ("news", "second")]


@pytest.mark.anyio
async def test_asyncpg_is_not_told_of_what_it_does_by_itself(shared: Shared) -> None:
    """To look at types it does not know it turns JIT off, and on again where it was on."""
    shared.make("CREATE TYPE mood AS ENUM ('fine')")
    for url in shared.urls().values():
        for jit in ("on", "off"):
            said: list[str] = []
            client = await asyncpg.connect(url, server_settings={"jit": jit})
            try:
                client.add_log_listener(lambda _, message, said=said: said.append(str(message)))
                assert await client.fetchval("SELECT ARRAY['fine'::mood]") == ["fine"]
                assert await client.fetchval("SHOW jit") == jit
                await client.reset()
            finally:
                await client.close()
            assert said == []


# SQLAlchemy


def with_driver(url: str, driver: str) -> str:
    return url.replace("postgresql:", f"postgresql+{driver}:")


HOW: Final = sa.text(
    "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'),"
    " current_setting('search_path'), current_setting('work_mem')"
)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_sqlalchemy(shared: Shared, driver: str) -> None:
    def scenario(url: str) -> Rows:
        engine = sa.create_engine(
            with_driver(url, driver), isolation_level="REPEATABLE READ", pool_size=1, max_overflow=1
        )
        sa.event.listen(engine, "connect", _set_search_path)
        seen: list[Any] = []
        try:
            for _ in range(2):
                with engine.connect() as connection:
                    seen += connection.execute(HOW)
                    connection.execute(sa.text("SET work_mem = '1MB'"))
                    seen += connection.execute(HOW)
                # Its pool rolls back, and with it goes what was SET.
                with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    seen += connection.execute(HOW)
                with engine.connect().execution_options(postgresql_readonly=True) as connection, connection.begin():
                    seen += connection.execute(HOW)
                    with pytest.raises(sa.exc.ProgrammingError), connection.begin_nested():
                        connection.execute(sa.text("SELECT nowhere"))
                    seen += connection.execute(HOW)
                options = {"isolation_level": "AUTOCOMMIT", "postgresql_readonly": True}
                with engine.connect().execution_options(**options) as connection:
                    seen += connection.execute(HOW)
                    seen += sa.inspect(connection).get_schema_names()
        finally:
            engine.dispose()
        return seen

    alike(shared, scenario)


def _set_search_path(connection: Any, _: object) -> None:
    before, connection.autocommit = connection.autocommit, True
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = information_schema, public")
    connection.autocommit = before


@pytest.mark.anyio
async def test_sqlalchemy_with_asyncpg(shared: Shared) -> None:
    async def scenario(url: str) -> Rows:
        engine = create_async_engine(with_driver(url, "asyncpg"), isolation_level="SERIALIZABLE", pool_size=1)
        seen: list[Any] = []
        try:
            for _ in range(2):
                async with engine.connect() as connection:
                    seen += await connection.execute(HOW)
                    await connection.execute(sa.text("SET work_mem = '1MB'"))
                    await connection.commit()
                    seen += await connection.execute(HOW)
                async with engine.connect() as connection:
                    automatic = await connection.execution_options(isolation_level="AUTOCOMMIT")
                    seen += await automatic.execute(HOW)
                    await automatic.execute(sa.text("RESET work_mem"))
        finally:
            await engine.dispose()
        return seen

    seen = {way: await scenario(url) for way, url in shared.urls().items()}
    assert seen["pointsman"] == seen["direct"]
