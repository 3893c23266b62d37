"""Pointsman over HTTP: health endpoints, metrics, the dashboard.

In: requests. Out: answers made of what a Site knows. What serves is aiohttp, in the supervisor's event loop; nothing
here may hold it up.
"""

from middleware.web.server import WebServer

__all__ = ["WebServer"]
