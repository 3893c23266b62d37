"""Waiting until all workers have done what they were told.

In: what workers say (control.Settled), and that one has ended. Out: the moment at which all that have a process have
come to what was sent to them before; or, after SETTLE_S, who has not. A worker that is started meanwhile knows it all.
"""

from collections.abc import Callable, Collection
from typing import Final

import anyio

from middleware.control import Down, Settle

SETTLE_S: Final = 2.0


class Settling:
    """`tell` sends to all workers; `running`: the indexes of those that have a process."""

    def __init__(self, tell: Callable[[Down], None], running: Callable[[], Collection[int]]) -> None:
        self._tell: Final = tell
        self._running: Final = running
        self._serial = 0
        self._waited_for: dict[int, set[int]] = {}
        """By the serial, the workers that have not answered."""
        self._moved = anyio.Event()

    async def settled(self) -> tuple[int, ...]:
        """Until all have; returns the workers that have not."""
        self._serial += 1
        serial = self._serial
        waited_for = self._waited_for[serial] = set(self._running())
        self._tell(Settle(serial))
        try:
            with anyio.move_on_after(SETTLE_S):
                while waited_for:
                    await self._moved.wait()
        finally:
            del self._waited_for[serial]
        return tuple(sorted(waited_for))

    def answered(self, worker: int, serial: int) -> None:
        """It has come to that."""
        if serial in self._waited_for:
            self._waited_for[serial].discard(worker)
        self._move()

    def ended(self, worker: int) -> None:
        """Its process is gone."""
        for waited_for in self._waited_for.values():
            waited_for.discard(worker)
        self._move()

    def _move(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()
