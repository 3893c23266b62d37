"""What the nodes and the workers are, for who asks at one moment."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import msgspec

from healthcheck.topology import Node, Observation, Topology
from middleware.supervisor.counters import CountersSnapshot


class NodeStatus(msgspec.Struct, frozen=True):
    """A node as it is used, and as it was last seen."""

    name: str
    host: str
    port: int
    role: str
    condition: str
    used: bool
    why: str
    """Why it is not used, or what is wrong with it."""
    timeline: int | None
    replay_lag_bytes: int | None
    replay_lag_s: float | None
    connections: int
    max_connections: int
    since: float | None
    """time.time() from which on it has been used, or not, in its role."""


class WorkerStatus(msgspec.Struct, frozen=True):
    """A worker's process."""

    worker: int
    pid: int | None
    """None while it is being started again."""


class Status(msgspec.Struct, frozen=True):
    """What there is to be known at once."""

    failover: str
    topology_version: int
    primary: str | None
    nodes: tuple[NodeStatus, ...]
    workers: tuple[WorkerStatus, ...]
    clients: int
    waiting: int
    version: str = version("pointsman")
    clients_before: int = 0
    """Of those processes from which this one has taken over: not among `clients`."""


def status_of(
    failover: str,
    topology: Topology,
    observations: Mapping[str, Observation],
    since: Callable[[str], float | None],
    pids: Sequence[int | None],
    counters: CountersSnapshot,
    clients_before: int = 0,
) -> Status:
    """All of it. `since`: a node's name to when it became what it is."""
    primary = topology.primary()
    return Status(
        failover=failover,
        topology_version=topology.version,
        primary=None if primary is None else primary.name,
        nodes=tuple(_node(node, observations[node.name], since(node.name)) for node in topology.nodes),
        workers=tuple(WorkerStatus(index, pid) for index, pid in enumerate(pids)),
        clients=counters.clients,
        waiting=counters.waiting,
        clients_before=clients_before,
    )


def _node(node: Node, seen: Observation, since: float | None) -> NodeStatus:
    return NodeStatus(
        name=node.name,
        host=node.host,
        port=node.port,
        role=node.role.value,
        condition=node.condition.value,
        used=node.up,
        why=node.why,
        timeline=seen.timeline,
        replay_lag_bytes=node.replay_lag_bytes,
        replay_lag_s=seen.replay_lag_s if node.up else None,
        connections=seen.connections,
        max_connections=seen.max_connections,
        since=since,
    )
