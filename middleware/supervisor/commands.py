"""What an operator may ask of a Pointsman that runs, however it is asked: by the control socket, or otherwise.

In: a request, and `say` for what is to be told meanwhile. Out: the last word, or a PointsmanError.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal

import anyio
import msgspec

from healthcheck.handover import Switched
from healthcheck.switchover import Refused
from middleware.admin.table import Column, Done, Value
from middleware.control import CacheCounters
from middleware.errors import PointsmanError
from middleware.supervisor.cache_control import CacheControl, CacheState
from middleware.supervisor.cache_watch import WatchStatus
from middleware.supervisor.console import REFUSALS, Console, Who
from middleware.supervisor.console_clients import parts_of
from middleware.supervisor.journal import Event, Journal
from middleware.supervisor.restarting import Restarted, Restarting
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


class CacheWanted(msgspec.Struct, frozen=True, tag_field="do", tag="cache", forbid_unknown_fields=True):
    """Have the query cache be on or off. Ends with CacheState."""

    mode: Literal["on", "hint", "off", "default"]
    """The last: as the settings have it."""
    route: str | None = None
    """For the clients of one rule, "" being those whom no rule is for; else for all."""


class CacheClearWanted(msgspec.Struct, frozen=True, tag_field="do", tag="cache_clear", forbid_unknown_fields=True):
    """Have no answer given again that is kept now. Ends with CacheState."""


class CacheStatsWanted(msgspec.Struct, frozen=True, tag_field="do", tag="cache_stats", forbid_unknown_fields=True):
    """What the query cache is and has done. Ends with CacheStats."""


class ConsoleWanted(msgspec.Struct, frozen=True, tag_field="do", tag="console", forbid_unknown_fields=True):
    """Carry out a command of the admin console. Says Notices and Rows; ends with Answered."""

    command: str


class RestartWanted(msgspec.Struct, frozen=True, tag_field="do", tag="restart", forbid_unknown_fields=True):
    """Have another process, of the program and the settings there are now, take over. Ends with Restarted."""


Request = (
    StatusWanted
    | EventsWanted
    | SwitchoverWanted
    | CacheWanted
    | CacheClearWanted
    | CacheStatsWanted
    | ConsoleWanted
    | RestartWanted
)


class Notice(msgspec.Struct, frozen=True):
    """What a command of the console waits for."""

    text: str


class Rows(msgspec.Struct, frozen=True):
    """Some of a table's rows: an answer is one line, and those have a bound."""

    rows: tuple[tuple[Value, ...], ...]


class Answered(msgspec.Struct, frozen=True):
    """What a command of the console has come to; its rows were said before."""

    tag: str
    columns: tuple[Column, ...] = ()
    """None for a command that has no rows."""
    notices: tuple[str, ...] = ()


class Told(msgspec.Struct, frozen=True):
    """That was all, up to number `last`."""

    last: int


class CacheStats(msgspec.Struct, frozen=True):
    """What the query cache is and has done, since the start and over all workers, as of about a second ago."""

    state: CacheState
    counters: CacheCounters
    watch: tuple[WatchStatus, ...] = ()
    """How writes that do not pass through this Pointsman are noticed, by database."""


Say = Callable[[Event | Notice | Rows], Awaitable[None]]
Last = Status | Told | Switched | CacheState | CacheStats | Answered | Restarted

DIGEST_BYTES_MAX: Final = 500_000
"""Of digests, as they are told: an answer is one line."""


class Gone(Exception):
    """Nobody listens to what is said any more."""


class Commands:
    """Carries requests out."""

    def __init__(
        self,
        status: Callable[[], Status],
        journal: Journal,
        switch: Callable[[str], Awaitable[Switched]],
        cache: CacheControl,
        cache_counters: Callable[[], CacheCounters],
        watch_status: Callable[[], Sequence[WatchStatus]],
        console: Console,
        restarting: Restarting,
    ) -> None:
        self._status: Final = status
        self._journal: Final = journal
        self._switch: Final = switch
        self._cache: Final = cache
        self._cache_counters: Final = cache_counters
        self._watch_status: Final = watch_status
        self._console: Final = console
        self._restarting: Final = restarting

    async def carry_out(self, request: Request, say: Say, who: str) -> Last:
        """Do as `who` has asked. Raises PointsmanError, and what `say` raises: Gone, and nothing else."""
        match request:
            case StatusWanted():
                return self._status()
            case EventsWanted(after=after, follow=follow):
                return await self._tell_events(after, follow, say)
            case SwitchoverWanted(node=node):
                return await self._switch_over(node, say)
            case CacheWanted(mode=mode, route=route):
                return await self._cache.switch(mode, route, who)
            case CacheClearWanted():
                self._cache.clear(who)
                return self._cache.state()
            case RestartWanted():
                return await self._restarting.restart()
            case CacheStatsWanted():
                return CacheStats(self._cache.state(), _bounded(self._cache_counters()), tuple(self._watch_status()))
            case ConsoleWanted(command=command):
                return await self._ask_console(command, say, who)

    async def _ask_console(self, command: str, say: Say, who: str) -> Answered:
        """As long as somebody listens."""
        outcome = await self._console.run_aloud(
            command, Who(who, admin=True, via="socket"), lambda text: say(Notice(text))
        )
        if isinstance(outcome, Done):
            return Answered(outcome.tag, notices=outcome.notices)
        for rows in parts_of(outcome.rows):
            if rows:
                await say(Rows(rows))
        return Answered(outcome.tag, outcome.columns, outcome.notices)

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
                refused = PointsmanError(str(why), detail=why.detail, hint=why.hint, sqlstate=REFUSALS[why.reason])
            tasks.cancel_scope.cancel()
        for event in self._journal.beyond(told):
            await say(event)
        if refused is not None:
            raise refused
        if switched is None:
            raise Gone
        return switched


def _bounded(counters: CacheCounters) -> CacheCounters:
    """With as many digests as fit into an answer."""
    left, count = DIGEST_BYTES_MAX, 0
    for digest in counters.digests:
        left -= len(msgspec.json.encode(digest))
        if left < 0:
            break
        count += 1
    return msgspec.structs.replace(counters, digests=counters.digests[:count])
