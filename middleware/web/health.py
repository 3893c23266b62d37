"""Health endpoints, as orchestrators and load balancers ask them."""

from typing import Final

from aiohttp import web


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


ROUTES: Final = (web.get("/healthz", _healthz),)
