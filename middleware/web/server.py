"""The HTTP server: its sockets, its application, its end.

Every answer goes through `_guard` and `_seal`: a body within its bound and its time, a bug of ours as 500 and in the
log, headers that keep a browser from making of it what it is not.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from middleware.web import dashboard, door, health, metrics
from middleware.web.connections import CONNECTIONS, KEEPALIVE_S, Connections
from middleware.web.site import SITE, Site

BODY_BYTES_MAX: Final = 64 * 1024
BODY_S: Final = 10.0
"""For a body to arrive."""
HEADER_BYTES_MAX: Final = 8190
"""Of a request line, and of a field."""
STOP_S: Final = 1.0
"""What is under way may take so long to end."""
LINGER_S: Final = 2.0
"""What was not read of a body is waited for so long, so that its sender hears the answer."""

_HEADERS: Final = {
    "Server": "Pointsman",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_DEFAULT_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
"""Where the answer has none of its own."""

log = structlog.get_logger("web")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(site: Site) -> web.Application:
    """Everything that is served."""
    app = web.Application(middlewares=[_guard], client_max_size=BODY_BYTES_MAX)
    app[SITE] = site
    app[CONNECTIONS] = Connections()
    app.on_response_prepare.append(_seal)
    app.add_routes(health.ROUTES)
    metrics.add_to(app)
    app.add_routes(dashboard.ROUTES)
    app.add_subapp("/dashboard", dashboard.application(site))
    return app


def keep_open(request: web.Request) -> None:
    """Let the answer to `request` be a stream, which may last."""
    request.config_dict[CONNECTIONS].keep_open(request)


@web.middleware
async def _guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
    request.app[CONNECTIONS].began(request)
    if why := _foreign(request):
        raise web.HTTPForbidden(text=f"{why}\n")
    try:
        if request.can_read_body:
            # What asks for it later has it from here.
            async with asyncio.timeout(BODY_S):
                await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except ConnectionError:
        # Who asked has gone.
        raise
    except Exception:
        log.exception("request failed", method=request.method, path=request.path)
        raise web.HTTPInternalServerError from None


def _foreign(request: web.Request) -> str:
    """Why a request at this machine's own address is a stranger's page's: its name was made to point here (DNS
    rebinding). Whoever sends no name is no browser: load balancers' checks of old."""
    found = None if request.transport is None else request.transport.get_extra_info("sockname")
    local = str(found[0]) if isinstance(found, tuple) else ""
    host = request.headers.get("Host", "")
    if not host or not door.is_loopback(local):
        return ""
    return door.foreign_host(host, local=local, known=request.app[SITE].settings.dashboard_hosts)


async def _seal(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    for name, value in _DEFAULT_HEADERS.items():
        response.headers.setdefault(name, value)


def _ours(record: logging.LogRecord) -> bool:
    """Whether a line of aiohttp's is of a bug: what is no HTTP was answered, and says nothing of us."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


_logger: Final = logging.getLogger("middleware.web")
_logger.addFilter(_ours)


class WebServer:
    """Serves on sockets that are bound already, and closes them."""

    def __init__(self, site: Site, sockets: list[socket.socket]) -> None:
        app = application(site)
        self._connections: Final = app[CONNECTIONS]
        self._runner: Final = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            logger=_logger,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=STOP_S,
            lingering_time=LINGER_S,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )
        self._sockets: Final = sockets
        self._servers: Final[list[asyncio.Server]] = []
        self._sweep: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer from now on."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._sweep = loop.create_task(self._connections.sweep())
        for one in self._sockets:
            self._servers.append(await loop.create_server(self._admit, sock=one))

    def _admit(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return self._connections.admit(server)

    def close_listeners(self) -> None:
        """Take no new connections: another process may have the addresses."""
        for server in self._servers:
            server.close()
        for one in self._sockets:
            one.close()
        self._sockets.clear()

    async def stop(self) -> None:
        """Answer no more; what is under way ends within STOP_S."""
        self.close_listeners()
        if self._sweep is not None:
            self._sweep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweep
        await self._runner.cleanup()
