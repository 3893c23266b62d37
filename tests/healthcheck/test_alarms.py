"""What is told of sick nodes: once, and when it is over."""

import msgspec

from healthcheck.alarms import alarms
from healthcheck.topology import Condition, Observation, Role

WELL = Observation("a", "a", 5432, True, Role.STANDBY, condition=Condition.UP)
FULL = msgspec.structs.replace(WELL, condition=Condition.SUSPECT, denies=True, why="sorry, too many clients already")
OTHER = msgspec.structs.replace(FULL, why="password authentication failed")
GONE = msgspec.structs.replace(WELL, up=False, condition=Condition.DOWN, why="connection refused")
FLAPS = msgspec.structs.replace(GONE, flaps=2, why="was down 2 times within 60 s, and must answer for 2 s")
MORE = msgspec.structs.replace(FLAPS, flaps=3)


def told(*looks: Observation) -> list[tuple[str, bool]]:
    """Over all looks at one node."""
    found: list[tuple[str, bool]] = []
    before: dict[str, Observation] = {}
    for one in looks:
        now = {"a": one}
        found += [(alarm.what, alarm.bad) for alarm in alarms(before, now)]
        before = now
    return found


def test_nothing_is_told_of_what_the_topology_tells() -> None:
    assert told(WELL, GONE, WELL, msgspec.structs.replace(WELL, condition=Condition.SUSPECT, why="reset")) == []


def test_what_a_node_denies_is_told_once() -> None:
    denies, no_more = ("node_denies", True), ("node_denies_no_more", False)
    assert told(WELL, FULL, FULL, WELL) == [denies, no_more]
    assert told(FULL, OTHER) == [denies, denies]
    assert told(WELL, FULL, GONE) == [denies, ("node_denies_no_more", True)]
    (alarm,) = alarms({}, {"a": FULL})
    assert (alarm.node, alarm.text) == ("a", "it is alive, and cannot be asked: sorry, too many clients already")


def test_each_time_that_a_node_must_wait_for_longer_is_told() -> None:
    flaps = ("node_flaps", True)
    assert told(WELL, GONE, FLAPS, FLAPS, WELL) == [flaps]
    assert told(FLAPS, GONE, FLAPS, WELL, GONE, MORE) == [flaps, flaps, flaps]
    (alarm,) = alarms({}, {"a": FLAPS})
    assert alarm.text == "it was down 2 times within 60 s, and must answer for 2 s before it is used again"
