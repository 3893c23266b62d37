"""An event loop whose clock stands still until nothing is left to do, and connections that are two buffers in memory.

A relay under it does in microseconds what would take seconds, and does it in the same order each time: what it waits
for comes when everything else is done. Nothing here reads the real clock or opens a file.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

HIGH_WATER_BYTES: Final = 64 * 1024
"""What a transport keeps for a peer that does not read, before it asks its protocol to stop."""


class StuckError(AssertionError):
    """Something is awaited that nothing will bring about."""


class _Selector:
    """Waits for nothing but time, and that passes at once."""

    def __init__(self, loop: "MemoryLoop") -> None:
        self._loop: Final = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise StuckError("nothing is scheduled, and something is awaited")
        self._loop.now += max(0.0, timeout)
        return []


class MemoryLoop(asyncio.BaseEventLoop):
    """An event loop with a clock of its own. Unix sockets that it is asked for are made by `dial`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.now = 1000.0
        self._selector: Final = _Selector(self)
        self.dial: Callable[[str], asyncio.BaseProtocol | None] = lambda _path: None
        """The other end for who connects to a path; None where nobody listens."""

    def time(self) -> float:
        return self.now

    def _process_events(self, _events: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """No other thread wakes it."""

    async def quiet(self) -> None:
        """Until nothing is left to do but to wait for time to pass."""
        ready = cast(Any, self)._ready
        await asyncio.sleep(0)
        while ready:
            await asyncio.sleep(0)

    async def create_unix_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], path: str | None = None, **_options: Any
    ) -> tuple["MemoryTransport", asyncio.BaseProtocol]:
        other = self.dial(path or "")
        if other is None:
            raise ConnectionRefusedError(111, "Connection refused")
        ours = protocol_factory()
        transport, _ = connect(self, ours, other)
        return transport, ours


def connect(
    loop: MemoryLoop, one: asyncio.BaseProtocol, other: asyncio.BaseProtocol
) -> tuple["MemoryTransport", "MemoryTransport"]:
    """Connect two protocols: their transports, in the same order."""
    near, far = MemoryTransport(loop, one), MemoryTransport(loop, other)
    near.peer, far.peer = far, near
    one.connection_made(near)
    other.connection_made(far)
    return near, far


class MemoryTransport(asyncio.Transport):
    """One end of a connection. What is written arrives at the other end in a later turn of the loop, in one piece."""

    def __init__(self, loop: MemoryLoop, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._loop: Final = loop
        self._protocol: asyncio.Protocol = cast(asyncio.Protocol, protocol)
        self.peer: MemoryTransport
        self._came: list[bytes] = []
        """What the peer has written, and the protocol has not been given."""
        self._scheduled = False
        self._eof_came = self._eof_told = False
        self._wrote_eof = False
        self._reading = True
        self._full = False
        """Our protocol was told to stop writing."""
        self._closing = self._lost = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return "" if name == "peername" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._schedule()

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._wrote_eof, "written behind the end"
        if data and self.peer._closing and not self._closing:
            self._loop.call_soon(self._lose, BrokenPipeError())
        elif data and not self._closing:
            self.peer._came.append(bytes(data))
            self.peer._schedule()
            self.peer._press()

    def write_eof(self) -> None:
        self._wrote_eof = True
        self.peer._eof_came = True
        self.peer._schedule()

    def close(self) -> None:
        """What was written is still delivered."""
        if not self._closing:
            self._closing = True
            self.peer._eof_came = True
            self.peer._schedule()
            self._came.clear()
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        """What was written may be lost, and is."""
        if not self.peer._lost:
            self.peer._came.clear()
        self.close()

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._protocol.connection_lost(error)

    def _press(self) -> None:
        """Our protocol reads slower than its peer writes: tell the peer, or tell it that this is over."""
        waiting = sum(map(len, self._came))
        writer = self.peer
        if waiting > HIGH_WATER_BYTES and not writer._full and not writer._lost:
            writer._full = True
            writer._protocol.pause_writing()
        elif waiting <= HIGH_WATER_BYTES // 4 and writer._full and not writer._lost:
            writer._full = False
            writer._protocol.resume_writing()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._closing or not self._reading:
            return
        if self._came:
            data = b"".join(self._came)
            self._came.clear()
            self._press()
            self._protocol.data_received(data)
            self._schedule()
        elif self._eof_came and not self._eof_told:
            self._eof_told = True
            # The other end may be gone altogether, which a socket shows in the same way.
            if not self._protocol.eof_received() or self.peer._closing:
                self.close()
