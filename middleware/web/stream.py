"""What open dashboards are sent: one Snapshot a second for all of them, Details every few seconds while there are any,
and events when they happen.

In: a Site. Out: server-sent events (WHATWG HTML, "Server-sent events"), as bytes, into each Listener's queue; the
request that reads the queue is middleware.web.dashboard's. What is sent is made once, however many listen.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
import structlog

from middleware.supervisor.journal import Event
from middleware.web.actions import Outcome
from middleware.web.history import POINTS_MAX, History
from middleware.web.picture import DIGESTS_MAX, details
from middleware.web.site import Site
from middleware.web.snapshot import Details, Limits, Point, Snapshot, Sources, UnderWay

PERIOD_S: Final = 1.0
DETAILS_S: Final = 3.0
AGAIN_S: Final = 5.0
"""Before what has failed, by a bug of ours, is tried again."""
LISTENERS_MAX: Final = 20
QUEUE_MAX: Final = 8
"""Messages that a listener may be behind: some seconds. One that is behind further is dropped; its page comes again."""
EVENTS_MAX: Final = 200
"""As many as a page is told when it opens, and as it shows."""

log = structlog.get_logger("web")


class Opened(msgspec.Struct, frozen=True, tag_field="kind", tag="opened"):
    """The first message of a stream."""

    run: float
    """Tells one run of Pointsman from another: when it began."""
    period_s: float
    points_max: int
    points: list[Point]
    events: list[Event]


class Happened(msgspec.Struct, frozen=True, tag_field="kind", tag="events"):
    """Events since the last such message, or since the stream was opened."""

    events: list[Event]


def message(what: Opened | Snapshot | Details | Happened | Outcome) -> bytes:
    """As it is sent. JSON has no line breaks in it, so one line of data is all of it."""
    return b"data: " + msgspec.json.encode(what) + b"\n\n"


class Listener:
    """An open stream: what is to be sent on it."""

    def __init__(self, drop: Callable[[], None]) -> None:
        """`drop` cuts it off, wherever its request waits."""
        self._queue: Final[deque[bytes]] = deque()
        self._grown: Final = asyncio.Event()
        self._drop: Final = drop
        self.over = False

    def put(self, data: bytes) -> bool:
        """Have it sent; False, and it is cut off, where too much has not been sent yet."""
        if len(self._queue) >= QUEUE_MAX:
            self.end()
            self._drop()
            return False
        self._queue.append(data)
        self._grown.set()
        return True

    def end(self) -> None:
        """Nothing more is to come."""
        self.over = True
        self._queue.clear()
        self._grown.set()

    async def next(self) -> bytes:
        """The next message, or several; b"" when it is over."""
        while not self._queue and not self.over:
            self._grown.clear()
            await self._grown.wait()
        data = b"".join(self._queue)
        self._queue.clear()
        return data


class Broadcast:
    """One Pointsman's."""

    def __init__(self, site: Site, under_way: Callable[[], tuple[UnderWay, ...]]) -> None:
        """`under_way`: commands of buttons that have not ended."""
        self._site: Final = site
        self._under_way: Final = under_way
        self._history: Final = History()
        self._listeners: Final[set[Listener]] = set()
        self._began: Final = time.time()
        self._told = 0
        """The number of the last event that listeners know."""
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted: Final = asyncio.Event()
        """Somebody listens."""
        self._latest: dict[type, Snapshot | Details] = {}
        """The last of each kind, for who comes next."""

    def start(self) -> None:
        """Begin to look, and to tell."""
        self._told = self._site.journal.last
        loops = (self._tick, self._detail, self._follow)
        self._tasks = [asyncio.create_task(_for_ever(loop)) for loop in loops]

    def end_all(self) -> None:
        """End all streams."""
        for listener in self._listeners:
            listener.end()

    async def stop(self) -> None:
        """Look no more."""
        self.end_all()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def full(self) -> bool:
        """There are as many listeners as may be."""
        return len(self._listeners) >= LISTENERS_MAX

    def join(self, drop: Callable[[], None]) -> Listener | None:
        """One more listener, who is told at once what is known; None where there are too many."""
        if self.full:
            return None
        # What came since the last message to all is in this one already, and comes once more: pages go by the number.
        events = self._site.journal.beyond(max(0, self._site.journal.last - EVENTS_MAX))
        listener = Listener(drop)
        listener.put(message(Opened(self._began, PERIOD_S, POINTS_MAX, self._history.points(), events)))
        for latest in self._latest.values():
            listener.put(message(latest))
        self._listeners.add(listener)
        self._wanted.set()
        return listener

    def leave(self, listener: Listener) -> None:
        """It is gone."""
        self._listeners.discard(listener)
        if not self._listeners:
            self._wanted.clear()
            # Old by the time that somebody comes.
            self._latest.pop(Details, None)

    def tell(self, what: Snapshot | Details | Happened | Outcome) -> None:
        """Have all listeners sent it."""
        data = message(what)
        if isinstance(what, Snapshot | Details):
            self._latest[type(what)] = what
        for listener in tuple(self._listeners):
            if not listener.put(data):
                log.info("a dashboard was closed: it reads too slowly")
                self._listeners.discard(listener)

    async def _tick(self) -> None:
        """Without listeners too: who comes then sees the last minutes."""
        due = asyncio.get_running_loop().time()
        while True:
            taken = self._history.record(self._sources())
            if self._listeners:
                self.tell(taken)
            else:
                self._latest[Snapshot] = taken
            now = asyncio.get_running_loop().time()
            # Missed seconds (a machine that slept) are not made up for.
            due = max(due + PERIOD_S, now)
            await asyncio.sleep(due - now)

    async def _detail(self) -> None:
        """Only for listeners: workers are asked. One that does not answer holds up nothing else."""
        while True:
            await self._wanted.wait()
            asking = self._site.asking
            pools, digests = await asyncio.gather(asking.ask("pools"), asking.ask("digests", 4 * DIGESTS_MAX))
            if self._listeners:
                self.tell(details(time.time(), pools, digests))
            await asyncio.sleep(DETAILS_S)

    async def _follow(self) -> None:
        journal = self._site.journal
        while True:
            await journal.wait_beyond(self._told)
            events = journal.beyond(self._told)
            self._told = journal.last
            if self._listeners:
                self.tell(Happened(events[-EVENTS_MAX:]))

    def _sources(self) -> Sources:
        site = self._site
        settings = site.settings
        return Sources(
            at=time.time(),
            status=site.status(),
            counters=site.counters(),
            cache=site.cache_counters(),
            cache_state=site.cache_state(),
            limits=Limits(settings.max_client_conn, settings.query_cache_size * settings.workers),
            under_way=self._under_way(),
        )


async def _for_ever(loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A bug in what is shown must not end what is served, nor go on without a word."""
    while True:
        try:
            await loop()
        except Exception:
            log.exception("a bug has ended what dashboards are told")
            await asyncio.sleep(AGAIN_S)
