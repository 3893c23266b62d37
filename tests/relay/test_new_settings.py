"""Pools under settings that change: they shrink, grow, and end with their rules; nodes that go are given time."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any, Self

import pytest

from healthcheck.topology import Node, Role, Topology
from middleware.config import WorkerSettings, build_settings
from middleware.errors import ConnectionLost
from middleware.pool.plan import Waiter
from middleware.pool.pool import Pool
from middleware.pool.server_connection import CLOSED, CLOSING, IDLE, LENT, Borrower, ServerConnection
from middleware.relay.freshness import NEVER
from middleware.relay.pools import Pools
from middleware.session.server import ServerSession
from middleware.session.server_login import ServerLogin
from tests.pool.made import surroundings
from tests.pool.test_pool import Fleeting, interpreted

NODES = (Node("db1", "127.0.0.1", 1, Role.PRIMARY, True), Node("db2", "127.0.0.1", 2, Role.STANDBY, True))
RULE = {"name": "own", "database": "d", "pool_size": 4}


def settled(**settings: Any) -> WorkerSettings:
    return build_settings(
        {
            "health_check": {"user": "monitor", "password": "secret"},
            "nodes": {node.name: {"host": node.host, "port": node.port} for node in NODES},
            "users": {"u": {"password": "secret"}},
            "shutdown_timeout": 5,
            **settings,
        }
    ).worker_settings()


class Worker:
    """Its pools, and its clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **settings: Any) -> None:
        self.loop = loop
        self.others: list[socket.socket] = []
        """The nodes' ends of connections."""
        self.around = surroundings(settled(**settings), loop)
        self.pools = Pools(self.around, lambda: 0.0)
        self.pools.set_topology(Topology(1, NODES))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self.pools.all():
            pool.abandon(ConnectionLost("the end"))
        for one in self.others:
            one.close()
        self.loop.run_until_complete(asyncio.sleep(0))

    def use(self, **settings: Any) -> None:
        new = settled(**settings)
        self.around.limits.use(new)
        self.pools.use(new)

    def pool(self, database: bytes = b"d", standby: bool = False) -> Pool:
        """The first rule's."""
        policy = self.around.settings.policies[0]
        route = self.pools.route(database, b"u", policy, None)
        found = route.standbys[0] if standby else route.primary
        assert found is not None
        return found

    def tick(self, now: float) -> None:
        self.around.clock.now = now
        self.pools.tick(now)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def worker(loop: asyncio.AbstractEventLoop) -> Iterator[Worker]:
    with Worker(loop) as made:
        yield made


def opened(worker: Worker, pool: Pool, idle: bool = True) -> ServerConnection:
    """A server, as if it had been opened: over a real connection, whose other end says nothing."""
    ours, theirs = socket.socketpair()
    worker.others.append(theirs)
    server = ServerConnection(pool, ServerLogin(b"u", b"d", pool._authority.credentials("u")), 1, 0.0, 0.0)
    server.transport, _ = worker.loop.run_until_complete(worker.loop.create_connection(asyncio.Protocol, sock=ours))
    pool._wake()
    assert pool._all_limits.take(pool, pool.limits, 0.0)
    if idle:
        server.state = IDLE
        pool.plan.idle.append((server, 0.0))
    else:
        server.state = LENT
        pool.plan.lent.add(server)
    return server


def going(servers: list[ServerConnection]) -> list[bool]:
    """Which were told to go."""
    return [server.state == CLOSING for server in servers]


def test_idle_servers_beyond_a_smaller_size_go_at_once_the_oldest_first(worker: Worker) -> None:
    pool = worker.pool()
    servers = [opened(worker, pool) for _ in range(5)]
    worker.use(default_pool_size=3)
    assert worker.pool() is pool
    assert going(servers) == [True, True, False, False, False]
    worker.use(default_pool_size=2)
    assert going(servers) == [True, True, True, False, False]


def test_servers_that_are_lent_beyond_a_smaller_size_go_when_they_come_back(worker: Worker) -> None:
    pool = worker.pool()
    servers = [opened(worker, pool, idle=False) for _ in range(4)]
    worker.use(default_pool_size=2)
    assert going(servers) == [False] * 4
    for server in servers:
        pool.give_back(server)
    assert going(servers) == [True, True, False, False]
    assert [server for server, _ in pool.plan.idle] == servers[2:]


def test_a_limit_over_several_pools_shrinks(worker: Worker) -> None:
    here, there = worker.pool(), worker.pool(b"other")
    mine = [opened(worker, here) for _ in range(3)]
    others = [opened(worker, there) for _ in range(3)]
    worker.use(max_user_connections=4)
    assert sum(going(mine + others)) == 2


def test_a_larger_size_is_used_at_once(worker: Worker) -> None:
    pool = worker.pool()
    for _ in range(20):
        opened(worker, pool, idle=False)
    assert pool.plan.limit(0.0) == 20
    worker.use(default_pool_size=21)
    assert pool.plan.limit(0.0) == 21
    opened(worker, pool)
    assert pool._all_limits.total(pool) == 21


@interpreted
def test_a_pool_whose_rule_is_gone_serves_who_waits_and_closes(loop: asyncio.AbstractEventLoop) -> None:
    with Worker(loop, routes=[RULE]) as worker:
        pool = worker.pool()
        idle, first, second = opened(worker, pool), opened(worker, pool, idle=False), opened(worker, pool, idle=False)
        pool.plan.idle.clear()
        served: list[Fleeting] = []
        client = Fleeting(served)
        pool.plan.waiting.append(Waiter[Borrower](client, 0.0, 60.0, 0.0))
        pool.plan.idle.append((idle, 0.0))
        first.session = second.session = ServerSession(10, {})
        worker.use()
        assert worker.pool() is not pool
        # Somebody waits, and takes what is there.
        pool.give_back(first)
        assert served == [client]
        pool.give_back(second)
        worker.tick(1.0)
        assert going([idle, first, second]) == [True] * 3
        for server in (idle, first, second):
            server.connection_lost(None)
        worker.tick(2.0)
        assert pool not in worker.pools.all()
        # Another with this name has a pool of its own.
        worker.use(routes=[RULE])
        assert worker.pool() is not pool


def test_what_is_lent_of_a_node_that_is_gone_has_a_while_to_end(worker: Worker) -> None:
    pool = worker.pool(standby=True)
    idle, lent, back = opened(worker, pool), opened(worker, pool, idle=False), opened(worker, pool, idle=False)
    worker.tick(10.0)
    worker.pools.set_topology(Topology(2, NODES[:1]))
    assert going([idle, lent, back]) == [True, False, False]
    pool.give_back(back)
    assert going([lent, back]) == [False, True]
    worker.tick(14.9)
    assert lent.state == LENT
    worker.tick(15.0)
    assert lent.state == CLOSED


def test_a_node_of_the_same_name_elsewhere_is_not_as_fresh(worker: Worker) -> None:
    worker.pools.node("db2").fresh_as_of = 5.0
    worker.pools.set_topology(Topology(2, NODES))
    assert worker.pools.node("db2").fresh_as_of == 5.0
    moved = Node("db2", "127.0.0.1", 3, Role.STANDBY, True)
    worker.pools.set_topology(Topology(3, (NODES[0], moved)))
    assert worker.pools.node("db2").fresh_as_of == NEVER
