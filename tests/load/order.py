"""Whether those who wait are served in the order they came, by what can be seen from outside.

A client knows when it has sent its statement, the server when it began with it. In between lie the worker's queue and
some things that are no queue: the client's own process, the sockets, the worker's round through all that are ready. So
an order within `slack_s` says nothing. Who came later by more than that and was served earlier has *overtaken*.
"""

import bisect
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Service(NamedTuple):
    """A statement or transaction that was served; times are seconds of one clock."""

    sent: float
    began: float


def overtaken(services: Iterable[Service], slack_s: float) -> int:
    """How many of the services of one queue were overtaken by another."""
    found = 0
    sent_before: list[float] = []
    for service in sorted(services, key=lambda one: one.began):
        if len(sent_before) > bisect.bisect_right(sent_before, service.sent + slack_s):
            found += 1
        # Near the end, where the order is kept: cheap.
        bisect.insort(sent_before, service.sent)
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the sorted values do not exceed; 0.0 of none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0
