"""How late the supervisor's event loop is: what probes, failover and the console wait for beyond what they must."""

import asyncio
import time
from collections import deque
from typing import Final

BEAT_S: Final = 0.1
WINDOW_S: Final = 15.0


class Pulse:
    """The latest beats."""

    def __init__(self) -> None:
        self._late: Final[deque[tuple[float, float]]] = deque()
        """When, and how late; each later than all behind it, for the first is what counts."""

    def worst_s(self) -> float:
        """How late it was at most within WINDOW_S."""
        self._forget(time.monotonic())
        return self._late[0][1] if self._late else 0.0

    async def beat(self) -> None:
        """Look, until cancelled."""
        while True:
            due = time.monotonic() + BEAT_S
            await asyncio.sleep(BEAT_S)
            now = time.monotonic()
            self.note(now, max(0.0, now - due))

    def note(self, now: float, late_s: float) -> None:
        """It was so late."""
        while self._late and self._late[-1][1] <= late_s:
            self._late.pop()
        self._late.append((now, late_s))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._late and self._late[0][0] < now - WINDOW_S:
            self._late.popleft()
