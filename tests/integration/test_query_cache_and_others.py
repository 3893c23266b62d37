"""The query cache while others write on the primary itself, watched by logical decoding: time goes back for nobody."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

pytestmark = pytest.mark.integration

SCHEMA = """
ALTER ROLE pointsman REPLICATION;
CREATE PUBLICATION pointsman_cache FOR ALL TABLES;
CREATE TABLE one (id int PRIMARY KEY, n int NOT NULL);
CREATE TABLE two (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO one VALUES (1, 0);
INSERT INTO two VALUES (1, 0);
GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
"""
ROUNDS = 150
CACHED = "SELECT n FROM one WHERE id = 1"
ASKED = "/* pointsman: no cache */ SELECT n FROM two WHERE id = 1"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    with Sandbox(standbys=0, parameters={"wal_level": "logical"}) as sandbox:
        sandbox.query(SCHEMA)
        yield sandbox


@pytest.fixture(scope="module")
def endpoint(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    settings = {"query_cache": "on", "cache_watch": "logical"}
    with pointsman(cluster, tmp_path_factory.mktemp("watched"), workers=1, **settings) as running:
        yield running


def value(connection: Connection[Any], sql: str) -> int:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return int(row[0])


def was_cached(connection: Connection[Any], sql: str) -> bool:
    connection.execute(sql)
    row = connection.execute("SHOW pointsman.last_route").fetchone()
    return row is not None and str(row[0]).startswith("query cache:")


@pytest.mark.parametrize("begin", ["", "BEGIN READ ONLY"])
def test_who_has_read_what_others_wrote_is_not_given_what_was_before(
    cluster: Sandbox, endpoint: Endpoint, begin: str
) -> None:
    went_back = 0
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(psycopg.connect(cluster.url(user="postgres"), autocommit=True))
        reader, filler = (stack.enter_context(psycopg.connect(endpoint.conninfo(), autocommit=True)) for _ in range(2))
        for number in range(1, ROUNDS):
            # So that there is something to be given.
            if number % 10 == 1:
                eventually(lambda: was_cached(filler, CACHED))
            value(filler, CACHED)
            other.execute(f"BEGIN; UPDATE one SET n = {number}; UPDATE two SET n = {number}; COMMIT")
            if begin:
                reader.execute(begin)
            seen = value(reader, ASKED)
            went_back += value(reader, CACHED) < seen
            if begin:
                reader.execute("COMMIT")
    assert went_back == 0
