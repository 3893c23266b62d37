"""SHOW pointsman.reasons and primary_queries, over a real cluster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

pytestmark = pytest.mark.integration

WHO: Final = "SELECT current_setting('cluster_name')"


@pytest.fixture(scope="module", autouse=True)
def touched(cluster: Sandbox) -> Iterator[None]:
    cluster.query("CREATE FUNCTION touched() RETURNS int LANGUAGE sql AS 'SELECT 1'", user=cluster.user)
    cluster.wait_for_replay()
    yield
    cluster.query("DROP FUNCTION touched()", user=cluster.user)


def connect(endpoint: Endpoint) -> psycopg.Connection:
    return psycopg.connect(endpoint.conninfo(), autocommit=True)


def asked(client: psycopg.Connection, sql: str) -> str:
    row = client.execute(sql).fetchone()
    assert row is not None
    return str(row[0])


def test_reads_are_counted_over_all_workers_by_why_they_stayed(cluster: Sandbox, tmp_path: Path) -> None:
    with pointsman(cluster, tmp_path, workers=2) as endpoint:
        clients = [connect(endpoint) for _ in range(8)]
        try:
            for client in clients:
                eventually(lambda client=client: asked(client, WHO) != "db1")  # type: ignore[misc]
                client.execute("SELECT touched()")
                client.execute("SELECT touched(), %s", ["bound"])
                client.execute("SET pointsman.route = 'primary'")
                client.execute(WHO)
                client.execute("SET pointsman.route = 'auto'")
                with client.transaction():
                    client.execute(WHO)
            found: dict[str, tuple[int, str, str]] = {}

            def counted() -> bool:
                found.update({row[0]: row[1:] for row in clients[0].execute("SHOW pointsman.reasons").fetchall()})
                return "it calls touched(), which is volatile" in found and (
                    found["it calls touched(), which is volatile"][0],
                    found.get("it is part of a transaction", (0,))[0],
                    found.get("its session asks for the primary (pointsman.route)", (0,))[0],
                ) == (16, 8, 8)

            eventually(counted)
            assert found["standbys served it"][0] >= 8
            hint = found["it calls touched(), which is volatile"][2]
            assert hint == "if touched() only reads, declare it STABLE, or put it on safe_functions"
        finally:
            for client in clients:
                client.close()


def test_queries_kept_on_the_primary_by_their_text(cluster: Sandbox, tmp_path: Path) -> None:
    patterns = [r"pg_class\s+WHERE\s+oid = 42", "'KEEP"]
    with pointsman(cluster, tmp_path, primary_queries=patterns) as endpoint, connect(endpoint) as client:
        eventually(lambda: asked(client, WHO) != "db1")
        kept = "SELECT current_setting('cluster_name') FROM (SELECT count(*) FROM pg_class\n  where oid = {}) x"
        assert asked(client, kept.format(42)) == "db1"
        assert asked(client, "SHOW pointsman.last_route").startswith(
            r"db1: it matches pg_class\s+WHERE\s+oid = 42 of primary_queries"
        )
        eventually(lambda: asked(client, kept.format(43)) != "db1")
        # The same shape as WHERE .. = 'x', and prepared.
        assert client.execute(f"{WHO}, 'keep it'", prepare=True).fetchone() == ("db1", "keep it")
        eventually(lambda: client.execute(f"{WHO}, 'gone'", prepare=True).fetchone() != ("db1", "gone"))
        assert asked(client, f"EXPLAIN (ROUTE) {WHO}, 'keep'") == "Route to primary"
        # What a statement asks for by name comes first.
        eventually(lambda: asked(client, f"/* pointsman: standby */ {WHO}, 'keep'") != "db1")
