"""The HTTP server: its socket, its application, its end."""

import socket
from typing import Final

from aiohttp import web

from middleware.web import health
from middleware.web.site import Site

SITE: Final = web.AppKey("site", Site)


def application(site: Site) -> web.Application:
    """Everything that is served."""
    app = web.Application()
    app[SITE] = site
    app.add_routes(health.ROUTES)
    return app


class WebServer:
    """Serves on sockets that are bound already."""

    def __init__(self, site: Site, sockets: list[socket.socket]) -> None:
        self._runner: Final = web.AppRunner(application(site), handle_signals=False, access_log=None)
        self._sockets: Final = sockets

    async def start(self) -> None:
        """Answer from now on."""
        await self._runner.setup()
        for one in self._sockets:
            await web.SockSite(self._runner, one).start()

    async def stop(self) -> None:
        """Answer no more; what is under way ends within a moment."""
        await self._runner.cleanup()
