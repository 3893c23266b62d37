"""The line of figures that log_stats asks for, each stats_period: what has gone through all workers meanwhile."""

import time
from collections.abc import Callable
from typing import Final

import anyio
import structlog

from middleware.admin.show_stats import US_PER_S, Sum, add, averages
from middleware.config import Settings
from middleware.supervisor.counters import CountersSnapshot

log: Final = structlog.get_logger("stats")


class StatsLine:
    """One Pointsman's."""

    def __init__(self, counters: Callable[[], CountersSnapshot], settings: Callable[[], Settings]) -> None:
        """`settings`: as they are now."""
        self._counters: Final = counters
        self._settings: Final = settings

    async def run(self) -> None:
        """Write it, until cancelled."""
        before, at = self._sum(self._counters()), time.monotonic()
        while True:
            await anyio.sleep(self._settings().stats_period)
            counters, now = self._counters(), time.monotonic()
            after = self._sum(counters)
            if self._settings().log_stats == "on":
                _tell(averages(after, before, now - at), counters)
            before, at = after, now

    def _sum(self, counters: CountersSnapshot) -> Sum:
        total = Sum()
        for one in counters.traffic:
            add(total, one)
        return total


def _tell(average: Sum, counters: CountersSnapshot) -> None:
    log.info(
        "figures",
        clients=counters.clients,
        waiting=counters.waiting,
        xacts_per_s=average.xacts,
        queries_per_s=average.queries,
        assignments_per_s=average.assignments,
        client_parses_per_s=average.client_parses,
        server_parses_per_s=average.server_parses,
        binds_per_s=average.binds,
        received_bytes_per_s=average.received_bytes,
        sent_bytes_per_s=average.sent_bytes,
        average_xact_s=average.xact_us / US_PER_S,
        average_query_s=average.query_us / US_PER_S,
        average_wait_s=average.wait_us / US_PER_S,
    )
