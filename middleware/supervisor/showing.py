"""SHOW: what the supervisor knows, and what workers say when they are asked, made into tables.

In: a subject. Out: a Table, with a notice for each worker that has not answered. Nothing is changed by it.
"""

import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar, cast

import anyio
import anyio.to_thread
import msgspec

from healthcheck.topology import Topology
from middleware.admin import show_settings, show_stats, show_traffic
from middleware.admin.columns import COLUMNS
from middleware.admin.grammar import Show
from middleware.admin.show_stats import Period
from middleware.admin.table import Table
from middleware.config import Settings
from middleware.control import CacheCounters, Counters
from middleware.reports import ClientReport, DigestReport, PoolReport, PreparedReport, Report, ServerReport, Subject
from middleware.supervisor import shown
from middleware.supervisor.asking import Asking
from middleware.supervisor.cache_control import CacheState
from middleware.supervisor.cache_watch import WatchStatus
from middleware.supervisor.counters import CountersSnapshot
from middleware.supervisor.journal import Journal
from middleware.supervisor.pausing import Pausing
from middleware.supervisor.shown import Outlook
from middleware.supervisor.status import Status

RESOLVE_S: Final = 2.0
"""For the names of all nodes' hosts."""

_Kind = TypeVar("_Kind", bound=Report)


class Known(Protocol):
    """What is to be known of a Pointsman."""

    @property
    def settings(self) -> Settings: ...
    @property
    def topology(self) -> Topology: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def asking(self) -> Asking: ...
    @property
    def pausing(self) -> Pausing: ...
    def status(self) -> Status: ...
    def counters(self) -> CountersSnapshot: ...
    def cache_counters(self) -> CacheCounters: ...
    def cache_state(self) -> CacheState: ...
    def worker_counters(self) -> Mapping[int, Counters]: ...
    def period(self) -> Period: ...
    def watch_status(self) -> Sequence[WatchStatus]: ...
    def known_users(self) -> Sequence[str]: ...
    def outlook(self) -> Outlook: ...
    def listening(self) -> Mapping[int, tuple[str, int]]: ...


class Showing:
    """SHOW of one Pointsman."""

    def __init__(self, known: Known) -> None:
        self._known: Final = known

    async def show(self, command: Show) -> Table:
        """The table. A worker that has not answered is not in it, and named in a notice."""
        known = self._known
        match command.subject:
            case "help":
                return shown.help_table()
            case "version":
                return shown.version(known.status())
            case "nodes":
                return shown.nodes(known.status(), known.counters(), known.settings)
            case "events":
                return shown.events(known.journal.beyond(0), command.limit)
            case "reasons":
                return shown.reasons(known.counters())
            case "session_state":
                return shown.session_state(known.counters())
            case "cache":
                return shown.cache(known.cache_state(), known.cache_counters(), known.watch_status())
            case "failover":
                return shown.failover(known.status(), known.settings, known.outlook(), known.journal.beyond(0))
            case "stats":
                return show_stats.stats(known.period())
            case "stats_totals":
                return show_stats.stats_totals(known.period())
            case "stats_averages":
                return show_stats.stats_averages(known.period())
            case "totals":
                return show_stats.totals(known.period())
            case "workers":
                return shown.workers(known.status(), known.worker_counters())
            case "mem":
                return shown.memory(known.worker_counters())
            case "config":
                return show_settings.config(known.settings)
            case "routes":
                return show_settings.routes(known.settings.policies())
            case "state":
                return shown.state(known.pausing.state().everything)
            case "dns_hosts":
                return await self._hosts()
            case "peers" | "peer_pools" | "dns_zones":
                return shown.empty(command.subject)
            case _:
                return await self._asked(command)

    async def knows(self, database: str) -> bool:
        """Whether a rule names it, somebody has used it since the start, or an operator has said something of it."""
        known = self._known
        said = {one.name for one in known.pausing.state().databases}
        used = {one.database for one in known.counters().traffic}
        if database in said | used | show_settings.named(known.settings.policies()):
            return True
        # Whoever has come just now is not counted yet.
        answers = _Answers(known.asking)
        clients, pools = await answers.of("clients", ClientReport), await answers.of("pools", PoolReport)
        return database in {one.database for one in clients} | {one.database for one in pools}

    async def _asked(self, command: Show) -> Table:
        """Those for which the workers are asked."""
        answers = _Answers(self._known.asking)
        make = await self._maker(command, answers)
        # Of ten thousand clients it takes some tenths of a second, in which the nodes are to be watched all the same.
        table = await anyio.to_thread.run_sync(make)
        return msgspec.structs.replace(table, notices=answers.notices())

    async def _maker(self, command: Show, answers: "_Answers") -> Callable[[], Table]:
        """What makes the table of values that do not change."""
        match command.subject:
            case "clients":
                return partial(show_traffic.clients, await answers.of("clients", ClientReport))
            case "sessions":
                return partial(show_traffic.sessions, await answers.of("clients", ClientReport))
            case "servers":
                return partial(show_traffic.servers, await answers.of("servers", ServerReport))
            case "sockets" | "active_sockets":
                clients, servers = (
                    await answers.of("clients", ClientReport),
                    await answers.of("servers", ServerReport),
                )
                return partial(show_traffic.sockets, clients, servers, active=command.subject == "active_sockets")
            case "fds":
                by_worker = answers.by_worker
                of_clients = await by_worker("clients", ClientReport)
                of_servers = await by_worker("servers", ServerReport)
                return partial(show_traffic.descriptors, self._known.listening(), of_clients, of_servers)
            case "pools":
                pools = await answers.of("pools", PoolReport)
                return partial(show_traffic.pools, pools, _consoles(await answers.of("clients", ClientReport)))
            case "node_pools":
                return partial(show_traffic.node_pools, await answers.of("pools", PoolReport))
            case "prepared_statements":
                return partial(show_traffic.prepared_statements, await answers.by_worker("prepared", PreparedReport))
            case "digests":
                reports = await answers.of("digests", DigestReport)
                return partial(show_stats.digests, reports, command.order, command.limit)
            case "databases":
                return await self._databases(answers)
            case "users":
                return await self._users(answers)
            case "lists":
                return await self._lists(answers)
            case _:
                raise AssertionError(command.subject)

    async def _databases(self, answers: "_Answers") -> Callable[[], Table]:
        known = self._known
        primary, state = known.topology.primary(), known.pausing.state()
        return partial(
            show_settings.databases,
            known.settings,
            await answers.of("pools", PoolReport),
            await answers.of("clients", ClientReport),
            None if primary is None else (primary.host, primary.port),
            {one.name: one.paused for one in state.databases},
            {one.name: one.disabled for one in state.databases},
        )

    async def _users(self, answers: "_Answers") -> Callable[[], Table]:
        known = self._known
        pools, clients = await answers.of("pools", PoolReport), await answers.of("clients", ClientReport)
        return partial(show_settings.users, known.settings, known.known_users(), pools, clients)

    async def _lists(self, answers: "_Answers") -> Callable[[], Table]:
        known = self._known
        pools, clients = await answers.of("pools", PoolReport), await answers.of("clients", ClientReport)
        databases, users = await self._databases(answers), await self._users(answers)
        logging_in = sum(one.health.logins_in_flight for one in known.worker_counters().values())
        hosts = len(_names_of_hosts(known.topology))
        return lambda: show_traffic.lists(
            pools, len(clients), logging_in, len(databases().rows), len(users().rows), hosts
        )

    async def _hosts(self) -> Table:
        """The names of hosts among the nodes', resolved now: a worker asks again when dns_max_ttl is over."""
        ttl = int(self._known.settings.dns_max_ttl)
        found: dict[str, str] = dict.fromkeys(_names_of_hosts(self._known.topology), "")

        async def resolve(name: str) -> None:
            try:
                those = await anyio.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except OSError:
                return
            found[name] = ",".join(dict.fromkeys(str(address[4][0]) for address in those))

        with anyio.move_on_after(RESOLVE_S):
            async with anyio.create_task_group() as tasks:
                for name in found:
                    tasks.start_soon(resolve, name)
        return Table(COLUMNS["dns_hosts"], tuple([(name, ttl, addresses) for name, addresses in found.items()]))


class _Answers:
    """What the workers have said, each asked once for a subject."""

    def __init__(self, asking: Asking) -> None:
        self._asking: Final = asking
        self._known: dict[Subject, tuple[tuple[int, Report], ...]] = {}
        self._silent: set[int] = set()

    async def by_worker(self, subject: Subject, kind: type[_Kind]) -> list[tuple[int, _Kind]]:
        """With the worker whose each is."""
        if subject not in self._known:
            answers = await self._asking.ask(subject)
            self._known[subject] = answers.reports
            self._silent.update(answers.silent)
        assert all(isinstance(report, kind) for _, report in self._known[subject])
        return cast(list[tuple[int, _Kind]], list(self._known[subject]))

    async def of(self, subject: Subject, kind: type[_Kind]) -> list[_Kind]:
        return [report for _, report in await self.by_worker(subject, kind)]

    def notices(self) -> tuple[str, ...]:
        """Who has not answered."""
        return tuple([f"worker {worker} has not answered, and is left out" for worker in sorted(self._silent)])


def _consoles(clients: Sequence[ClientReport]) -> int:
    return sum(client.database in show_settings.CONSOLES for client in clients)


def _names_of_hosts(topology: Topology) -> list[str]:
    """Of the nodes' hosts those that are looked up."""
    found = []
    for host in dict.fromkeys(node.host for node in topology.nodes):
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if not host.startswith("/"):
                found.append(host)
    return found
