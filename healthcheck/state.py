"""Hysteresis: from single probes to whether a node is up. Slow to call a node down, and to believe it is back.

In: the outcome of each probe, and what else was heard of the node meanwhile. Out: its Condition, the Observation to
decide on, and how long to wait for the next probe. No I/O, no clock, no randomness of its own.

    UNKNOWN --answer--> UP     UNKNOWN --failure--> DOWN         there is nothing to fall back on
    UP --failure--> SUSPECT --failures beyond max_retries--> DOWN
    SUSPECT --answer--> UP      DOWN --PROBES_TO_RISE answers in a row--> UP

While it is suspect the last good observation stands. A probe that got no answer in time from a node that was heard
meanwhile, by its clients or otherwise, says that the node is *slow*, not that it is gone: it is suspect, however often.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec

from healthcheck.topology import Condition, Observation

PROBES_TO_RISE: Final = 2
"""A node that was down must answer this often in a row: one answer may come out of a crash loop."""
CONFIRM_DELAY_S: Final = 0.1
"""How soon to ask again for the second answer."""
JITTER: Final = 0.1
"""The share by which a pause may be shorter: nodes that were started together are not probed together for ever."""


class Event(Enum):
    """What a probe, with those before it, has shown."""

    ANSWER = "answer"
    ANSWERS_ENOUGH = "as many answers in a row as make a node that was down believed"
    FAILURE = "failure"
    FAILURES_ENOUGH = "as many failures in a row as make a node down"
    SLOW = "no answer in time, though the node was heard meanwhile"


NEXT: Final[Mapping[tuple[Condition, Event], Condition]] = {
    (Condition.UNKNOWN, Event.ANSWER): Condition.UP,
    (Condition.UNKNOWN, Event.ANSWERS_ENOUGH): Condition.UP,
    (Condition.UNKNOWN, Event.FAILURE): Condition.DOWN,
    (Condition.UNKNOWN, Event.FAILURES_ENOUGH): Condition.DOWN,
    (Condition.UNKNOWN, Event.SLOW): Condition.DOWN,
    (Condition.UP, Event.ANSWER): Condition.UP,
    (Condition.UP, Event.ANSWERS_ENOUGH): Condition.UP,
    (Condition.UP, Event.FAILURE): Condition.SUSPECT,
    (Condition.UP, Event.FAILURES_ENOUGH): Condition.DOWN,
    (Condition.UP, Event.SLOW): Condition.SUSPECT,
    (Condition.SUSPECT, Event.ANSWER): Condition.UP,
    (Condition.SUSPECT, Event.ANSWERS_ENOUGH): Condition.UP,
    (Condition.SUSPECT, Event.FAILURE): Condition.SUSPECT,
    (Condition.SUSPECT, Event.FAILURES_ENOUGH): Condition.DOWN,
    (Condition.SUSPECT, Event.SLOW): Condition.SUSPECT,
    (Condition.DOWN, Event.ANSWER): Condition.DOWN,
    (Condition.DOWN, Event.ANSWERS_ENOUGH): Condition.UP,
    (Condition.DOWN, Event.FAILURE): Condition.DOWN,
    (Condition.DOWN, Event.FAILURES_ENOUGH): Condition.DOWN,
    (Condition.DOWN, Event.SLOW): Condition.DOWN,
}
"""What becomes of a node. Whole: each condition with each event."""


class Rhythm(msgspec.Struct, frozen=True):
    """When to probe, and when to give a node up. Named as pgpool-II's health_check_* settings."""

    period_s: float = 1.0
    timeout_s: float = 5.0
    max_retries: int = 2
    retry_delay_s: float = 1.0


class NodeState:
    """What is known of one node, probe by probe."""

    def __init__(self, name: str, host: str, port: int, rhythm: Rhythm) -> None:
        self.observation = Observation(name, host, port)
        self.condition = Condition.UNKNOWN
        self._rhythm = rhythm
        self._failures = 0
        self._answers = 0

    @property
    def known(self) -> bool:
        """It was probed at least once."""
        return self.condition is not Condition.UNKNOWN

    def answered(self, seen: Observation) -> None:
        """A probe got an answer: `seen`, with `up` set."""
        self._failures = 0
        self._answers += 1
        self._step(Event.ANSWERS_ENOUGH if self._answers >= PROBES_TO_RISE else Event.ANSWER)
        if self.condition is Condition.UP:
            self.observation = seen

    def failed(self, why: str, *, heard: bool = False) -> None:
        """A probe got no answer, or an error. `heard`: the node has answered others while it was awaited."""
        self._answers = 0
        if heard:
            self._step(Event.SLOW)
        else:
            self._failures += 1
            self._step(Event.FAILURES_ENOUGH if self._failures > self._rhythm.max_retries else Event.FAILURE)
        down = self.condition is Condition.DOWN
        self.observation = msgspec.structs.replace(
            self.observation, up=not down and self.observation.up, why=why, condition=self.condition
        )

    def _step(self, event: Event) -> None:
        self.condition = NEXT[self.condition, event]

    def next_probe_in_s(self, draw: float = 0.0) -> float:
        """How long to wait until the next probe, unless something brings it forward. `draw`: from 0 to 1."""
        if self.condition is Condition.SUSPECT:
            return min(self._rhythm.retry_delay_s, self._rhythm.period_s)
        if self._answers and self.condition is Condition.DOWN:
            return min(CONFIRM_DELAY_S, self._rhythm.period_s)
        return self._rhythm.period_s * (1.0 - JITTER * draw)

    def earliest_probe_in_s(self) -> float:
        """How soon a probe may be brought forward. A retry keeps its delay, or a burst of reports of one short
        trouble would use up all the retries within it."""
        return self.next_probe_in_s() if self._failures else min(CONFIRM_DELAY_S, self._rhythm.period_s)
