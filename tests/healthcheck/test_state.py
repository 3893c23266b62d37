"""Hysteresis, as a playbook: a = the node answers, x = it does not, s = not in time, though it was heard meanwhile,
d = it answers with an error of its own; then how it is, and when to look again."""

import itertools

import msgspec
import pytest

from healthcheck.state import (
    CALM_MAX_S,
    CONFIRM_DELAY_S,
    FLAPS_WITHIN_S,
    JITTER,
    NEXT,
    PROBES_TO_RISE,
    Event,
    NodeState,
    Rhythm,
    calm_s,
)
from healthcheck.topology import Condition, Observation, Role

UNKNOWN, UP, SUSPECT, DOWN = Condition.UNKNOWN, Condition.UP, Condition.SUSPECT, Condition.DOWN

RHYTHM = Rhythm(period_s=10.0, timeout_s=5.0, max_retries=2, retry_delay_s=1.0)
SEEN = Observation("db1", "h", 5432, True, Role.PRIMARY, condition=UP)


def after(probes: str, rhythm: Rhythm = RHYTHM) -> NodeState:
    """The state after these probes, of a primary."""
    state = NodeState("db1", "h", 5432, rhythm)
    for now, probe in enumerate(probes):
        show(state, probe, float(now))
    return state


def show(state: NodeState, probe: str, now: float, seen: Observation = SEEN) -> None:
    """One probe's outcome."""
    if probe == "a":
        state.answered(seen, now)
    elif probe == "d":
        state.denied("sorry, too many clients already")
    else:
        state.failed("refused", now, heard=probe == "s")


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
        ("d", DOWN, 10.0),
        ("addddddd", SUSPECT, 1.0),
        # It was alive in between.
        ("axxdxx", SUSPECT, 1.0),
        ("axxdxxx", DOWN, 10.0),
        # What it is now is not known, until it says so.
        ("axxxdddd", DOWN, 10.0),
        ("axxxada", DOWN, CONFIRM_DELAY_S),
        ("axxxdaa", UP, 10.0),
        ("adda", UP, 10.0),
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
    assert state.observation.denies is probes.endswith("d")


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
    """By words, not by the table: down after more failures than retries without a word of the node between them."""
    for probes in itertools.product("axsd", repeat=6):
        up = None
        failures = answers = 0
        for probe in probes:
            failures = 0 if probe in "ad" else failures + (probe == "x")
            answers = answers + 1 if probe == "a" else 0
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
    # Each of its clients that gets none of its connections would have it asked again, for one more.
    for probes in ("ad", "as", "axxxd", "d"):
        assert after(probes).earliest_probe_in_s() == after(probes).next_probe_in_s()


# Flapping: times in seconds, of a standby unless said otherwise.

STANDBY = Observation("db2", "h", 5432, True, Role.STANDBY, condition=UP)


def fallen(times: int, every_s: float, *, role: Role = Role.STANDBY) -> tuple[NodeState, float]:
    """A node that has gone down so often, each time as soon as it was up again; and when it last did."""
    rhythm = Rhythm(period_s=1.0, max_retries=0)
    state, now = NodeState("db2", "h", 5432, rhythm), 0.0
    seen = msgspec.structs.replace(STANDBY, role=role)
    show(state, "a", now, seen)
    for _ in range(times):
        now += every_s
        until_up(state, now - CALM_MAX_S - 1, seen)
        show(state, "x", now, seen)
        assert state.condition is DOWN
    return state, now


def until_up(state: NodeState, now: float, seen: Observation = STANDBY) -> float:
    """It answers from `now` on, whenever it is asked; when it is up."""
    while True:
        show(state, "a", now, seen)
        if state.condition is UP:
            return now
        pause_s = state.next_probe_in_s(1.0)
        assert pause_s > 0
        now += pause_s


@pytest.mark.parametrize(
    ("falls", "wait_s"), [(1, 0.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 16.0), (6, 30.0), (60, 30.0)]
)
def test_a_standby_that_flaps_must_answer_for_longer_each_time(falls: int, wait_s: float) -> None:
    assert calm_s(falls) == wait_s
    state, now = fallen(falls, 0.5)
    took_s = until_up(state, now + 1.0) - (now + 1.0)
    assert max(wait_s, CONFIRM_DELAY_S) <= took_s <= wait_s + 1.0
    assert (state.observation.why, state.observation.flaps) == ("", 0)


def test_why_it_waits_is_said() -> None:
    state, now = fallen(3, 0.5)
    show(state, "a", now + 1.0, STANDBY)
    seen = state.observation
    assert (seen.up, seen.flaps, seen.why) == (False, 3, "was down 3 times within 60 s, and must answer for 4 s")
    # It is asked on, though not as often as it could.
    assert CONFIRM_DELAY_S < state.next_probe_in_s() <= 1.0


def test_an_answer_that_fails_to_come_begins_the_wait_anew_and_is_no_fall() -> None:
    state, now = fallen(2, 0.5)
    show(state, "a", now + 1.0, STANDBY)
    show(state, "a", now + 2.5, STANDBY)
    show(state, "x", now + 2.9, STANDBY)
    assert until_up(state, now + 3.0) - (now + 3.0) == pytest.approx(2.0, abs=0.2)


def test_what_was_long_ago_does_not_count() -> None:
    state, now = fallen(5, FLAPS_WITHIN_S + 1.0)
    assert until_up(state, now + 1.0) - (now + 1.0) <= 2 * CONFIRM_DELAY_S


def test_a_primary_is_used_again_as_soon_as_it_answers() -> None:
    state, now = fallen(9, 0.5, role=Role.PRIMARY)
    seen = msgspec.structs.replace(STANDBY, role=Role.PRIMARY)
    assert until_up(state, now + 1.0, seen) - (now + 1.0) <= 2 * CONFIRM_DELAY_S


def test_a_former_primary_that_is_made_a_standby_has_not_flapped() -> None:
    """It has died, was started again, and stopped to be rewound."""
    state, now = fallen(2, 5.0, role=Role.PRIMARY)
    assert until_up(state, now + 1.0) - (now + 1.0) <= 2 * CONFIRM_DELAY_S


@pytest.mark.parametrize(
    ("more", "timeline"),
    [
        # Its upstream is gone, and it tells the timeline of its last restartpoint.
        ({"timeline": 1, "heard_s_ago": None}, 2),
        ({"timeline": 1, "heard_s_ago": None, "replay_lsn": 200}, 2),
        ({"timeline": None, "heard_s_ago": None}, 2),
        ({"timeline": 3, "heard_s_ago": None}, 3),
        # It follows another, and says so.
        ({"timeline": 1}, 1),
        # It is not what it was.
        ({"timeline": 1, "heard_s_ago": None, "replay_lsn": 99}, 1),
        ({"timeline": 1, "heard_s_ago": None, "system_identifier": 8}, 1),
        ({"timeline": 1, "heard_s_ago": None, "role": Role.PRIMARY}, 1),
    ],
)
def test_a_standby_that_has_lost_its_upstream_keeps_its_timeline(more: dict[str, object], timeline: int) -> None:
    streams = msgspec.structs.replace(
        SEEN, role=Role.STANDBY, system_identifier=7, timeline=2, replay_lsn=100, heard_s_ago=0.1
    )
    state = NodeState("db1", "h", 5432, RHYTHM)
    state.answered(streams, 0.0)
    state.answered(msgspec.structs.replace(streams, **more), 1.0)
    assert state.observation.timeline == timeline
    state.answered(msgspec.structs.replace(streams, **more), 1.0)
    assert state.observation.timeline == timeline
