"""How a Pointsman ends: at once, when its servers have come back, or when its clients have gone.

In: SHUTDOWN from an operator, SIGTERM, a successor's word. Out: the order that workers get, and another where a more
urgent one comes.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import anyio
import structlog

from middleware import sqlstate
from middleware.control import Drain, WaitFor
from middleware.errors import PointsmanError

ShutdownMode = Literal["now", "wait_for_servers", "wait_for_clients"]

URGENCY: Final[Mapping[ShutdownMode, int]] = {"wait_for_clients": 0, "wait_for_servers": 1, "now": 2}
_WAIT_FOR: Final[Mapping[ShutdownMode, WaitFor]] = {
    "wait_for_clients": "clients",
    "wait_for_servers": "servers",
    "now": "",
}

log = structlog.get_logger("service")


class Stopping:
    """One Pointsman's."""

    def __init__(self, timeout_s: Callable[[], float], pause: Callable[[str], None]) -> None:
        """`timeout_s` tells how long transactions may take to end. `pause` is told who has all databases paused for
        good."""
        self._timeout_s: Final = timeout_s
        self._pause: Final = pause
        self.mode: ShutdownMode | None = None
        """How it ends; None while it does not."""
        self._by_successor = False
        """A successor has said "now", and nobody since."""
        self._taken: ShutdownMode | None = None
        self._said = anyio.Event()

    def shutdown(self, mode: ShutdownMode, who: str) -> None:
        """Returns at once; one that is more urgent takes the place of another. 55000 for one that is not.

        "now": open transactions may end within shutdown_timeout, as at SIGTERM. "wait_for_servers": no new clients, all
        is paused, who waits for a server is sent away; it ends when no server is left. "wait_for_clients": no new
        clients; it ends when the last has gone."""
        if self.mode is not None and URGENCY[mode] <= URGENCY[self.mode]:
            raise PointsmanError(
                "Pointsman is shutting down already",
                detail=f"SHUTDOWN {self.mode.upper()} was said." if self.mode != "now" else "",
                sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE,
            )
        self.mode = mode
        log.info("shutting down", mode=mode, by=who, shutdown_timeout=self._timeout_s())
        if mode == "wait_for_servers":
            self._pause(who)
        self._said.set()

    def signal(self) -> bool:
        """SIGTERM has come; whether all is to end at once, because it has come before.

        Where a successor has said so and the signal comes too, that is no reason for haste."""
        first, self._by_successor = self._by_successor, False
        if self.mode == "now":
            return not first
        self.shutdown("now", "signal")
        return False

    def successor(self, mode: ShutdownMode) -> None:
        """A successor says so. Where it was said already, it is no reason for haste."""
        if self.mode is None or URGENCY[mode] > URGENCY[self.mode]:
            self._by_successor = mode == "now"
            self.shutdown(mode, "online restart")

    async def next(self) -> Drain:
        """What workers are told, the first time and whenever that is something more urgent."""
        while self.mode is None or self.mode == self._taken:
            self._said = anyio.Event()
            await self._said.wait()
        self._taken = self.mode
        return self.order(self.mode)

    def order(self, mode: ShutdownMode) -> Drain:
        """What workers are told."""
        return Drain(self._timeout_s(), _WAIT_FOR[mode])
