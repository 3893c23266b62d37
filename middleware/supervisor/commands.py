"""What an operator may ask of a Pointsman that runs, however it is asked: by the control socket, or otherwise.

In: a request, and `say` for what is to be told meanwhile. Out: the last word, or a PointsmanError.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from middleware.supervisor.journal import Event, Journal
from middleware.supervisor.status import Status


class StatusWanted(msgspec.Struct, frozen=True, tag_field="do", tag="status", forbid_unknown_fields=True):
    """What the nodes and the workers are. Ends with Status."""


class EventsWanted(msgspec.Struct, frozen=True, tag_field="do", tag="events", forbid_unknown_fields=True):
    """What has become of the nodes. Says each Event; ends with Told, or with `follow` never."""

    after: int = 0
    """The number of the last one that is known already."""
    follow: bool = False


Request = StatusWanted | EventsWanted


class Told(msgspec.Struct, frozen=True):
    """That was all, up to number `last`."""

    last: int


Say = Callable[[Event], Awaitable[None]]
Last = Status | Told


class Commands:
    """Carries requests out."""

    def __init__(self, status: Callable[[], Status], journal: Journal) -> None:
        self._status: Final = status
        self._journal: Final = journal

    async def carry_out(self, request: Request, say: Say) -> Last:
        """Do as was asked. Raises PointsmanError."""
        match request:
            case StatusWanted():
                return self._status()
            case EventsWanted(after=after, follow=follow):
                return await self._tell_events(after, follow, say)

    async def _tell_events(self, after: int, follow: bool, say: Say) -> Told:
        journal = self._journal
        while True:
            # What is forgotten while somebody reads slowly is seen by the numbers.
            for event in journal.beyond(after):
                after = event.seq
                await say(event)
            if not follow:
                return Told(journal.last)
            await journal.wait_beyond(after)
