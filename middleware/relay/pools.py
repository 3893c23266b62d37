"""All pools of a worker, and the routes that lead to them.

A pool is *awake* while it has a server or somebody waits in it: those alone are looked at at each tick. One that has
been at rest for server_idle_timeout is retired, with the routes that lead to it, where all pools of these routes have
been at rest for as long: clients make up names of databases at will. A route that is retired, or of an earlier
topology, has a version that is not the present one: whoever holds it asks for it again.
"""

from collections.abc import Callable
from typing import Final

from healthcheck.topology import Condition, Node, Topology
from middleware.config import PoolPolicy, RoutePolicy, WorkerSettings
from middleware.control import NodeLeases
from middleware.errors import ConnectionLost
from middleware.pool.pool import Pool
from middleware.pool.recall import go_on, under_way
from middleware.pool.surroundings import NodeState, Surroundings
from middleware.relay.balance import Route
from middleware.relay.freshness import NEVER

UNUSED_S: Final = 600.0
"""How long is long, where servers may be idle for ever."""
RETIRED: Final = -1
"""The version of a route that is."""


class Pools:
    """Those of one worker."""

    __slots__ = (
        "_all_paused",
        "_around",
        "_draw",
        "_nodes",
        "_paused",
        "_paused_routes",
        "_pools",
        "_resting",
        "_routes",
        "some_paused",
        "topology",
        "version",
    )

    def __init__(self, around: Surroundings, draw: Callable[[], float]) -> None:
        self._around: Final = around
        self._draw: Final = draw
        self._pools: Final[dict[tuple[str, bytes, bytes, str], Pool]] = {}
        self._resting: Final[dict[Pool, float]] = {}
        """Those at rest, and since when or when they were last looked at; the longest ago first."""
        self._routes: dict[tuple[bytes, bytes, RoutePolicy], Route] = {}
        self._nodes: Final[dict[str, NodeState]] = {}
        self.topology = Topology()
        self.version = 0
        """Grows with each topology: a Route of an earlier one is to be asked for again."""
        self.some_paused = False
        """Some databases are, or all."""
        self._all_paused = False
        self._paused: frozenset[bytes] = frozenset()
        """What clients call the databases that are."""
        self._paused_routes: dict[RoutePolicy, Route] = {}

    def all(self) -> list[Pool]:
        """Those of the present topology, and those of others that still have servers."""
        return list(dict.fromkeys([*self._pools.values(), *self._around.awake]))

    def awake(self) -> list[Pool]:
        """Those that have servers, or clients that wait for one."""
        return list(self._around.awake)

    def nodes(self) -> dict[str, NodeState]:
        """What is known of each node."""
        return self._nodes

    def node(self, name: str) -> NodeState:
        """What is known of a node."""
        state = self._nodes.get(name)
        if state is None:
            state = self._nodes[name] = NodeState(self._around.settings.max_server_logins)
        return state

    def paused(self, called: bytes | None) -> bool:
        """Whether a database is, by what clients call it; None is never."""
        return called is not None and (self._all_paused or called in self._paused)

    def set_paused(self, everything: bool, names: frozenset[bytes]) -> None:
        """Lead clients of these databases nowhere; the pools are the caller's."""
        self.some_paused = everything or bool(names)
        self._all_paused = everything
        self._paused = names
        self._forget_routes()

    def _forget_routes(self) -> None:
        self._routes = {}
        self._paused_routes = {}
        self.version += 1

    def use(self, settings: WorkerSettings) -> None:
        """By these settings from now on. Pools of rules that are gone serve who waits in them, and close."""
        self._around.settings = settings
        for state in self._nodes.values():
            state.logins.use(settings.max_server_logins, self._around.clock.now)
        self._forget_routes()
        policies = {policy.pool.name: policy.pool for policy in settings.policies}
        for key, pool in list(self._pools.items()):
            policy = policies.get(pool.policy.name)
            if policy is not None:
                pool.use(settings, policy)
                continue
            pool.retire()
            self._forget(key, pool)
        for pool in self.awake():
            # Also those that have gone from the table before.
            pool.use_settings(settings)
        self._around.limits.try_again(self._around.clock.now)

    def set_topology(self, topology: Topology) -> None:
        """Use a new topology: pools of nodes that are gone, moved, down or draining are closed."""
        nodes = {(node.name, node.host, node.port): node for node in topology.nodes}
        known = {(node.name, node.host, node.port) for node in self.topology.nodes}
        for name, _, _ in nodes.keys() - known:
            # What another one of this name had replayed says nothing of it.
            self.node(name).fresh_as_of = NEVER
        self.topology = topology
        self._forget_routes()
        now = self._around.clock.now
        for key, pool in list(self._pools.items()):
            node = nodes.get((pool.node, pool.host, pool.port))
            if node is not None and node.up:
                self._resume(pool)
            elif node is not None and node.condition is Condition.DRAINING:
                pool.drain(ConnectionLost(f'node "{pool.node}" is draining'))
            elif node is not None:
                pool.close(ConnectionLost(f'node "{pool.node}" is down'))
                self._forget(key, pool)
            else:
                pool.close(ConnectionLost(f'node "{pool.node}" is no longer used'))
                pool.until = now + self._around.settings.shutdown_timeout_s
                self._forget(key, pool)
        # What is only not to be used any more may end what it has begun.
        for pool in self.awake():
            node = nodes.get((pool.node, pool.host, pool.port))
            if node is not None and (node.condition is Condition.DOWN or node.cut_off):
                what = "is not the primary" if node.cut_off else "is down"
                pool.abandon(ConnectionLost(f'node "{pool.node}" {what}', detail=f"{node.why}."))

    def _resume(self, pool: Pool) -> None:
        if pool.draining:
            pool.resume()
            if not pool.awake:
                self._rest(pool)

    def draining(self) -> tuple[NodeLeases, ...]:
        """What is under way on each node that is draining, and how many clients only rest there."""
        names = [node.name for node in self.topology.nodes if node.condition is Condition.DRAINING]
        return tuple([self._leases(name) for name in names])

    def _leases(self, node: str) -> NodeLeases:
        busy = resting = servers = 0
        for pool in self._around.awake:
            if pool.node == node:
                more = under_way(pool)
                busy, resting, servers = busy + more[0], resting + more[1], servers + pool.plan.size()
        return NodeLeases(node, busy, resting, servers)

    def node_answers(self, name: str) -> None:
        """A node takes connections again, it seems."""
        for pool in list(self._pools.values()):
            if pool.node == name and pool.plan.failing_until:
                pool.plan.may_open()
                pool.open_what_is_needed(self._around.clock.now)

    def route(self, database: bytes, user: bytes, policy: RoutePolicy, called: bytes | None) -> Route:
        """The pools for a database, user and policy under the present topology; `called` by its clients."""
        if self.paused(called):
            return self._paused_route(policy)
        route = self._route(database, user, policy)
        if self._paused:
            for pool in route.pools():
                if pool.plan.paused:
                    # It had none but clients of a name that is paused.
                    go_on(pool)
        return route

    def _paused_route(self, policy: RoutePolicy) -> Route:
        route = self._paused_routes.get(policy)
        if route is None:
            settings = self._around.settings
            route = self._paused_routes[policy] = Route(self.version, None, (), policy, settings, self._draw)
            route.paused = True
        return route

    def _route(self, database: bytes, user: bytes, policy: RoutePolicy) -> Route:
        route = self._routes.get((database, user, policy))
        if route is None:
            primary = self.topology.primary()
            route = self._routes[database, user, policy] = Route(
                self.version,
                None if primary is None else self._pool(primary, database, user, policy.pool),
                tuple(self._pool(node, database, user, policy.pool) for node in self.topology.standbys()),
                policy,
                self._around.settings,
                self._draw,
            )
        return route

    def _pool(self, node: Node, database: bytes, user: bytes, policy: PoolPolicy) -> Pool:
        key = node.name, database, user, policy.name
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(node, database, user, policy, self.node(node.name), self._around)
            if not policy.min_size:
                self._rest(pool)
        return pool

    def tick(self, now: float) -> None:
        """Keep the pools' deadlines; called a few times a second."""
        # Those that starve in the order they do, before the others in the order they were made.
        self._around.limits.try_again(now)
        for pool in self.awake():
            pool.tick(now)
            if pool.at_rest(now):
                self._rest(pool)
        self._retire(now)

    def _rest(self, pool: Pool) -> None:
        pool.rests_since = self._around.clock.now
        self._around.awake.pop(pool, None)
        # To the end, wherever it was.
        self._resting.pop(pool, None)
        if pool.retired:
            self._around.limits.leave(pool)
        elif not pool.plan.closed:
            self._resting[pool] = pool.rests_since

    def _retire(self, now: float) -> None:
        """Those that have been at rest for long."""
        idle_s = self._around.settings.server_idle_timeout_s or UNUSED_S
        due: list[Pool] = []
        for pool, since in self._resting.items():
            if now - since < idle_s:
                break
            due.append(pool)
        if not due:
            return
        for pool in due:
            del self._resting[pool]
        kept = self._retire_routes(now - idle_s)
        for pool in due:
            if pool.awake:
                continue
            if pool in kept:
                # Another pool of its route is in use. Later, then.
                self._resting[pool] = now
            else:
                self._around.limits.leave(pool)
                self._forget((pool.node, pool.database, pool.user, pool.policy.name), pool)

    def _retire_routes(self, since: float) -> set[Pool]:
        """Retire those all of whose pools are at rest since then, or longer; returns the pools of the others."""
        kept: set[Pool] = set()
        for key, route in list(self._routes.items()):
            pools = route.pools()
            if all(not pool.awake and pool.rests_since <= since for pool in pools):
                route.version = RETIRED
                del self._routes[key]
            else:
                kept.update(pools)
        return kept

    def _forget(self, key: tuple[str, bytes, bytes, str], pool: Pool) -> None:
        del self._pools[key]
        self._resting.pop(pool, None)
