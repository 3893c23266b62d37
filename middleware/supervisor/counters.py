"""Totals over all workers. A worker counts from its own start; what a dead one had counted stays in the totals."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from middleware.control import CacheCounters, Counters, NodeCounters, SetReasons, StateUse
from middleware.reports import HealthReport, TimingsReport, TrafficReport
from middleware.supervisor.cache_totals import added, outlived
from middleware.supervisor.statistics import TRAFFIC_MAX, added_health, added_timings, added_traffic, what_was_done

REPORT_S: Final = 1.5
"""How old at most is what a worker reports each second."""


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
    all_health: HealthReport = HealthReport()
    """Sums, with what workers had done that have ended; of the lag the worst."""
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
        self._health_of_the_dead = HealthReport()
        self.reasons_told = SetReasons({}, 0)
        """The reasons as all workers have heard them last."""

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
        self._traffic_of_the_dead = added_traffic(self._traffic_of_the_dead, counters.traffic, count_max=TRAFFIC_MAX)
        self._timings_of_the_dead = added_timings(self._timings_of_the_dead, counters.timings)
        self._health_of_the_dead = added_health(self._health_of_the_dead, what_was_done(counters.health))
        for node in counters.nodes:
            _add(self._of_the_dead, msgspec.structs.replace(node, leases=0, servers=0))

    def workers(self) -> dict[int, Counters]:
        """What each has reported last, of its process alone."""
        return dict(self._latest)

    def cache(self) -> CacheCounters:
        """The query caches' totals."""
        return added((self._cache_of_the_dead, *(counters.cache for counters in self._latest.values())))

    def reasons(self) -> SetReasons:
        """Why reads went to the primary, and who uses session state."""
        reasons = Counter(self._reasons_of_the_dead)
        for counters in self._latest.values():
            reasons.update(counters.reasons)
        return SetReasons(
            dict(reasons),
            self._on_standbys_of_the_dead + sum(one.on_standbys for one in self._latest.values()),
            _added(self._states_of_the_dead, *(counters.states for counters in self._latest.values())),
        )

    def share_reasons(self, tell_all: Callable[[SetReasons], None]) -> None:
        """Let each worker's clients ask why reads stay on the primary, all workers'. Called with each report."""
        reasons = self.reasons()
        if reasons != self.reasons_told:
            self.reasons_told = reasons
            tell_all(reasons)

    def snapshot(self) -> CountersSnapshot:
        """The totals as of the latest reports."""
        nodes = dict(self._of_the_dead)
        for counters in self._latest.values():
            for node in counters.nodes:
                _add(nodes, node)
        reasons, latest = self.reasons(), self._latest.values()
        return CountersSnapshot(
            clients=sum(counters.clients for counters in self._latest.values()),
            waiting=sum(counters.waiting for counters in self._latest.values()),
            nodes=nodes,
            reasons=reasons.reasons,
            on_standbys=reasons.on_standbys,
            states=reasons.states,
            reads_again=self._reads_again_of_the_dead + sum(one.reads_again for one in self._latest.values()),
            traffic=added_traffic(self._traffic_of_the_dead, *(one.traffic for one in latest)),
            timings=added_timings(self._timings_of_the_dead, *(one.timings for one in latest)),
            health={worker: counters.health for worker, counters in self._latest.items()},
            all_health=added_health(self._health_of_the_dead, *(one.health for one in latest)),
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
