"""A client that is answered now from the cache, now by a standby that lags: its reads never go back in time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import asyncpg
import psycopg
import pytest
from psycopg import AsyncConnection

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

pytestmark = pytest.mark.integration

CACHED: Final = "SELECT v FROM cached_and_not WHERE id = 1"
FROM_STANDBY: Final = f"{CACHED} /* pointsman: no cache */"

ATTEMPTS: Final = 5

WHO: Final = "SELECT current_setting('cluster_name') FROM cached_and_not"


@pytest.fixture(scope="module")
def lagging(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """With a row that is 0 on standbys for as long as the module runs, whatever it is on the primary."""
    cluster.query(
        "CREATE TABLE cached_and_not (id int PRIMARY KEY, v int); INSERT INTO cached_and_not VALUES (1, 0)",
        user=cluster.user,
    )
    cluster.wait_for_replay()
    directory = tmp_path_factory.mktemp("lagging")
    with pointsman(cluster, directory, query_cache="on", cache_watch="off", max_replica_lag=600) as endpoint:
        with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
            # Until the catalog is known, and a standby to have it.
            eventually(lambda: client.execute(WHO).fetchall() != [("db1",)])
        with cluster.replay_paused():
            yield endpoint
    cluster.query("DROP TABLE cached_and_not", user=cluster.user)


Ask = Callable[[str], Any]


@asynccontextmanager
async def by_psycopg(endpoint: Endpoint) -> AsyncIterator[Ask]:
    connection = await AsyncConnection.connect(endpoint.conninfo(), autocommit=True, prepare_threshold=None)

    async def ask(sql: str) -> int:
        cursor = await connection.execute(sql.encode())
        return int((await cursor.fetchall())[0][0])

    async with connection:
        yield ask


@asynccontextmanager
async def by_asyncpg(endpoint: Endpoint, cache_size: int = 100) -> AsyncIterator[Ask]:
    connection = await asyncpg.connect(endpoint.url(), statement_cache_size=cache_size)
    try:
        yield connection.fetchval
    finally:
        await connection.close()


DRIVERS: Final[dict[str, Callable[[Endpoint], AbstractAsyncContextManager[Ask]]]] = {
    "psycopg": by_psycopg,
    "asyncpg": by_asyncpg,
    "asyncpg, no cache": lambda endpoint: by_asyncpg(endpoint, 0),
}


@pytest.mark.parametrize("driver", DRIVERS)
def test_reads_do_not_go_back(lagging: Endpoint, driver: str) -> None:
    for _ in range(ATTEMPTS):
        first, second = asyncio.run(_read(lagging, driver))
        assert first == sorted(first)
        assert second == sorted(second)
        if (first, second) == ([0, 1, 1, 1], [1, 1, 1, 1]):
            return
        # A catalog that was read again meanwhile keeps reads on the primary for a moment, and from the cache.
    raise AssertionError(f"never standby, cache, primary, primary; and cache, primary, ..: {first}, {second}")


async def _read(endpoint: Endpoint, driver: str) -> tuple[list[int], list[int]]:
    """By a session that begins with a standby, and by one that begins with the cache."""
    async with DRIVERS[driver](endpoint) as ask:
        # What it has written it reads from the primary, and others find that in the cache.
        assert await ask("UPDATE cached_and_not SET v = 1 RETURNING v") == 1
        assert [await ask(CACHED) for _ in range(5)] == [1] * 5
    async with DRIVERS[driver](endpoint) as ask:
        first = [await ask(sql) for sql in (FROM_STANDBY, CACHED, FROM_STANDBY, FROM_STANDBY)]
    async with DRIVERS[driver](endpoint) as ask:
        second = [await ask(sql) for sql in (CACHED, FROM_STANDBY, CACHED, FROM_STANDBY)]
    return first, second
