"""The Pointsman under a drill, as its operator sees it: its control socket.

In: how to reach the socket. Out: what the nodes are, events as they come, a switchover. What it says of itself may be
of another version than ours: unknown keys are passed over.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import anyio.streams.stapled
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from middleware.drill.errors import DrillError
from middleware.drill.views import Event, View

ANSWER_BYTES_MAX: Final = 1 << 20
STATUS_TIMEOUT_S: Final = 30.0
AGAIN_S: Final = 0.2
LOOK_S: Final = 0.02
_NOT_OURS: Final = "what answers at the control socket is not a Pointsman of this version"


class _Failure(msgspec.Struct, frozen=True):
    message: str
    detail: str = ""
    hint: str = ""
    sqlstate: str = ""


class _Answer(msgspec.Struct, frozen=True):
    event: Event | None = None
    done: msgspec.Raw = msgspec.Raw()
    error: _Failure | None = None


class Refused(DrillError):
    """Pointsman has said no; the text is its reason."""


Reach = Callable[[], AbstractAsyncContextManager[anyio.abc.ByteStream]]
"""A connection to the control socket."""


def at_path(path: Path) -> Reach:
    """The socket is on this machine."""

    @contextlib.asynccontextmanager
    async def reach() -> AsyncIterator[anyio.abc.ByteStream]:
        async with await anyio.connect_unix(path) as stream:
            yield stream

    return reach


def by_command(command: Sequence[str]) -> Reach:
    """A command whose standard input and output are the socket's, such as `docker exec -i ..`."""

    @contextlib.asynccontextmanager
    async def reach() -> AsyncIterator[anyio.abc.ByteStream]:
        with anyio.CancelScope(shield=True):
            # Cancelled half-way, asyncio would lose sight of it.
            process = await anyio.open_process(command, stderr=None)
        async with process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield anyio.streams.stapled.StapledByteStream(process.stdin, process.stdout)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    return reach


class Pointsman:
    """Asks by `reach`."""

    def __init__(self, reach: Reach) -> None:
        self._reach: Final = reach

    async def view(self) -> View:
        """What it says now. Raises DrillError."""
        try:
            with anyio.fail_after(STATUS_TIMEOUT_S):
                done = await self._last_word({"do": "status"})
            return msgspec.json.decode(done, type=View)
        except TimeoutError:
            raise DrillError(f"Pointsman's control socket has not answered within {STATUS_TIMEOUT_S:g} s") from None
        except msgspec.MsgspecError as error:
            raise DrillError(f"{_NOT_OURS}: {error}") from None

    async def follow(self, heard: Callable[[Event], None]) -> None:
        """Hand each event on that comes from now on, until cancelled, also from one that was started again."""
        after: int | None = None
        while True:
            try:
                if after is None:
                    after = await self._last()
                async for answer in self._ask({"do": "events", "follow": True, "after": after}):
                    if answer.event is not None:
                        after = answer.event.seq
                        heard(answer.event)
            except DrillError:
                # It ends, or has: it may come back.
                after = 0
            await anyio.sleep(AGAIN_S)

    async def switchover(self, node: str) -> None:
        """Have another primary. Raises Refused, and DrillError where it was not heard of to the end."""
        await self._last_word({"do": "switchover", "node": node})

    async def worker_pid(self, worker: int) -> int:
        """A worker's process. Raises DrillError where there is none."""
        pid = (await self.view()).pid(worker)
        if pid is None:
            raise DrillError(f"worker {worker} does not run")
        return pid

    async def until_gone(self, worker: int, pid: int) -> None:
        """Until it has noticed that a worker's process has ended."""
        with anyio.move_on_after(STATUS_TIMEOUT_S):
            while (await self.view()).pid(worker) == pid:  # noqa: ASYNC110 - it is not told as an event
                await anyio.sleep(LOOK_S)

    async def _last(self) -> int:
        """The number of the latest event."""
        last = 0
        async for answer in self._ask({"do": "events"}):
            if answer.event is not None:
                last = answer.event.seq
        return last

    async def _last_word(self, request: dict[str, Any]) -> msgspec.Raw:
        """What it has come to. Raises Refused and DrillError."""
        done = msgspec.Raw()
        # To its end: what is left halfway is closed by nobody in particular.
        async for answer in self._ask(request):
            done = answer.done
        return done

    async def _ask(self, request: dict[str, Any]) -> AsyncIterator[_Answer]:
        """Each answer, the last one included. Raises Refused and DrillError."""
        try:
            async with self._reach() as stream:
                await stream.send(msgspec.json.encode(request) + b"\n")
                lines = BufferedByteReceiveStream(stream)
                while True:
                    answer = msgspec.json.decode(await lines.receive_until(b"\n", ANSWER_BYTES_MAX), type=_Answer)
                    if answer.error is not None:
                        raise Refused(_told(answer.error))
                    yield answer
                    if answer.event is None:
                        return
        except (OSError, anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError) as error:
            raise DrillError(
                f"Pointsman cannot be reached by its control socket: {str(error) or 'it was closed'}"
            ) from None
        except msgspec.MsgspecError as error:
            raise DrillError(f"{_NOT_OURS}: {error}") from None


def _told(failure: _Failure) -> str:
    return ". ".join(filter(None, (failure.message, failure.detail.rstrip("."), failure.hint.rstrip("."))))
