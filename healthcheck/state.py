"""Hysteresis: from single probes to whether a node is up. Slow to call a node down, and to believe it is back.

In: the outcome of each probe, and what else was heard of the node meanwhile. Out: its Condition, the Observation to
decide on, and how long to wait for the next probe. No I/O, no clock, no randomness of its own.

    UNKNOWN --answer--> UP     UNKNOWN --failure--> DOWN         there is nothing to fall back on
    UP --failure--> SUSPECT --failures beyond max_retries--> DOWN
    SUSPECT --answer--> UP      DOWN --PROBES_TO_RISE answers in a row--> UP

While it is suspect the last good observation stands. A probe that got no answer in time from a node that was heard
meanwhile, by its clients or otherwise, says that the node is *slow*, not that it is gone: it is suspect, however often.
So is one that *denies*: it answers, with an error. Neither makes a node believed that was down: what it was then says
nothing of what it is now.

A standby that *flaps*, down again and again within FLAPS_WITHIN_S, must answer for twice as long each time before it is
believed. A primary is never kept waiting: there is nobody else to go to.
"""

from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec

from healthcheck.topology import Condition, Observation, Role

PROBES_TO_RISE: Final = 2
"""A node that was down must answer this often in a row: one answer may come out of a crash loop."""
CONFIRM_DELAY_S: Final = 0.1
"""How soon to ask again for the second answer."""
FLAPS_WITHIN_S: Final = 60.0
CALM_MAX_S: Final = 30.0
"""For how long a node must answer at most."""
JITTER: Final = 0.1
"""The share by which a pause may be shorter: nodes that were started together are not probed together for ever."""


class Event(Enum):
    """What a probe, with those before it, has shown."""

    ANSWER = "answer"
    ANSWERS_ENOUGH = "as many answers in a row as make a node that was down believed"
    FAILURE = "failure"
    FAILURES_ENOUGH = "as many failures in a row as make a node down"
    SLOW = "no answer in time, though the node was heard meanwhile"
    DENIED = "an error of the node's own, so it is alive"


NEXT: Final[Mapping[tuple[Condition, Event], Condition]] = {
    (Condition.UNKNOWN, Event.ANSWER): Condition.UP,
    (Condition.UNKNOWN, Event.ANSWERS_ENOUGH): Condition.UP,
    (Condition.UNKNOWN, Event.FAILURE): Condition.DOWN,
    (Condition.UNKNOWN, Event.FAILURES_ENOUGH): Condition.DOWN,
    (Condition.UNKNOWN, Event.SLOW): Condition.DOWN,
    (Condition.UNKNOWN, Event.DENIED): Condition.DOWN,
    (Condition.UP, Event.ANSWER): Condition.UP,
    (Condition.UP, Event.ANSWERS_ENOUGH): Condition.UP,
    (Condition.UP, Event.FAILURE): Condition.SUSPECT,
    (Condition.UP, Event.FAILURES_ENOUGH): Condition.DOWN,
    (Condition.UP, Event.SLOW): Condition.SUSPECT,
    (Condition.UP, Event.DENIED): Condition.SUSPECT,
    (Condition.SUSPECT, Event.ANSWER): Condition.UP,
    (Condition.SUSPECT, Event.ANSWERS_ENOUGH): Condition.UP,
    (Condition.SUSPECT, Event.FAILURE): Condition.SUSPECT,
    (Condition.SUSPECT, Event.FAILURES_ENOUGH): Condition.DOWN,
    (Condition.SUSPECT, Event.SLOW): Condition.SUSPECT,
    (Condition.SUSPECT, Event.DENIED): Condition.SUSPECT,
    (Condition.DOWN, Event.ANSWER): Condition.DOWN,
    (Condition.DOWN, Event.ANSWERS_ENOUGH): Condition.UP,
    (Condition.DOWN, Event.FAILURE): Condition.DOWN,
    (Condition.DOWN, Event.FAILURES_ENOUGH): Condition.DOWN,
    (Condition.DOWN, Event.SLOW): Condition.DOWN,
    (Condition.DOWN, Event.DENIED): Condition.DOWN,
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
        self._answering_since = 0.0
        self._falls: Final[deque[float]] = deque()
        """When it went down, within the last FLAPS_WITHIN_S before the last time."""
        self._calm_s = 0.0
        """For how long it must answer, to be believed."""
        self._calm_left_s = 0.0

    def use(self, rhythm: Rhythm) -> None:
        """In this rhythm from now on."""
        self._rhythm = rhythm

    @property
    def known(self) -> bool:
        """It was probed at least once."""
        return self.condition is not Condition.UNKNOWN

    def answered(self, seen: Observation, now: float) -> None:
        """A probe got an answer: `seen`, with `up` set."""
        if not self._answers:
            self._answering_since = now
        self._failures = 0
        self._answers += 1
        wait_s = 0.0 if seen.role is Role.PRIMARY else self._calm_s
        self._calm_left_s = self._answering_since + wait_s - now
        enough = self._answers >= PROBES_TO_RISE and self._calm_left_s <= 0.0
        self._step(Event.ANSWERS_ENOUGH if enough else Event.ANSWER)
        if self.condition is Condition.UP:
            self.observation = _with_its_timeline(seen, self.observation)
        elif wait_s:
            times = len(self._falls)
            why = f"was down {times} times within {FLAPS_WITHIN_S:g} s, and must answer for {wait_s:g} s"
            self._doubt(why, flaps=times)
        else:
            self._doubt(self.observation.why)

    def failed(self, why: str, now: float, *, heard: bool = False) -> None:
        """A probe got no answer. `heard`: the node has answered others while it was awaited."""
        self._answers = 0
        before = self.condition
        if heard:
            self._step(Event.SLOW)
        else:
            self._failures += 1
            self._step(Event.FAILURES_ENOUGH if self._failures > self._rhythm.max_retries else Event.FAILURE)
        if self.condition is Condition.DOWN and before in (Condition.UP, Condition.SUSPECT):
            self._fall(now)
        self._doubt(why)

    def denied(self, why: str) -> None:
        """A probe was answered with an error by a node that is alive."""
        self._answers = self._failures = 0
        self._step(Event.DENIED)
        self._doubt(why, denies=True)

    def _step(self, event: Event) -> None:
        self.condition = NEXT[self.condition, event]

    def _fall(self, now: float) -> None:
        """What has died as a primary, or is made a standby of one, does not flap."""
        if self.observation.role is Role.PRIMARY:
            return
        while self._falls and self._falls[0] < now - FLAPS_WITHIN_S:
            self._falls.popleft()
        self._falls.append(now)
        self._calm_s = calm_s(len(self._falls))

    def _doubt(self, why: str, *, denies: bool = False, flaps: int = 0) -> None:
        """It is not simply up."""
        up = self.observation.up and self.condition is not Condition.DOWN
        self.observation = msgspec.structs.replace(
            self.observation, up=up, why=why, condition=self.condition, denies=denies, flaps=flaps
        )

    def next_probe_in_s(self, draw: float = 0.0) -> float:
        """How long to wait until the next probe, unless something brings it forward. `draw`: from 0 to 1."""
        if self.condition is Condition.SUSPECT:
            return min(self._rhythm.retry_delay_s, self._rhythm.period_s)
        if self._answers and self.condition is Condition.DOWN:
            return min(max(CONFIRM_DELAY_S, self._calm_left_s), self._rhythm.period_s)
        return self._rhythm.period_s * (1.0 - JITTER * draw)

    def earliest_probe_in_s(self) -> float:
        """How soon a probe may be brought forward. A retry keeps its delay, or a burst of reports of one short
        trouble would use up all the retries within it, and a node that is overrun would be asked more than ever."""
        return min(CONFIRM_DELAY_S, self._rhythm.period_s) if self._answers else self.next_probe_in_s()


def calm_s(falls: int) -> float:
    """For how long a standby must answer that was down so often within FLAPS_WITHIN_S."""
    return 0.0 if falls < 2 else min(CALM_MAX_S, 2.0 ** (falls - 1))


def _with_its_timeline(seen: Observation, before: Observation) -> Observation:
    """A standby that no longer streams tells the timeline of its last restartpoint, which may be minutes ago: what it
    has followed since it has all the same, unless it was made anew."""
    goes_on = (
        seen.role is before.role is Role.STANDBY
        and seen.heard_s_ago is None
        and seen.system_identifier == before.system_identifier
        and (seen.replay_lsn or 0) >= (before.replay_lsn or 0)
    )
    if not goes_on or (seen.timeline or 0) >= (before.timeline or 0):
        return seen
    return msgspec.structs.replace(seen, timeline=before.timeline)
