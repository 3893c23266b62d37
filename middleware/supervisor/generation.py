"""One process of a Pointsman among those before it and after it: what it has of them, and when it serves.

In: what a process before this one has handed over, if one has, and how the next is started. Out: the sockets, the
places of its workers in shared memory, and two moments: `serving`, from which on the clients are this one's, and
`handed_over`, from which on they are another's. What is said between the two is between.py's and succession.py's.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import structlog

from healthcheck.guard import Guard, Happening
from healthcheck.monitor import Monitor
from middleware.config import Settings
from middleware.control import BEFORE, Down, LetGo, slot_of
from middleware.supervisor.between import Between, Changes
from middleware.supervisor.cache_control import CacheControl
from middleware.supervisor.catalogs import Catalogs
from middleware.supervisor.control_socket import ControlSocket
from middleware.supervisor.doors import Doors, Open
from middleware.supervisor.journal import Journal
from middleware.supervisor.leading import Leading
from middleware.supervisor.link import End, EndWithServers
from middleware.supervisor.listeners import StartError
from middleware.supervisor.node_orders import NodeOrders
from middleware.supervisor.notify import Notifier, environment_for_successor
from middleware.supervisor.pausing import Pausing
from middleware.supervisor.restarting import Restarting
from middleware.supervisor.slots import NoSlots, Slots
from middleware.supervisor.stopping import ShutdownMode
from middleware.supervisor.succession import LOOK_S, Succession
from middleware.supervisor.take_over import Estate
from middleware.supervisor.traffic import DrainingTraffic
from middleware.supervisor.workers import Worker

log = structlog.get_logger("service")


class Generation:
    """This process's."""

    between: Between
    """This, and what follows, from `join` on."""
    changes: Changes
    _workers: Sequence[Worker]
    _leading: Leading
    _journal: Journal
    _control: ControlSocket
    _pausing: Pausing
    _stop: Callable[[ShutdownMode], None]

    def __init__(
        self,
        workers: int,
        estate: Estate | None,
        activated: Sequence[Open],
        serve_command: Sequence[str],
        notifier: Notifier | None,
        clients: Callable[[], int],
        ending: Callable[[], bool],
    ) -> None:
        """`clients`: how many there are. `ending`: it was told to end. Raises StartError."""
        self._estate: Final = estate
        self._clients: Final = clients
        self.doors: Final = Doors((*(estate.sockets if estate is not None else ()), *activated))
        self.succession: Final = Succession(estate)
        self.notifier: Final = notifier or Notifier()
        self.slots: Final = _slots(workers, estate)
        self.restarting: Final = Restarting(
            serve_command,
            lambda: environment_for_successor(self.notifier, os.environ),
            bool(self.notifier.address),
            self.succession,
            lambda: None if self.doors.control is None else self.doors.control.path,
            clients,
            ending,
        )
        self.serving = anyio.Event()
        """Set once the clients are this process's to serve; also where it has failed."""
        self.handed_over = anyio.Event()
        """A process after this one takes the clients from now on."""
        self._ending: Final = anyio.Event()

    def elsewhere(self) -> str:
        """Why nothing is to be changed here: a process that takes over may know already how things stood before; ""
        where there is none."""
        return "an online restart is going on" if self.succession.after is not None or self.succession.over else ""

    @property
    def first(self) -> bool:
        """There was none before it, or it has all that one had."""
        return self.succession.owns

    def join(
        self,
        workers: Sequence[Worker],
        *,
        monitor: Monitor,
        guard: Guard,
        leading: Leading,
        catalogs: Catalogs,
        cache: CacheControl,
        traffic: DrainingTraffic,
        journal: Journal,
        pausing: Pausing,
        node_orders: NodeOrders,
        control: ControlSocket,
        stop: Callable[[ShutdownMode], None],
    ) -> None:
        """With all that it acts upon."""
        self._pausing = pausing
        self._workers = workers
        self._leading = leading
        self._journal = journal
        self._control = control
        self._stop = stop
        self.changes = Changes(self.slots, workers, catalogs)
        self.between = Between(
            self.succession,
            self.slots,
            workers,
            self.doors,
            monitor=monitor,
            guard=guard,
            leading=leading,
            catalogs=catalogs,
            changes=self.changes,
            cache=cache,
            traffic=traffic,
            pausing=pausing,
            node_orders=node_orders,
            clients=self._clients,
            happened=journal.happened,
            let_go=self._let_go,
            took_over=self._took_over,
            stop=stop,
        )
        self.succession.act_for(self.between)
        if self._estate is not None:
            self.between.change_no_roles("the process that this one takes over from changes them")
            self.between.stand(self._estate.handed.standing)

    def books_before(self) -> list[int]:
        """In books kept by worker: whose clients may have something under way, beside our workers'."""
        return [BEFORE] if self.succession.before is not None and self.succession.owns else []

    def send(self, worker: int, message: Down) -> None:
        """To a worker of ours, or to those of the process before."""
        if worker == BEFORE:
            self.between.send_before(message)
        else:
            self._workers[worker].send(message)

    def worker_of(self, process_id: int) -> int:
        """Whose client has it; a made-up one may be nobody's."""
        slot = slot_of(process_id)
        return slot - self.slots.first if self.slots.mine(slot) else BEFORE

    async def answer(self) -> None:
        """Answer the control socket. Before this one serves, the one before it does."""
        if not self.first:
            await self.serving.wait()
        await self._control.run(self.doors.control)

    def end(self, mode: ShutdownMode) -> None:
        """This one is to end, and so are those before it: who waits for clients waits for theirs, as they do."""
        if mode == "now":
            if self.succession.owns:
                self.succession.tell_before(End())
            self._ending.set()
        elif mode == "wait_for_servers" and self.succession.owns:
            self.succession.tell_before(EndWithServers())

    async def end_in_time(self, settings: Callable[[], Settings]) -> None:
        """Once handed over, stop when restart_timeout is over."""
        await self.handed_over.wait()
        timeout_s = settings().restart_timeout
        await anyio.sleep(timeout_s)
        log.info("restart_timeout is over", restart_timeout=timeout_s)
        self._stop("now")

    async def until_alone(self, mode: Callable[[], ShutdownMode | None]) -> None:
        """Without workers of its own: until none before it has clients. `mode`: how it ends.

        They are reached through it; and where it has not handed over, whoever has started it takes its end for the end
        of all, as systemd does, and ends what is left. One that has handed over and is told to end leaves that wait to
        who has told it so."""
        succession = self.succession
        if succession.over:
            # Whoever has asked for it is to hear what it has come to.
            await self._control.answered()
        elif succession.owns and not succession.alone.is_set():
            log.info("waiting for the process before", clients=succession.left())
        else:
            return
        async with anyio.create_task_group() as tasks:

            async def until_stopped() -> None:
                await self._ending.wait()
                tasks.cancel_scope.cancel()

            if succession.over:
                tasks.start_soon(until_stopped)
            tasks.start_soon(self._end_without_servers, mode)
            await succession.alone.wait()
            tasks.cancel_scope.cancel()

    async def _end_without_servers(self, mode: Callable[[], ShutdownMode | None]) -> None:
        """Where all waits for servers, end those before that have none left: of an older version, they do not know."""
        while True:
            await anyio.sleep(LOOK_S)
            if mode() == "wait_for_servers" and self._pausing.all_closed(BEFORE):
                self.succession.tell_before(End())
                return

    def _took_over(self) -> None:
        self.doors.own()
        self._journal.happened(Happening(time.time(), "took_over", "this process takes the clients from now on"))
        self.serving.set()

    def _let_go(self) -> None:
        """A process after this one has it all, and will be told so now: then it speaks for itself."""
        self.notifier.succeeded_by(self.succession.successor_pid)
        self._control.close()
        self._leading.resign()
        for worker in self._workers:
            worker.drain(LetGo())
        text = f"process {self.succession.successor_pid} takes the clients from now on; those that are here stay"
        self._journal.happened(Happening(time.time(), "handed_over", text))
        self.handed_over.set()


def _slots(workers: int, estate: Estate | None) -> Slots:
    """Places for our workers beside those of a predecessor. Raises StartError."""
    try:
        if estate is None:
            return Slots(workers)
        if estate.memory is not None:
            return Slots(workers, estate.memory)
        return Slots(workers, taken=estate.handed.slots)
    except NoSlots as why:
        raise StartError(str(why)) from None
