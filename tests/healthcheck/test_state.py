"""Hysteresis, as a playbook: a = the node answers, x = it does not, s = not in time, though it was heard meanwhile;
then how it is, and when to look again."""

import itertools

import msgspec
import pytest

from healthcheck.state import CONFIRM_DELAY_S, JITTER, NEXT, PROBES_TO_RISE, Event, NodeState, Rhythm
from healthcheck.topology import Condition, Observation, Role

UNKNOWN, UP, SUSPECT, DOWN = Condition.UNKNOWN, Condition.UP, Condition.SUSPECT, Condition.DOWN

RHYTHM = Rhythm(period_s=10.0, timeout_s=5.0, max_retries=2, retry_delay_s=1.0)
SEEN = Observation("db1", "h", 5432, True, Role.PRIMARY, condition=UP)


def after(probes: str, rhythm: Rhythm = RHYTHM) -> NodeState:
    """The state after these probes."""
    state = NodeState("db1", "h", 5432, rhythm)
    for probe in probes:
        if probe == "a":
            state.answered(SEEN)
        else:
            state.failed("refused", heard=probe == "s")
    return state


@pytest.mark.parametrize(
    ("probes", "condition", "next_s"),
    [
        ("a", UP, 10.0),
        ("x", DOWN, 10.0),
        ("ax", SUSPECT, 1.0),
        ("axx", SUSPECT, 1.0),
        ("axxx", DOWN, 10.0),
        ("axxa", UP, 10.0),
        ("axxaxx", SUSPECT, 1.0),
        ("axxaxxx", DOWN, 10.0),
        ("axxxa", DOWN, CONFIRM_DELAY_S),
        ("axxxax", DOWN, 10.0),
        ("axxxaxa", DOWN, CONFIRM_DELAY_S),
        ("axxxaa", UP, 10.0),
        ("xa", DOWN, CONFIRM_DELAY_S),
        ("xaa", UP, 10.0),
        ("s", DOWN, 10.0),
        ("asssssss", SUSPECT, 1.0),
        ("axsxs", SUSPECT, 1.0),
        ("axsxsx", DOWN, 10.0),
        ("axxxs", DOWN, 10.0),
        ("assa", UP, 10.0),
    ],
)
def test_up_and_down(probes: str, condition: Condition, next_s: float) -> None:
    state = after(probes)
    assert state.condition is condition
    assert state.observation.up is (condition in (UP, SUSPECT))
    assert state.next_probe_in_s() == next_s
    assert state.known
    assert bool(state.observation.why) is (condition is not UP)
    assert state.observation.condition is condition


def test_the_table_is_whole_and_a_node_only_rises_by_answers() -> None:
    assert set(NEXT) == set(itertools.product((UNKNOWN, UP, SUSPECT, DOWN), Event))
    for (before, event), then in NEXT.items():
        assert then is not UNKNOWN
        if then is UP:
            assert event in (Event.ANSWER, Event.ANSWERS_ENOUGH)
        if before in (UP, SUSPECT) and then is DOWN:
            assert event is Event.FAILURES_ENOUGH
        if before is DOWN and then is not DOWN:
            assert (event, then) == (Event.ANSWERS_ENOUGH, UP)


def test_what_is_believed_follows_from_what_was_seen() -> None:
    """By words, not by the table: down after more failures than retries without an answer between them."""
    for probes in itertools.product("axs", repeat=6):
        up = None
        failures = answers = 0
        for probe in probes:
            failures, answers = (0, answers + 1) if probe == "a" else (failures + (probe == "x"), 0)
            if up is None:
                up = probe == "a"
            elif up:
                up = failures <= RHYTHM.max_retries
            else:
                up = answers >= PROBES_TO_RISE
        assert after("".join(probes)).observation.up is up, probes


def test_pauses_vary_but_retries_do_not() -> None:
    assert after("a").next_probe_in_s(1.0) == pytest.approx(10.0 * (1 - JITTER))
    assert after("ax").next_probe_in_s(1.0) == 1.0


def test_nothing_is_known_before_the_first_probe() -> None:
    assert not after("").known
    assert not after("").observation.up


def test_a_failure_within_the_retries_leaves_the_last_good_observation() -> None:
    observation = after("axx").observation
    assert msgspec.structs.replace(observation, why="", condition=UP) == SEEN


def test_no_retries_means_down_at_once() -> None:
    assert not after("ax", Rhythm(max_retries=0)).observation.up


def test_a_retry_cannot_be_brought_forward() -> None:
    assert after("ax").earliest_probe_in_s() == after("ax").next_probe_in_s()
    assert after("a").earliest_probe_in_s() < after("a").next_probe_in_s()
