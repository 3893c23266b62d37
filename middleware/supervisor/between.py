"""What generations of a Pointsman do for each other while both have clients: a Pointsman's side of succession.py.

In: what a predecessor or a successor says. Out: the same as if a worker of our own had said it; and what our workers
say, to them.
"""

import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio

from healthcheck.guard import Guard, Happening
from healthcheck.memory import Remembered
from healthcheck.monitor import Monitor
from healthcheck.topology import Condition, Topology
from middleware.control import (
    BEFORE,
    CatalogWanted,
    Down,
    ForwardCancel,
    Kill,
    KillClient,
    Leases,
    NodeLeases,
    Obeyed,
    PauseProgress,
    Reconnect,
    ServerFreed,
    ServerWanted,
    SetChanges,
    SetPauses,
    slot_of,
)
from middleware.errors import PointsmanError
from middleware.supervisor.cache_control import CacheControl
from middleware.supervisor.catalogs import Catalogs
from middleware.supervisor.doors import Doors
from middleware.supervisor.leading import Leading
from middleware.supervisor.link import (
    CancelElsewhere,
    Carried,
    CatalogChanged,
    CatalogSuspected,
    HandedSocket,
    Link,
    Nodes,
    Ordered,
    PauseOrder,
    Pauses,
    PausesLeft,
    ServerFreedElsewhere,
    ServerWantedElsewhere,
    Standing,
    UnderWay,
)
from middleware.supervisor.node_orders import NodeOrders
from middleware.supervisor.pausing import Pausing
from middleware.supervisor.slots import Slots
from middleware.supervisor.stopping import ShutdownMode
from middleware.supervisor.succession import Succession
from middleware.supervisor.traffic import DrainingTraffic
from middleware.supervisor.workers import Worker

QUIET_S: Final = 120.0
"""For a failover or a switchover that is going on to end."""
SUCCESSOR: Final = "the process that has taken over"
ORDERS_MAX: Final = 100
"""Of a successor that were not carried out yet; beyond, the oldest is forgotten."""
QUIET_LOOK_S: Final = 0.2
LEASES_S: Final = 0.05
"""Between two looks at what is under way while nodes drain: somebody waits for its end."""


class Changes:
    """Up to when each worker's changes of catalogs have been passed on, by slot; and to others' workers."""

    def __init__(self, slots: Slots, workers: Sequence[Worker], catalogs: Catalogs) -> None:
        self._slots: Final = slots
        self._workers: Final = workers
        self._catalogs: Final = catalogs
        now = time.monotonic()
        # Of what others had changed by now, all will be in the catalogs that are read from now on.
        self._reported: Final[dict[int, float]] = dict.fromkeys(slots.others(), now)

    def message(self) -> SetChanges:
        """For a worker."""
        return SetChanges(tuple(self._reported.get(slot, 0.0) for slot in range(self._slots.columns())))

    def changed(self, slot: int, changed_at: float) -> None:
        """All are told of that one's."""
        self._reported[slot] = max(self._reported.get(slot, 0.0), changed_at)
        message = self.message()
        for worker in self._workers:
            worker.send(message)

    def wanted(self, slot: int, asked: CatalogWanted, worker: Worker | None) -> None:
        """A worker of ours wants a catalog, or one in this slot has seen it change."""
        snapshot = self._catalogs.wanted(asked.database, stale=asked.changed_at > 0)
        if asked.changed_at > 0:
            self.changed(slot, asked.changed_at)
        elif snapshot is not None and worker is not None:
            worker.send(snapshot)


class Between:
    """One Pointsman's."""

    def __init__(
        self,
        succession: Succession,
        slots: Slots,
        workers: Sequence[Worker],
        doors: Doors,
        *,
        monitor: Monitor,
        guard: Guard,
        leading: Leading,
        catalogs: Catalogs,
        changes: Changes,
        cache: CacheControl,
        traffic: DrainingTraffic,
        pausing: Pausing,
        node_orders: NodeOrders,
        clients: Callable[[], int],
        happened: Callable[[Happening], None],
        let_go: Callable[[], None],
        took_over: Callable[[], None],
        stop: Callable[[ShutdownMode], None],
    ) -> None:
        """`clients`: how many there are. `let_go`: another takes the new ones from now on. `took_over`: we do."""
        self._succession: Final = succession
        self.slots: Final = slots
        self._workers: Final = workers
        self._doors: Final = doors
        self._monitor: Final = monitor
        self._guard: Final = guard
        self._leading: Final = leading
        self._catalogs: Final = catalogs
        self._changes: Final = changes
        self._cache: Final = cache
        self._traffic: Final = traffic
        self._pausing: Final = pausing
        self._node_orders: Final = node_orders
        self.clients: Final = clients
        self.happened: Final = happened
        self._let_go: Final = let_go
        self.took_over: Final = took_over
        self.stop: Final = stop
        self._pauses: SetPauses | None = None
        """The last that our successor has told."""
        self._progress: PauseProgress | None = None
        """What it was told of that."""
        self._ordered: Final[deque[PauseOrder]] = deque(maxlen=ORDERS_MAX)
        self._heeded: Nodes | None = None
        self._heeded_version = 0
        """Of our own topology, since we do as Nodes says."""

    # What outlives a generation

    def standing(self) -> Standing:
        """What our successor must know."""
        topology = self._monitor.topology
        modes, forced = self._cache.said()
        return Standing(
            Remembered.of(topology),
            topology.fenced,
            modes,
            forced,
            self._pausing.state(),
            self._node_orders.orders(),
            self._guard.last,
        )

    def stand(self, standing: Standing) -> None:
        """Know what our predecessor knew."""
        if standing.remembered is not None:
            self._monitor.know(standing.remembered)
        if standing.primary is not None:
            self._guard.know(standing.primary)
        self._fence(standing.fenced)
        self._cache.know(standing.cache_modes, standing.cache_forced)
        self._pausing.restore(standing.pauses)
        self._node_orders.restore(standing.orders)

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """While nobody changes a role, is about to, or makes a node follow. Raises TimeoutError."""
        guard = self._guard
        with anyio.fail_after(QUIET_S):
            while True:
                await guard.tending.acquire()
                try:
                    await guard.busy.acquire()
                except BaseException:
                    guard.tending.release()
                    raise
                if not guard.failing_over():
                    break
                guard.busy.release()
                guard.tending.release()
                await anyio.sleep(QUIET_LOOK_S)
        try:
            yield
        finally:
            guard.busy.release()
            guard.tending.release()

    def change_no_roles(self, why: str) -> None:
        """From now on; "" to change them again."""
        self._leading.relieved = why

    def sockets(self) -> list[tuple[HandedSocket, int]]:
        """All that is listened on, with descriptors."""
        return self._doors.sockets()

    async def hold_cache(self) -> None:
        """Give no cached answers."""
        await self._cache.hold()

    def release_cache(self) -> None:
        """Give them again."""
        self._cache.release()

    def let_go(self, used: Sequence[int]) -> None:
        """Our successor listens where it says, and we no longer."""
        self._doors.give_away(used)
        self._let_go()

    # From our workers to the others

    def cancel(self, message: ForwardCancel, source: Link | None = None) -> None:
        """To the worker that the key names, wherever it is. A made-up key may name none; PostgreSQL does not answer
        those either."""
        slot = slot_of(message.process_id)
        if self.slots.mine(slot):
            self._workers[slot - self.slots.first].send(message)
        else:
            self._succession.tell_others(CancelElsewhere(message.process_id, message.secret), source)

    def share(self, message: ServerWanted | ServerFreed, worker: int) -> None:
        """What a worker says about limits goes to all others."""
        for one in self._workers:
            if one.index != worker:
                one.send(message)
        if isinstance(message, ServerWanted):
            self._succession.tell_others(ServerWantedElsewhere(message.key))
        else:
            self._succession.tell_others(ServerFreedElsewhere())

    def catalog(self, message: CatalogWanted, worker: Worker) -> None:
        """A worker of ours wants a catalog, or has seen it change."""
        slot = self.slots.first + worker.index
        if message.suspected:
            self._catalogs.suspected(message.database)
            self._succession.tell_others(CatalogSuspected(message.database))
            return
        self._changes.wanted(slot, message, worker)
        if message.changed_at > 0:
            self._succession.tell_others(CatalogChanged(message.database, slot, message.changed_at))

    def topology_changed(self, topology: Topology) -> None:
        """Our predecessor does as we do, about what an operator or a failover has said."""
        by = {
            condition: tuple(node.name for node in topology.nodes if node.condition is condition)
            for condition in (Condition.DRAINING, Condition.DETACHED)
        }
        self._succession.tell_before(
            Nodes(
                topology.version,
                topology.fenced,
                by[Condition.DRAINING],
                by[Condition.DETACHED],
                Remembered.of(topology),
            )
        )

    # From the others to our workers

    def cancelled(self, process_id: int, secret: bytes, source: Link) -> None:
        self.cancel(ForwardCancel(process_id, secret), source)

    def server_wanted(self, key: bytes, source: Link) -> None:
        self._tell_workers(ServerWanted(key))
        self._succession.tell_others(ServerWantedElsewhere(key), source)

    def server_freed(self, source: Link) -> None:
        self._tell_workers(ServerFreed())
        self._succession.tell_others(ServerFreedElsewhere(), source)

    def catalog_changed(self, database: str, slot: int, changed_at: float, source: Link) -> None:
        if any(one.catalog.database == database for one in self._catalogs.snapshots()):
            self._changes.wanted(slot, CatalogWanted(database, changed_at), None)
        else:
            # It is read when somebody asks for it.
            self._changes.changed(slot, changed_at)
        self._succession.tell_others(CatalogChanged(database, slot, changed_at), source)

    def catalog_suspected(self, database: str, source: Link) -> None:
        self._catalogs.suspected(database)
        self._succession.tell_others(CatalogSuspected(database), source)

    def slots_are_gone(self, suspects: Sequence[int]) -> None:
        """Workers in these may have changed catalogs, and have told nobody."""
        if suspects:
            now = time.monotonic()
            for one in self._catalogs.snapshots():
                self._catalogs.wanted(one.catalog.database, stale=True)
            for slot in suspects:
                self._changes.changed(slot, now)
            self.slots.settle(suspects)

    # Nodes

    def heed(self, nodes: Nodes) -> None:
        """Our successor has the say about nodes."""
        monitor = self._monitor
        ours = {node.name for node in monitor.topology.nodes}
        if nodes.remembered is not None:
            monitor.know(nodes.remembered)
        self._fence(nodes.fenced)
        for name in set(monitor.topology.fenced) - set(nodes.fenced):
            monitor.unfence(name)
        before = self._heeded
        for name in ours.intersection(nodes.draining):
            monitor.drain(name)
        for name in ours.intersection(nodes.detached):
            monitor.detach(name)
        if before is not None:
            for name in ours.intersection((*before.draining, *before.detached)):
                if name not in (*nodes.draining, *nodes.detached):
                    monitor.attach(name)
        self._heeded, self._heeded_version = nodes, monitor.topology.version

    def pauses(self, told: SetPauses) -> None:
        """Our successor has said PAUSE, RESUME and their kin."""
        self._pauses, self._progress = told, None
        self._pausing.heed(told, SUCCESSOR)

    def ordered(self, order: PauseOrder) -> None:
        """It has given an order that is no state."""
        self._ordered.append(order)

    def send_before(self, message: Down) -> None:
        """What all our workers are told of pauses, to our predecessor's."""
        if isinstance(message, SetPauses):
            self._succession.tell_before(Pauses(message))
        elif isinstance(message, PauseOrder):
            self._succession.tell_before(Ordered(message))

    def pauses_left(self, progress: PauseProgress) -> None:
        self._pausing.reported(BEFORE, progress)

    def obeyed(self, message: Obeyed) -> None:
        self._pausing.obeyed(BEFORE, message)

    async def _obey(self) -> None:
        """What our successor has ordered."""
        while self._ordered:
            order = self._ordered.popleft()
            count = 0
            with contextlib.suppress(PointsmanError):
                match order:
                    case Reconnect(database=database):
                        await self._pausing.reconnect(database, SUCCESSOR)
                    case Kill(database=database):
                        await self._pausing.kill(database, SUCCESSOR)
                    case KillClient(process_id=process_id):
                        await self._pausing.kill_client(process_id, SUCCESSOR)
                count = 1
            self._succession.tell_after(Carried(Obeyed(order.serial, count)))

    async def tell_under_way(self) -> None:
        """By the word of our successor, let it know what is under way here: while nodes drain, of what is paused."""
        while True:
            await anyio.sleep(LEASES_S)
            await self._obey()
            if self._pauses is not None:
                progress = self._pausing.progress(self._pauses.serial)
                if progress is not None and progress != self._progress:
                    self._progress = progress
                    self._succession.tell_after(PausesLeft(progress))
            nodes = self._heeded
            if nodes is not None and nodes.draining:
                found = [self._left(name) for name in nodes.draining]
                if None not in found:
                    self._succession.tell_after(UnderWay(nodes.version, tuple(one for one in found if one is not None)))

    def _left(self, name: str) -> NodeLeases | None:
        """What our clients have at a node; None while that is not known."""
        if all(node.name != name for node in self._monitor.topology.nodes):
            return NodeLeases(name, 0, 0, 0)
        left = self._traffic.left(self._heeded_version, name)
        return None if left.silent else NodeLeases(name, left.busy, left.resting, left.servers)

    def leases_reported(self, leases: Leases) -> None:
        self._traffic.reported(BEFORE, leases)

    def leases_ended(self) -> None:
        self._traffic.ended(BEFORE)
        self._pausing.ended(BEFORE)

    def _fence(self, names: Sequence[str]) -> None:
        ours = {node.name for node in self._monitor.topology.nodes}
        for name in names:
            if name in ours:
                self._monitor.fence(name)

    def _tell_workers(self, message: ServerWanted | ServerFreed) -> None:
        for one in self._workers:
            one.send(message)
