"""What the dashboard shows, from what is known: rates, sums, alarms, bounds."""

import msgspec
import pytest

from middleware.control import CacheCounters, NodeCounters, StateUse
from middleware.reports import BUCKETS_S
from middleware.supervisor.asking import Answers
from middleware.supervisor.cache_control import CacheState
from middleware.supervisor.status import WorkerStatus
from middleware.web.history import POINTS_MAX, History
from middleware.web.picture import OFFENDERS_MAX, TEXT_CHARS_MAX, alarms, details, picture, quantile, rates, recently
from middleware.web.snapshot import Rates, Recently, Sample
from tests.dashboard.made import digest, node, pool, sources, status


def sample(as_of: float, hits: int = 0, misses: int = 0, **nodes: tuple[int, int]) -> Sample:
    return Sample(as_of, nodes, hits, misses)


def test_a_rate_is_what_was_counted_between_two_reports() -> None:
    before = sample(100.0, hits=5, db1=(10, 20), db2=(100, 0))
    after = sample(102.0, hits=25, db1=(14, 40), db2=(300, 0), db3=(8, 0))
    found = rates(before, after)
    # db3 was not counted for before.
    assert found == Rates({"db1": (2.0, 10.0), "db2": (100.0, 0.0), "db3": (4.0, 0.0)}, 10.0)
    assert (found.reads, found.writes) == (106.0, 10.0)


@pytest.mark.parametrize("later", [100.0, 100.1, 99.0])
def test_there_is_no_rate_without_a_report_in_between(later: float) -> None:
    assert rates(sample(100.0, db1=(0, 0)), sample(later, db1=(50, 0))) is None


def test_the_hit_ratio_is_of_those_who_asked_meanwhile() -> None:
    assert recently(sample(1, hits=90, misses=10), sample(2, hits=91, misses=13)).hit_ratio == 0.25
    assert recently(sample(1, hits=90, misses=10), sample(2, hits=90, misses=10)) == Recently()


def test_times_are_of_those_who_were_served_meanwhile() -> None:
    counts = [0] * (len(BUCKETS_S) + 1)
    counts[0] = 1000
    before = msgspec.structs.replace(sample(1), query=tuple(counts))
    counts[3] += 4  # within 0.5 ms to 1 ms
    after = msgspec.structs.replace(sample(2), query=tuple(counts))
    assert recently(before, after).query_p50_s == pytest.approx(0.00075)
    # Before the first client there was nothing to add up.
    first = recently(sample(1), after)
    assert first.query_p50_s == pytest.approx(0.0001 * 502 / 1000)
    assert first.wait_p99_s is None


@pytest.mark.parametrize(
    ("counts", "share", "seconds"),
    [
        ({0: 10}, 0.5, 0.00005),
        ({0: 10}, 1.0, 0.0001),
        ({9: 99, 10: 1}, 0.99, 0.1),
        ({9: 98, 10: 2}, 0.99, 0.175),
        ({len(BUCKETS_S): 5}, 0.5, BUCKETS_S[-1]),
        ({}, 0.5, None),
    ],
)
def test_a_quantile_is_within_its_bucket(counts: dict[int, int], share: float, seconds: float | None) -> None:
    found = quantile([counts.get(number, 0) for number in range(len(BUCKETS_S) + 1)], share)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_a_worker_has_its_share_of_a_core() -> None:
    before = msgspec.structs.replace(sample(10.0), cpu_s={0: 5.0, 1: 90.0})
    after = msgspec.structs.replace(sample(12.0), cpu_s={0: 6.5, 1: 0.1, 2: 0.4})
    found = rates(before, after)
    assert found is not None
    # Worker 1 was started again, worker 2 for the first time.
    assert found.cpu == {0: 0.75, 1: 0.0, 2: 0.0}


def test_between_two_reports_it_goes_on_as_it_went() -> None:
    history = History()
    looks = [(10.0, 0), (11.0, 100), (11.0, 100), (13.0, 300), (14.0, 350)]
    shown = [history.record(sources(NodeCounters("db1", reads, 0, 0, 0), as_of=as_of)) for as_of, reads in looks]
    assert [one.point.reads for one in shown] == [0.0, 100.0, 100.0, 100.0, 50.0]
    # A rate of a look without a report is no 0, and the next one's is no double.
    assert [one.reads for one in history.points()] == [0.0, 100.0, 100.0, 100.0, 50.0]


def test_of_the_past_only_the_last_minutes_are_kept() -> None:
    history = History()
    for number in range(POINTS_MAX + 5):
        history.record(sources(clients=number))
    points = history.points()
    assert len(points) == POINTS_MAX
    assert (points[0].clients, points[-1].clients) == (5, POINTS_MAX + 4)


def test_a_node_has_its_own_traffic() -> None:
    speed = Rates({"db1": (1.0, 2.0)})
    shown = picture(sources(NodeCounters("db1", 10, 20, 3, 4)), speed, Recently())
    primary, standby = shown.nodes
    assert (primary.reads_s, primary.writes_s, primary.reads, primary.writes) == (1.0, 2.0, 10, 20)
    assert (primary.leased, primary.servers, primary.lag_bytes) == (3, 4, None)
    assert (standby.reads_s, standby.servers, standby.lag_bytes, standby.address) == (0.0, 0, 0, "10.0.0.1:5432")
    assert (shown.point.leased, shown.point.servers, shown.point.lags) == (3, 4, {"db2": 0})


def test_an_address_of_ipv6_is_written_with_brackets() -> None:
    known = status(node("db1", "primary", host="::1"))
    assert picture(sources(known=known), Rates(), Recently()).nodes[0].address == "[::1]:5432"


def test_all_is_well_without_alarms() -> None:
    assert alarms(status(node("db1", "primary"), node("db2", "standby"))) == ()


def test_what_is_worst_is_said_first() -> None:
    found = alarms(
        status(
            node("db1", "standby", condition="suspect", why="timeout"),
            node("db2", "primary", condition="down", used=False, why="connection refused"),
            node("db3", "standby", condition="detached", used=False, why="by order"),
            workers=(WorkerStatus(0, 100), WorkerStatus(1, None)),
        )
    )
    assert [(one.severity, one.text) for one in found] == [
        ("bad", "There is no primary: writes wait, and fail after query_wait_timeout."),
        ("bad", "Node db2 is not used (down): connection refused."),
        ("bad", "Node db3 is not used (detached): by order."),
        ("bad", "Worker 1 is being started again."),
        ("warning", "Node db1 is suspect: timeout."),
    ]


def test_a_primary_that_drains_is_no_alarm_for_a_missing_one() -> None:
    known = status(node("db1", "primary", condition="draining", used=False))
    assert [(one.severity, one.text) for one in alarms(known)] == [("warning", "Node db1 is draining.")]


def test_before_the_first_look_nothing_is_known() -> None:
    known = status(node("db1", "unknown", used=False, condition="unknown"), topology_version=0)
    assert [one.text for one in alarms(known)] == ["The nodes have not been looked at yet."]


def test_lists_have_an_end_and_say_what_they_leave_out() -> None:
    uses = tuple(StateUse(f"app{number}", "u", "d", "temp", "pin", 100 - number) for number in range(OFFENDERS_MAX + 3))
    shown = picture(sources(states=uses), Rates(), Recently())
    assert len(shown.offenders) == OFFENDERS_MAX
    assert (shown.offenders[0].application_name, shown.offenders[0].statements) == ("app0", 100)
    assert shown.offenders_left == 3


def test_reasons_are_told_the_most_frequent_first_and_short() -> None:
    shown = picture(sources(reasons={"rare": 1, "x" * 2000: 50, "usual": 9}), Rates(), Recently())
    assert [one.reads for one in shown.reasons] == [50, 9, 1]
    assert shown.reasons[0].why == "x" * TEXT_CHARS_MAX + "…"


@pytest.mark.parametrize(
    ("serving", "tracking", "state"), [(True, True, "on"), (False, True, "changing"), (False, False, "off")]
)
def test_the_cache_is_on_off_or_being_switched(serving: bool, tracking: bool, state: str) -> None:
    known = sources(cache=CacheCounters(hits=3, misses=1, entries=2, bytes=10, invalidations={"write": 2, "clear": 1}))
    known = msgspec.structs.replace(known, cache_state=CacheState(serving, tracking, ()))
    shown = picture(known, Rates(), Recently()).cache
    assert (shown.state, shown.bytes_max, shown.invalidations) == (state, 1 << 20, 3)


def test_pools_are_added_up_over_workers_and_who_waits_comes_first() -> None:
    pools = Answers(
        (
            (0, pool("db1", sv_active=3, sv_idle=1)),
            (1, pool("db1", sv_active=2, sv_used=4, sv_login=1)),
            (0, pool("db2", cl_waiting=1, maxwait_s=0.5)),
            (1, pool("db2", cl_waiting=2, maxwait_s=2.5, state="failing")),
        )
    )
    shown = details(1.0, pools, Answers((), (1,)))
    assert [(one.node, one.waiting, one.maxwait_s, one.state) for one in shown.pools] == [
        ("db2", 3, 2.5, "failing"),
        ("db1", 0, 0.0, "active"),
    ]
    assert (shown.pools[1].active, shown.pools[1].idle, shown.pools[1].opening, shown.pools[1].size) == (5, 5, 1, 20)
    assert shown.silent == (1,)


def test_statements_are_added_up_over_workers_and_what_took_longest_comes_first() -> None:
    digests = Answers(
        (
            (0, digest("SELECT $1", calls=4, total_s=1.0, max_s=0.5, hits=2, on_standbys=2)),
            (1, digest("SELECT $1", calls=6, total_s=3.0, max_s=0.1, on_primary=6, reason="it locks rows")),
            (1, digest("INSERT", calls=1, total_s=9.0)),
            (1, digest("SELECT $1", database="other", calls=1, total_s=0.1)),
        )
    )
    shown = details(1.0, Answers(()), digests).digests
    assert [(one.database, one.shape, one.calls) for one in shown] == [
        ("app", "INSERT", 1),
        ("app", "SELECT $1", 10),
        ("other", "SELECT $1", 1),
    ]
    # Eight of ten were not answered from the cache.
    both = shown[1]
    assert (both.mean_s, both.max_s, both.hits, both.on_primary, both.on_standbys) == (0.5, 0.5, 2, 6, 2)
    assert both.reason == "it locks rows"
