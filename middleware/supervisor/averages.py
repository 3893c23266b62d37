"""What had gone through at the beginning of the last stats_period, for averages.

In: the totals, looked at every stats_period. Out: those of one period ago, or up to two, and how long that is: as
PgBouncer has it, so that an average is never of no time at all.
"""

import time
from collections.abc import Callable
from typing import Final

import anyio

from middleware.admin.show_stats import Period
from middleware.reports import TrafficReport


class Averages:
    """Those of one Pointsman."""

    def __init__(self, traffic: Callable[[], tuple[TrafficReport, ...]], period_s: Callable[[], float]) -> None:
        self._traffic: Final = traffic
        self._period_s: Final = period_s
        began = time.monotonic()
        self._older: tuple[float, tuple[TrafficReport, ...]] = (began, ())
        self._newer: tuple[float, tuple[TrafficReport, ...]] = self._older

    async def run(self) -> None:
        """Look at the totals, until cancelled."""
        while True:
            await anyio.sleep(self._period_s())
            self._older, self._newer = self._newer, (time.monotonic(), self._traffic())

    def period(self) -> Period:
        """As it is now."""
        at, before = self._older
        return Period(self._traffic(), before, time.monotonic() - at)
