"""A bound on the lines of one event: a storm of it must not fill a disk. Decides on values; the clock is passed in."""

from typing import Final

BURST_S: Final = 10.0
"""For how many seconds' worth of lines an event that was quiet may be told at once."""
TELL_S: Final = 5.0
"""How often it is said what was left out, at most."""


class Flood:
    """One process's: a bucket of lines for each event, filled at an even rate."""

    def __init__(self) -> None:
        self.rate_max = 0.0
        """Lines a second; 0 for no bound."""
        self._buckets: Final[dict[str, tuple[float, float]]] = {}
        """For each event how many lines it has left, and as of when."""
        self._left_out: Final[dict[str, int]] = {}
        self._told_at = float("-inf")

    def admits(self, event: str, now: float) -> bool:
        """Whether a line of `event` may be written now; if not, it is counted."""
        rate = self.rate_max
        if not rate:
            return True
        left, since = self._buckets.get(event, (rate * BURST_S, now))
        left = min(rate * BURST_S, left + (now - since) * rate)
        if left < 1.0:
            self._buckets[event] = (left, now)
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return False
        self._buckets[event] = (left - 1.0, now)
        return True

    def left_out(self, now: float, *, at_once: bool = False) -> dict[str, int]:
        """How many lines of which event were left out since this was last asked; nothing if that was just now."""
        if not self._left_out or (now - self._told_at < TELL_S and not at_once):
            return {}
        self._told_at = now
        told = dict(self._left_out)
        self._left_out.clear()
        return told
