"""Health endpoints, as orchestrators and load balancers ask them: 200 for yes, 503 for no, and why in JSON.

Their names and `lag` are Patroni's; there each node answers for itself, here one Pointsman for all nodes. What is
decided is decided in plain functions on what a Site knows; HEAD and OPTIONS have the same status and no body.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from aiohttp import web

from healthcheck.topology import Node, Role
from middleware.config import Settings
from middleware.supervisor.supervisor import Phase
from middleware.supervisor.workers import WorkerLife
from middleware.web.site import SITE, Site

HEARD_S: Final = 10.0
"""A worker reports once a second; one that has said nothing for so long stands still."""
_UNITS: Final = {"": 1, "b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3, "tb": 1024**4}
_SIZE: Final = re.compile(r"([0-9]{1,18})([a-z]*)", re.ASCII | re.IGNORECASE)


class NodeAnswer(msgspec.Struct, frozen=True):
    """What is said of a node."""

    name: str
    role: str
    used: bool
    condition: str
    replay_lag_bytes: int | None
    why: str
    """Why it is not used, or what is wrong with it."""


class Answer(msgspec.Struct, frozen=True):
    """What is said to who asks for JSON."""

    ok: bool
    why: str
    """Why not; "" where it is."""
    phase: Phase
    primary: str | None
    nodes: tuple[NodeAnswer, ...]


class Mistake(Exception):
    """What is asked has no meaning."""


def parse_size(text: str) -> int:
    """Bytes from "1048576", "64kB", "10MB": units as PostgreSQL's. Raises Mistake."""
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise Mistake("lag: a number of bytes, or of kB, MB, GB or TB, is allowed")
    return int(found[1]) * unit


def live(phase: Phase, lives: Sequence[WorkerLife], now: float) -> str:
    """Why the process is to be started again; "" where it is not. While it starts or drains, workers come and go."""
    if phase != "serving":
        return ""
    for one in lives:
        if one.pid is None:
            return f"worker {one.worker} has no process"
        if not one.ready:
            return f"worker {one.worker} does not accept clients yet"
        if now - one.heard_at > HEARD_S:
            return f"worker {one.worker} has said nothing for {now - one.heard_at:.0f} s"
    return ""


def ready(phase: Phase, lives: Sequence[WorkerLife], nodes: Sequence[Node], settings: Settings, now: float) -> str:
    """Why no client is to be sent here; "" where one may be.

    Without a primary, standbys go on to serve reads, where a rule lets them have any.
    """
    if phase != "serving":
        return "draining: no new clients are taken" if phase == "draining" else "starting"
    if not any(one.pid is not None and one.ready and now - one.heard_at <= HEARD_S for one in lives):
        return "no worker accepts clients"
    if _primary(nodes) is not None:
        return ""
    if not replicas(nodes, settings, None):
        return "neither a primary nor a standby is in use"
    if all(policy.refuse or policy.consistency == "primary" for policy in settings.policies()):
        return "no primary is in use, and no rule lets standbys serve reads"
    return ""


def replicas(nodes: Sequence[Node], settings: Settings, lag_bytes_max: int | None) -> list[Node]:
    """The standbys that are given reads, and are known not to be further behind than that."""
    return [
        node
        for node in nodes
        if node.role is Role.STANDBY
        and node.up
        and _weight(settings, node.name) > 0
        and (lag_bytes_max is None or (node.replay_lag_bytes is not None and node.replay_lag_bytes <= lag_bytes_max))
    ]


def _primary(nodes: Sequence[Node]) -> Node | None:
    return next((node for node in nodes if node.role is Role.PRIMARY and node.up), None)


def _weight(settings: Settings, name: str) -> int:
    node = settings.nodes.get(name)
    return 0 if node is None else node.weight


def _no_primary(site: Site, _lag: int | None) -> str:
    return _phase(site) or ("" if _primary(site.topology.nodes) is not None else "no primary is in use")


def _no_replica(site: Site, lag: int | None) -> str:
    if why := _phase(site):
        return why
    if replicas(site.topology.nodes, site.settings, lag):
        return ""
    return "no standby is given reads" if lag is None else f"no standby is known to be within {lag} bytes"


def _no_reader(site: Site, lag: int | None) -> str:
    return "" if not _no_primary(site, None) else _no_replica(site, lag)


def _phase(site: Site) -> str:
    return "" if site.phase == "serving" else site.phase


def _not_live(site: Site, _lag: int | None) -> str:
    return live(site.phase, site.lives(), time.monotonic())


def _not_ready(site: Site, _lag: int | None) -> str:
    return ready(site.phase, site.lives(), site.topology.nodes, site.settings, time.monotonic())


def _lag(query: Mapping[str, str], *, allowed: bool) -> int | None:
    """The bound that is asked for. Raises Mistake."""
    for name in query:
        if name != "lag" or not allowed:
            raise Mistake(f"{name}: there is no such parameter here")
    text = query.get("lag")
    return None if text is None else parse_size(text)


def _check(
    why_not: Callable[[Site, int | None], str], *, bounded: bool = False
) -> Callable[[web.Request], web.Response]:
    def answer(request: web.Request) -> web.Response:
        site = request.app[SITE]
        try:
            why = why_not(site, _lag(request.query, allowed=bounded))
        except Mistake as mistake:
            raise web.HTTPBadRequest(text=f"{mistake}\n") from None
        nodes = tuple(_node(node) for node in site.topology.nodes)
        primary = _primary(site.topology.nodes)
        return _said(not why, Answer(not why, why, site.phase, None if primary is None else primary.name, nodes))

    return answer


def _node(node: Node) -> NodeAnswer:
    return NodeAnswer(node.name, node.role.value, node.up, node.condition.value, node.replay_lag_bytes, node.why)


def _said(ok: bool, answer: msgspec.Struct) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(answer)) + b"\n"
    return web.Response(body=body, content_type="application/json", status=200 if ok else 503)


def _one_node(request: web.Request) -> web.Response:
    """Whether one node is in use, by its name; with `role` also whether as that."""
    site = request.app[SITE]
    node = next((one for one in site.topology.nodes if one.name == request.match_info["name"]), None)
    if node is None:
        raise web.HTTPNotFound(text="there is no such node\n")
    query = dict(request.query)
    role = query.pop("role", "")
    if role not in ("", "primary", "standby"):
        raise web.HTTPBadRequest(text='role: "primary" or "standby" is allowed\n')
    try:
        lag = _lag(query, allowed=True)
    except Mistake as mistake:
        raise web.HTTPBadRequest(text=f"{mistake}\n") from None
    ok = node.up and role in ("", node.role.value)
    if node.role is Role.STANDBY and lag is not None:
        ok = ok and node.replay_lag_bytes is not None and node.replay_lag_bytes <= lag
    return _said(ok, _node(node))


def _routes(path: str, answer: Callable[[web.Request], web.Response]) -> list[web.RouteDef]:
    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    async def status(request: web.Request) -> web.Response:
        response = web.Response(status=answer(request).status)
        response.headers["Allow"] = "GET, HEAD, OPTIONS"
        return response

    return [web.get(path, handle), web.options(path, status)]


ROUTES: Final = (
    *_routes("/healthz", _check(_not_live)),
    *_routes("/readyz", _check(_not_ready)),
    *_routes("/primary", _check(_no_primary)),
    *_routes("/read-write", _check(_no_primary)),
    *_routes("/replica", _check(_no_replica, bounded=True)),
    *_routes("/read-only", _check(_no_reader, bounded=True)),
    *_routes("/nodes/{name}", _one_node),
)
