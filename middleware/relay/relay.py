"""What the clients of one worker share: the latest snapshots, the pools, the tables of statements, the counts.

Reads the control plane's snapshots as they stand; never waits for them.
"""

import asyncio
import random
import secrets
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from healthcheck.topology import Node, Topology
from middleware.auth import Access, Authority
from middleware.auth.scram import Keys, keys_of
from middleware.cache.cache import QueryCache
from middleware.cache.counts import Counts
from middleware.cache.sharing import Level, Sharing
from middleware.cache.versions import Versions
from middleware.config import CacheSettings, TlsMaterial, WorkerSettings
from middleware.config.tls import ClientTls, client_tls_of, server_context
from middleware.control import (
    ConsoleAsked,
    ConsoleGone,
    ConsoleMore,
    Counters,
    NodeCounters,
    SetCache,
    SetSecret,
    StateUse,
    process_id_of,
    slot_of,
)
from middleware.errors import NoNode
from middleware.pool.dial import Dialer
from middleware.pool.ledger import Ledger, Limit
from middleware.pool.limits import ServerLimits
from middleware.pool.plan import Clock
from middleware.pool.surroundings import Surroundings
from middleware.relay.accounts import Accounts, Tallies
from middleware.relay.admission import Admission
from middleware.relay.freshness import NEVER, Commits
from middleware.relay.health import Health
from middleware.relay.inquiries import Inquiries
from middleware.relay.newcomers import Newcomers
from middleware.relay.pauses import Pauses
from middleware.relay.policies import Policies
from middleware.relay.pools import Pools
from middleware.relay.primary_queue import PrimaryQueue
from middleware.relay.reasons import Reasons, SharedReasons
from middleware.relay.state_warnings import StateCounts
from middleware.relay.tracing import Tracing
from middleware.relay.welcomes import Welcomes
from middleware.session.digests import Digests
from middleware.session.login import SECRET_BYTES_3_0, SECRET_BYTES_3_2
from middleware.session.parameters import Interned
from middleware.session.prepared import StatementRegistry
from parser.shapes import table_for
from routing.catalog import ANYWHERE, Catalog, Known, SearchPath, shared
from routing.router import Router

IDLE_LOOK_S: Final = 1.0
"""How often all clients are looked at for idle ones."""
WATCH_ROUND_S: Final = 0.02
"""The watcher of others' writes does not look more often."""
ASK_AGAIN_S: Final = 1.0
"""Between two questions for catalogs that are missing."""
ASKS: Final = 10
"""As often, unless something is to be decided again: the database may not exist."""
DERIVERS: Final = 2
"""Threads that work for passwords shown in clear text: what waits for them is bounded by max_client_logins."""
PATHS_MAX: Final = 1000
"""Roles and search paths of one database; beyond them, names are looked up in all schemas."""
DATABASES_MAX: Final = 1000
"""Databases whose catalogs are kept; the clients of others are served by the primary alone."""


class ControlPlane(Protocol):
    """What the data plane tells the control plane; none of it is answered."""

    def catalog_wanted(self, database: str, changed_at: float) -> None: ...
    def catalog_suspected(self, database: str) -> None: ...
    def secret_wanted(self, user: str) -> None: ...
    def freshness_wanted(self) -> None: ...
    def watch_wanted(self) -> None: ...
    def node_trouble(self, node: str, message: str) -> None: ...
    def server_wanted(self, key: bytes) -> None: ...
    def server_freed(self) -> None: ...
    def forward_cancel(self, process_id: int, secret: bytes) -> None: ...
    def console(self, said: ConsoleAsked | ConsoleMore | ConsoleGone) -> None: ...


class Client(Protocol):
    """What the relay needs of a client's connection."""

    secret: bytes
    process_id: int
    deadline: float
    counted: list[Limit]
    """The limits it counts for."""
    called: bytes | None
    """The database that it has asked for; b"" for all, None where that is none of a node's: it is never paused."""

    def suspend(self, suspended: bool) -> None:
        """Read nothing from it; or read again."""

    def waits(self) -> bool:
        """Whether it waits for a server."""

    def unsent(self) -> bool:
        """Whether it has not taken all that was read for it."""

    def pool_key(self) -> tuple[bytes, bytes, str] | None:
        """Whose pools it uses: database and user, as nodes call them, and the name of a rule."""

    def cancel(self) -> None:
        """Stop what it is doing or waiting for."""

    def settings_changed(self) -> None:
        """Go by the relay's settings, as soon as nothing is under way."""

    def idle_too_long(self, now: float) -> None:
        """See whether it has sent nothing for too long, while it has no server."""

    def track_writes(self, begin: bool) -> None:
        """Its writes are noted from now on, for the query cache, or are no longer."""

    def drain(self) -> None:
        """Go when nothing is under way."""

    def terminate(self) -> None:
        """Go now, and say why."""

    def close(self) -> None:
        """Go now, without a word."""


class Renewer(Protocol):
    """A client that goes by settings of before."""

    def renew(self, now: float) -> None:
        """Go by the relay's, if nothing is under way."""


class Reader(ABC):
    """Who holds a read until a standby is fresh enough."""

    __slots__ = ()

    @abstractmethod
    def freshness_arrived(self) -> None:
        """There is a new sample."""


class Replicating(Protocol):
    """What the relay needs of a replication connection, beyond what it needs of every client's."""

    called: bytes | None

    @property
    def node(self) -> Node:
        """Where its server is."""

    def topology_changed(self, topology: Topology) -> None:
        """It ends where its node is no longer what it was."""


class Relay:
    """The data plane of one worker."""

    def __init__(
        self,
        worker: int,
        slot: int,
        settings: WorkerSettings,
        loop: asyncio.AbstractEventLoop,
        control: ControlPlane,
        commits: Commits,
        ledger: Ledger,
        versions: Versions,
    ) -> None:
        self.worker: Final = worker
        self.slot: Final = slot
        """Its place in shared memory, which its clients' process ids name."""
        self.settings = settings
        self.loop: Final = loop
        self.clock: Final = Clock(loop.time())
        self.control: Final = control
        self.authority: Final = Authority(Access())
        """Nobody may come in until the control plane has said who."""
        self.inquiries: Final = Inquiries(control.secret_wanted)
        self._derivers: Final = ThreadPoolExecutor(DERIVERS, "derive")
        self.policies = Policies(settings.policies)
        self.facts = table_for(settings.primary_queries)
        self.tallies: Final = Tallies()
        self.digests: Final = Digests(settings.digests_max, self.facts)
        self.accounts: Final = Accounts(self.tallies, self.digests)
        self.statements: Final = StatementRegistry()
        self.parameters: Final = Interned()
        self.draining = False
        self.parting = False
        """Nobody comes in any more, who has not proved yet who it is."""
        self.clients: Final[dict[int, Client]] = {}
        """Clients that are logged in, by process id."""
        self.newcomers: Final = Newcomers(settings.max_client_logins)
        self.health: Final = Health()
        self.leaving: Final[set[Client]] = set()
        """Clients that send no more, and are owed answers until their deadlines."""
        self.replicating: Final[set[Replicating]] = set()
        """Replication connections whose servers are there, or may be."""
        self.welcomes: Final = Welcomes()
        self._routers: Final[dict[str, dict[tuple[str, SearchPath | None], Router]]] = {}
        self.waiting_for_freshness: list[Reader] = []
        """Clients whose reads are held until a standby is fresh enough."""
        self.without_primary: Final = PrimaryQueue(self.clock)
        self.reads_again = 0
        """Reads that were sent again, because the server was lost that had them first."""
        self._suspected: Final[set[str]] = set()
        """Databases whose catalogs may have changed since the last tick."""
        self._missing: Final[dict[str, int]] = {}
        """Databases with something to decide and no catalog to decide by: how often it is asked for."""
        self._missing_told_at = 0.0
        self._known_names: Final[Known] = {}
        self._freshness_wanted = False
        """The control plane was asked for a sample that has not come yet."""
        self._watch_wanted_at = 0.0
        self.commits: Final = commits
        self.cache: Final = QueryCache(settings.cache, versions, loop.call_soon)
        if settings.cache.redis_url:
            level = second_level(settings.cache, self.cache.counts)
            self.cache.sharing = Sharing(
                versions, level, self.want_watch, lambda name: self.catalog_changed(name, certain=False)
            )
        self.reasons: Final = Reasons()
        self.quiet = frozenset(settings.state_quiet)
        self.states: Final = StateCounts()
        self.shared_states: tuple[StateUse, ...] = ()
        """All workers' together, as the control plane last told."""
        self.shared_reasons = SharedReasons({}, 0)
        self.draw: Final = random.Random().random  # noqa: S311 - it balances load
        self.admission: Final = Admission(ledger, settings)
        self.server_limits: Final = ServerLimits(ledger, settings, control.server_wanted, control.server_freed)
        self.client_tls: ClientTls | None = None
        self.dialer: Final = Dialer(loop, settings.network, self._moved)
        around = Surroundings(
            settings,
            loop,
            self.clock,
            self.server_limits,
            self.dialer,
            self.authority,
            control.node_trouble,
            self.draw,
        )
        self.tracing: Final = Tracing(settings.otel_sample_ratio, self.draw) if settings.otel_endpoint else None
        """None where there are no traces."""
        self.pools: Final = Pools(around, self.draw)
        self.pauses: Final = Pauses(self)
        self.stale: Final[dict[Renewer, None]] = {}
        """Clients that go by settings of before."""
        self._serial = 0
        self._someone_may_idle = any(policy.client.idle_s > 0 for policy in settings.policies)
        self._idle_looked_at = 0.0

    # Snapshots

    def set_settings(self, settings: WorkerSettings) -> None:
        """Go by these from now on, and for each client as soon as it is at rest."""
        if self.tracing is not None:
            self.tracing.ratio = settings.otel_sample_ratio
        if settings.primary_queries != self.settings.primary_queries:
            self.facts = table_for(settings.primary_queries)
            self.statements.forget()
            self.digests.use(self.facts)
        self.settings = settings
        self.policies = Policies(settings.policies)
        self.newcomers.use(settings.max_client_logins)
        self.quiet = frozenset(settings.state_quiet)
        self._someone_may_idle = any(policy.client.idle_s > 0 for policy in settings.policies)
        self.admission.use(settings)
        self.server_limits.use(settings)
        self.dialer.use_network(settings.network)
        self.cache.use_settings(settings.cache)
        self.digests.resize(settings.digests_max)
        self.pools.use(settings)
        # Which pools are led to by what is paused may have changed.
        self.pauses.apply_again()
        for client in list(self.clients.values()):
            client.settings_changed()

    def set_tls(self, clients: TlsMaterial, nodes: TlsMaterial) -> None:
        """Use these for the connections that come from now on. Raises TlsError, OSError, having changed nothing."""
        client_tls, context = client_tls_of(clients), server_context(nodes)
        self.client_tls = client_tls
        self.dialer.use(nodes.sslmode, nodes.direct, context)

    def _moved(self, host: str, addresses: frozenset[str]) -> None:
        """The addresses of a node's name have changed."""
        for pool in self.pools.awake():
            pool.moved(host, addresses)

    def set_secret(self, said: SetSecret) -> None:
        """What auth_query has said of a user, or that it could not be asked."""
        if not said.failed:
            self.authority.answered(said.user, said.exists, said.secret, said.verifier, said.nobody)
        self.inquiries.end(said.user, said.failed)

    def derive(self, password: str, salt: bytes, iterations: int) -> "asyncio.Future[Keys]":
        """Have a thread do the work of SCRAM."""
        return self.loop.run_in_executor(self._derivers, keys_of, password, salt, iterations)

    def set_topology(self, topology: Topology) -> None:
        """Use a new topology: pools of nodes that are gone, moved or down are closed."""
        if self.cache.sharing is not None:
            self.cache.sharing.use_cluster(topology.system_identifier, topology.timeline)
        self.pools.set_topology(topology)
        if self.tracing is not None:
            self.tracing.use(topology)
        if not self.pauses.everything():
            # Else who comes would have to wait; what has changed is told to who comes after RESUME.
            self.welcomes.clear()
        for client in list(self.replicating):
            client.topology_changed(topology)
        self.without_primary.topology_changed(topology)

    def node_answers(self, name: str) -> None:
        """A node that has left a probe unanswered has answered the next."""
        self.pools.node_answers(name)
        self.without_primary.tick(self.clock.now)

    def set_catalog(self, catalog: Catalog, read_at: float, changed_at: float) -> None:
        catalog = shared(catalog, self._known_names)
        if not catalog.hazard:
            self._missing.pop(catalog.database, None)
        for router in self._routers.get(catalog.database, {}).values():
            router.set_catalog(catalog, read_at, changed_at)

    def catalog_changed(self, database: str, certain: bool) -> None:
        """A client has changed it: nothing is decided by what is known of it until it was read again.

        Or (not `certain`) it may have, which happens too often to stop for.
        """
        if not certain:
            self._suspected.add(database)
            return
        now = time.monotonic()
        for router in self._routers.get(database, {}).values():
            router.suspend(now)
        self.commits.note_change(now)
        self.control.catalog_wanted(database, now)

    def set_cache(self, said: SetCache) -> None:
        """Begin, or cease, to note writes, and to keep answers."""
        if self.cache.use(said):
            for client in list(self.clients.values()):
                client.track_writes(said.tracking)

    def set_freshness(self, standbys: tuple[tuple[str, float, int | None], ...]) -> None:
        """A sample of how far the standbys have come."""
        bound = self.settings.max_replica_lag_bytes
        there = {node.name for node in self.pools.topology.standbys()}
        for name, fresh_as_of, lag_bytes in standbys:
            if name not in there:
                # Another node of this name may be the next.
                continue
            state = self.pools.node(name)
            state.lag_bytes = lag_bytes
            too_far = bound > 0 and (lag_bytes is None or lag_bytes > bound)
            state.fresh_as_of = NEVER if too_far else fresh_as_of
        self._freshness_wanted = False
        waiting, self.waiting_for_freshness = self.waiting_for_freshness, []
        for client in waiting:
            client.freshness_arrived()

    def want_freshness(self) -> None:
        """A read could not go to a standby for want of a newer sample."""
        if not self._freshness_wanted:
            self._freshness_wanted = True
            self.control.freshness_wanted()

    def want_watch(self) -> None:
        """An answer could not be given, because of others' writes it is not known until when there was none."""
        now = self.loop.time()
        if now - self._watch_wanted_at >= WATCH_ROUND_S:
            self._watch_wanted_at = now
            self.control.watch_wanted()

    def router(self, database: str, user: str, path: SearchPath | None) -> Router:
        """The router for a database, role and search_path; asks for the catalog of a database that is new."""
        routers = self._routers.pop(database, None)
        if routers is None:
            if len(self._routers) >= DATABASES_MAX:
                oldest = next(iter(self._routers))
                for router in self._routers.pop(oldest).values():
                    router.retire()
            routers = {}
        # The one that was asked for longest ago comes first.
        self._routers[database] = routers
        found = routers.get((user, path))
        if found is None and len(routers) >= PATHS_MAX:
            user, path = "", ANYWHERE
            found = routers.get((user, path))
        if found is None:
            found = routers[user, path] = Router(user, path, lambda: self._miss(database))
            self.control.catalog_wanted(database, 0.0)
        elif found.lacks_catalog():
            self._miss(database)
        return found

    def _miss(self, database: str) -> None:
        self._missing[database] = ASKS

    # Clients

    def admit(self, client: Client) -> None:
        """Give a client that has logged in, and was counted, its process id."""
        while True:
            self._serial += 1
            process_id = process_id_of(self.slot, self._serial)
            # 0 is no process id, and a serial comes round again after a million clients.
            if process_id and process_id not in self.clients:
                break
        client.process_id = process_id
        self.clients[process_id] = client

    def gone(self, client: Client) -> None:
        """A client's connection is over. Safe to call again."""
        if self.clients.get(client.process_id) is client:
            del self.clients[client.process_id]
            self.admission.leave(client.counted)

    def secret(self, long: bool) -> bytes:
        """A cancel key for a client of protocol 3.2 (long) or 3.0."""
        return secrets.token_bytes(SECRET_BYTES_3_2 if long else SECRET_BYTES_3_0)

    def cancel(self, process_id: int, secret: bytes) -> None:
        """A CancelRequest has come, here or through another worker. A wrong key is ignored, as PostgreSQL does."""
        if slot_of(process_id) != self.slot:
            self.control.forward_cancel(process_id, secret)
            return
        client = self.clients.get(process_id)
        if client is not None and client.secret and secrets.compare_digest(client.secret, secret):
            client.cancel()

    def let_go(self) -> bool:
        """Whether nobody is left; who has connected already may still log in."""
        return not (self.clients or self.leaving or self.newcomers.everybody())

    def drain(self) -> None:
        """No new work: clients that have nothing under way are told to go, the others when it is done."""
        self.draining = True
        for newcomer in self.newcomers.everybody():
            newcomer.terminate()
        for client in list(self.clients.values()):
            client.drain()

    def terminate(self) -> None:
        """The time for draining is over."""
        for client in list(self.clients.values()):
            client.terminate()

    def tick(self, now: float) -> None:
        """Keep the deadlines of pools and logins; called a few times a second."""
        self.clock.now = now
        for stale in list(self.stale):
            stale.renew(now)
        if self._someone_may_idle and now >= self._idle_looked_at + IDLE_LOOK_S:
            self._idle_looked_at = now
            for client in list(self.clients.values()):
                client.idle_too_long(now)
        self.inquiries.tick(now)
        for node in self.pools.topology.nodes:
            self.dialer.refresh(node.host)
        self.pools.tick(now)
        self.cache.tick(now)
        self.without_primary.tick(now)
        if self._missing and now - self._missing_told_at >= ASK_AGAIN_S:
            self._missing_told_at = now
            for database, asks in list(self._missing.items()):
                self.control.catalog_wanted(database, 0.0)
                if asks > 1:
                    self._missing[database] = asks - 1
                else:
                    del self._missing[database]
        for database in self._suspected:
            self.control.catalog_suspected(database)
        self._suspected.clear()
        self.newcomers.tick(now)
        for client in [client for client in self.leaving if client.deadline <= now]:
            client.close()

    def counters(self) -> Counters:
        """What the control plane shows of this worker."""
        awake = self.pools.awake()
        waiting = sum(len(pool.plan.waiting) for pool in awake) + len(self.without_primary)
        nodes = []
        for name, state in self.pools.nodes().items():
            pools = [pool for pool in awake if pool.node == name]
            leases = sum(len(pool.plan.lent) for pool in pools)
            servers = sum(pool.plan.size() for pool in pools)
            servers += sum(client.node.name == name for client in self.replicating)
            nodes.append(NodeCounters(name, state.reads, state.writes, leases, servers, state.answers))
        reasons = self.reasons
        return Counters(
            self.worker,
            len(self.clients),
            waiting,
            tuple(nodes),
            dict(reasons.counts),
            reasons.on_standbys,
            self.states.uses(),
            self.reads_again,
            self.cache.counters(),
            self.tallies.traffic(),
            self.tallies.timings(),
            self.health.report(self.newcomers, self.pools.nodes().values()),
        )


def second_level(settings: CacheSettings, counts: Counts) -> Level:
    """Where other instances' answers are, not connected yet."""
    # Its package is there where it is used.
    from middleware.cache.second_level import SecondLevel

    return SecondLevel(settings.redis_url, settings.redis_timeout_s, counts)


NO_PRIMARY: Final = NoNode(
    "no primary is available",
    hint="Pointsman sees no node, or more than one, that takes writes; try again later.",
)

NO_STANDBY: Final = NoNode(
    "no standby is available",
    hint="The session has pointsman.route = 'standby', and Pointsman sees no standby that takes reads.",
)

NO_READER: Final = NoNode(
    "no standby is available for this read",
    hint='read_from_primary is "never", and Pointsman sees no standby that takes reads; try again later.',
)

NONE_SERVED: Final = NoNode(
    "no standby could serve this read within query_wait_timeout",
    hint='read_from_primary is "never", and the standbys lag behind what this read must see, or take no connections.',
)
