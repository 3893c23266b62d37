"""Who was before this Pointsman, and who comes after it: an online restart, from either end.

In: a request to hand over (`attend`), or what a predecessor has handed over (`follow`). Out: exactly one of the two
takes new clients and changes roles, at any moment and whoever dies; and while both have clients, each hears what it
must of the other's. The steps are in link.py, the reasons in docs/decisions/0016.
"""

import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Final, Protocol

import anyio
import anyio.abc
import msgspec
import structlog

from healthcheck.guard import Happening
from middleware import sqlstate
from middleware.control import Leases, Obeyed, PauseProgress, SetPauses
from middleware.errors import PointsmanError
from middleware.relay.shared import LAYOUT
from middleware.supervisor.link import (
    PROTOCOL,
    CancelElsewhere,
    Carried,
    CatalogChanged,
    CatalogSuspected,
    Done,
    End,
    EndWithServers,
    Handed,
    HandedSocket,
    Left,
    LetGo,
    Link,
    Nodes,
    Ordered,
    PauseOrder,
    Pauses,
    PausesLeft,
    Said,
    ServerFreedElsewhere,
    ServerWantedElsewhere,
    Serving,
    Standing,
    Taken,
    TakeOver,
    UnderWay,
)
from middleware.supervisor.link import Slots as SlotRanges
from middleware.supervisor.slots import Slots
from middleware.supervisor.stopping import ShutdownMode
from middleware.supervisor.take_over import Estate

START_S: Final = 60.0
"""For a successor's workers to accept clients."""
STEP_S: Final = 10.0
"""For the other end to take a step that is no work."""
LET_GO_S: Final = 300.0
"""For a predecessor to let go: it may be in the middle of a failover."""
LOOK_S: Final = 1.0
"""Between two looks at who is gone, and two words of how many clients are left."""

GONE_S: Final = 5.0
"""For a process that has closed its end to be gone, if it is going."""
UCRED: Final = struct.Struct("3i")
"""Linux's struct ucred: pid, uid, gid."""

log = structlog.get_logger("service")


class Ours(Protocol):
    """What is asked of the Pointsman whose it is."""

    @property
    def slots(self) -> Slots: ...
    @property
    def clients(self) -> Callable[[], int]: ...
    @property
    def happened(self) -> Callable[[Happening], None]: ...
    @property
    def took_over(self) -> Callable[[], None]:
        """It is the one that is served by from now on."""

    @property
    def stop(self) -> Callable[[ShutdownMode], None]:
        """End in this way, unless it ends in a more urgent one already."""

    def sockets(self) -> list[tuple[HandedSocket, int]]:
        """All that it listens on, with their descriptors."""

    def standing(self) -> Standing: ...

    def stand(self, standing: Standing) -> None:
        """Know, and do, as the predecessor did."""

    async def hold_cache(self) -> None:
        """Give no cached answers until `release_cache`; returns when no worker does, or one does not answer."""

    def release_cache(self) -> None: ...

    def quiet(self) -> AbstractAsyncContextManager[None]:
        """While no role is being changed. Raises TimeoutError."""

    def change_no_roles(self, why: str) -> None:
        """From now on; "" to change them again."""

    def let_go(self, used: Sequence[int]) -> None:
        """Take no clients any more; the files of those sockets are another's."""

    async def tell_under_way(self) -> None:
        """Let the successor know of it, until cancelled."""

    # What the other's clients and workers have done

    def cancelled(self, process_id: int, secret: bytes, source: Link) -> None: ...
    def server_wanted(self, key: bytes, source: Link) -> None: ...
    def server_freed(self, source: Link) -> None: ...
    def catalog_changed(self, database: str, slot: int, changed_at: float, source: Link) -> None: ...
    def catalog_suspected(self, database: str, source: Link) -> None: ...
    def slots_are_gone(self, suspects: Sequence[int]) -> None: ...

    # What nodes are to be, and what is under way there

    def heed(self, nodes: Nodes) -> None: ...
    def pauses(self, told: SetPauses) -> None: ...
    def ordered(self, order: PauseOrder) -> None: ...
    def pauses_left(self, progress: PauseProgress) -> None: ...
    def obeyed(self, message: Obeyed) -> None: ...
    def leases_reported(self, leases: Leases) -> None: ...
    def leases_ended(self) -> None: ...


class Succession:
    """One Pointsman's, towards both sides."""

    def __init__(self, estate: Estate | None) -> None:
        self._ours: Ours
        self._estate: Final = estate
        self.before: Link | None = None
        """To the predecessor, while there is one."""
        self.after: Link | None = None
        """To the successor, from when it has asked."""
        self.over = False
        """A successor has taken over."""
        self.successor_pid = 0
        self._step = anyio.Event()
        self._serving: Serving | None = None
        self._taken = False
        """By the successor: all it must know."""
        self.owns = estate is None
        """What the predecessor had is ours."""
        self._left = 0
        self._blind: SlotRanges = ()
        """Slots of others whose memory is another than ours."""
        self.alone: Final = anyio.Event()
        """No predecessor has clients any more."""
        if estate is None:
            self.alone.set()

    def act_for(self, ours: Ours) -> None:
        """Whose it is."""
        self._ours = ours

    def left(self) -> int:
        """How many clients predecessors still have."""
        return 0 if self.before is None else self._left

    def tell_others(self, message: Said, source: Link | None = None) -> None:
        """Let the generations before and after know, but for the one from which it comes."""
        for link in (self.before, self.after):
            if link is not None and link is not source:
                link.send(message)

    def tell_before(self, message: Said) -> None:
        """Let the generation before this one know, if there is one."""
        if self.before is not None:
            self.before.send(message)

    def tell_after(self, message: Said) -> None:
        """Let the generation after this one know."""
        if self.after is not None:
            self.after.send(message)

    # The predecessor's part

    async def attend(self, stream: anyio.abc.UNIXSocketStream, asked: TakeOver) -> None:
        """Hand over to who has asked; returns when the successor is gone. Raises PointsmanError."""
        self._may_ask(asked)
        link = self.after = Link(stream, self._heard)
        shared = asked.layout == LAYOUT
        pid = _pid_of(stream)
        try:
            await self._ours.hold_cache()
            await self._hand(stream, shared)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(link.run)
                tasks.start_soon(self._cut_when_over, link, tasks.cancel_scope)
                done = await self._hand_over(link, shared, pid)
                if done:
                    tasks.start_soon(self._ours.tell_under_way)
                    await self._tell_left(link)
                tasks.cancel_scope.cancel()
        finally:
            if not self.over:
                self._take_back(link)
        log.warning("the Pointsman that has taken over is gone", pid=pid)

    def _may_ask(self, asked: TakeOver) -> None:
        if asked.protocol != PROTOCOL:
            raise PointsmanError(
                f"Pointsman {asked.version} cannot take over from Pointsman {version('pointsman')}",
                detail="They do not hand over in the same way: stop this one, and start that.",
                sqlstate=sqlstate.FEATURE_NOT_SUPPORTED,
            )
        if self.after is not None or not self.owns:
            raise PointsmanError(
                "another Pointsman is taking over, or has taken over",
                sqlstate=sqlstate.OBJECT_IN_USE,
            )

    async def _hand(self, stream: anyio.abc.UNIXSocketStream, shared: bool) -> None:
        ours = self._ours
        sockets = ours.sockets()
        handed = Handed(
            version("pointsman"),
            os.getpid(),
            tuple(one for one, _ in sockets),
            shared,
            self._slots(),
            ours.standing(),
        )
        descriptors = [descriptor for _, descriptor in sockets]
        if shared:
            descriptors.insert(0, ours.slots.descriptor)
        await stream.send_fds(b"\0", descriptors)
        await stream.send(msgspec.json.encode(handed) + b"\n")

    def _slots(self) -> SlotRanges:
        """Ours, and those of others that live."""
        slots = self._ours.slots
        return ((slots.first, slots.workers), *((slot, 1) for slot in slots.others()), *self._blind)

    async def _hand_over(self, link: Link, shared: bool, pid: int) -> bool:
        """Whether it has come to it."""
        with anyio.move_on_after(START_S):
            while self._serving is None:
                await self._next_step()
        serving = self._serving
        if serving is None:
            return False
        if not shared:
            self._blind = (*self._blind, *serving.slots)
            self._ours.slots.blind(serving.slots)
        try:
            async with self._ours.quiet():
                self._ours.change_no_roles("the Pointsman that takes over from it changes them")
        except TimeoutError:
            return False
        link.send(LetGo(self._ours.standing()))
        with anyio.move_on_after(STEP_S):
            while not self._taken:
                await self._next_step()
        if not self._taken:
            return False
        self.over, self.successor_pid = True, pid
        self._ours.let_go(serving.used)
        link.send(Done())
        return True

    async def _next_step(self) -> None:
        await self._step.wait()
        self._step = anyio.Event()

    async def _cut_when_over(self, link: Link, scope: anyio.CancelScope) -> None:
        await link.over.wait()
        scope.cancel()

    def _take_back(self, link: Link) -> None:
        """All is as it was before it asked."""
        ours = self._ours
        if self._serving is not None and self._blind:
            ours.slots.see(self._serving.slots, time.monotonic())
        self.after, self._serving, self._taken, self._blind = None, None, False, ()
        ours.change_no_roles("")
        self._release_cache()
        ours.happened(
            Happening(time.time(), "not_handed_over", "another Pointsman has begun to take over, and has not", bad=True)
        )

    async def _tell_left(self, link: Link) -> None:
        while True:
            link.send(Left(self._ours.clients() + self.left()))
            await anyio.sleep(LOOK_S)

    # The successor's part

    async def follow(
        self, ready: anyio.Event, used: Callable[[], tuple[int, ...]], fail: Callable[[str], None]
    ) -> None:
        """Take over once `ready`; returns when no predecessor has clients any more. `fail` is told why it cannot."""
        estate = self._estate
        assert estate is not None
        ours, handed = self._ours, estate.handed
        link = self.before = Link(estate.stream, self._heard)
        if not handed.shared:
            self._blind = handed.slots
            ours.slots.blind(handed.slots)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(link.run, estate.rest)
            tasks.start_soon(self._take, link, ready, used, fail)
            await link.over.wait()
            if not self.owns:
                # It may have died, or have taken back what it had: not both of us are to go on.
                if not await _gone(handed.pid):
                    fail("the Pointsman that was to be taken over from has gone on by itself")
                    tasks.cancel_scope.cancel()
                    return
                log.warning("the Pointsman that was to be taken over from is dead", pid=handed.pid)
                await ready.wait()
                self._own()
            tasks.cancel_scope.cancel()
        self.before = None
        ours.leases_ended()
        if not handed.shared:
            ours.slots.see(self._blind, time.monotonic())
            self._blind = ()
        await self._bury()
        self.alone.set()
        self._release_cache()
        ours.happened(Happening(time.time(), "alone", "no Pointsman before this one has clients any more"))

    async def _take(
        self, link: Link, ready: anyio.Event, used: Callable[[], tuple[int, ...]], fail: Callable[[str], None]
    ) -> None:
        await ready.wait()
        slots = self._ours.slots
        link.send(Serving(os.getpid(), ((slots.first, slots.workers),), used()))
        with anyio.move_on_after(LET_GO_S):
            while not self.owns:
                await self._next_step()
        if not self.owns:
            fail("the Pointsman that is taken over from does not let go")
            return
        while not self.over:
            await anyio.sleep(LOOK_S)
            self._ours.slots_are_gone(self._ours.slots.bury())

    def _own(self) -> None:
        self.owns = True
        self._ours.change_no_roles("")
        self._ours.took_over()

    def _release_cache(self) -> None:
        if self.alone.is_set() and self.after is None:
            self._ours.release_cache()

    async def _bury(self) -> None:
        """Until workers of all generations before are gone; those of one that was killed end by themselves."""
        ours = self._ours
        while not self.over:
            ours.slots_are_gone(ours.slots.bury())
            if not ours.slots.others():
                return
            await anyio.sleep(LOOK_S)

    # Both

    def _heard(self, link: Link, said: Said) -> None:
        ours = self._ours
        match said:
            case Serving() if link is self.after and self._serving is None:
                self._serving = said
                self._step.set()
            case Taken() if link is self.after:
                self._taken = True
                self._step.set()
            case LetGo(standing=standing) if link is self.before and not self.owns:
                ours.stand(standing)
                link.send(Taken())
            case Done() if link is self.before and not self.owns:
                self._own()
                self._step.set()
            case CancelElsewhere(process_id=process_id, secret=secret):
                ours.cancelled(process_id, secret, link)
            case ServerWantedElsewhere(key=key):
                ours.server_wanted(key, link)
            case ServerFreedElsewhere():
                ours.server_freed(link)
            case CatalogChanged(database=database, slot=slot, changed_at=changed_at):
                ours.catalog_changed(database, slot, changed_at, link)
            case CatalogSuspected(database=database):
                ours.catalog_suspected(database, link)
            case Nodes() if link is self.after:
                ours.heed(said)
            case Pauses(told=told) if link is self.after:
                ours.pauses(told)
            case Ordered(order=order) if link is self.after:
                ours.ordered(order)
            case PausesLeft(progress=progress) if link is self.before:
                ours.pauses_left(progress)
            case Carried(obeyed=obeyed) if link is self.before:
                ours.obeyed(obeyed)
            case UnderWay(version=version_, nodes=nodes) if link is self.before:
                ours.leases_reported(Leases(version_, nodes))
            case Left(clients=clients) if link is self.before:
                self._left = clients
            # Before it is over the other has taken nothing, and may well end: this one goes on.
            case End() if link is self.after and self.over:
                ours.stop("now")
            case EndWithServers() if link is self.after and self.over:
                ours.stop("wait_for_servers")
            case _:
                log.error("another Pointsman has said something at the wrong time", message=type(said).__name__)


def _pid_of(stream: anyio.abc.UNIXSocketStream) -> int:
    """The process at the other end."""
    raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
    pid, _, _ = UCRED.unpack(raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return int(pid)


async def _gone(pid: int) -> bool:
    """Whether a process ends within GONE_S, or has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        with anyio.move_on_after(GONE_S):
            await anyio.wait_readable(descriptor)
            return True
        return False
    finally:
        os.close(descriptor)
