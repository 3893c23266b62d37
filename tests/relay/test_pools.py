"""Which pools are looked at, and which are given up."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from healthcheck.topology import Condition, Node, Role, Topology
from middleware.config import RoutePolicy, build_settings
from middleware.control import NodeLeases
from middleware.pool.plan import Waiter
from middleware.pool.pool import Pool
from middleware.pool.recall import pause, renew, to_close
from middleware.pool.server_connection import Borrower, ServerConnection
from middleware.relay.balance import Route
from middleware.relay.pools import RETIRED, Pools
from middleware.session.expected import SYNC
from middleware.session.parameters import NONE
from middleware.session.server import ServerSession
from middleware.session.server_login import ServerLogin
from tests.pool.made import surroundings
from tests.pool.test_pool import Fleeting, interpreted

IDLE_S = 60.0
NODES = (Node("db1", "127.0.0.1", 1, Role.PRIMARY, True), Node("db2", "127.0.0.1", 2, Role.STANDBY, True))


class Worker:
    """Its pools, and its clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **settings: Any) -> None:
        values = {
            "health_check": {"user": "monitor", "password": "secret"},
            "nodes": {node.name: {"host": node.host, "port": node.port} for node in NODES},
            "users": {"u": {"password": "secret"}},
            "server_idle_timeout": IDLE_S,
        }
        self.settings = build_settings(values | settings).worker_settings()
        self.around = surroundings(self.settings, loop)
        self.pools = Pools(self.around, lambda: 0.0)
        self.pools.set_topology(Topology(1, NODES))

    @property
    def policy(self) -> RoutePolicy:
        return self.settings.policies[-1]

    def route(self, database: bytes) -> Route:
        return self.pools.route(database, b"u", self.policy, database)

    def tick(self, now: float) -> None:
        self.around.clock.now = now
        self.pools.tick(now)

    def count(self) -> int:
        return len(self.pools._pools)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def lend(pool: Pool) -> ServerConnection:
    """As if it had opened one for somebody."""
    server = ServerConnection(pool, ServerLogin(b"u", b"d", pool._authority.credentials("u")), 1, 0.0, 0.0)
    pool._wake()
    pool.plan.lent.add(server)
    return server


def test_pools_at_rest_are_not_looked_at_and_then_given_up_with_their_routes(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop)
    routes = [worker.route(b"%d" % number) for number in range(3)]
    assert (worker.pools.awake(), worker.count()) == ([], 6)
    primary = routes[1].primary
    assert primary is not None
    server = lend(primary)
    assert worker.pools.awake() == [primary]
    worker.tick(IDLE_S - 1)
    assert worker.count() == 6
    worker.tick(IDLE_S)
    # The standby's pool stays for as long as the primary's is in use.
    assert [route.version for route in routes] == [RETIRED, worker.pools.version, RETIRED]
    assert worker.count() == 2
    assert worker.route(b"1") is routes[1]
    # Who had a route that is retired asks for another.
    again = worker.route(b"0")
    assert (again.version, worker.count()) == (worker.pools.version, 4)
    primary.plan.lent.discard(server)
    worker.tick(IDLE_S + 1)
    assert worker.pools.awake() == []
    worker.tick(2 * IDLE_S)
    assert (again.version, routes[1].version, worker.count()) == (RETIRED, worker.pools.version, 2)
    worker.tick(3 * IDLE_S)
    assert (routes[1].version, worker.count()) == (RETIRED, 0)
    assert not worker.pools._resting
    assert not worker.around.limits._by_key


def test_one_that_is_used_now_and_then_keeps_nobody_waiting(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop)
    first, second = worker.route(b"first"), worker.route(b"second")
    primary = first.primary
    assert primary is not None
    for now in range(10, int(IDLE_S), 10):
        server = lend(primary)
        worker.tick(now)
        primary.plan.lent.discard(server)
        worker.tick(now + 1)
    worker.tick(IDLE_S)
    assert (first.version, second.version) == (worker.pools.version, RETIRED)


def test_a_pool_of_a_node_that_is_down_is_looked_at_until_its_servers_are_back(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop)
    primary = worker.route(b"d").primary
    assert primary is not None
    server = lend(primary)
    worker.pools.set_topology(Topology(2, (NODES[1],)))
    worker.tick(1.0)
    assert (worker.pools.awake(), worker.count()) == ([primary], 1)
    primary.plan.lent.discard(server)
    worker.tick(2.0)
    assert worker.pools.awake() == []


@interpreted
def test_a_node_that_drains_gets_nothing_new_and_what_it_has_may_end(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop)
    pool = worker.route(b"d").primary
    assert pool is not None
    assert worker.pools.draining() == ()
    busy, resting = lend(pool), lend(pool)
    for server in (busy, resting):
        server.session = ServerSession(1, {})
    busy.session.expected.append(SYNC)
    waiter = Fleeting([])
    pool.plan.waiting.append(Waiter[Borrower](waiter, 0.0, 60.0, 0.0))
    drained = msgspec.structs.replace(NODES[0], up=False, condition=Condition.DRAINING)
    worker.pools.set_topology(Topology(2, (drained, NODES[1])))
    assert [error.sqlstate for error in waiter.told] == ["08006"]
    route = worker.route(b"d")
    assert (route.primary, len(route.standbys)) == (None, 1)
    assert worker.pools.draining() == (NodeLeases("db1", 1, 1, 2),)
    worker.tick(1.0)
    assert set(pool.plan.lent) == {busy, resting}
    busy.session.expected.clear()
    assert worker.pools.draining() == (NodeLeases("db1", 0, 2, 2),)
    # All is as it was: the same pool, which lends again.
    pool.plan.lent.clear()
    worker.tick(2.0)
    worker.pools.set_topology(Topology(3, NODES))
    assert worker.pools.draining() == ()
    assert worker.route(b"d").primary is pool
    assert pool in worker.pools._resting
    assert [pool.plan.closed, pool.draining] == [False, False]
    # And when the role has gone to another, it is closed for good.
    worker.pools.set_topology(Topology(4, (drained, NODES[1])))
    gone = msgspec.structs.replace(NODES[0], up=False, condition=Condition.DOWN)
    worker.pools.set_topology(Topology(5, (gone, NODES[1])))
    assert [pool.plan.closed, pool.draining] == [True, False]
    assert worker.count() == 1


@interpreted
def test_min_pool_size_is_kept_until_nobody_wants_what_cannot_be_opened(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop, min_pool_size=1, max_server_logins=1)
    route = worker.route(b"d")
    assert len(worker.pools.awake()) == 2
    pool = route.primary
    assert pool is not None
    # Its turn to open one never comes.
    for node in NODES:
        worker.pools.node(node.name).logins.begin()
    worker.tick(2 * IDLE_S)
    assert pool in worker.pools.awake()
    pool.plan.opening_failed(2 * IDLE_S, 1.0)
    worker.tick(2 * IDLE_S + 0.5)
    assert pool not in worker.pools.awake()
    assert pool.lease(Fleeting([]), NONE) is None
    assert not pool.plan.waiting


@interpreted
def test_clients_of_a_database_that_is_paused_are_led_nowhere(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop)
    before = {name: worker.route(name) for name in (b"d", b"other")}
    worker.pools.set_paused(False, frozenset((b"d",)))
    assert before[b"d"].version != worker.pools.version
    paused, other = worker.route(b"d"), worker.route(b"other")
    assert (paused.paused, paused.primary, paused.pools(), paused.version) == (True, None, (), worker.pools.version)
    assert not other.paused
    assert other.primary is before[b"other"].primary
    worker.pools.set_paused(True, frozenset())
    assert worker.route(b"other").paused
    # A client of the console is led by its own name for it: to none.
    assert not worker.pools.paused(None)
    worker.pools.set_paused(False, frozenset())
    assert worker.route(b"d").primary is before[b"d"].primary


@interpreted
def test_a_pool_that_is_paused_closes_what_comes_back_and_opens_nothing(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop, min_pool_size=2)
    pool = worker.route(b"d").primary
    assert pool is not None
    server = lend(pool)
    server.session = ServerSession(1, {})
    for one in worker.pools.all():
        pause(one)
    for now in (1.0, 2.0):
        worker.tick(now)
    assert [(set(one.plan.lent), one.plan.on_the_way) for one in worker.pools.all()] == [({server}, 0), (set(), 0)]
    # Somebody comes who calls its database otherwise.
    worker.pools.set_paused(False, frozenset((b"alias",)))
    assert worker.pools.route(b"d", b"u", worker.policy, b"d").primary is pool
    assert not pool.plan.paused


@interpreted
def test_servers_that_are_to_be_renewed_are_counted_until_they_are_closed(loop: asyncio.AbstractEventLoop) -> None:
    worker = Worker(loop)
    pool = worker.route(b"d").primary
    assert pool is not None
    server = lend(pool)
    assert to_close(pool) == 0
    assert renew(pool) == 1
    assert (to_close(pool), server.close_needed) == (1, True)
    later = lend(pool)
    assert not later.close_needed
    pool.plan.lent.discard(server)
    assert to_close(pool) == 0
