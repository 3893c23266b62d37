"""A worker's life: its process, the channel to it, and its restarts.

In: messages for the worker, through `send`. Out: what it says, through `heard`, and that a process ended, through
`ended`. The process inherits its end of the channel and the listening sockets, nothing else; its settings, with their
secrets, come to it over the channel only. When this process dies, the worker sees the channel end and ends too.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import anyio.abc
import msgspec
import structlog

from middleware.control import Down, Drained, Ready, Up
from middleware.framing import ControlError, FrameReader, encode
from middleware.supervisor.outbox import Outbox

WORKER_COMMAND: Final = (sys.executable, "-m", "middleware.worker")
"""Started with the file descriptor of the channel as its last argument."""

STEADY_S: Final = 10.0
"""A worker that lived this long was well: its end is an accident, and the next one starts at once."""
RESTART_DELAY_FIRST_S: Final = 0.1
RESTART_DELAY_MAX_S: Final = 5.0
EXIT_GRACE_S: Final = 2.0
"""How long a process may take to exit once nothing is left for it to do."""
_CHUNK: Final = 65536

log = structlog.get_logger("worker")


class WorkerLife(msgspec.Struct, frozen=True):
    """How a worker's process is."""

    worker: int
    pid: int | None
    """None while it is being started again."""
    ready: bool
    """It accepts clients."""
    restarts: int
    """Processes that followed one that had died."""
    heard_at: float
    """When it last said something (time.monotonic()), which it does once a second; 0 for never."""


class RestartDelay:
    """How long to wait before starting a worker again: not at all the first time, then doubling while it dies young."""

    def __init__(self) -> None:
        self._died_young = 0

    def after(self, lived_s: float) -> float:
        """The delay after a process that lived for `lived_s`."""
        if lived_s >= STEADY_S:
            self._died_young = 0
        died_young = self._died_young
        self._died_young += 1
        if died_young == 0:
            return 0.0
        return float(min(RESTART_DELAY_FIRST_S * 2 ** min(died_young - 1, 16), RESTART_DELAY_MAX_S))


class Worker:
    """Worker number `index`: one process after another, until it is drained."""

    def __init__(
        self,
        index: int,
        command: Sequence[str],
        listeners: Callable[[], Sequence[int]],
        greeting: Callable[[int], list[Down]],
        heard: Callable[[int, Down | Up], None],
        ended: Callable[[int], None],
    ) -> None:
        self.index = index
        self.ready = anyio.Event()
        """Set while a process accepts clients."""
        self.pid: int | None = None
        self._command = command
        self._listeners = listeners
        self._greeting = greeting
        self._heard = heard
        self._ended = ended
        self._outbox = Outbox()
        self._something_to_send = anyio.Event()
        self._draining = anyio.Event()
        self._processes = 0
        self._heard_at = 0.0

    def life(self) -> WorkerLife:
        """How it is."""
        return WorkerLife(self.index, self.pid, self.ready.is_set(), max(0, self._processes - 1), self._heard_at)

    def send(self, message: Down) -> None:
        """Have `message` sent when the worker next reads. Dropped while there is no process: the greeting has all."""
        if self.pid is not None:
            self._outbox.put(message)
            self._something_to_send.set()

    def drain(self, message: Down) -> None:
        """Send the worker its last order: when its process ends now, none follows."""
        self._draining.set()
        self.send(message)

    async def run(self) -> None:
        """Keep a process running until it has drained. Cancelled, it kills the process and waits for its end."""
        delay = RestartDelay()
        while not self._draining.is_set():
            started = time.monotonic()
            status = await self._run_process()
            lived_s = time.monotonic() - started
            if self._draining.is_set():
                log.info("worker stopped", worker=self.index, status=status)
                return
            delay_s = delay.after(lived_s)
            log.error("worker died", worker=self.index, status=status, lived_s=round(lived_s, 1), restart_in_s=delay_s)
            with anyio.move_on_after(delay_s):
                await self._draining.wait()

    async def _run_process(self) -> str:
        """One process from start to end; how it ended, in words."""
        ours, theirs = socket.socketpair()
        # Its end must not stay open here: the channel would never be seen to end.
        with theirs:
            try:
                with anyio.CancelScope(shield=True):
                    # Cancelled half-way, asyncio would lose sight of it.
                    process = await anyio.open_process(
                        [*self._command, str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        stdout=None,
                        stderr=None,
                        # A Ctrl-C at the terminal is for the supervisor, which lets its workers drain.
                        start_new_session=True,
                        pass_fds=(theirs.fileno(), *self._listeners()),
                    )
            except OSError as error:
                ours.close()
                return f"could not start: {error}"
            except BaseException:
                ours.close()
                raise
        async with process, await anyio.abc.UNIXSocketStream.from_socket(ours) as channel:
            try:
                await self._attend(process, channel)
            finally:
                self.pid = None
                if self.ready.is_set():
                    # Else somebody may still wait for it, and shall go on waiting.
                    self.ready = anyio.Event()
                self._ended(self.index)
        return _status(await process.wait())

    async def _attend(self, process: anyio.abc.Process, channel: anyio.abc.UNIXSocketStream) -> None:
        """Exchange messages until the process has ended, and see that it ends when it has no more to say."""
        self.pid = process.pid
        self._processes += 1
        self._heard_at = 0.0
        self._outbox = Outbox()
        for message in self._greeting(self.index):
            self.send(message)
        silent = anyio.Event()

        async def hear() -> None:
            await self._hear(channel)
            silent.set()
            await channel.aclose()
            await anyio.sleep(EXIT_GRACE_S)
            log.error("worker does not exit, killing it", worker=self.index)
            process.kill()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send_all, channel)
            tasks.start_soon(hear)
            await process.wait()
            # What it said last is still in the socket's buffer.
            with anyio.move_on_after(EXIT_GRACE_S):
                await silent.wait()
            tasks.cancel_scope.cancel()

    async def _send_all(self, channel: anyio.abc.UNIXSocketStream) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                await self._something_to_send.wait()
                self._something_to_send = anyio.Event()
                for message in self._outbox.take():
                    await channel.send(encode(message))

    async def _hear(self, channel: anyio.abc.UNIXSocketStream) -> None:
        """Pass on what the worker says until its last word: Drained, the end of the channel, or nonsense."""
        reader = FrameReader()
        try:
            while True:
                messages = reader.feed(await channel.receive(_CHUNK))
                self._heard_at = time.monotonic()
                for message in messages:
                    if isinstance(message, Drained):
                        return
                    if isinstance(message, Ready):
                        self.ready.set()
                    self._heard(self.index, message)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return
        except ControlError as error:
            log.error("worker sent nonsense", worker=self.index, why=str(error))


def _status(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
