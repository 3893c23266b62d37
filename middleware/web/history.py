"""The last minutes, for a page that is opened now, and rates between what was counted then and what is now.

In: Sources, once a second. Out: a Snapshot, and the Points so far.
"""

from collections import deque
from typing import Final

from middleware.web.picture import picture, rates, recently, sample
from middleware.web.snapshot import Point, Rates, Sample, Snapshot, Sources

POINTS_MAX: Final = 600
"""Ten minutes of seconds."""
RECENTLY_S: Final = 60
"""How many seconds are what was recently."""


class History:
    """One Pointsman's, as long as it runs."""

    def __init__(self) -> None:
        self._points: Final[deque[Point]] = deque(maxlen=POINTS_MAX)
        self._samples: Final[deque[Sample]] = deque(maxlen=RECENTLY_S + 1)
        self._rates = Rates()

    def record(self, sources: Sources) -> Snapshot:
        """Keep what is known now, and say what there is to see."""
        now = sample(sources)
        if self._samples:
            # Between two reports nothing is known to have changed: it goes on as it went.
            known = rates(self._samples[-1], now)
            if known is not None:
                self._rates = known
                self._samples.append(now)
        else:
            self._samples.append(now)
        taken = picture(sources, self._rates, recently(self._samples[0], now))
        self._points.append(taken.point)
        return taken

    def points(self) -> list[Point]:
        """Those of the last minutes, the oldest first."""
        return list(self._points)
