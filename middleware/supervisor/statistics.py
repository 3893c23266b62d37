"""What all workers have counted and timed, together, and in the last period (docs/statistics.md).

In: each worker's counts since it started, about once a second. Out: their sums since the start of this Pointsman, with
what a worker had told that has died. Averages are of the last whole period of `stats_period`; until one has ended, of
the time since the start.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from middleware.control import Counters
from middleware.reports import BUCKETS_S, OTHERS, HealthReport, Histogram, TimingsReport, TrafficReport

TRAFFIC_MAX: Final = 2000
"""Of the workers that have ended: (database, rule, node); what comes beyond is kept for the database OTHERS."""


class Averages(msgspec.Struct, frozen=True):
    """SHOW STATS_AVERAGES: of some traffic, in a period. 0 where there was none."""

    xacts: float
    """A second, as those that follow."""
    queries: float
    assignments: float
    received_bytes: float
    sent_bytes: float
    client_parses: float
    server_parses: float
    binds: float
    errors: float
    xact_s: float
    """Of a transaction."""
    query_s: float
    """Of a query."""
    wait_s: float
    """Of an assignment."""


class Statistics(msgspec.Struct, frozen=True):
    """All workers together, since the start."""

    traffic: tuple[TrafficReport, ...] = ()
    timings: tuple[TimingsReport, ...] = ()
    health: HealthReport = HealthReport()
    """Sums, of the workers that have ended too, but for the lag: the worst."""
    workers: dict[int, HealthReport] = {}
    """Those that have a process."""
    period_s: float = 0.0
    """How long the last period was."""
    period: tuple[TrafficReport, ...] = ()
    """What was counted in it."""

    def averages(self, traffic: Iterable[TrafficReport]) -> Averages:
        """The averages of those of `period` that are given: all, one database's, .."""
        one = added_traffic(traffic)
        seconds = self.period_s or 1.0
        return Averages(
            one.xacts / seconds,
            one.queries / seconds,
            one.assignments / seconds,
            one.received_bytes / seconds,
            one.sent_bytes / seconds,
            one.client_parses / seconds,
            one.server_parses / seconds,
            one.binds / seconds,
            one.errors / seconds,
            one.xact_s / max(1, one.xacts),
            one.query_s / max(1, one.queries),
            one.wait_s / max(1, one.assignments),
        )


_Key = tuple[str, str, str]
_NUMBERS: Final = TrafficReport.__struct_fields__[3:]


def _key(one: TrafficReport) -> _Key:
    return one.database, one.route, one.node


def _plus(one: TrafficReport, other: TrafficReport, sign: int = 1) -> TrafficReport:
    """The sum, or the difference, under the name of the first."""
    numbers = (getattr(one, name) + sign * getattr(other, name) for name in _NUMBERS)
    return TrafficReport(one.database, one.route, one.node, *numbers)


def added_traffic(traffic: Iterable[TrafficReport]) -> TrafficReport:
    """All of it as one, of no name."""
    total = TrafficReport("", "", "")
    for one in traffic:
        total = _plus(total, one)
    return total


def added_histograms(histograms: Iterable[Histogram]) -> Histogram:
    """All as one."""
    counts = [0] * (len(BUCKETS_S) + 1)
    sum_s = 0.0
    for one in histograms:
        for index, count in enumerate(one.counts):
            counts[index] += count
        sum_s += one.sum_s
    return Histogram(tuple(counts), sum_s)


def _added_timings(one: TimingsReport, other: TimingsReport) -> TimingsReport:
    return TimingsReport(
        one.route,
        one.node,
        added_histograms((one.query, other.query)),
        added_histograms((one.wait, other.wait)),
        added_histograms((one.checkout, other.checkout)),
    )


def _added_health(one: HealthReport, other: HealthReport) -> HealthReport:
    return HealthReport(
        loop_lag_s=max(one.loop_lag_s, other.loop_lag_s),
        cpu_s=one.cpu_s + other.cpu_s,
        rss_bytes=one.rss_bytes + other.rss_bytes,
        logins_in_flight=one.logins_in_flight + other.logins_in_flight,
        logins_done=one.logins_done + other.logins_done,
        logins_refused=one.logins_refused + other.logins_refused,
        logins_abandoned=one.logins_abandoned + other.logins_abandoned,
        client_login=added_histograms((one.client_login, other.client_login)),
        server_logins_in_flight=one.server_logins_in_flight + other.server_logins_in_flight,
        server_logins_failed=one.server_logins_failed + other.server_logins_failed,
        server_login=added_histograms((one.server_login, other.server_login)),
    )


def _outlived(health: HealthReport) -> HealthReport:
    """What stays of a worker that has ended."""
    return msgspec.structs.replace(health, loop_lag_s=0.0, rss_bytes=0, logins_in_flight=0, server_logins_in_flight=0)


class StatisticsTotals:
    """Adds up what the workers report."""

    def __init__(self, period_s: float, now: float) -> None:
        self.period_s = period_s
        self._latest: Final[dict[int, Counters]] = {}
        self._traffic_of_the_dead: Final[dict[_Key, TrafficReport]] = {}
        self._timings_of_the_dead: Final[dict[tuple[str, str], TimingsReport]] = {}
        self._health_of_the_dead = HealthReport()
        self._began_at = now
        """When the present period began, and what had been counted then."""
        self._began: dict[_Key, TrafficReport] = {}
        self._lasted_s = 0.0
        """The last one, and what was counted in it; 0 while there was none."""
        self._period: tuple[TrafficReport, ...] = ()

    def reported(self, counters: Counters, now: float) -> None:
        """A worker's counts since it started."""
        self._latest[counters.worker] = counters
        if now - self._began_at >= self.period_s:
            traffic = self._traffic()
            self._period, self._lasted_s = self._since(traffic), now - self._began_at
            self._began_at, self._began = now, traffic

    def ended(self, worker: int) -> None:
        """The worker's process is gone: its counts stay."""
        counters = self._latest.pop(worker, None)
        if counters is None:
            return
        for traffic in counters.traffic:
            key = _key(traffic)
            if key not in self._traffic_of_the_dead and len(self._traffic_of_the_dead) >= TRAFFIC_MAX:
                key = OTHERS, *key[1:]
            _add_traffic(self._traffic_of_the_dead, key, traffic)
        for timings in counters.timings:
            _add_timings(self._timings_of_the_dead, timings)
        self._health_of_the_dead = _added_health(self._health_of_the_dead, _outlived(counters.health))

    def statistics(self, now: float) -> Statistics:
        """As of the latest reports."""
        traffic = self._traffic()
        timings = dict(self._timings_of_the_dead)
        health = self._health_of_the_dead
        for counters in self._latest.values():
            for one in counters.timings:
                _add_timings(timings, one)
            health = _added_health(health, counters.health)
        return Statistics(
            traffic=tuple(traffic.values()),
            timings=tuple(timings.values()),
            health=health,
            workers={worker: counters.health for worker, counters in sorted(self._latest.items())},
            period_s=self._lasted_s or max(0.0, now - self._began_at),
            period=self._period if self._lasted_s else self._since(traffic),
        )

    def _traffic(self) -> dict[_Key, TrafficReport]:
        totals = dict(self._traffic_of_the_dead)
        for counters in self._latest.values():
            for one in counters.traffic:
                _add_traffic(totals, _key(one), one)
        return totals

    def _since(self, traffic: dict[_Key, TrafficReport]) -> tuple[TrafficReport, ...]:
        """What was counted since the present period began."""
        before = self._began
        return tuple(one if key not in before else _plus(one, before[key], -1) for key, one in traffic.items())


def _add_traffic(totals: dict[_Key, TrafficReport], key: _Key, more: TrafficReport) -> None:
    have = totals.get(key)
    totals[key] = _plus(TrafficReport(*key) if have is None else have, more)


def _add_timings(totals: dict[tuple[str, str], TimingsReport], more: TimingsReport) -> None:
    have = totals.get((more.route, more.node))
    totals[more.route, more.node] = more if have is None else _added_timings(have, more)
