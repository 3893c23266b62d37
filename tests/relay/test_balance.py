"""Which node serves the next read."""

import asyncio
import random
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from middleware.auth import ServerCredentials
from middleware.config import Settings, build_settings
from middleware.errors import ConnectionLost
from middleware.pool.pool import Pool
from middleware.pool.server_connection import ServerConnection
from middleware.relay.balance import Route
from middleware.relay.freshness import NEVER, Marks
from middleware.session.server_login import ServerLogin
from tests.pool.made import pool_of

NAMES = ("db1", "db2", "db3", "db4")
SETTINGS = "".join(f'[nodes.{name}]\nhost = "127.0.0.1"\n' for name in NAMES)
SETTINGS += '[health_check]\nuser = "pointsman"\n[users.app]\npassword = "app"\n'

Settle = Callable[..., Settings]


def settled(nodes: dict[str, dict[str, object]] | None = None, **settings: object) -> Settings:
    """Settings with keys of nodes beyond their addresses."""
    values: dict[str, Any] = tomllib.loads(SETTINGS) | settings
    for name, keys in (nodes or {}).items():
        values["nodes"][name] |= keys
    return build_settings(values)


def weighing(*weights: int, **settings: object) -> Settings:
    return settled({name: {"weight": weight} for name, weight in zip(NAMES, weights, strict=False)}, **settings)


@pytest.fixture
def pools() -> Iterator[tuple[Pool, ...]]:
    """One per node, at rest, none known to be fresh."""
    settings = settled().worker_settings()
    loop = asyncio.new_event_loop()
    yield tuple(pool_of(name, settings, loop) for name in NAMES)
    loop.close()


def lend(pool: Pool, times: int = 1) -> None:
    for _ in range(times):
        pool.plan.lent.add(ServerConnection(pool, ServerLogin(b"u", b"d", ServerCredentials("u", None)), 0, 0.0, 0.0))


def made(
    settings: Settings, standbys: tuple[Pool, ...], primary: Pool | None = None, draw: Callable[[], float] | None = None
) -> Route:
    """The route of the first rule, or of the top level where there is none."""
    worker = settings.worker_settings()
    return Route(1, primary, standbys, worker.policies[0], worker, draw or random.Random(1).random)


def chosen(route: Route, times: int, need: float = NEVER) -> list[str]:
    """Where so many clients read first."""
    found = [route.reader(need, NEVER, Marks()) for _ in range(times)]
    return [pool.node for pool in found if pool is not None]


# Equals


def test_equals_take_turns(pools: tuple[Pool, ...]) -> None:
    assert chosen(made(settled(), pools[:3]), 6) == ["db1", "db2", "db3"] * 2


def test_a_standby_that_has_missed_much_gets_its_share_and_no_more(pools: tuple[Pool, ...]) -> None:
    for pool in pools[1:]:
        pool.state.reads = 1000
    assert chosen(made(settled(), pools[:3]), 3) == ["db1", "db2", "db3"]


def test_the_one_with_the_least_to_do_comes_first(pools: tuple[Pool, ...]) -> None:
    route = made(settled(), pools[:3])
    lend(pools[0])
    lend(pools[1])
    assert chosen(route, 2) == ["db3", "db3"]
    lend(pools[2], 2)
    assert chosen(route, 4) == ["db1", "db2", "db1", "db2"]


def test_without_a_standby_there_is_none() -> None:
    route = made(settled(), ())
    assert route.reader(NEVER, NEVER, Marks()) is None
    assert route.standby(Marks()) is None


@pytest.mark.parametrize("balance", ["least_outstanding", "round_robin", "random"])
@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 2, 1)])
def test_only_a_standby_that_is_fresh_enough_serves(
    pools: tuple[Pool, ...], balance: str, weights: tuple[int, ...]
) -> None:
    route = made(weighing(*weights, balance=balance), pools[:3])
    for pool, fresh_as_of in zip(pools, (10.0, 20.0, 30.0), strict=False):
        pool.state.fresh_as_of = fresh_as_of
    assert {route.reader(15.0, NEVER, Marks()) for _ in range(20)} == {pools[1], pools[2]}
    assert route.reader(31.0, NEVER, Marks()) is None
    # A client that has read may go on where it read, and to where all that it may have seen has arrived.
    marks = Marks()
    marks.read(pools[0], 25.0)
    assert {route.reader(5.0, 25.0, marks) for _ in range(20)} == {pools[0], pools[2]}
    assert route.reader(15.0, 35.0, marks) is None


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 2, 1)])
def test_a_standby_that_takes_no_connections_is_passed_over(pools: tuple[Pool, ...], weights: tuple[int, ...]) -> None:
    route = made(weighing(*weights), pools[:3])
    pools[0].plan.opening_failed(0.0, 1.0)
    assert set(chosen(route, 10)) == {"db2", "db3"}
    # One that is connected already can still be lent.
    lend(pools[0])
    lend(pools[1], 5)
    lend(pools[2], 5)
    assert chosen(route, 1) == ["db1"]
    pools[0].close(ConnectionLost("down"))
    assert "db1" not in chosen(route, 10)


# Weights


def test_weights_are_kept_in_smooth_turns(pools: tuple[Pool, ...]) -> None:
    turns = ["db1", "db1", "db2", "db1", "db3", "db1", "db1"]
    for balance in ("least_outstanding", "round_robin"):
        assert chosen(made(weighing(5, 1, 1, balance=balance), pools[:3]), 14) == turns * 2


def test_the_least_busy_in_proportion_to_its_weight_comes_first(pools: tuple[Pool, ...]) -> None:
    route = made(weighing(4, 1), pools[:2])
    lend(pools[0], 3)
    lend(pools[1], 1)
    assert chosen(route, 3) == ["db1"] * 3  # 3/4 and 1/1
    lend(pools[0], 2)
    assert chosen(route, 3) == ["db2"] * 3  # 5/4 and 1/1
    lend(pools[1], 1)
    assert chosen(route, 3) == ["db1"] * 3  # 5/4 and 2/1
    lend(pools[0], 3)
    assert chosen(route, 5) == ["db1", "db1", "db2", "db1", "db1"]  # 8/4 and 2/1: turns by weight


def test_round_robin_does_not_look_at_what_there_is_to_do(pools: tuple[Pool, ...]) -> None:
    lend(pools[0], 7)
    assert chosen(made(settled(balance="round_robin"), pools[:2]), 4) == ["db1", "db2", "db1", "db2"]


@pytest.mark.parametrize("balance", ["least_outstanding", "round_robin"])
def test_a_standby_that_comes_back_is_not_given_what_it_missed(pools: tuple[Pool, ...], balance: str) -> None:
    route = made(weighing(3, 2, 1, balance=balance), pools[:3])
    assert chosen(route, 6) == ["db1", "db2", "db1", "db3", "db2", "db1"]
    for pool in pools[:2]:
        pool.state.fresh_as_of = 10.0
    away = chosen(route, 5, need=5.0)
    assert away == ["db1", "db2", "db1", "db2", "db1"]
    pools[2].state.fresh_as_of = 10.0
    assert Counter(chosen(route, 600, need=5.0)) == {"db1": 300, "db2": 200, "db3": 100}
    assert chosen(route, 6).count("db3") == 1


def test_chance_follows_the_weights(pools: tuple[Pool, ...]) -> None:
    points = iter([0.0, 0.24, 0.25, 0.74, 0.75, 0.999])
    route = made(weighing(1, 2, 1, balance="random"), pools[:3], draw=lambda: next(points))
    assert chosen(route, 6) == ["db1", "db1", "db2", "db2", "db3", "db3"]
    for pool in (pools[0], pools[2]):
        pool.state.fresh_as_of = 10.0
    points = iter([0.49, 0.5])
    assert chosen(route, 2, need=5.0) == ["db1", "db3"]


def test_a_node_of_weight_0_takes_no_reads(pools: tuple[Pool, ...]) -> None:
    route = made(weighing(0, 1, 1), pools[:3])
    assert set(chosen(route, 10)) == {"db2", "db3"}
    assert {route.standby(Marks()) for _ in range(4)} == {pools[1], pools[2]}
    route = made(weighing(0, 0, 0), pools[:3])
    assert (route.standbys, chosen(route, 1)) == ((), [])
    assert route.standby(Marks()) is None


# Tiers

ZONES: dict[str, dict[str, object]] = {
    "db1": {"zone": "a"},
    "db2": {"zone": "b"},
    "db3": {"zone": "b", "weight": 2},
    "db4": {},
}


def test_the_own_zone_comes_first_and_the_others_when_it_cannot(pools: tuple[Pool, ...]) -> None:
    route = made(settled(ZONES, zone="b"), pools)
    assert chosen(route, 6) == ["db3", "db2", "db3"] * 2
    # Busy or not: another zone is for when there is no other.
    lend(pools[1], 5)
    lend(pools[2], 10)
    assert chosen(route, 3) == ["db3", "db2", "db3"]
    pools[0].state.fresh_as_of = pools[3].state.fresh_as_of = 10.0
    assert chosen(route, 4, need=5.0) == ["db1", "db4", "db1", "db4"]
    pools[1].state.fresh_as_of = 10.0
    assert chosen(route, 2, need=5.0) == ["db2", "db2"]


def test_without_a_zone_of_our_own_all_zones_are_alike(pools: tuple[Pool, ...]) -> None:
    assert chosen(made(settled(ZONES), pools), 5) == ["db3", "db1", "db2", "db4", "db3"]


def test_the_preferred_come_before_the_own_zone(pools: tuple[Pool, ...]) -> None:
    rule = {"prefer": ["db1", "db4"]}
    route = made(settled(ZONES, zone="b", routes=[rule]), pools)
    assert chosen(route, 4) == ["db1", "db4", "db1", "db4"]
    pools[1].state.fresh_as_of = pools[2].state.fresh_as_of = 10.0
    assert set(chosen(route, 4, need=5.0)) == {"db2", "db3"}
    # Preferring the primary is for the time when it is none.
    route = made(settled(routes=[{"prefer": ["db1"]}]), pools[1:], pools[0])
    assert set(chosen(route, 6)) == {"db2", "db3", "db4"}


# The primary as a reader


def test_the_primary_is_no_reader_unless_it_always_is(pools: tuple[Pool, ...]) -> None:
    for when in ("never", "fallback"):
        assert set(chosen(made(settled(read_from_primary=when), pools[1:3], pools[0]), 6)) == {"db2", "db3"}
    route = made(settled(read_from_primary="always"), pools[1:3], pools[0])
    assert chosen(route, 6) == ["db1", "db2", "db3"] * 2


def test_the_primary_reads_by_its_weight_and_needs_not_be_fresh(pools: tuple[Pool, ...]) -> None:
    route = made(weighing(2, 1, 1, read_from_primary="always"), pools[1:3], pools[0])
    assert Counter(chosen(route, 8)) == {"db1": 4, "db2": 2, "db3": 2}
    pools[1].state.fresh_as_of = 10.0
    assert Counter(chosen(route, 6, need=5.0)) == {"db1": 4, "db2": 2}
    route = made(weighing(0, 1, 1, read_from_primary="always"), pools[1:3], pools[0])
    assert set(chosen(route, 6)) == {"db2", "db3"}


def test_that_no_standby_may_serve_is_told_even_if_the_primary_reads(pools: tuple[Pool, ...]) -> None:
    route = made(settled(read_from_primary="always"), pools[1:3], pools[0])
    assert route.reader(5.0, NEVER, Marks()) is None


def test_a_client_that_reads_in_one_go_is_not_moved_to_the_primary(pools: tuple[Pool, ...]) -> None:
    route = made(settled(read_from_primary="always"), pools[1:3], pools[0])
    pools[1].state.fresh_as_of = pools[2].state.fresh_as_of = 10.0
    marks = Marks()
    marks.read(pools[1], 11.0)
    assert {route.reader(5.0, 11.0, marks) for _ in range(6)} == {pools[1]}
    # From the primary it may not leave before a standby has what it may have seen there.
    marks.read(None, 11.0)
    assert route.reader(5.0, 11.0, marks) is None
    pools[2].state.fresh_as_of = 12.0
    assert {route.reader(5.0, 11.0, marks) for _ in range(6)} == {pools[0], pools[2]}
    # At rest it may go anywhere.
    marks.read(pools[2], 11.0)
    assert {route.reader(5.0, 11.0, marks) for _ in range(6)} == {pools[0], pools[2]}


def test_who_asks_for_a_standby_does_not_get_the_primary(pools: tuple[Pool, ...]) -> None:
    settings = settled({"db1": {"weight": 100}}, read_from_primary="always", session_affinity="on")
    route = made(settings, pools[1:3], pools[0])
    marks = Marks()
    assert route.reader(NEVER, NEVER, marks) is pools[0]
    assert route.standby(marks) in pools[1:3]


# Affinity


def test_a_client_keeps_the_standby_of_its_first_read(pools: tuple[Pool, ...]) -> None:
    route = made(settled(session_affinity="on"), pools[:3])
    clients = [Marks() for _ in range(3)]
    for _ in range(4):
        assert [route.reader(NEVER, NEVER, marks) for marks in clients] == list(pools[:3])
    lend(pools[0], 10)
    assert route.reader(NEVER, NEVER, clients[0]) is pools[0]


def test_a_client_whose_standby_may_not_serve_changes_to_another_and_keeps_that(pools: tuple[Pool, ...]) -> None:
    route = made(settled(session_affinity="on"), pools[:2])
    marks = Marks()
    assert route.reader(NEVER, NEVER, marks) is pools[0]
    pools[1].state.fresh_as_of = 10.0
    assert route.reader(5.0, NEVER, marks) is pools[1]
    pools[0].state.fresh_as_of = 10.0
    assert {route.reader(5.0, NEVER, marks) for _ in range(4)} == {pools[1]}
    # Nor is a time on the primary a reason to change.
    assert route.reader(15.0, NEVER, marks) is None
    assert {route.reader(5.0, NEVER, marks) for _ in range(4)} == {pools[1]}
    # Gone, under the next topology.
    assert made(settled(session_affinity="on"), pools[:1]).reader(5.0, NEVER, marks) is pools[0]


def test_the_primary_is_kept_where_a_standby_could_have_served_instead(pools: tuple[Pool, ...]) -> None:
    route = made(settled(session_affinity="on", read_from_primary="always"), pools[1:2], pools[0])
    writer, reader = Marks(), Marks()
    assert route.reader(5.0, NEVER, writer) is None
    assert route.reader(NEVER, NEVER, reader) is pools[0]
    pools[1].state.fresh_as_of = 10.0
    assert {route.reader(5.0, NEVER, writer) for _ in range(4)} == {pools[1]}
    assert {route.reader(5.0, NEVER, reader) for _ in range(4)} == {pools[0]}
