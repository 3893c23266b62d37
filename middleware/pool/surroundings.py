"""What all pools of a worker share, and what it knows of each node over all of them."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from middleware.auth import Authority
from middleware.config import WorkerSettings
from middleware.pool.dial import Dialer
from middleware.pool.failures import Failures
from middleware.pool.limits import ServerLimits
from middleware.pool.logins import Logins
from middleware.pool.plan import Clock

if TYPE_CHECKING:
    from middleware.pool.pool import Pool

TroubleReport = Callable[[str, str], None]
"""Told a node's name and what went wrong with a connection to it."""


class NodeState:
    """What a worker knows of one node, over all its pools."""

    __slots__ = ("answers", "failures", "fresh_as_of", "lag_bytes", "logins", "reads", "writes")

    def __init__(self, logins_max: int) -> None:
        self.logins: Final = Logins(logins_max)
        self.failures: Final = Failures()
        self.answers = 0
        """Reads from its connections that have brought something: it is alive."""
        self.reads = 0
        self.writes = 0
        """What it has been given since the worker started."""
        self.fresh_as_of = float("-inf")
        """A standby has replayed all that was committed by this moment (time.monotonic())."""
        self.lag_bytes: int | None = None


class Surroundings:
    """What all pools of a worker share."""

    __slots__ = ("authority", "awake", "clock", "dialer", "draw", "limits", "loop", "settings", "trouble")

    def __init__(
        self,
        settings: WorkerSettings,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        limits: ServerLimits,
        dialer: Dialer,
        authority: Authority,
        trouble: TroubleReport,
        draw: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.loop: Final = loop
        self.clock: Final = clock
        self.limits: Final = limits
        self.dialer: Final = dialer
        self.authority: Final = authority
        self.trouble: Final = trouble
        self.draw: Final = draw
        """A number from 0 to 1, another each time."""
        self.awake: Final[dict[Pool, None]] = {}
        """Pools that have servers, or clients that wait for one."""
