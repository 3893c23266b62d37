"""pgbench's words as numbers: literal reports, and a real run."""

import pytest

from middleware.sandbox import Sandbox
from tests.bench.pgbench import Load, Seen, Target, percentile, read_latencies_ms, run, summarise

REPORT = """\
pgbench (18.4)
transaction type: <builtin: select only>
number of clients: 16
number of transactions actually processed: 5000
number of failed transactions: 3 (0.060%)
latency average = 3.2 ms
initial connection time = 1250.000 ms
tps = 1000.000000 (without initial connection time)
"""
LOAD = Load("simple", 16, 4)


def seen(report: str = REPORT, complaints: tuple[str, ...] = (), status: int = 0, warm: int = 900) -> Seen:
    return Seen(7, report, list(complaints), status, warm, 1.0 if warm else 0.0, 100.0)


def test_what_the_warm_up_did_does_not_count() -> None:
    outcome = summarise(LOAD, seen(), [2.0, 1.0, 3.0])
    assert outcome.transactions == 4100
    assert outcome.seconds == pytest.approx(4.0)
    assert outcome.tps == pytest.approx(1025.0)
    assert outcome.login_s == 1.25
    assert (outcome.p50_ms, outcome.p99_ms) == (2.0, 3.0)
    assert outcome.failed == 3


def test_a_run_whose_time_went_into_logins_counts_for_nothing() -> None:
    outcome = summarise(LOAD, seen(warm=0), [1.0])
    assert (outcome.transactions, outcome.seconds, outcome.tps, outcome.p50_ms) == (0, 0.0, 0.0, None)
    assert outcome.login_s == 1.25


def test_logins_that_took_all_the_time_are_known_to_take_that_long() -> None:
    report = "number of transactions actually processed: 0\nnumber of failed transactions: 0 (NaN%)\n"
    outcome = summarise(LOAD, seen(report=report, warm=0), [])
    assert (outcome.transactions, outcome.failed, outcome.login_s) == (0, 0, 7)
    assert "logins" in outcome.error


def test_clients_that_give_up_count_as_failed() -> None:
    complaints = (
        "pgbench: error: client 3 script 0 aborted in command 1 query 0: ERROR:  boom",
        "pgbench: error: client 5 script 0 aborted in command 1 query 0: ERROR:  boom",
        "pgbench: error: Run was aborted; the above results are incomplete.",
    )
    outcome = summarise(LOAD, seen(complaints=complaints[:2], status=2), [1.0])
    assert outcome.failed == 3 + 2
    assert outcome.error == complaints[0]


@pytest.mark.parametrize("status", [1, -9])
def test_no_report_is_a_failure_of_all_clients(status: int) -> None:
    outcome = summarise(LOAD, seen(report="", status=status, warm=0), [])
    assert outcome.failed == 16
    assert str(status) in outcome.error


def test_latencies_are_read_from_the_end_of_the_warm_up_on() -> None:
    log = "0 1 2500 0 100 499999\n0 2 1500 0 100 500000\n1 1 failed 0 101 0\n1 2 900 0 101 5\n1 3 77"
    assert read_latencies_ms(log, since=100.5) == [1.5, 0.9]


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [([], 0.5, None), ([7.0], 0.99, 7.0), ([1.0, 2.0], 0.5, 1.0), ([float(n) for n in range(1, 101)], 0.99, 99.0)],
)
def test_percentile(values: list[float], share: float, wanted: float | None) -> None:
    assert percentile(values, share) == wanted


@pytest.mark.integration
def test_a_real_run(cluster: Sandbox, filled: Target) -> None:
    marks: list[None] = []
    outcome = run(cluster.program("pgbench"), filled, Load("prepared", 2, 1), 1.0, lambda: marks.append(None))
    assert (outcome.failed, outcome.error) == (0, "")
    assert len(marks) == 2
    assert outcome.transactions > 0
    assert outcome.tps == pytest.approx(outcome.transactions / outcome.seconds)
    assert outcome.p50_ms is not None
    assert outcome.p99_ms is not None
    assert 0 < outcome.p50_ms <= outcome.p99_ms


@pytest.mark.integration
def test_a_real_run_that_cannot_log_in(cluster: Sandbox) -> None:
    primary = cluster.primary
    target = Target(primary.host, primary.port, cluster.user, "wrong", cluster.database)
    outcome = run(cluster.program("pgbench"), target, Load("simple", 2, 1), 0.0, lambda: None)
    assert outcome.failed == 2
    assert "password authentication failed" in outcome.error
