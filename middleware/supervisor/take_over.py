"""Asking a Pointsman that runs to hand over: the successor's first word, and what it gets for it.

In: the path of its control socket. Out: an Estate, with the open sockets, the memory of its workers and the link to it;
None where nobody answers there; or StartError. What comes then is succession.py's.
"""

import os
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Final

import anyio
import anyio.abc
import msgspec

from middleware.relay.shared import LAYOUT
from middleware.supervisor.link import DESCRIPTORS_MAX, LINE_BYTES_MAX, PROTOCOL, Handed, HandedSocket, TakeOver, read
from middleware.supervisor.listeners import StartError

ANSWER_S: Final = 30.0
"""For a predecessor to answer: it may have to wait until all of its workers give no cached answers any more."""
_CHUNK: Final = 65536


class _Refusal(msgspec.Struct):
    """As the control socket says it."""

    message: str
    detail: str = ""


class _Refused(msgspec.Struct):
    error: _Refusal


class Estate:
    """What a predecessor has handed over."""

    def __init__(self, stream: anyio.abc.UNIXSocketStream, handed: Handed, descriptors: list[int], rest: bytes) -> None:
        self.stream: Final = stream
        self.handed: Final = handed
        self.rest: Final = rest
        """What has come behind it."""
        self.memory: Final = descriptors.pop(0) if handed.shared else None
        """Of the workers, where both have the same layout."""
        self.sockets: Final[list[tuple[HandedSocket, socket.socket]]] = [
            (one, socket.socket(fileno=descriptor)) for one, descriptor in zip(handed.sockets, descriptors, strict=True)
        ]

    def close(self) -> None:
        """Have nothing of it open; the predecessor has its own."""
        for _, one in self.sockets:
            one.close()


async def take_over(path: Path) -> Estate | None:
    """Have what the Pointsman at `path` has; None where there is none. Raises StartError."""
    try:
        stream = await anyio.connect_unix(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise StartError(f"could not reach a Pointsman at {path}: {(error.strerror or str(error)).lower()}") from None
    try:
        with anyio.fail_after(ANSWER_S):
            return await _ask(stream)
    except BaseException as error:
        await anyio.aclose_forcefully(stream)
        if isinstance(error, TimeoutError):
            raise StartError(f"the Pointsman at {path} has not answered within {ANSWER_S:g} s") from None
        if isinstance(error, anyio.EndOfStream | anyio.BrokenResourceError):
            raise StartError(f"the Pointsman at {path} has closed the connection") from None
        if isinstance(error, msgspec.MsgspecError):
            raise StartError(f"what answers at {path} is no Pointsman that can be taken over from: {error}") from None
        raise


async def _ask(stream: anyio.abc.UNIXSocketStream) -> Estate:
    await stream.send(msgspec.json.encode(TakeOver(PROTOCOL, version("pointsman"), LAYOUT)) + b"\n")
    came, descriptors = await stream.receive_fds(1, DESCRIPTORS_MAX)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    try:
        # The byte in front is there for the descriptors alone.
        line = b"" if descriptors else came
        while b"\n" not in line and len(line) < LINE_BYTES_MAX:
            line += await stream.receive(_CHUNK)
        line, _, rest = line.partition(b"\n")
        if not descriptors:
            refused = msgspec.json.decode(line, type=_Refused).error
            raise StartError(f"{refused.message}: {refused.detail}" if refused.detail else refused.message)
        handed = read(line)
        if not isinstance(handed, Handed) or len(descriptors) != len(handed.sockets) + handed.shared:
            raise msgspec.ValidationError("an answer in disorder")
        return Estate(stream, handed, descriptors, rest)
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
