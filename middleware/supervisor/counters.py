"""Totals over all workers. A worker counts from its own start; what a dead one had counted stays in the totals."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from middleware.control import CacheCounters, Counters, NodeCounters, StateUse
from middleware.reports import HealthReport, Histogram, TimingsReport, TrafficReport
from middleware.supervisor.cache_totals import added, outlived


class CountersSnapshot(msgspec.Struct, frozen=True):
    """All workers together: counts since the supervisor started, and what is open now."""

    clients: int = 0
    waiting: int = 0
    nodes: dict[str, NodeCounters] = {}
    reasons: dict[str, int] = {}
    """Reads that went to the primary, by why."""
    on_standbys: int = 0
    """Reads that standbys served."""
    states: tuple[StateUse, ...] = ()
    """Who uses session state, the most first."""
    reads_again: int = 0
    """Reads that were sent again, because the server was lost that had them first."""
    traffic: tuple[TrafficReport, ...] = ()
    timings: tuple[TimingsReport, ...] = ()
    health: dict[int, HealthReport] = {}
    """Of each worker that has reported, of its process alone."""
    as_of: float = 0.0
    """When the workers reported this (time.monotonic()), on average; 0 before any has. Counts divided by the time
    between two of these are a rate: between two looks there may be no report of a worker, or two."""


class Totals:
    """Adds up what the workers report."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._latest: dict[int, Counters] = {}
        self._reported_at: dict[int, float] = {}
        self._of_the_dead: dict[str, NodeCounters] = {}
        self._reasons_of_the_dead: Counter[str] = Counter()
        self._on_standbys_of_the_dead = 0
        self._states_of_the_dead: tuple[StateUse, ...] = ()
        self._reads_again_of_the_dead = 0
        self._cache_of_the_dead = CacheCounters()
        self._traffic_of_the_dead: tuple[TrafficReport, ...] = ()
        self._timings_of_the_dead: tuple[TimingsReport, ...] = ()

    def reported(self, counters: Counters) -> list[str]:
        """A worker's counts since it started; returns the nodes that have answered it since its last report."""
        before = self._latest.get(counters.worker)
        answers = {} if before is None else {node.node: node.answers for node in before.nodes}
        self._latest[counters.worker] = counters
        self._reported_at[counters.worker] = self._clock()
        return [node.node for node in counters.nodes if node.answers > answers.get(node.node, 0)]

    def ended(self, worker: int) -> None:
        """The worker's process is gone: its counts stay, what it had open is closed."""
        counters = self._latest.pop(worker, None)
        self._reported_at.pop(worker, None)
        if counters is None:
            return
        self._reasons_of_the_dead.update(counters.reasons)
        self._on_standbys_of_the_dead += counters.on_standbys
        self._reads_again_of_the_dead += counters.reads_again
        self._states_of_the_dead = _added(self._states_of_the_dead, counters.states)
        self._cache_of_the_dead = outlived(added((self._cache_of_the_dead, counters.cache)))
        self._traffic_of_the_dead = _traffic(self._traffic_of_the_dead, counters.traffic)
        self._timings_of_the_dead = _timings(self._timings_of_the_dead, counters.timings)
        for node in counters.nodes:
            _add(self._of_the_dead, msgspec.structs.replace(node, leases=0, servers=0))

    def workers(self) -> dict[int, Counters]:
        """What each has reported last, of its process alone."""
        return dict(self._latest)

    def cache(self) -> CacheCounters:
        """The query caches' totals."""
        return added((self._cache_of_the_dead, *(counters.cache for counters in self._latest.values())))

    def snapshot(self) -> CountersSnapshot:
        """The totals as of the latest reports."""
        nodes = dict(self._of_the_dead)
        reasons = Counter(self._reasons_of_the_dead)
        for counters in self._latest.values():
            reasons.update(counters.reasons)
            for node in counters.nodes:
                _add(nodes, node)
        return CountersSnapshot(
            clients=sum(counters.clients for counters in self._latest.values()),
            waiting=sum(counters.waiting for counters in self._latest.values()),
            nodes=nodes,
            reasons=dict(reasons),
            on_standbys=self._on_standbys_of_the_dead + sum(one.on_standbys for one in self._latest.values()),
            states=_added(self._states_of_the_dead, *(counters.states for counters in self._latest.values())),
            reads_again=self._reads_again_of_the_dead + sum(one.reads_again for one in self._latest.values()),
            traffic=_traffic(self._traffic_of_the_dead, *(one.traffic for one in self._latest.values())),
            timings=_timings(self._timings_of_the_dead, *(one.timings for one in self._latest.values())),
            health={worker: counters.health for worker, counters in self._latest.items()},
            as_of=sum(self._reported_at.values()) / max(1, len(self._reported_at)),
        )


def _added(*uses: Iterable[StateUse]) -> tuple[StateUse, ...]:
    """All of them, one for each application, class and action."""
    totals: dict[StateUse, int] = {}
    for use in itertools.chain(*uses):
        who = msgspec.structs.replace(use, statements=0)
        totals[who] = totals.get(who, 0) + use.statements
    found = [msgspec.structs.replace(who, statements=count) for who, count in totals.items()]
    return tuple(sorted(found, key=_most_first))


def _most_first(use: StateUse) -> tuple[int | str, ...]:
    return -use.statements, *msgspec.structs.astuple(use)


def _add(nodes: dict[str, NodeCounters], more: NodeCounters) -> None:
    have = nodes.get(more.node)
    if have is None:
        nodes[more.node] = more
        return
    nodes[more.node] = NodeCounters(
        node=more.node,
        reads=have.reads + more.reads,
        writes=have.writes + more.writes,
        leases=have.leases + more.leases,
        servers=have.servers + more.servers,
        answers=have.answers + more.answers,
    )


def _traffic(*reports: Iterable[TrafficReport]) -> tuple[TrafficReport, ...]:
    totals: dict[tuple[str, str, str], list[float]] = {}
    for one in itertools.chain(*reports):
        database, route, node, *numbers = msgspec.structs.astuple(one)
        have = totals.get((database, route, node))
        totals[database, route, node] = numbers if have is None else [a + b for a, b in zip(have, numbers, strict=True)]
    return tuple(TrafficReport(*key, *numbers) for key, numbers in totals.items())  # type: ignore[arg-type]


def _timings(*reports: Iterable[TimingsReport]) -> tuple[TimingsReport, ...]:
    totals: dict[tuple[str, str], TimingsReport] = {}
    for one in itertools.chain(*reports):
        have = totals.get((one.route, one.node), TimingsReport(one.route, one.node))
        totals[one.route, one.node] = TimingsReport(
            one.route,
            one.node,
            _both(have.query, one.query),
            _both(have.wait, one.wait),
            _both(have.checkout, one.checkout),
        )
    return tuple(totals.values())


def _both(one: Histogram, other: Histogram) -> Histogram:
    return Histogram(tuple(a + b for a, b in zip(one.counts, other.counts, strict=True)), one.sum_s + other.sum_s)
