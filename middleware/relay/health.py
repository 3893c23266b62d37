"""How a worker is: how late its loop runs, what it takes of the machine, and what becomes of logins.

A login of a client begins with its connection, and is *done* when it is told that it is ready for queries, *refused*
when it is told why not, else *abandoned*: the client, or a timeout, has ended it first. A CancelRequest is none.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from middleware.pool.surroundings import NodeState
from middleware.relay.newcomers import Newcomers
from middleware.reports import HealthReport
from middleware.session.tally import Timing

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
MEMORY: Final = Path("/proc/self/statm")


class Health:
    """One worker's."""

    def __init__(self) -> None:
        self.logins_done: Final = Timing()
        self.logins_refused = 0
        self.logins_abandoned = 0
        self._lag_s = 0.0
        self._due_at = 0.0
        """When the next tick is due; 0 before the first."""

    def ticked(self, now: float, tick_s: float) -> None:
        """A tick has come; the next is due after `tick_s`."""
        if self._due_at:
            self._lag_s = max(self._lag_s, now - self._due_at)
        self._due_at = now + tick_s

    def report(self, newcomers: Newcomers, nodes: Iterable[NodeState]) -> HealthReport:
        """As of now; the lag is the worst since the last report."""
        lag_s, self._lag_s = self._lag_s, 0.0
        server_login = Timing()
        in_flight = failed = 0
        for node in nodes:
            in_flight += node.logins.in_flight
            failed += node.logins.failed
            server_login.add(node.logins.took)
        return HealthReport(
            loop_lag_s=lag_s,
            cpu_s=time.process_time(),
            rss_bytes=int(MEMORY.read_bytes().split()[1]) * PAGE_BYTES,
            logins_in_flight=len(newcomers),
            logins_done=sum(self.logins_done.counts),
            logins_refused=self.logins_refused,
            logins_abandoned=self.logins_abandoned,
            client_login=self.logins_done.histogram(),
            server_logins_in_flight=in_flight,
            server_logins_failed=failed,
            server_login=server_login.histogram(),
        )
