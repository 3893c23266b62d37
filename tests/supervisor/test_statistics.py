"""Sums over workers, of those too that have ended, their bound, and averages of a period."""

import pytest
from msgspec.structs import replace

from middleware.control import Counters
from middleware.reports import BUCKETS_S, OTHERS, HealthReport, Histogram, TimingsReport, TrafficReport
from middleware.supervisor import statistics
from middleware.supervisor.statistics import StatisticsTotals, added_traffic

HISTOGRAM = Histogram((1, 2) + (0,) * (len(BUCKETS_S) - 1), 0.5)


def traffic(node: str, queries: int, database: str = "d", route: str = "") -> TrafficReport:
    return TrafficReport(database, route, node, queries, queries, queries, 10 * queries, 0, queries * 0.5, 0.25)


def counters(worker: int, *reports: TrafficReport, health: HealthReport | None = None) -> Counters:
    timings = (TimingsReport("", "a", HISTOGRAM),) if reports else ()
    return Counters(worker, 0, 0, (), traffic=reports, timings=timings, health=health or HealthReport())


def queries(reports: tuple[TrafficReport, ...]) -> dict[tuple[str, str, str], int]:
    return {(one.database, one.route, one.node): one.queries for one in reports}


def test_workers_add_up_and_a_new_process_begins_at_nothing() -> None:
    totals = StatisticsTotals(60.0, 0.0)
    totals.reported(counters(0, traffic("a", 5), traffic("b", 1)), 1.0)
    totals.reported(counters(1, traffic("a", 7)), 1.0)
    totals.reported(counters(0, traffic("a", 6), traffic("b", 1)), 2.0)
    assert queries(totals.statistics(3.0).traffic) == {("d", "", "a"): 13, ("d", "", "b"): 1}
    totals.ended(0)
    totals.ended(0)
    totals.ended(7)
    assert queries(totals.statistics(3.0).traffic) == {("d", "", "a"): 13, ("d", "", "b"): 1}
    totals.reported(counters(0, traffic("a", 2)), 4.0)
    found = totals.statistics(5.0)
    assert queries(found.traffic) == {("d", "", "a"): 15, ("d", "", "b"): 1}
    (timings,) = found.timings
    assert (timings.query.counts[:3], timings.query.sum_s) == ((3, 6, 0), 1.5)


def test_health_adds_up_and_what_is_now_ends_with_its_worker() -> None:
    health = HealthReport(0.2, 3.0, 100, 1, 2, 3, 4, HISTOGRAM, 5, 6, HISTOGRAM)
    totals = StatisticsTotals(60.0, 0.0)
    totals.reported(counters(0, health=health), 1.0)
    totals.reported(counters(1, health=replace(health, loop_lag_s=0.1)), 1.0)
    found = totals.statistics(1.0)
    assert list(found.workers) == [0, 1]
    assert (found.health.loop_lag_s, found.health.cpu_s, found.health.rss_bytes) == (0.2, 6.0, 200)
    totals.ended(0)
    found = totals.statistics(1.0)
    assert list(found.workers) == [1]
    assert (found.health.loop_lag_s, found.health.cpu_s, found.health.rss_bytes) == (0.1, 6.0, 100)
    assert (found.health.logins_in_flight, found.health.server_logins_in_flight) == (1, 5)
    assert (found.health.logins_done, found.health.logins_refused, found.health.logins_abandoned) == (4, 6, 8)
    assert (found.health.server_logins_failed, found.health.client_login.sum_s) == (12, 1.0)


def test_averages_are_of_the_last_whole_period() -> None:
    totals = StatisticsTotals(10.0, 100.0)
    totals.reported(counters(0, traffic("a", 10)), 105.0)
    # Until there is one, of what there is.
    found = totals.statistics(105.0)
    assert found.averages(found.period).queries == 2.0
    totals.reported(counters(0, traffic("a", 40)), 110.0)
    totals.reported(counters(0, traffic("a", 41)), 115.0)
    found = totals.statistics(118.0)
    assert (found.period_s, found.averages(found.period).queries) == (10.0, 4.0)
    assert found.averages(found.period).received_bytes == 40.0
    totals.reported(counters(0, traffic("a", 60), traffic("b", 4, "e")), 120.0)
    totals.ended(0)
    found = totals.statistics(125.0)
    averages = found.averages(one for one in found.period if one.database == "d")
    assert (averages.queries, averages.xact_s, averages.query_s) == (2.0, 0.5, 0.0)
    assert found.averages(found.period).queries == pytest.approx(2.4)
    assert found.averages(()).queries == found.averages(()).wait_s == 0


def test_a_worker_that_dies_takes_nothing_out_of_a_period() -> None:
    totals = StatisticsTotals(10.0, 0.0)
    totals.reported(counters(0, traffic("a", 10)), 10.0)
    totals.ended(0)
    totals.reported(counters(0, traffic("a", 1)), 20.0)
    assert queries(totals.statistics(21.0).period) == {("d", "", "a"): 1}


def test_what_is_kept_of_the_dead_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "TRAFFIC_MAX", 5)
    totals = StatisticsTotals(60.0, 0.0)
    for number in range(20):
        totals.reported(counters(0, traffic("a", 1, f"d{number}")), 1.0)
        totals.ended(0)
    found = totals.statistics(1.0).traffic
    assert len(found) == 6
    assert added_traffic(found).queries == 20
    assert queries(found)[OTHERS, "", "a"] == 15
