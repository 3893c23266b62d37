"""Bugs whose traces hang on moments in a load, made to show: each test finds its bug, and nothing without it."""

from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import Connection

from middleware.sandbox import Sandbox
from tests.cachecheck.plant import planted
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SCHEMA: Final = "CREATE TABLE t (n int NOT NULL); INSERT INTO t VALUES (0); GRANT ALL ON t TO app"
READ: Final = "SELECT n FROM t"


def value(connection: Connection[Any]) -> int:
    row = connection.execute(READ).fetchone()
    assert row is not None
    return int(row[0])


def connect(endpoint: Endpoint, consistency: str) -> Connection[Any]:
    connection = psycopg.connect(endpoint.conninfo(), autocommit=True)
    connection.execute(f"SET pointsman.consistency = '{consistency}'")
    return connection


@pytest.mark.parametrize("plant", ["", "lag-rule"])
def test_what_a_lagging_standby_says_is_not_kept(plant: str, tmp_path: Path) -> None:
    with Sandbox(standbys=1) as cluster:
        cluster.query(SCHEMA)
        cluster.wait_for_replay()
        settings = {"workers": 1, "query_cache": "on", "cache_watch": "off"}
        with (
            planted(plant),
            pointsman(cluster, tmp_path, **settings) as endpoint,
            connect(endpoint, "eventual") as eventual,
            connect(endpoint, "session") as session,
        ):
            eventually(lambda: _node_of(eventual) == "db2")
            cluster.query("SELECT pg_wal_replay_pause()", node=cluster.node("db2"))
            session.execute("UPDATE t SET n = 1")
            # The standby says so, and may: it is asked by who takes what is there.
            assert value(eventual) == 0
            found = value(session) == 0
            cluster.query("SELECT pg_wal_replay_resume()", node=cluster.node("db2"))
    assert found == bool(plant)


def _node_of(connection: Connection[Any]) -> str:
    row = connection.execute("SELECT current_setting('cluster_name') FROM t").fetchone()
    assert row is not None
    return str(row[0])
