"""Reads are served by standbys, all else by the primary: asked of PostgreSQL itself."""

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint
from tests.waiting import eventually

pytestmark = pytest.mark.integration

WHO = "SELECT current_setting('cluster_name')"


def test_reads_go_to_standbys_and_all_else_to_the_primary(cluster: Sandbox, endpoint: Endpoint) -> None:
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:

        def who(sql: str) -> str:
            row = client.execute(sql).fetchone()
            assert row is not None
            return str(row[0])

        # The catalog of a database is loaded when its first client comes; until then all goes to the primary.
        eventually(lambda: who(WHO) != "db1")
        assert {who(WHO) for _ in range(20)} == {"db2", "db3"}
        client.execute("CREATE TABLE IF NOT EXISTS routing (a int)")
        assert who("INSERT INTO routing VALUES (1) RETURNING current_setting('cluster_name')") == "db1"
        assert who(f"{WHO} FROM routing FOR UPDATE") == "db1"
        assert who("SELECT current_setting('cluster_name') || random()").startswith("db1")
        with client.transaction():
            assert who(WHO) == "db1"
    cluster.query("DROP TABLE routing")
