"""The watcher: sees writes that do not pass through this Pointsman, and tells the versions that cached answers go by.

In: the databases whose answers may be cached, the topology, and whether the cache is on; it connects to nothing while
that is off. Out: `versions.change()` for each table that has changed, and `versions.watched()`: until when that is all.
One task for each database, on the primary, by logical decoding (watch_logical.py) or by counters (watch_poll.py). A
watch that is lost is begun anew, and then everything of its database counts as changed.

Workers know one moment until which all is told, for all databases: the earliest of them. A database that has come anew
holds it where it is until it has been confirmed for the first time.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Literal

import anyio
import asyncpg
import msgspec
import structlog
from anyio.abc import TaskGroup

from healthcheck.line import Credentials, reason
from healthcheck.topology import Node, Topology
from middleware.cache.versions import Versions, slot_of
from middleware.supervisor.watch_logical import LogicalWatch
from middleware.supervisor.watch_poll import PollWatch
from middleware.supervisor.watching import FAILURES, CannotWatch, Pace

IDLE_S: Final = 1.0
"""Between two rounds of a database while nobody wants one and nothing is written."""
GRACE_S: Final = 1.0
"""How long a slot is waited for before its database is polled meanwhile."""
AGAIN_S: Final = 60.0
"""What cannot be on a node is tried again."""
RETRY_DELAY_FIRST_S: Final = 0.1
RETRY_DELAY_MAX_S: Final = 5.0
STEADY_S: Final = 10.0
"""A watch that has lasted so long is begun anew without delay."""

WAITING: Final = "a slot waits for transactions that are in progress to end"
"""Those of other databases, too."""

Mode = Literal["auto", "logical", "poll", "off"]

log: Final = structlog.get_logger("cache")


class WatchStatus(msgspec.Struct, frozen=True):
    """How one database is watched."""

    database: str
    mode: str
    """"logical", "poll", or "" while it is not."""
    why: str
    """Why it is not watched, or not by logical decoding."""
    confirmed_s_ago: float | None
    """How old what is known is; None before the first time."""
    changes: int
    """How often it has told of a table, or of all of them."""
    absent: bool = False
    """There is no such database any more."""


class _Watched:
    """One database: what is told of it, and how it stands. Is the Told of its watches."""

    def __init__(
        self, database: str, versions: Versions, publish: Callable[[], None], suspected: Callable[[str], None]
    ):
        self.database = database
        self.mode = ""
        self.why = "not connected yet"
        self.until: float | None = None
        self.lsn = 0
        self.vouched = 0
        self.timeline = 0
        self.changes = 0
        self.pace = Pace()
        self.absent = False
        """There is no such database."""
        self.life = anyio.CancelScope()
        self.attempt = anyio.CancelScope()
        self._versions = versions
        self._publish = publish
        self._suspected = suspected

    def using(self, mode: str, why: str) -> None:
        """See Told."""
        if (mode, why) != (self.mode, self.why):
            self.mode, self.why = mode, why
            log.info("writes of others are watched", database=self.database, mode=mode, why=why or None)

    def lost(self, why: str, *, failed: bool) -> None:
        """It is not watched."""
        if (self.mode, self.why) != ("", why):
            if failed:
                log.error("writes of others are not seen", database=self.database, why=why)
            else:
                log.warning("writes of others are not seen", database=self.database, why=why)
        self.mode, self.why = "", why

    def changed(self, oids: Iterable[int], lsn: int = 0) -> None:
        """See Told."""
        slots = [slot_of(self.database, oid) for oid in oids]
        self.changes += len(slots)
        self._versions.change(slots, time.monotonic(), lsn)

    def all_changed(self, lsn: int = 0) -> None:
        """See Told."""
        self.changes += 1
        self._versions.change((slot_of(self.database),), time.monotonic(), lsn)

    def confirmed(self, until: float, lsn: int, vouched: int = 0, timeline: int = 0) -> None:
        """See Told."""
        self.until, self.lsn, self.vouched, self.timeline = until, lsn, vouched, timeline
        self._publish()

    def suspected(self) -> None:
        """See Told."""
        self._suspected(self.database)


class Watcher:
    """Watches until cancelled. All but `run` may be called at any time."""

    def __init__(
        self,
        credentials: Credentials,
        versions: Versions,
        suspected: Callable[[str], None],
        *,
        mode: Mode,
        interval_s: float,
        publication: str,
        timeout_s: float,
    ) -> None:
        """`suspected` is told of databases whose catalog has changed."""
        self._credentials = credentials
        self._versions = versions
        self._suspected = suspected
        self._mode = mode
        self._interval_s = interval_s
        self._publication = publication
        self._timeout_s = timeout_s
        self._active = False
        self._names: frozenset[str] = frozenset()
        self._primary: tuple[Node, int | None] | None = None
        """And its timeline."""
        self._watched: dict[str, _Watched] = {}
        self._timeline = 0
        """That of the positions which were vouched for last."""
        self._vouched: deque[tuple[float, int]] = deque()
        """When each of them was, from the last one that was before the moment until when all is told."""
        self._changed = anyio.Event()

    def use_settings(
        self, credentials: Credentials, *, mode: Mode, interval_s: float, publication: str, timeout_s: float
    ) -> None:
        """Watch like this from now on: what is watched otherwise is begun anew, and counts as changed."""
        before = self._credentials, self._mode, self._interval_s, self._publication, self._timeout_s
        now = credentials, mode, interval_s, publication, timeout_s
        if now == before:
            return
        self._credentials, self._mode, self._interval_s, self._publication, self._timeout_s = now
        for one in self._watched.values():
            one.attempt.cancel()
        self._changed.set()

    def use(self, active: bool) -> None:
        """Whether the cache is on anywhere."""
        self._active = active
        self._changed.set()

    def databases_changed(self, names: Iterable[str]) -> None:
        """These are the databases whose answers may be cached."""
        self._names = frozenset(names)
        self._changed.set()

    def topology_changed(self, topology: Topology) -> None:
        """The primary may be another, or none."""
        writer = topology.writer()
        # As it is reached: the rest of a node changes with each probe.
        self._primary = None if writer is None else (Node(writer.name, writer.host, writer.port), topology.timeline)
        self._changed.set()

    def wanted(self) -> None:
        """A client could not be given an answer, because what is known is too old."""
        for one in self._watched.values():
            one.pace.poke()

    def status(self) -> list[WatchStatus]:
        """How each database is watched."""
        now = time.monotonic()
        return [
            WatchStatus(
                one.database,
                one.mode,
                one.why,
                None if one.until is None else now - one.until,
                one.changes,
                one.absent,
            )
            for one in sorted(self._watched.values(), key=lambda one: one.database)
        ]

    async def run(self) -> None:
        """Begin and end the watches of the databases."""
        primary = self._primary
        async with anyio.create_task_group() as tasks:
            while True:
                self._changed = anyio.Event()
                if primary != self._primary:
                    primary = self._primary
                    for one in self._watched.values():
                        one.attempt.cancel()
                wanted = self._names if self._active and self._mode != "off" else frozenset()
                for name in self._watched.keys() - wanted:
                    one = self._watched.pop(name)
                    one.life.cancel()
                    # Others may be confirmed from now on, and of this nothing is told any more.
                    one.all_changed()
                for name in wanted - self._watched.keys():
                    one = self._watched[name] = _Watched(name, self._versions, self._publish, self._suspected)
                    tasks.start_soon(self._keep_watching, one)
                await self._changed.wait()

    def _publish(self) -> None:
        """Until when all is told of all databases."""
        if not self._names <= self._watched.keys():
            # One is wanted, and its watch has not begun.
            return
        there = [one for one in self._watched.values() if not one.absent]
        moments = [one.until for one in there if one.until is not None]
        if moments and len(moments) == len(there):
            until, vouched, timelines = min(moments), min(one.vouched for one in there), {one.timeline for one in there}
            if not vouched or timelines != {self._timeline}:
                # First: what follows is not what was vouched for.
                self._versions.vouch(0, 0)
                self._vouched.clear()
                self._timeline = 0
            self._versions.watched(until, min(one.lsn for one in there))
            if vouched and len(timelines) == 1:
                self._timeline = timelines.pop()
                while len(self._vouched) > 1 and self._vouched[1][0] <= until:
                    self._vouched.popleft()
                earlier = [lsn for at, lsn in self._vouched if at <= until]
                self._versions.vouch(self._timeline, vouched, earlier[0] if earlier else 0)
                self._vouched.append((time.monotonic(), vouched))

    async def _keep_watching(self, one: _Watched) -> None:
        """A database, for as long as its answers may be cached."""
        failures = 0
        with one.life:
            while True:
                with anyio.CancelScope() as one.attempt:
                    begun = time.monotonic()
                    delay_s = await self._attempt(one)
                    failures = 0 if time.monotonic() - begun >= STEADY_S else failures + 1
                    if failures:
                        await anyio.sleep(
                            max(delay_s, min(RETRY_DELAY_FIRST_S * 2 ** min(failures, 16), RETRY_DELAY_MAX_S))
                        )
                if one.attempt.cancelled_caught:
                    failures = 0
                    one.mode, one.why = "", "the primary is another, or none, or the settings are"

    async def _attempt(self, one: _Watched) -> float:
        """Watch it until that fails; returns how long not to try again."""
        if self._primary is None:
            one.lost("there is no primary", failed=False)
            await anyio.sleep_forever()
        assert self._primary is not None
        node = self._primary[0]
        one.absent = False
        try:
            if self._mode == "poll":
                await self._poll(node, one, 'cache_watch is "poll"')
            elif self._mode == "logical":
                await self._decode(node, one)
            else:
                await self._decode_or_poll(node, one)
        except CannotWatch as error:
            one.lost(str(error), failed=True)
            return AGAIN_S
        except FAILURES as error:
            one.absent = isinstance(error, asyncpg.InvalidCatalogNameError)
            one.lost(reason(error) if str(error) else f"no answer within {self._timeout_s:g} s", failed=False)
        return 0.0

    async def _poll(self, node: Node, one: _Watched, why: str) -> None:
        watch = PollWatch(node, one.database, self._credentials, one, self._timeout_s)
        await watch.run(self._interval_s, why)

    async def _decode(self, node: Node, one: _Watched, begins: Callable[[], Awaitable[None]] | None = None) -> None:
        """By logical decoding alone; `begins` is awaited when there is a slot."""
        watch = LogicalWatch(node, one.database, self._credentials, one, one.pace, self._timeout_s)
        try:
            if not one.mode:
                one.why = WAITING
            await watch.open(self._publication)
            if begins is not None:
                await begins()
            await watch.run(min(self._interval_s, IDLE_S))
        finally:
            watch.close()

    async def _decode_or_poll(self, node: Node, one: _Watched) -> None:
        """By logical decoding as soon as that can be, by counters until then."""
        ended: list[Exception] = []
        polling = anyio.CancelScope()
        polled = anyio.Event()
        why = WAITING
        refused = anyio.Event()

        async def stop_polling() -> None:
            polling.cancel()
            await polled.wait()

        async def decode(tasks: TaskGroup) -> None:
            nonlocal why
            try:
                while True:
                    try:
                        await self._decode(node, one, stop_polling)
                    except CannotWatch as error:
                        if polling.cancel_called:
                            raise
                        why = str(error)
                        refused.set()
                        if one.mode == "poll":
                            one.using("poll", why)
                        await anyio.sleep(AGAIN_S)
            except (CannotWatch, *FAILURES) as error:
                ended.append(error)
                tasks.cancel_scope.cancel()

        async def poll(tasks: TaskGroup) -> None:
            try:
                with polling:
                    with anyio.move_on_after(GRACE_S):
                        await refused.wait()
                    await self._poll(node, one, why)
            except CannotWatch as error:
                # Decoding may be possible later.
                one.lost(f"{why}; {error}", failed=True)
            except FAILURES as error:
                ended.append(error)
                tasks.cancel_scope.cancel()
            finally:
                polled.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(decode, tasks)
            tasks.start_soon(poll, tasks)
        if ended:
            raise ended[0]
