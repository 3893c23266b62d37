"""The control socket: commands.py over a unix socket that only our own user may open.

One request a connection, one line of JSON: {"do": "status"}. The answers are lines of JSON: {"event": ..},
{"notice": ..} and {"rows": ..} any number of times, and {"done": ..} or {"error": {"message", "detail", "hint",
"sqlstate"}} last. A connection without a last line was cut. Whoever closes it has asked for nothing more: what it waits
for is given up, and what can be taken back is.
"""

import pwd
import select
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import anyio
import anyio.abc
import msgspec
import structlog

from middleware.errors import PointsmanError, ProtocolViolation, TooManyConnections
from middleware.supervisor.commands import Commands, Gone, Notice, Request, Rows
from middleware.supervisor.journal import Event
from middleware.supervisor.link import TakeOver
from middleware.supervisor.listeners import UnixSocket

REQUEST_BYTES_MAX: Final = 4096
REQUEST_S: Final = 10.0
"""For a request to arrive, and for each answer to be taken."""
CONNECTIONS_MAX: Final = 20
LAST_WORD_S: Final = 2.0
"""For what was asked to be answered, where the end is near."""
LINGER_S: Final = 1.0
"""For who has said more than was read to hear the answer, and how much more is read."""
LINGER_CHUNKS: Final = 16
CLOSED_LOOK_S: Final = 0.5
"""Between two looks at whether the other end, of which half is closed, is closed altogether."""
_UCRED: Final = struct.Struct("3i")
"""Linux's struct ucred: pid, uid, gid."""
AGAIN_S: Final = 1.0
"""Before a connection that could not be accepted is tried again."""

log = structlog.get_logger("control")

_request: Final[msgspec.json.Decoder[Request | TakeOver]] = msgspec.json.Decoder(Request | TakeOver)

Attend = Callable[[anyio.abc.UNIXSocketStream, TakeOver], Awaitable[None]]
"""Hands over to a successor, and returns when that is gone. Raises PointsmanError."""


class ControlSocket:
    """Answers while `run` runs, up to `close`."""

    def __init__(self, commands: Commands, attend: Attend) -> None:
        self._commands: Final = commands
        self._hand_over: Final = attend
        self._accepting = anyio.CancelScope()
        self._connections = 0
        self._links = 0
        """Those of them that are links to other Pointsmans."""

    def close(self) -> None:
        """Take no more connections; those there are go on. May be called again."""
        self._accepting.cancel()

    async def answered(self) -> None:
        """Until all that was asked is answered, or LAST_WORD_S have passed: somebody may follow the events."""
        with anyio.move_on_after(LAST_WORD_S):
            while self._connections > self._links:  # noqa: ASYNC110 - for a moment, once
                await anyio.sleep(LAST_WORD_S / 100)

    async def run(self, listening: UnixSocket | None) -> None:
        """Answer there until it is closed and the last connection has ended. Cancelled, it drops them."""
        if listening is None:
            return
        # A descriptor of its own: that one may be closed within a callback, at any moment.
        listener = await anyio.abc.SocketListener.from_socket(listening.socket.dup())
        async with anyio.create_task_group() as tasks:
            with self._accepting:
                while True:
                    try:
                        stream = await listener.accept()
                    except OSError as error:
                        # No descriptor is left, for one: not a reason to end all else.
                        log.warning("control socket: a connection could not be accepted", why=str(error))
                        await anyio.sleep(AGAIN_S)
                        continue
                    tasks.start_soon(self._attend, stream)
            with anyio.CancelScope(shield=True):
                await listener.aclose()

    async def _attend(self, stream: anyio.abc.SocketStream) -> None:
        """One connection, from its request to the last answer."""
        self._connections += 1
        try:
            async with stream:
                await self._answer(stream)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, TimeoutError):
            # It has gone, or says or takes nothing.
            pass
        finally:
            self._connections -= 1

    async def _answer(self, stream: anyio.abc.SocketStream) -> None:
        """Raises what a stream raises, and TimeoutError."""
        last: dict[str, Any] | None = None
        try:
            if self._connections > CONNECTIONS_MAX:
                raise TooManyConnections("too many connections to the control socket")
            request = await _receive(stream)
            if isinstance(request, TakeOver):
                self._links += 1
                try:
                    await self._hand_over(cast(anyio.abc.UNIXSocketStream, stream), request)
                finally:
                    self._links -= 1
                return
        except PointsmanError as error:
            last = _failure(error)
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_closed, stream, tasks.cancel_scope)
                last = await self._last_word(stream, request)
                tasks.cancel_scope.cancel()
        if last is not None:
            await _send(stream, last)
            await stream.send_eof()
            # Closed with something unread, the other end would hear of a reset rather than of the end.
            with anyio.move_on_after(LINGER_S):
                for _ in range(LINGER_CHUNKS):
                    await stream.receive()

    async def _last_word(self, stream: anyio.abc.SocketStream, request: Request) -> dict[str, Any] | None:
        """Carry it out; None where nobody listens any more."""

        async def say(said: Event | Notice | Rows) -> None:
            try:
                await _send(stream, _line_of(said))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise Gone from None

        try:
            return {"done": await self._commands.carry_out(request, say, _peer(stream))}
        except PointsmanError as error:
            return _failure(error)
        except Gone:
            return None
        except Exception:
            log.exception("a bug has ended a request to the control socket")
            return _failure(PointsmanError("internal error"))


async def _receive(stream: anyio.abc.SocketStream) -> Request | TakeOver:
    """The request. Raises PointsmanError, EndOfStream and TimeoutError."""
    line = b""
    with anyio.fail_after(REQUEST_S):
        while b"\n" not in line:
            if len(line) > REQUEST_BYTES_MAX:
                raise ProtocolViolation(f"a request of more than {REQUEST_BYTES_MAX} bytes")
            line += await stream.receive(REQUEST_BYTES_MAX)
    try:
        return _request.decode(line.partition(b"\n")[0])
    except msgspec.MsgspecError as error:
        raise ProtocolViolation("not a request", detail=f"{error}.") from None


async def _send(stream: anyio.abc.SocketStream, answer: dict[str, Any]) -> None:
    """One line. Raises BrokenResourceError, also where it is not taken in time."""
    try:
        with anyio.fail_after(REQUEST_S):
            await stream.send(msgspec.json.encode(answer) + b"\n")
    except TimeoutError:
        raise anyio.BrokenResourceError from None


async def _until_closed(stream: anyio.abc.SocketStream, scope: anyio.CancelScope) -> None:
    """Cancel `scope` when the other end is closed. One that is half closed has asked for all, and still listens."""
    try:
        while True:
            await stream.receive()
    except anyio.EndOfStream:
        poll = select.poll()
        poll.register(stream.extra(anyio.abc.SocketAttribute.raw_socket), 0)  # noqa: S610 - anyio's, not Django's
        while not poll.poll(0):  # noqa: ASYNC110 - a hang-up alone is waited for, which no event loop tells of
            await anyio.sleep(CLOSED_LOOK_S)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        pass
    scope.cancel()


def _peer(stream: anyio.abc.SocketStream) -> str:
    """The user at the other end."""
    raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
    _, uid, _ = _UCRED.unpack(raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _line_of(said: Event | Notice | Rows) -> dict[str, Any]:
    match said:
        case Event():
            return {"event": said}
        case Notice(text=text):
            return {"notice": text}
        case Rows(rows=rows):
            return {"rows": rows}


def _failure(error: PointsmanError) -> dict[str, Any]:
    told = {"message": error.message, "detail": error.detail, "hint": error.hint, "sqlstate": error.sqlstate}
    return {"error": told}
