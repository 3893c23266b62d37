"""The dashboard's page: the files of `static`, read once, and nothing else."""

import hashlib
from pathlib import Path
from typing import Final

from aiohttp import web

KINDS: Final = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}


class _File:
    """One of them, as it is served."""

    def __init__(self, path: Path) -> None:
        self.name: Final = "" if path.name == "index.html" else path.name
        self._body: Final = path.read_bytes()
        self._kind: Final = KINDS[path.suffix]
        self._tag: Final = hashlib.sha256(self._body).hexdigest()[:32]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """All of it, or that the browser has it already."""
        if any(one.value == self._tag for one in request.if_none_match or ()):
            response = web.Response(status=304)
        else:
            response = web.Response(body=self._body, content_type=self._kind, charset="utf-8")
        response.etag = self._tag
        # Asked for each time, and sent when another version of ours has another.
        response.headers["Cache-Control"] = "no-cache"
        return response


_FILES: Final = tuple(_File(path) for path in sorted(Path(__file__).with_name("static").iterdir()))
_NAMES: Final = frozenset(one.name for one in _FILES)
ROUTES_OF_FILES: Final = tuple(web.get(f"/{one.name}", one.serve) for one in _FILES)


def is_file(path: str) -> bool:
    """Whether it is one of them that is asked for."""
    return path.rpartition("/")[2] in _NAMES
