"""Hysteresis, as a playbook: a = the node answers, x = it does not; then whether it is up, and when to look again."""

import pytest

from healthcheck.state import CONFIRM_DELAY_S, NodeState, Rhythm
from healthcheck.topology import Observation, Role

RHYTHM = Rhythm(period_s=10.0, timeout_s=5.0, max_retries=2, retry_delay_s=1.0)
SEEN = Observation("db1", "h", 5432, True, Role.PRIMARY)


def after(probes: str, rhythm: Rhythm = RHYTHM) -> NodeState:
    """The state after these probes."""
    state = NodeState("db1", "h", 5432, rhythm)
    for probe in probes:
        if probe == "a":
            state.answered(SEEN)
        else:
            state.failed("refused")
    return state


@pytest.mark.parametrize(
    ("probes", "up", "next_s"),
    [
        ("a", True, 10.0),
        ("x", False, 10.0),
        ("ax", True, 1.0),
        ("axx", True, 1.0),
        ("axxx", False, 10.0),
        ("axxa", True, 10.0),
        ("axxaxx", True, 1.0),
        ("axxaxxx", False, 10.0),
        ("axxxa", False, CONFIRM_DELAY_S),
        ("axxxax", False, 10.0),
        ("axxxaxa", False, CONFIRM_DELAY_S),
        ("axxxaa", True, 10.0),
        ("xa", False, CONFIRM_DELAY_S),
        ("xaa", True, 10.0),
    ],
)
def test_up_and_down(probes: str, up: bool, next_s: float) -> None:
    state = after(probes)
    assert state.observation.up is up
    assert state.next_probe_in_s() == next_s
    assert state.known
    assert bool(state.observation.why) is not up


def test_nothing_is_known_before_the_first_probe() -> None:
    assert not after("").known
    assert not after("").observation.up


def test_a_failure_within_the_retries_leaves_the_last_good_observation() -> None:
    assert after("axx").observation == SEEN


def test_no_retries_means_down_at_once() -> None:
    assert not after("ax", Rhythm(max_retries=0)).observation.up


def test_a_retry_cannot_be_brought_forward() -> None:
    assert after("ax").earliest_probe_in_s() == after("ax").next_probe_in_s()
    assert after("a").earliest_probe_in_s() < after("a").next_probe_in_s()
