"""What an operator may ask of a Pointsman that runs, however it is asked: by the control socket, or otherwise.

In: a request, and `say` for what is to be told meanwhile. Out: the last word, or a PointsmanError.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import msgspec

from healthcheck.handover import Switched
from healthcheck.switchover import Reason, Refused
from middleware import sqlstate
from middleware.errors import PointsmanError
from middleware.supervisor.journal import Event, Journal
from middleware.supervisor.status import Status


class StatusWanted(msgspec.Struct, frozen=True, tag_field="do", tag="status", forbid_unknown_fields=True):
    """What the nodes and the workers are. Ends with Status."""


class EventsWanted(msgspec.Struct, frozen=True, tag_field="do", tag="events", forbid_unknown_fields=True):
    """What has become of the nodes. Says each Event; ends with Told, or with `follow` never."""

    after: int = 0
    """The number of the last one that is known already."""
    follow: bool = False


class SwitchoverWanted(msgspec.Struct, frozen=True, tag_field="do", tag="switchover", forbid_unknown_fields=True):
    """Have another node be the primary. Says what happens; ends with Switched."""

    node: str = ""
    """Which one; "" for the standby that has the most."""


Request = StatusWanted | EventsWanted | SwitchoverWanted


class Told(msgspec.Struct, frozen=True):
    """That was all, up to number `last`."""

    last: int


Say = Callable[[Event], Awaitable[None]]
Last = Status | Told | Switched

SQLSTATES: Final = {
    Reason.NOT_READY: sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE,
    Reason.UNKNOWN: sqlstate.UNDEFINED_OBJECT,
    Reason.BUSY: sqlstate.OBJECT_IN_USE,
    Reason.TIMED_OUT: sqlstate.QUERY_CANCELED,
    Reason.FAILED: sqlstate.EXTERNAL_ROUTINE_EXCEPTION,
}


class Gone(Exception):
    """Nobody listens to what is said any more."""


class Commands:
    """Carries requests out."""

    def __init__(
        self, status: Callable[[], Status], journal: Journal, switch: Callable[[str], Awaitable[Switched]]
    ) -> None:
        self._status: Final = status
        self._journal: Final = journal
        self._switch: Final = switch

    async def carry_out(self, request: Request, say: Say) -> Last:
        """Do as was asked. Raises PointsmanError, and what `say` raises: Gone, and nothing else."""
        match request:
            case StatusWanted():
                return self._status()
            case EventsWanted(after=after, follow=follow):
                return await self._tell_events(after, follow, say)
            case SwitchoverWanted(node=node):
                return await self._switch_over(node, say)

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

    async def _switch_over(self, node: str, say: Say) -> Switched:
        """As long as somebody listens; beyond recall, whether anybody does or not."""
        told = self._journal.last
        switched: Switched | None = None
        refused: PointsmanError | None = None

        async def tell() -> None:
            nonlocal told
            while True:
                for event in self._journal.beyond(told):
                    told = event.seq
                    try:
                        # Half a line would be no line.
                        with anyio.CancelScope(shield=True):
                            await say(event)
                    except Gone:
                        tasks.cancel_scope.cancel()
                await self._journal.wait_beyond(told)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tell)
            try:
                switched = await self._switch(node)
            except Refused as why:
                refused = PointsmanError(str(why), detail=why.detail, hint=why.hint, sqlstate=SQLSTATES[why.reason])
            tasks.cancel_scope.cancel()
        for event in self._journal.beyond(told):
            await say(event)
        if refused is not None:
            raise refused
        if switched is None:
            raise Gone
        return switched
