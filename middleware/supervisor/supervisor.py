"""One run of Pointsman: sockets, workers, monitors and catalogs brought together, from start to drained end.

In: Settings. Out: a proxy that serves, and what there is to know of it: addresses, topology, catalogs, counters.
"""

import asyncio
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import anyio
import structlog

from healthcheck.guard import Happening
from healthcheck.handover import Switched
from healthcheck.leadership import Standing
from healthcheck.line import overlook_given_up
from healthcheck.promote import Hand
from healthcheck.topology import Topology
from middleware.admin.show_stats import Period
from middleware.auth import Access
from middleware.cache.versions import Versions, bytes_for, slot_of
from middleware.config import Settings
from middleware.config.shown import ConfigValue, config_values
from middleware.control import (
    CacheCounters,
    CacheTracking,
    CatalogWanted,
    Configure,
    ConsoleAsked,
    ConsoleGone,
    ConsoleMore,
    Counters,
    Down,
    ForwardCancel,
    FreshnessWanted,
    Leases,
    LetGo,
    NodeAnswers,
    NodeTrouble,
    Obeyed,
    PauseProgress,
    Ready,
    SecretWanted,
    ServerFreed,
    ServerWanted,
    SetAccess,
    SetCache,
    SetCatalog,
    SetFreshness,
    Settled,
    SetTopology,
    Told,
    Up,
    WatchWanted,
)
from middleware.logs import tell_left_out
from middleware.supervisor.asking import Asking
from middleware.supervisor.auth_query import AuthQuery
from middleware.supervisor.averages import Averages
from middleware.supervisor.cache_control import CacheControl, CacheState
from middleware.supervisor.cache_watch import Watcher, WatchStatus
from middleware.supervisor.catalogs import Catalogs
from middleware.supervisor.commands import Commands
from middleware.supervisor.console import Console
from middleware.supervisor.console_clients import ConsoleClients
from middleware.supervisor.control_socket import ControlSocket
from middleware.supervisor.counters import REPORT_S, CountersSnapshot, Totals
from middleware.supervisor.crew import Crew
from middleware.supervisor.derivations import Derivations
from middleware.supervisor.doors import Open
from middleware.supervisor.generation import Generation
from middleware.supervisor.guarding import guard_of, handover_of, monitor_of
from middleware.supervisor.in_force import InForce
from middleware.supervisor.journal import Journal
from middleware.supervisor.leading import Leading
from middleware.supervisor.listeners import StartError
from middleware.supervisor.node_orders import NodeOrders
from middleware.supervisor.notify import Notifier
from middleware.supervisor.pausing import Pausing
from middleware.supervisor.reloading import Parts, Reloaded, Reloading
from middleware.supervisor.sampler import Sampler
from middleware.supervisor.settling import Settling
from middleware.supervisor.shown import Outlook
from middleware.supervisor.stats_line import StatsLine
from middleware.supervisor.status import Status, status_of
from middleware.supervisor.stopping import Stopping
from middleware.supervisor.take_over import Estate
from middleware.supervisor.traffic import DrainingTraffic
from middleware.supervisor.workers import WORKER_COMMAND, WorkerLife
from routing.catalog import Catalog

Phase = Literal["starting", "serving", "draining"]

log = structlog.get_logger("service")
nodes_log = structlog.get_logger("node")
workers_log = structlog.get_logger("worker")


class Supervisor:
    """The control plane of one Pointsman. Call `listen`, then `run`; `stop` ends it."""

    def __init__(
        self,
        settings: Settings,
        *,
        load: Callable[[], Settings] | None = None,
        worker_command: Sequence[str] = WORKER_COMMAND,
        estate: Estate | None = None,
        activated: Sequence[Open] = (),
        serve_command: Sequence[str] = (),
        notifier: Notifier | None = None,
    ) -> None:
        """`load` reads the settings anew when they are to be reloaded, and raises ConfigError. See generation.py of the
        rest."""
        self._totals = Totals()
        self._crew: Final = Crew(
            settings.workers, worker_command, self._inherited, self._greeting, self._heard, self._ended
        )
        self.generation: Final = Generation(
            settings.workers,
            estate,
            activated,
            serve_command,
            notifier,
            lambda: self._totals.snapshot().clients,
            lambda: self.stopping.mode is not None,
        )
        self._published: Topology | None = None
        self.journal = Journal()
        checks = settings.health_check
        tell_all = self._crew.tell_all
        self._in_force: Final = InForce(settings)
        credentials = self._in_force.credentials()
        self._leading = Leading(settings, self.journal.happened)
        self._monitor = monitor_of(
            settings, credentials, self._topology_changed, lambda name: tell_all(NodeAnswers(name)), self._leading
        )
        self._leading.teach(self._monitor)
        hand = Hand(self._in_force.acting, checks.timeout)
        self.pausing: Final = Pausing(
            settings.policies(),
            lambda worker, message: self.generation.send(worker, message),
            lambda: [*self._crew.running(), *self.generation.books_before()],
            self.journal.happened,
            self._pauses_changed,
            worker_of=self.generation.worker_of,
        )
        self.stopping: Final = Stopping(lambda: self.settings.shutdown_timeout, self.pausing.end)
        self._guard = guard_of(settings, self._monitor, hand, self.journal.happened, self._leading, self.pausing.stays)
        self._traffic = DrainingTraffic(lambda: [*self._crew.running(), *self.generation.books_before()])
        self.asking: Final = Asking(self._crew.tell, self._crew.running)
        self._handover = handover_of(settings, self._monitor, hand, self._guard, self._traffic)
        self.node_orders: Final = NodeOrders(
            self._monitor, self._traffic, lambda: self._handover.going_on, self.journal.happened
        )
        self._catalogs = Catalogs(
            credentials,
            lambda: self.topology,
            self._catalog_read,
            refresh_s=checks.catalog_refresh,
            timeout_s=checks.timeout,
            overrides=settings.overrides(),
            paused=self.pausing.lets_go,
            found=lambda database, version, at: self._versions.catalog_read(slot_of(database), version, at),
        )
        self._sampler = Sampler(
            credentials,
            lambda freshness: tell_all(SetFreshness(freshness)),
            period_s=settings.freshness_period,
            timeout_s=checks.timeout,
        )
        self._derivations = Derivations(self._in_force.access, self._use_access)
        self._auth_query = AuthQuery(
            self._in_force.asking,
            settings.auth_query,
            lambda: self.topology,
            tell_all,
            timeout_s=checks.timeout,
            seed=self._in_force.seed,
        )
        workers = settings.workers
        self._shared = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end of run()
        """Memory that only our own workers share, as a file without a name."""
        self._shared.truncate(bytes_for(workers))
        self._versions = Versions(self._shared.fileno(), 0, workers, mine=workers)
        self.cache: Final = CacheControl(
            settings.policies(),
            self._versions,
            workers,
            self._tell_cache,
            self.journal.happened,
            held=estate is not None,
        )
        self._stats_line: Final = StatsLine(self.counters, lambda: self.settings)
        self._averages: Final = Averages(
            lambda: (*self.counters().traffic, self._console_clients.traffic()), lambda: self.settings.stats_period
        )
        self.console: Final = Console(self)
        self._console_clients: Final = ConsoleClients(self.console, self._crew.tell)
        self._control = ControlSocket(
            Commands(
                self.status,
                self.journal,
                self.switch,
                self.cache,
                self._totals.cache,
                self.watch_status,
                self.console,
                self.generation.restarting,
            ),
            self.generation.succession.attend,
        )
        self._watcher = Watcher(
            credentials,
            self._versions,
            self._catalogs.suspected,
            mode=settings.cache_watch,
            interval_s=settings.cache_watch_interval,
            publication=settings.cache_watch_publication,
            timeout_s=checks.timeout,
        )
        self._settling: Final = Settling(tell_all, self._crew.running)
        self.reloading: Final = Reloading(
            self._in_force,
            load,
            Parts(
                monitor=self._monitor,
                guard=self._guard,
                handover=self._handover,
                hand=hand,
                leading=self._leading,
                catalogs=self._catalogs,
                sampler=self._sampler,
                derivations=self._derivations,
                auth_query=self._auth_query,
                cache=self.cache,
                watcher=self._watcher,
                pausing=self.pausing,
            ),
            tell_all,
            self._settling,
            lambda settings: self.generation.doors.clients.use(settings.network()),
            self.journal.happened,
        )
        self.generation.join(
            self._crew.workers,
            monitor=self._monitor,
            guard=self._guard,
            leading=self._leading,
            catalogs=self._catalogs,
            cache=self.cache,
            traffic=self._traffic,
            pausing=self.pausing,
            node_orders=self.node_orders,
            journal=self.journal,
            control=self._control,
            stop=self.stopping.successor,
        )
        self.failure: StartError | None = None
        """Why run() has ended although nobody called stop()."""
        self.ready = anyio.Event()
        """Set once every worker has said that it accepts clients."""
        self.addresses: tuple[tuple[str, int], ...] = ()
        """Address and port of each TCP socket, as bound."""
        self.unix_path: Path | None = None

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._in_force.settings

    @property
    def topology(self) -> Topology:
        """The nodes as they are now, with the latest lags; version 0 before the first look at all of them."""
        return self._monitor.topology

    @property
    def catalogs(self) -> dict[str, Catalog]:
        """The catalogs loaded so far, by database."""
        return {message.catalog.database: message.catalog for message in self._catalogs.snapshots()}

    @property
    def worker_pids(self) -> tuple[int | None, ...]:
        """The process of each worker, None while it has none."""
        return self._crew.pids()

    def lives(self) -> tuple[WorkerLife, ...]:
        """How each worker's process is."""
        return self._crew.lives()

    @property
    def happenings(self) -> list[Happening]:
        """What has become of the nodes, the oldest first."""
        return self.journal.happenings()

    @property
    def control_path(self) -> Path | None:
        """Where the control socket is."""
        control = self.generation.doors.control
        return None if control is None else control.path

    @property
    def phase(self) -> Phase:
        """What it is about: "starting" until every worker has accepted clients, "draining" once it was told to stop."""
        if self.stopping.mode is not None or self.generation.handed_over.is_set():
            return "draining"
        return "serving" if self.ready.is_set() else "starting"

    @property
    def web_sockets(self) -> list[socket.socket]:
        """Those on which HTTP is to be served, to its end: who asks while it drains is told so. They are closed by
        who serves."""
        return self.generation.doors.web.sockets

    def cache_counters(self) -> CacheCounters:
        """What all workers' query caches have done since the start."""
        return self._totals.cache()

    def cache_state(self) -> CacheState:
        """Whether answers are cached, and whose."""
        return self.cache.state()

    def counters(self) -> CountersSnapshot:
        """What all workers have done since the start, as of their latest reports."""
        return self._totals.snapshot()

    def status(self) -> Status:
        """What the nodes and the workers are now."""
        return status_of(
            self.settings.failover,
            self.topology,
            self._monitor.observations(),
            self.journal.since,
            self.worker_pids,
            self.counters(),
            self.generation.succession.left(),
        )

    def worker_counters(self) -> dict[int, Counters]:
        """What each worker has reported last, of its process alone."""
        return self._totals.workers()

    def period(self) -> Period:
        """What there is to make averages of."""
        return self._averages.period()

    def known_users(self) -> Sequence[str]:
        """Whose passwords are in the settings or in their files."""
        return self._in_force.known_users()

    def outlook(self) -> Outlook:
        """How it stands with a failover."""
        verdict = self._guard.verdict
        return Outlook(verdict.kind.value, verdict.why, self._guard.hindered())

    def leadership(self) -> Standing | None:
        """Whether this one of several Pointsmans leads; None where it does not claim to."""
        return self._leading.standing()

    def certificates_not_after(self) -> Mapping[str, float]:
        """When the certificates in force expire, since 1970, by the setting that names the file."""
        return self._in_force.tls.not_after

    def listening(self) -> dict[int, tuple[str, int]]:
        """The address and port of each listening socket, by its descriptor."""
        return self.generation.doors.listening()

    async def switch(self, node: str = "") -> Switched:
        """Make another node the primary, by default the standby that has the most. Raises Refused."""
        return await self._handover.switch(node)

    def listen(self) -> None:
        """Bind the listening sockets. Raises ListenError."""
        doors = self.generation.doors
        doors.open(self.settings)
        self.addresses = tuple(doors.clients.addresses)
        self.unix_path = doors.clients.unix_path

    def elsewhere(self) -> str:
        """Why an operator's word is not taken here; "" where it is."""
        return self.generation.elsewhere()

    def config(self) -> list[ConfigValue]:
        """The settings in force, for SHOW CONFIG."""
        return config_values(self.settings)

    async def reload(self, who: str) -> Reloaded:
        """Read the settings and their files anew, as `who` has said. Raises PointsmanError, with nothing changed and a
        line for each mistake in its detail."""
        return await self.reloading.reload(who)

    async def set(self, key: str, text: str, who: str) -> Reloaded:
        """Have one setting be another until the next reload. Raises PointsmanError, see Reloading.set()."""
        return await self.reloading.set(key, text, who)

    def _use_access(self, access: Access) -> None:
        self._in_force.access_told = access
        self._crew.tell_all(self._set_access())

    def _set_access(self) -> SetAccess:
        return SetAccess(self._auth_query.add_to(self._in_force.access_told))

    def stop(self) -> None:
        """Take no new clients and let open transactions end within shutdown_timeout. Called again, end at once."""
        if self.stopping.signal():
            self._crew.kill()

    async def run(self) -> None:
        """Serve until `stop`, then drain. Cancelled, it kills the workers."""
        overlook_given_up(asyncio.get_running_loop())
        generation = self.generation
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._monitor.run)
                tasks.start_soon(self._leading.run)
                tasks.start_soon(self._guard.run)
                tasks.start_soon(self._catalogs.run)
                tasks.start_soon(self._sampler.run)
                self._watcher.use(self.cache.state().tracking)
                tasks.start_soon(self._watcher.run)
                tasks.start_soon(self._auth_query.run)
                tasks.start_soon(self._derivations.run)
                tasks.start_soon(generation.answer)
                tasks.start_soon(self._console_clients.run)
                tasks.start_soon(self._averages.run)
                tasks.start_soon(self._stats_line.run)
                await self._derivations.begun.wait()
                tasks.start_soon(self._tell_ready)
                tasks.start_soon(self._drain_when_stopped)
                tasks.start_soon(generation.end_in_time, lambda: self.settings)
                if not generation.first:
                    tasks.start_soon(generation.succession.follow, self.ready, generation.doors.used, self._fail)
                killed = await self._crew.run(lambda: generation.until_alone(lambda: self.stopping.mode))
                if killed == "others":
                    log.warning("the process before has not ended")
                elif killed == "workers" and self.failure is None:
                    log.warning("workers killed before they had drained")
                tasks.cancel_scope.cancel()
        finally:
            self._control.close()
            generation.doors.close()
            self._shared.close()
            generation.slots.close()
        log.info("stopped")

    async def _tell_ready(self) -> None:
        await self._crew.ready()
        self.ready.set()
        if self.generation.first:
            self.generation.serving.set()
        log.info("ready", workers=len(self._crew.workers))

    def _fail(self, why: str) -> None:
        """It cannot go on."""
        self.failure = StartError(why)
        self._crew.kill()
        self.ready.set()
        self.generation.serving.set()

    async def _drain_when_stopped(self) -> None:
        while True:
            order = await self.stopping.next()
            # A successor may have their places.
            self.generation.doors.clients.close()
            self.generation.end(self.stopping.mode or "now")
            if not order.wait_for:
                self._control.close()
                self.generation.doors.close()
            self._crew.drain(order)
            if not order.wait_for:
                return

    def _inherited(self) -> tuple[int, ...]:
        generation = self.generation
        return (*generation.doors.clients.filenos(), generation.slots.descriptor, self._shared.fileno())

    def _greeting(self, index: int) -> list[Down]:
        """What a new process must know."""
        generation = self.generation
        messages: list[Down] = [
            Configure(
                index,
                self.settings.workers,
                self.settings.worker_settings(),
                generation.doors.clients.filenos(),
                generation.slots.first + index,
                generation.slots.descriptor,
                self._shared.fileno(),
            ),
            self._set_access(),
            self._in_force.tls.told,
            self.cache.greeting(index),
            self.pausing.greeting(),
        ]
        if self._published is not None:
            messages.append(SetTopology(self._published))
        messages.extend(self._catalogs.snapshots())
        messages.extend((generation.changes.message(), self._totals.reasons_told))
        if generation.succession.over:
            messages.append(LetGo())
        if self.stopping.mode is not None:
            messages.append(self.stopping.order(self.stopping.mode))
        return messages

    def _topology_changed(self, topology: Topology) -> None:
        self._leading.keep(topology)
        if self._published is None and self.settings.fail_fast == "on" and topology.primary() is None:
            seen = "; ".join(f"{node.name}: {node.why or node.role.value}" for node in topology.nodes)
            self._fail(f"no primary is available ({seen}), and fail_fast is on")
            return
        self.journal.topology_changed(self._published, topology)
        self._published = topology
        self.cache.topology_changed(topology)
        self._crew.tell_all(SetTopology(topology))
        self.generation.between.topology_changed(topology)
        self._catalogs.topology_changed()
        self._sampler.topology_changed(topology)
        self._watcher.topology_changed(topology)

    def _catalog_read(self, message: SetCatalog) -> None:
        """A database's catalog has been read, or is not kept any more."""
        self._crew.tell_all(message)
        self._watch_databases()

    def _watch_databases(self) -> None:
        self._watcher.databases_changed(name for name in self.catalogs if not self.pausing.lets_go(name))

    def _pauses_changed(self, all_resumed: bool) -> None:
        """Of databases that are paused nothing is asked; when they go on they may have become others."""
        self._watch_databases()
        self._catalogs.pauses_changed()
        for node in self.topology.nodes:
            self._monitor.probe_now(node.name)
        if all_resumed and self.cache.state().tracking:
            self.cache.clear("RESUME")

    def _tell_cache(self, message: Down) -> None:
        """Tell all workers what is done about cached answers; the writes of others are watched meanwhile."""
        self._crew.tell_all(message)
        if isinstance(message, SetCache):
            self._watcher.use(message.tracking)

    def watch_status(self) -> list[WatchStatus]:
        """How the writes of others are watched, by database."""
        return self._watcher.status()

    def _ended(self, index: int) -> None:
        """The process of worker `index` is gone."""
        self._totals.ended(index)
        self._traffic.ended(index)
        self.asking.ended(index)
        self._console_clients.ended(index)
        self.pausing.ended(index)
        self.cache.ended(index)
        self._settling.ended(index)

    def _heard(self, index: int, message: Down | Up) -> None:
        """What worker `index` says."""
        match message:
            case Ready():
                workers_log.info("worker ready", worker=index, pid=self.worker_pids[index])
            case Counters():
                for node in self._totals.reported(message):
                    self._monitor.heard(node, since_s=REPORT_S)
                self._totals.share_reasons(self._crew.tell_all)
                tell_left_out()
            case CacheTracking(serial=serial):
                self.cache.answered(index, serial)
            case Settled(serial=serial):
                self._settling.answered(index, serial)
            case Leases():
                self._traffic.reported(index, message)
            case Told():
                self.asking.told(index, message)
            case ConsoleAsked() | ConsoleMore() | ConsoleGone():
                self._console_clients.heard(index, message)
            case PauseProgress():
                self.pausing.reported(index, message)
            case Obeyed():
                self.pausing.obeyed(index, message)
            case CatalogWanted():
                self.generation.between.catalog(message, self._crew.workers[index])
            case SecretWanted(user=user):
                self._auth_query.wanted(user)
            case FreshnessWanted():
                self._sampler.wanted()
            case WatchWanted():
                self._watcher.wanted()
            case NodeTrouble(node=node, message=text):
                nodes_log.debug("node trouble", node=node, why=text, worker=index)
                self._monitor.probe_now(node)
            case ForwardCancel():
                self.generation.between.cancel(message)
            case ServerWanted() | ServerFreed():
                self.generation.between.share(message, index)
            case _:
                said = type(message).__name__
                workers_log.error("worker said what only the supervisor says", worker=index, message=said)
