"""The connections on which HTTP is served: how many there may be, and for how long one may be at a request.

In: aiohttp's protocols, one a connection, and when a request begins on one. Out: they, or a refusal; and the end of
those that are silent, or take no answer. A stream (`keep_open`) may last.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web

CONNECTIONS_MAX: Final = 200
"""Beyond, one is told to try again, and closed."""
FIRST_S: Final = 10.0
"""Until a first request must have come."""
KEEPALIVE_S: Final = 30.0
"""How long a connection is kept between two requests."""
REQUEST_S: Final = 90.0
"""From a request's beginning until its answer was taken, and the next request is there."""
SWEEP_S: Final = 1.0

_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)


class _Connection(asyncio.Protocol):
    """One that is counted: all else is aiohttp's."""

    def __init__(self, handler: web.RequestHandler, gone: Callable[[], None]) -> None:
        self.deadline = time.monotonic() + FIRST_S
        self._handler: Final = handler
        self._gone: Final = gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> None:
        self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._gone()
        self._handler.connection_lost(exc)

    def cut_off(self) -> None:
        """End it, whatever it does."""
        transport = self._handler.transport
        self._handler.force_close()
        if isinstance(transport, asyncio.WriteTransport):
            # Closing alone waits for what it does not take.
            transport.abort()


class _Refused(asyncio.Protocol):
    """One too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(_REFUSAL)
        transport.close()


class Connections:
    """Those of one server."""

    def __init__(self, maximum: int = CONNECTIONS_MAX) -> None:
        self._maximum: Final = maximum
        self._open: Final[dict[web.RequestHandler, _Connection]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, make: Callable[[], web.RequestHandler]) -> asyncio.Protocol:
        """What serves a new connection."""
        if len(self._open) >= self._maximum:
            return _Refused()
        handler = make()
        connection = self._open[handler] = _Connection(handler, lambda: self._gone(handler))
        return connection

    def _gone(self, handler: web.RequestHandler) -> None:
        self._open.pop(handler, None)

    def began(self, request: web.Request) -> None:
        """A request has come."""
        self._until(request, time.monotonic() + REQUEST_S)

    def keep_open(self, request: web.Request) -> None:
        """Its answer is a stream."""
        self._until(request, math.inf)

    def _until(self, request: web.Request, deadline: float) -> None:
        with contextlib.suppress(KeyError):  # its connection has gone meanwhile
            self._open[request.protocol].deadline = deadline

    async def sweep(self) -> None:
        """Cut off those whose time is over, for as long as it is not cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for connection in [one for one in self._open.values() if one.deadline <= now]:
                connection.cut_off()


CONNECTIONS: Final = web.AppKey("connections", Connections)
