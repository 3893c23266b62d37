"""A TCP forwarder in front of a node, which can be cut: what a partition looks like to those on the other side.

While it is cut nothing is reset and nothing is refused: bytes are not read, connections are taken by the kernel and
hear nothing. When it is mended what was on its way arrives, as with a network that is back: a former primary gets the
statements that were sent to it in the meantime.
"""

import asyncio
from typing import Final

HOST: Final = "127.0.0.1"


class Forwarder:
    """From a free port on loopback to a node; runs from `open` to `close` in the loop that has opened it."""

    def __init__(self, host: str, port: int) -> None:
        self.to: Final = (host, port)
        self.port = 0
        self.cut = False
        self._server: asyncio.Server | None = None
        self._ends: Final[set[_End]] = set()
        self._waiting: Final[list[_End]] = []
        """Clients that have come while it was cut."""

    async def open(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: _End(self), HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for end in list(self._ends):
            end.abort()
        while self._ends:  # noqa: ASYNC110 - the loop calls each of them within its next round
            await asyncio.sleep(0)

    def part(self) -> None:
        """Let nothing through any more."""
        self.cut = True
        for end in self._ends:
            end.pause()

    def mend(self) -> None:
        """Let all through again, what has waited first."""
        self.cut = False
        for end in self._ends:
            end.resume()
        waiting = self._waiting.copy()
        self._waiting.clear()
        for end in waiting:
            end.dial()

    def came(self, end: "_End") -> None:
        self._ends.add(end)
        if self.cut:
            end.pause()

    def left(self, end: "_End") -> None:
        self._ends.discard(end)

    def wait(self, end: "_End") -> None:
        self._waiting.append(end)


class _End(asyncio.Protocol):
    """One of the two connections of a pair.

    Bytes that come while nothing is let through are kept back by the kernel, but for what it hands over before asyncio
    heeds a pause in connection_made (Python 3.11.2).
    """

    def __init__(self, forwarder: Forwarder, other: "_End | None" = None) -> None:
        self._forwarder: Final = forwarder
        self._other = other
        self._dials: Final = other is None
        self.transport: asyncio.Transport | None = None
        self._dialling: asyncio.Task[None] | None = None
        self.full = False
        """The other end takes no more for the moment."""
        self._kept = b""
        self._ended = False
        """Nothing more will come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._forwarder.came(self)
        if self._dials:
            transport.pause_reading()
            if self._forwarder.cut:
                self._forwarder.wait(self)
            else:
                self.dial()

    def dial(self) -> None:
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        other = _End(self._forwarder, self)
        try:
            await asyncio.get_running_loop().create_connection(lambda: other, *self._forwarder.to)
        except OSError:
            # The node is down: its clients are to see what they would see without us.
            self.abort()
            return
        self._other = other
        self.resume()
        if self.transport is None and other.transport is not None:
            # Its client has gone meanwhile.
            other.transport.close()

    def data_received(self, data: bytes) -> None:
        self._kept += data
        self._pass_on()

    def eof_received(self) -> bool:
        self._ended = True
        self._pass_on()
        return True

    def _pass_on(self) -> None:
        if self._other is None or self._forwarder.cut:
            self.pause()
            return
        kept, self._kept = self._kept, b""
        to = self._other.transport
        if to is not None and kept:
            to.write(kept)
        if to is not None and self._ended and to.can_write_eof():
            to.write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._forwarder.left(self)
        self.transport = None
        if self._other is not None and self._other.transport is not None:
            if error is None:
                # What was written to it is sent first.
                self._other.transport.close()
            else:
                self._other.abort()

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.full = True
            self._other.pause()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.full = False
            self._other.resume()

    def pause(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._kept or self._ended:
            self._pass_on()
        if self.transport is not None and self._other is not None and not self.full and not self._forwarder.cut:
            self.transport.resume_reading()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()
