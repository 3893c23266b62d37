"""Who waits for a primary: called when there may be one, told of the wait, and sent away when its time is over."""

import pytest

from healthcheck.topology import Topology
from middleware.config import ClientPolicy
from middleware.errors import ConnectionLost, LoginRefused, NoNode, PointsmanError
from middleware.pool.plan import Clock
from middleware.relay.primary_queue import PrimaryQueue, passes

HAD_ONE = Topology(1, timeline=1)


class Waiting:
    """One who waits, and writes down what it hears."""

    def __init__(self, heard: list[str], name: str = "a") -> None:
        self.limits = ClientPolicy(query_wait_s=10.0, query_wait_notify_s=2.0)
        self.waiting_since = 0.0
        self.finds = False
        self._heard = heard
        self._name = name

    def still_waiting(self, what: str) -> None:
        self._heard.append(f"{self._name} waits for {what}")

    def may_find(self) -> bool:
        return self.finds

    def seek(self) -> None:
        self._heard.append(f"{self._name} seeks")

    def found_none(self, error: PointsmanError) -> None:
        self._heard.append(f"{self._name} hears {error.sqlstate} {error.detail}")


@pytest.fixture
def queue() -> PrimaryQueue:
    made = PrimaryQueue(Clock(100.0))
    made.topology_changed(HAD_ONE)
    return made


def test_before_there_was_a_primary_nobody_waits() -> None:
    queue = PrimaryQueue(Clock(100.0))
    assert not queue.join(Waiting([]), None)
    queue.topology_changed(Topology(1))
    assert not queue.join(Waiting([]), None)
    queue.topology_changed(HAD_ONE)
    assert queue.join(Waiting([]), None)


def test_in_the_order_they_came(queue: PrimaryQueue) -> None:
    heard: list[str] = []
    all_three = [Waiting(heard, name) for name in "abc"]
    for one in all_three:
        assert queue.join(one, None)
    queue.topology_changed(HAD_ONE)
    assert not heard
    all_three[0].finds = all_three[2].finds = True
    queue.topology_changed(HAD_ONE)
    assert heard == ["a seeks", "c seeks"]
    assert len(queue) == 1


def test_it_is_tried_again_with_a_tick(queue: PrimaryQueue) -> None:
    heard: list[str] = []
    one = Waiting(heard)
    queue.join(one, None)
    queue.tick(101.0)
    one.finds = True
    queue.tick(101.5)
    assert heard == ["a seeks"]
    assert not queue.leave(one)


def test_it_hears_once_that_it_waits_and_then_that_its_time_is_over(queue: PrimaryQueue) -> None:
    heard: list[str] = []
    one = Waiting(heard)
    queue.join(one, ConnectionLost('could not connect to node "db1"', detail="Connection refused."))
    queue.tick(101.9)
    queue.tick(102.0)
    queue.tick(103.0)
    queue.tick(110.0)
    queue.tick(111.0)
    why = 'could not connect to node "db1". Connection refused.'
    assert heard == [
        f"a waits for a primary: {why}",
        f"a hears 57P03 There was none that takes connections within 10 s (query_wait_timeout). {why}",
    ]


def test_who_comes_back_goes_on_waiting(queue: PrimaryQueue) -> None:
    """It was called, and there was none after all: its time goes on."""
    heard: list[str] = []
    one = Waiting(heard)
    queue.join(one, None)
    one.finds = True
    queue.tick(109.0)
    one.finds = False
    queue.join(one, None)
    queue.tick(110.0)
    assert heard[-1].startswith("a hears 57P03")


def test_who_is_paused_waits_for_the_operator_whether_there_was_a_primary_or_not() -> None:
    queue = PrimaryQueue(Clock(100.0))
    heard: list[str] = []
    first, second = Waiting(heard, "a"), Waiting(heard, "b")
    queue.pause(first)
    queue.pause(second)
    queue.tick(102.0)
    first.finds = True
    queue.look()
    queue.tick(110.0)
    assert heard == [
        "a waits for the database to be resumed",
        "b waits for the database to be resumed",
        "a seeks",
        "b hears 57P03 It was not resumed within 10 s (query_wait_timeout).",
    ]


def test_who_was_paused_and_finds_no_primary_then_goes_on_waiting(queue: PrimaryQueue) -> None:
    heard: list[str] = []
    one = Waiting(heard)
    queue.pause(one)
    one.finds = True
    queue.look()
    one.finds = False
    assert queue.join(one, None)
    queue.tick(110.0)
    assert heard[-1].startswith("a hears 57P03 There was none")


@pytest.mark.parametrize(
    ("error", "is_passing"),
    [
        (ConnectionLost("gone"), True),
        (LoginRefused("the database system is starting up", sqlstate="57P03"), True),
        (LoginRefused("terminating", sqlstate="57P01"), True),
        (NoNode("none"), True),
        (LoginRefused("password authentication failed", sqlstate="28P01"), False),
        (LoginRefused("sorry, too many clients already", sqlstate="53300"), False),
        (LoginRefused("database does not exist", sqlstate="3D000"), False),
    ],
)
def test_what_passes_by_itself(error: PointsmanError, is_passing: bool) -> None:
    assert passes(error) is is_passing
