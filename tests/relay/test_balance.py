"""Which standby serves the next read."""

import asyncio
import tomllib
from collections.abc import Iterator

import pytest

from healthcheck.topology import Node
from middleware.config import build_settings
from middleware.pool.plan import Clock
from middleware.pool.pool import NodeState, Pool
from middleware.pool.server_connection import ServerConnection
from middleware.relay.relay import NEVER, Route
from middleware.session.server_login import ServerLogin

SETTINGS = """
listen_addr = "127.0.0.1"
[health_check]
user = "pointsman"
[nodes.db1]
host = "127.0.0.1"
[users.app]
password = "app"
"""


@pytest.fixture
def pools() -> Iterator[tuple[Pool, ...]]:
    settings = build_settings(tomllib.loads(SETTINGS)).worker_settings(0)
    loop = asyncio.new_event_loop()
    yield tuple(
        Pool(Node(name, "127.0.0.1", 1), b"d", b"u", settings, loop, Clock(0.0), lambda _node, _text: None, NodeState())
        for name in ("db1", "db2", "db3")
    )
    loop.close()


def lend(pool: Pool) -> None:
    pool.plan.lent.add(ServerConnection(pool, ServerLogin(b"u", b"d", None), 0, 0.0, 0.0))


def chosen(route: Route, times: int) -> list[str]:
    return [pool.node for _ in range(times) if (pool := route.standby(NEVER, NEVER, None)) is not None]


def test_equals_take_turns(pools: tuple[Pool, ...]) -> None:
    assert chosen(Route(1, None, pools), 6) == ["db1", "db2", "db3"] * 2


def test_a_standby_that_has_missed_much_gets_its_share_and_no_more(pools: tuple[Pool, ...]) -> None:
    for pool in pools[1:]:
        pool.state.reads = 1000
    assert chosen(Route(1, None, pools), 3) == ["db1", "db2", "db3"]


def test_the_one_with_the_least_to_do_comes_first(pools: tuple[Pool, ...]) -> None:
    route = Route(1, None, pools)
    lend(pools[0])
    lend(pools[1])
    assert chosen(route, 2) == ["db3", "db3"]
    lend(pools[2])
    lend(pools[2])
    assert chosen(route, 4) == ["db1", "db2", "db1", "db2"]


def test_without_a_standby_there_is_none() -> None:
    assert Route(1, None, ()).standby(NEVER, NEVER, None) is None


def test_only_a_standby_that_is_fresh_enough_serves(pools: tuple[Pool, ...]) -> None:
    route = Route(1, None, pools)
    for pool, fresh_as_of in zip(pools, (10.0, 20.0, 30.0), strict=True):
        pool.state.fresh_as_of = fresh_as_of
    assert {route.standby(15.0, NEVER, None) for _ in range(6)} == {pools[1], pools[2]}
    assert route.standby(31.0, NEVER, None) is None
    # A client that has read may go on where it read, and to where all that it may have seen has arrived.
    assert {route.standby(5.0, 25.0, pools[0]) for _ in range(6)} == {pools[0], pools[2]}
    assert route.standby(15.0, 35.0, pools[0]) is None
