"""What several workers have counted and timed, as one (docs/statistics.md).

In: the reports of each, of its process alone. Out: their sums. What is kept of workers that have ended is bounded.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from middleware.reports import BUCKETS_S, OTHERS, HealthReport, Histogram, TimingsReport, TrafficReport

TRAFFIC_MAX: Final = 2000
"""Of the workers that have ended: (database, rule, node); what comes beyond is kept for the database OTHERS."""


def added_traffic(*reports: Iterable[TrafficReport], count_max: int = 0) -> tuple[TrafficReport, ...]:
    """One for each database, rule and node; beyond `count_max`, if that is not 0, for OTHERS."""
    totals: dict[tuple[str, str, str], list[float]] = {}
    for some in reports:
        for one in some:
            database, route, node, *numbers = msgspec.structs.astuple(one)
            have = totals.get((database, route, node))
            if have is None and count_max and len(totals) >= count_max:
                database = OTHERS
                have = totals.get((database, route, node))
            if have is None:
                totals[database, route, node] = numbers
            else:
                totals[database, route, node] = [mine + more for mine, more in zip(have, numbers, strict=True)]
    return tuple(TrafficReport(*key, *numbers) for key, numbers in totals.items())  # type: ignore[arg-type]


def added_timings(*reports: Iterable[TimingsReport]) -> tuple[TimingsReport, ...]:
    """One for each rule and node, of which there are as many as the settings name."""
    totals: dict[tuple[str, str], TimingsReport] = {}
    for some in reports:
        for one in some:
            have = totals.get((one.route, one.node))
            totals[one.route, one.node] = one if have is None else _both(have, one)
    return tuple(totals.values())


def _both(one: TimingsReport, other: TimingsReport) -> TimingsReport:
    return TimingsReport(
        one.route,
        one.node,
        added_histograms(one.query, other.query),
        added_histograms(one.wait, other.wait),
        added_histograms(one.checkout, other.checkout),
    )


def added_histograms(*histograms: Histogram) -> Histogram:
    """All as one."""
    counts = [0] * (len(BUCKETS_S) + 1)
    for one in histograms:
        counts = [mine + more for mine, more in zip(counts, one.counts, strict=True)]
    return Histogram(tuple(counts), sum(one.sum_s for one in histograms))


def added_health(*reports: HealthReport) -> HealthReport:
    """Sums, but for the lag: the worst."""
    return HealthReport(
        loop_lag_s=max((one.loop_lag_s for one in reports), default=0.0),
        cpu_s=sum(one.cpu_s for one in reports),
        rss_bytes=sum(one.rss_bytes for one in reports),
        logins_in_flight=sum(one.logins_in_flight for one in reports),
        logins_done=sum(one.logins_done for one in reports),
        logins_refused=sum(one.logins_refused for one in reports),
        logins_abandoned=sum(one.logins_abandoned for one in reports),
        client_login=added_histograms(*(one.client_login for one in reports)),
        server_logins_in_flight=sum(one.server_logins_in_flight for one in reports),
        server_logins_failed=sum(one.server_logins_failed for one in reports),
        server_login=added_histograms(*(one.server_login for one in reports)),
    )


def what_was_done(health: HealthReport) -> HealthReport:
    """What stays of a worker that has ended: what it has done, not what it was."""
    return msgspec.structs.replace(health, loop_lag_s=0.0, rss_bytes=0, logins_in_flight=0, server_logins_in_flight=0)
