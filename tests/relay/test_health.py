"""How a worker says it is."""

import os
from pathlib import Path

import pytest

from middleware.pool.surroundings import NodeState
from middleware.relay.health import Health
from middleware.relay.newcomers import Newcomers


def test_the_lag_is_the_worst_since_the_last_report() -> None:
    health, newcomers = Health(), Newcomers(10)
    for now in (10.0, 10.25, 11.0, 11.25):
        health.ticked(now, 0.25)
    assert health.report(newcomers, ()).loop_lag_s == 0.5
    assert health.report(newcomers, ()).loop_lag_s == 0.0
    health.ticked(11.75, 0.25)
    assert health.report(newcomers, ()).loop_lag_s == 0.25


def test_logins_of_servers_are_those_of_all_nodes() -> None:
    one, other = NodeState(2), NodeState(2)
    one.logins.begin()
    one.logins.begin()
    one.logins.fail(0.0)
    other.logins.begin()
    other.logins.end(0.0)
    other.logins.took.observe(0.2)
    report = Health().report(Newcomers(10), (one, other))
    assert (report.server_logins_in_flight, report.server_logins_failed) == (1, 1)
    assert (sum(report.server_login.counts), report.server_login.sum_s) == (1, 0.2)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux's")
def test_memory_and_cpu_are_the_process_s_and_nothing_stays_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    report = Health().report(Newcomers(10), ())
    assert report.rss_bytes > 5_000_000
    assert report.cpu_s > 0
    assert len(os.listdir("/proc/self/fd")) == before
