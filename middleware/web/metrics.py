"""/metrics: the page, made once for all who ask within a second, in slices that leave the event loop to others.

Content negotiation, escaping and the format are the Prometheus client's; OpenMetrics for who accepts it, else text.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final

from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from middleware.web.connections import CONNECTIONS
from middleware.web.metrics_rows import Breath, Families, Rows
from middleware.web.pulse import Pulse
from middleware.web.site import SITE, Site

FRESH_S: Final = 1.0
"""Workers report once a second: sooner there is nothing new."""
POOLS_ASKED_MAX: Final = 1000
"""Of each worker, the biggest."""

_EOF: Final = b"# EOF\n"


class _One:
    """A family as the encoders take them."""

    def __init__(self, family: Family) -> None:
        self._family: Final = family

    def collect(self) -> Iterable[Family]:
        return (self._family,)


class Metrics:
    """Makes the page."""

    def __init__(self, site: Site) -> None:
        self.pulse: Final = Pulse()
        self._site: Final = site
        self._rows: Final = Rows(site, self.pulse)
        self._making: Final = asyncio.Lock()
        self._families: list[Family] = []
        self._made_at = float("-inf")
        self._took_s = 0.0
        self._pages: Final[dict[str, bytes]] = {}
        """By content type."""

    async def page(self, accept: str, connections: int) -> tuple[bytes, str]:
        """The page and its content type, for who accepts these."""
        encode, content_type = choose_encoder(accept)
        async with self._making:
            begun = time.monotonic()
            if begun - self._made_at > FRESH_S:
                self._families = await self._collect(connections)
                self._made_at = begun
                self._pages.clear()
            page = self._pages.get(content_type)
            if page is None:
                parts: list[bytes] = []
                breath = Breath()
                for family in self._families:
                    part = encode(_One(family))
                    parts.append(part.removesuffix(_EOF))
                    await breath.take()
                if part.endswith(_EOF):
                    parts.append(_EOF)
                page = self._pages[content_type] = b"".join(parts)
                self._took_s = time.monotonic() - begun
            return page, content_type

    async def _collect(self, connections: int) -> list[Family]:
        out = Families()
        answers = await self._site.asking.ask("pools", POOLS_ASKED_MAX)
        out.add("http_connections", connections)
        out.add("scrape_seconds", self._took_s)
        await self._rows.say(out, answers, Breath())
        return out.all()


METRICS: Final = web.AppKey("metrics", Metrics)


async def _answer(request: web.Request) -> web.Response:
    accept = ",".join(request.headers.getall(hdrs.ACCEPT, ()))
    page, content_type = await request.app[METRICS].page(accept, len(request.app[CONNECTIONS]))
    return web.Response(body=page, headers={hdrs.CONTENT_TYPE: content_type})


async def _feel(app: web.Application) -> AsyncIterator[None]:
    """The pulse, as long as the server runs."""
    beats = asyncio.create_task(app[METRICS].pulse.beat())
    yield
    beats.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await beats


def add_to(app: web.Application) -> None:
    """Serve it."""
    app[METRICS] = Metrics(app[SITE])
    app.cleanup_ctx.append(_feel)
    app.router.add_get("/metrics", _answer)
