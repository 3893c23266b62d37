"""Hysteresis: from single probes to whether a node is up. Slow to call a node down, and to believe it is back.

In: the outcome of each probe. Out: the Observation to decide on, and how long to wait for the next probe. No I/O, no
clock.
"""

from typing import Final

import msgspec

from healthcheck.topology import Observation

PROBES_TO_RISE: Final = 2
"""A node that was down must answer this often in a row: one answer may come out of a crash loop."""
CONFIRM_DELAY_S: Final = 0.1
"""How soon to ask again for the second answer."""


class Rhythm(msgspec.Struct, frozen=True):
    """When to probe, and when to give a node up. Named as pgpool-II's health_check_* settings."""

    period_s: float = 1.0
    timeout_s: float = 5.0
    max_retries: int = 2
    retry_delay_s: float = 1.0


class NodeState:
    """What is known of one node, probe by probe.

    Before the first probe nothing is known. The first answer or failure is believed at once, there being nothing to
    fall back on. From then on a failure counts only after `max_retries` more, and meanwhile the last good observation
    stands; a node that is down is up again after PROBES_TO_RISE answers in a row.
    """

    def __init__(self, name: str, host: str, port: int, rhythm: Rhythm) -> None:
        self.observation = Observation(name, host, port)
        self.known = False
        self._rhythm = rhythm
        self._failures = 0
        self._answers = 0

    def answered(self, seen: Observation) -> None:
        """A probe got an answer: `seen`, with `up` set."""
        self._failures = 0
        self._answers += 1
        if not self.known or self.observation.up or self._answers >= PROBES_TO_RISE:
            self.observation = seen
        self.known = True

    def failed(self, why: str) -> None:
        """A probe got no answer, or an error."""
        self._answers = 0
        self._failures += 1
        if not self.known or not self.observation.up or self._failures > self._rhythm.max_retries:
            self.observation = msgspec.structs.replace(self.observation, up=False, why=why)
        self.known = True

    def next_probe_in_s(self) -> float:
        """How long to wait until the next probe, unless something brings it forward."""
        if self._failures and self.observation.up:
            return min(self._rhythm.retry_delay_s, self._rhythm.period_s)
        if self._answers and not self.observation.up:
            return min(CONFIRM_DELAY_S, self._rhythm.period_s)
        return self._rhythm.period_s

    def earliest_probe_in_s(self) -> float:
        """How soon a probe may be brought forward. A retry keeps its delay, or a burst of reports of one short
        trouble would use up all the retries within it."""
        return self.next_probe_in_s() if self._failures else min(CONFIRM_DELAY_S, self._rhythm.period_s)
