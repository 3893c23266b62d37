"""What a Pointsman might know at one moment, made up."""

from typing import Any

from middleware.control import CacheCounters, NodeCounters
from middleware.reports import DigestReport, PoolReport
from middleware.supervisor.cache_control import CacheRoute, CacheState
from middleware.supervisor.counters import CountersSnapshot
from middleware.supervisor.status import NodeStatus, Status, WorkerStatus
from middleware.web.snapshot import Limits, Sources

AT = 1_800_000_000.0


def node(name: str, role: str, **changes: Any) -> NodeStatus:
    lag = 0 if role == "standby" else None
    known: dict[str, Any] = {
        "name": name,
        "host": "10.0.0.1",
        "port": 5432,
        "role": role,
        "condition": "up",
        "used": True,
        "why": "",
        "timeline": 1,
        "replay_lag_bytes": lag,
        "replay_lag_s": lag,
        "connections": 3,
        "max_connections": 100,
        "since": AT - 60,
    }
    return NodeStatus(**{**known, **changes})


def status(*nodes: NodeStatus, **changes: Any) -> Status:
    primary = next((one.name for one in nodes if one.role == "primary" and one.used), None)
    known: dict[str, Any] = {
        "failover": "detect",
        "topology_version": 3,
        "primary": primary,
        "nodes": nodes,
        "workers": (WorkerStatus(0, 100), WorkerStatus(1, 101)),
        "clients": 0,
        "waiting": 0,
    }
    return Status(**{**known, **changes})


def sources(
    *nodes: NodeCounters,
    known: Status | None = None,
    as_of: float = 0.0,
    cache: CacheCounters | None = None,
    **more: Any,
) -> Sources:
    return Sources(
        at=AT,
        status=known or status(node("db1", "primary"), node("db2", "standby")),
        counters=CountersSnapshot(nodes={one.node: one for one in nodes}, as_of=as_of, **more),
        cache=cache or CacheCounters(),
        cache_state=CacheState(serving=False, tracking=False, routes=(CacheRoute("", "off", "settings"),)),
        limits=Limits(clients=1000, cache_bytes=1 << 20),
    )


def pool(node: str, **changes: Any) -> PoolReport:
    known: dict[str, Any] = dict.fromkeys(PoolReport.__struct_fields__, 0)
    known |= {
        "node": node,
        "database": "app",
        "user": "app",
        "route": "",
        "mode": "transaction",
        "size": 20,
        "state": "active",
    }
    return PoolReport(**{**known, **changes})


def digest(shape: str, **changes: Any) -> DigestReport:
    known: dict[str, Any] = dict.fromkeys(DigestReport.__struct_fields__, 0)
    return DigestReport(**{**known, "database": "app", "shape": shape, "reason": "", **changes})
