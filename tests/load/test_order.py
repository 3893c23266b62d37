"""The measure of order: it says nothing against a queue, and tells a stack and a lottery from it."""

import random
from collections.abc import Callable

import pytest

from tests.load.order import Service, overtaken, percentile
from tests.load.storm import OVERTAKEN_MAX, SLACK_S

CLIENTS = 300
SERVICE_S = 0.002


def served(choose: Callable[[list[float]], int]) -> list[Service]:
    """What a crowd in a closed loop sees, of whom one is served after the other."""
    waiting = [number * SERVICE_S / CLIENTS for number in range(CLIENTS)]
    found = []
    now = 1.0
    for _ in range(5000):
        sent = waiting.pop(choose(waiting))
        found.append(Service(sent, now))
        now += SERVICE_S
        waiting.append(now)
    return [*found, *(Service(sent, now) for sent in waiting)]


def test_a_queue_has_no_overtaking() -> None:
    assert overtaken(served(lambda _: 0), SLACK_S) == 0


@pytest.mark.parametrize(
    "choose", [lambda waiting: len(waiting) - 1, lambda waiting: random.randrange(len(waiting))], ids=["stack", "any"]
)
def test_other_orders_pass_the_bound(choose: Callable[[list[float]], int]) -> None:
    services = served(choose)
    assert overtaken(services, SLACK_S) > 10 * OVERTAKEN_MAX * len(services)


def test_an_order_within_the_slack_says_nothing() -> None:
    services = [Service(0.0, 2.0), Service(0.2, 1.0)]
    assert overtaken(services, 0.25) == 0
    assert overtaken(services, 0.15) == 1


def test_percentile() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0], 1.0) == 3.0
