"""Sums over workers, of those too that have ended, and their bound."""

import pytest
from msgspec.structs import replace

from middleware.control import Counters
from middleware.reports import BUCKETS_S, OTHERS, HealthReport, Histogram, TimingsReport, TrafficReport
from middleware.supervisor import counters as totals_of
from middleware.supervisor.counters import Totals
from middleware.supervisor.statistics import added_health, added_histograms, added_traffic

HISTOGRAM = Histogram((1, 2) + (0,) * (len(BUCKETS_S) - 1), 0.5)


def traffic(node: str, queries: int, database: str = "d", route: str = "") -> TrafficReport:
    return TrafficReport(database, route, node, queries, queries, queries, 10 * queries, 0, queries * 0.5, 0.25)


def counters(worker: int, *reports: TrafficReport, health: HealthReport | None = None) -> Counters:
    timings = (TimingsReport("", "a", HISTOGRAM),) if reports else ()
    return Counters(worker, 0, 0, (), traffic=reports, timings=timings, health=health or HealthReport())


def queries(reports: tuple[TrafficReport, ...]) -> dict[tuple[str, str, str], int]:
    return {(one.database, one.route, one.node): one.queries for one in reports}


def test_workers_add_up_and_a_new_process_begins_at_nothing() -> None:
    totals = Totals()
    totals.reported(counters(0, traffic("a", 5), traffic("b", 1)))
    totals.reported(counters(1, traffic("a", 7)))
    totals.reported(counters(0, traffic("a", 6), traffic("b", 1)))
    assert queries(totals.snapshot().traffic) == {("d", "", "a"): 13, ("d", "", "b"): 1}
    totals.ended(0)
    totals.ended(0)
    totals.ended(7)
    assert queries(totals.snapshot().traffic) == {("d", "", "a"): 13, ("d", "", "b"): 1}
    totals.reported(counters(0, traffic("a", 2)))
    found = totals.snapshot()
    assert queries(found.traffic) == {("d", "", "a"): 15, ("d", "", "b"): 1}
    assert found.traffic[0] == TrafficReport("d", "", "a", 15, 15, 15, 150, 0, 7.5, 0.75)
    (timings,) = found.timings
    assert (timings.query.counts[:3], timings.query.sum_s) == ((3, 6, 0), 1.5)


def test_health_adds_up_and_what_is_now_ends_with_its_worker() -> None:
    health = HealthReport(0.2, 3.0, 100, 1, 2, 3, 4, HISTOGRAM, 5, 6, HISTOGRAM)
    totals = Totals()
    totals.reported(counters(0, health=health))
    totals.reported(counters(1, health=replace(health, loop_lag_s=0.1)))
    found = totals.snapshot()
    assert sorted(found.health) == [0, 1]
    assert (found.all_health.loop_lag_s, found.all_health.cpu_s, found.all_health.rss_bytes) == (0.2, 6.0, 200)
    totals.ended(0)
    found = totals.snapshot()
    assert sorted(found.health) == [1]
    assert (found.all_health.loop_lag_s, found.all_health.cpu_s, found.all_health.rss_bytes) == (0.1, 6.0, 100)
    assert (found.all_health.logins_in_flight, found.all_health.server_logins_in_flight) == (1, 5)
    assert (found.all_health.logins_done, found.all_health.logins_refused, found.all_health.logins_abandoned) == (
        4,
        6,
        8,
    )
    assert (found.all_health.server_logins_failed, found.all_health.client_login.sum_s) == (12, 1.0)


def test_nothing_adds_up_to_nothing() -> None:
    assert added_health() == HealthReport()
    assert added_histograms() == Histogram()
    assert added_traffic() == ()


def test_what_is_kept_of_the_dead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals_of, "TRAFFIC_MAX", 5)
    totals = Totals()
    for number in range(20):
        totals.reported(counters(0, traffic("a", 1, f"d{number}")))
        totals.ended(0)
    found = totals.snapshot().traffic
    assert len(found) == 6
    assert sum(one.queries for one in found) == 20
    assert queries(found)[OTHERS, "", "a"] == 15
