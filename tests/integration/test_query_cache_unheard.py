"""Clients that are gone before their writes are answered: what becomes of those is known once the server says so."""

import contextlib
import os
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from middleware.sandbox import Sandbox
from tests.certificates import Certificates
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SCHEMA = """
CREATE TABLE stock (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO stock VALUES (1, 0), (2, 100);
CREATE TABLE doubtful (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO doubtful VALUES (1, 0);
CREATE TABLE unsure AS SELECT * FROM doubtful;
CREATE VIEW seen AS SELECT n FROM stock WHERE id = 1;
CREATE FUNCTION stubborn(s float DEFAULT 1) RETURNS void LANGUAGE plpgsql AS
$$BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(s); END$$;
GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
ALTER VIEW seen OWNER TO app;
"""
STOCK = "SELECT n FROM stock WHERE id = 1"
SEEN = "SELECT n FROM seen"
KNOWN_S = 20.0
"""Well below the minute for which a commit is in doubt whose server is lost."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    with Sandbox(standbys=1) as sandbox:
        sandbox.query(SCHEMA)
        sandbox.wait_for_replay()
        yield sandbox


@pytest.fixture(scope="module", params=["plain", "TLS"])
def endpoint(
    request: pytest.FixtureRequest, cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    """Two workers, and nodes that are spoken to with TLS, or without."""
    settings: dict[str, Any] = {"workers": 2, "query_cache": "on", "cache_watch": "off", "consistency": "global"}
    with contextlib.ExitStack() as stack:
        nodes: Any = cluster
        if request.param == "TLS":
            directory = Path(tempfile.mkdtemp(prefix="pointsman-tls-"))
            stack.callback(shutil.rmtree, directory)
            own = Certificates(directory).server_settings(client_tls_sslmode="require", consistency="primary")
            inner = stack.enter_context(pointsman(cluster, tmp_path_factory.mktemp("inner"), **own))
            there = SimpleNamespace(name="db1", host="localhost", port=inner.port)
            nodes = SimpleNamespace(
                nodes=[there], user=cluster.user, database=cluster.database, passwords=cluster.passwords
            )
            settings["server_tls_sslmode"] = "require"
        running = stack.enter_context(pointsman(nodes, tmp_path_factory.mktemp("unheard"), **settings))
        with connect(running) as first:
            eventually(lambda: cached(first, STOCK))
        yield running


def connect(endpoint: Endpoint) -> Connection[Any]:
    return psycopg.connect(endpoint.conninfo(), autocommit=True)


def value(connection: Connection[Any], sql: str) -> Any:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]


def cached(connection: Connection[Any], sql: str) -> bool:
    """Whether a statement is answered from the cache."""
    connection.execute(sql)
    return str(value(connection, "SHOW pointsman.last_route")).startswith("query cache:")


def active(cluster: Sandbox, sql: str) -> bool:
    """Whether a server is at it."""
    found = cluster.query(f"SELECT count(*) FROM pg_stat_activity WHERE query = $look${sql}$look$ AND state = 'active'")
    return found == [["1"]]


def stop(cluster: Sandbox, sql: str) -> None:
    """End the server that is at it."""
    asked = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = $look${sql}$look$ AND state = 'active'"
    )
    assert cluster.query(asked) == [["t"]]
    eventually(lambda: not active(cluster, sql))


def left_behind(endpoint: Endpoint, cluster: Sandbox, sql: str) -> None:
    """Ask for it, and be gone while it runs, as a client is whose host is: its peer is told by a reset."""
    client = connect(endpoint)

    def ask() -> None:
        with contextlib.suppress(psycopg.Error):
            client.execute(sql)

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: active(cluster, sql))
    # The last to close it resets it.
    with socket.socket(fileno=os.dup(client.fileno())) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.shutdown(socket.SHUT_RD)
        asking.join()
        assert client.closed


def soon_cached(connection: Connection[Any], sql: str) -> Any:
    """What is cached, as soon as something is."""
    until = time.monotonic() + KNOWN_S
    while not cached(connection, sql):
        assert time.monotonic() < until, "nothing is cached"
        time.sleep(0.02)
    return value(connection, sql)


def test_a_write_that_is_cancelled_is_in_doubt_no_more(endpoint: Endpoint, cluster: Sandbox) -> None:
    with connect(endpoint) as reader, psycopg.connect(cluster.url(user="postgres")) as holder:
        before = soon_cached(reader, STOCK)
        holder.execute("SELECT 1 FROM stock WHERE id = 1 FOR UPDATE")
        left_behind(endpoint, cluster, "UPDATE stock SET n = n + 1 WHERE id = 1")
        assert soon_cached(reader, STOCK) == before


def test_a_write_that_happens_all_the_same_is_seen(endpoint: Endpoint, cluster: Sandbox) -> None:
    """A statement that goes on when it is cancelled: as one does that was at its commit already."""
    with connect(endpoint) as reader:
        before = soon_cached(reader, STOCK)
        left_behind(endpoint, cluster, "WITH s AS (SELECT stubborn()) UPDATE stock SET n = n + 1 FROM s WHERE id = 1")
        assert not cached(reader, STOCK)
        assert soon_cached(reader, STOCK) == before + 1
        assert value(reader, f"/* pointsman: no cache */ {STOCK}") == before + 1


def test_what_a_client_that_is_gone_does_to_the_catalog_is_known(endpoint: Endpoint, cluster: Sandbox) -> None:
    with connect(endpoint) as reader, connect(endpoint) as writer:
        soon_cached(reader, SEEN)
        for table in ("other", "third"):
            writer.execute(f"CREATE TABLE {table} AS SELECT 0 AS n")
            eventually(lambda: cached(reader, SEEN))
            view = f"CREATE OR REPLACE VIEW seen AS SELECT n FROM {table}"
            for ddl in (f"SELECT stubborn(); {view}", f"DO $d$BEGIN PERFORM stubborn(); {view}; END$d$"):
                left_behind(endpoint, cluster, ddl)
                for round_ in range(1, 6):
                    writer.execute(f"UPDATE {table} SET n = {round_}")
                    value(reader, SEEN)
                eventually(lambda: cached(reader, SEEN), KNOWN_S)
                writer.execute(f"UPDATE {table} SET n = 10")
                assert value(reader, SEEN) == 10
                writer.execute("CREATE OR REPLACE VIEW seen AS SELECT n FROM stock WHERE id = 1")
        writer.execute("DROP TABLE other, third")


def test_a_copy_without_its_end_comes_to_nothing(endpoint: Endpoint, cluster: Sandbox) -> None:
    copy_in, count = "COPY stock FROM STDIN", "SELECT count(*) FROM stock"
    with connect(endpoint) as reader, connect(endpoint) as client:
        before = soon_cached(reader, count)
        with contextlib.suppress(psycopg.OperationalError), client.cursor().copy(copy_in) as copy:
            copy.write_row((3, 0))
            eventually(lambda: active(cluster, copy_in))
            with socket.socket(fileno=os.dup(client.fileno())) as gone:
                gone.shutdown(socket.SHUT_RDWR)
            eventually(lambda: not active(cluster, copy_in))
            assert soon_cached(reader, count) == before
        assert client.closed


def test_a_write_of_which_nobody_knows_is_in_doubt(endpoint: Endpoint, cluster: Sandbox) -> None:
    """Not even the node: with TLS that is one that speaks for another."""
    unsure = "SELECT n FROM unsure"
    write = "UPDATE unsure SET n = n + 1 WHERE stubborn() IS NOT NULL"
    with connect(endpoint) as reader, connect(endpoint) as writer:
        before = soon_cached(reader, unsure)

        def end() -> None:
            eventually(lambda: active(cluster, write))
            stop(cluster, write)

        ending = threading.Thread(target=end)
        ending.start()
        with pytest.raises(psycopg.Error) as told:
            writer.execute(write)
        ending.join()
        assert told.value.sqlstate == "08007"
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert not cached(reader, unsure)
        assert value(reader, unsure) == before
        soon_cached(reader, STOCK)


def test_a_write_whose_server_is_lost_as_well_is_in_doubt(endpoint: Endpoint, cluster: Sandbox) -> None:
    doubtful = "SELECT n FROM doubtful"
    write = "WITH s AS (SELECT stubborn(30)) UPDATE doubtful SET n = n + 1 FROM s"
    with connect(endpoint) as reader:
        before = soon_cached(reader, doubtful)
        left_behind(endpoint, cluster, write)
        stop(cluster, write)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert not cached(reader, doubtful)
        assert value(reader, doubtful) == before
        # Other tables are not touched by that.
        soon_cached(reader, STOCK)
