"""The time of a drill's books."""

import time
from typing import Final


class Clock:
    """time.time(), as of when it was made, and from then on by the monotonic clock: nobody's NTP makes a gap."""

    def __init__(self) -> None:
        self._offset: Final = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset
