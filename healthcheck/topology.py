"""Who may do what: the nodes as last observed, and the one primary among them.

In: one Observation per node, made by the monitors. Out: an immutable Topology, published to the workers.
Nothing here does I/O or reads a clock.
"""

from collections import Counter
from collections.abc import Sequence
from enum import Enum

import msgspec


class Role(Enum):
    """What a node said of itself, as PostgreSQL's `pg_is_in_recovery()` tells; never what a file claims."""

    UNKNOWN = "unknown"
    PRIMARY = "primary"
    STANDBY = "standby"


class Node(msgspec.Struct, frozen=True):
    """A PostgreSQL instance as the data plane needs to know it."""

    name: str
    host: str
    port: int
    role: Role = Role.UNKNOWN
    up: bool = False
    replay_lag_bytes: int | None = None
    """WAL the primary has written and this standby has not replayed; None while either end is not known."""
    why: str = ""
    """Why the node is not used, for people; empty while it is."""


class Topology(msgspec.Struct, frozen=True):
    """One consistent view of all nodes. `version` grows with every change that a worker must act on."""

    version: int = 0
    nodes: tuple[Node, ...] = ()
    system_identifier: int | None = None
    """The cluster these nodes belong to, once one was seen: a node of another one is not used."""
    timeline: int | None = None
    """The highest timeline a primary was seen on: one on a lower timeline missed a promotion, and is not used."""

    def primary(self) -> Node | None:
        """The node that takes writes, or None while there is none or more than one claims to be it."""
        for node in self.nodes:
            if node.role is Role.PRIMARY and node.up:
                return node
        return None

    def standbys(self) -> tuple[Node, ...]:
        """The nodes that may take reads."""
        return tuple(node for node in self.nodes if node.role is Role.STANDBY and node.up)


class Observation(msgspec.Struct, frozen=True):
    """A node as its monitor last saw it. `up` is the monitor's verdict over several probes, not the last one's."""

    name: str
    host: str
    port: int
    up: bool = False
    role: Role = Role.UNKNOWN
    system_identifier: int | None = None
    timeline: int | None = None
    insert_lsn: int | None = None
    """Where a primary writes WAL, in bytes since the cluster's beginning."""
    receive_lsn: int | None = None
    """Up to where a standby has received WAL by streaming."""
    replay_lsn: int | None = None
    """Up to where a standby has replayed WAL."""
    why: str = ""
    """Why the node is not up, for people."""


def decide(observations: Sequence[Observation], previous: Topology) -> Topology:
    """The topology that follows from what the monitors saw.

    A node is refused (not up, with the reason in `why`) when it belongs to another cluster, or claims to be the primary
    on a timeline below one seen before, or beside another primary: the higher timeline wins, and on the same timeline
    neither is believed. The version grows when anything but the lag changes.
    """
    system_identifier = _cluster(observations, previous)
    refused = _foreign(observations, system_identifier)
    claims = [one for one in observations if one.up and one.role is Role.PRIMARY and one.name not in refused]
    timeline = max((one.timeline for one in claims if one.timeline is not None), default=None)
    if previous.timeline is not None:
        timeline = max(previous.timeline, timeline or 0)
    refused |= _outdone(claims, timeline)
    refused |= _rivals([one for one in claims if one.name not in refused])

    primaries = [one for one in claims if one.name not in refused]
    insert_lsn = primaries[0].insert_lsn if primaries else None
    roles = {node.name: node.role for node in previous.nodes}
    nodes = tuple(
        Node(
            name=one.name,
            host=one.host,
            port=one.port,
            role=one.role if one.role is not Role.UNKNOWN else roles.get(one.name, Role.UNKNOWN),
            up=one.up and one.role is not Role.UNKNOWN and one.name not in refused,
            replay_lag_bytes=_lag(one, insert_lsn),
            why=refused.get(one.name, one.why),
        )
        for one in observations
    )
    decided = Topology(previous.version, nodes, system_identifier, timeline)
    if _without_lag(decided) == _without_lag(previous):
        return decided
    return msgspec.structs.replace(decided, version=previous.version + 1)


def _cluster(observations: Sequence[Observation], previous: Topology) -> int | None:
    """The system identifier to go by: the one known, else the primaries' if they agree, else the most common one."""
    if previous.system_identifier is not None:
        return previous.system_identifier
    seen = [one for one in observations if one.up and one.system_identifier is not None]
    of_primaries = Counter(one.system_identifier for one in seen if one.role is Role.PRIMARY)
    for counts in (of_primaries, Counter(one.system_identifier for one in seen)):
        best = counts.most_common(2)
        if best and (len(best) == 1 or best[0][1] > best[1][1]):
            return best[0][0]
    return None


def _foreign(observations: Sequence[Observation], system_identifier: int | None) -> dict[str, str]:
    seen = {one.name: one.system_identifier for one in observations if one.up and one.system_identifier is not None}
    if system_identifier is None:
        # Nobody to go by: either nothing was seen yet, or the nodes disagree and each may be the stranger.
        return dict.fromkeys(seen, "the nodes belong to different clusters, by their system identifiers")
    return {
        name: f"belongs to another cluster: system identifier {one}, not {system_identifier}"
        for name, one in seen.items()
        if one != system_identifier
    }


def _outdone(claims: Sequence[Observation], timeline: int | None) -> dict[str, str]:
    """Primaries that missed a promotion. One that does not tell its timeline cannot show that it did not."""
    if timeline is None:
        return {}
    return {
        one.name: f"primary on timeline {one.timeline if one.timeline is not None else 'unknown'}, "
        f"but timeline {timeline} has been seen"
        for one in claims
        if one.timeline is None or one.timeline < timeline
    }


def _rivals(claims: Sequence[Observation]) -> dict[str, str]:
    if len(claims) < 2:
        return {}
    names = ", ".join(one.name for one in claims)
    timeline = claims[0].timeline
    return {one.name: f"more than one primary on timeline {timeline}: {names}" for one in claims}


def _lag(observation: Observation, insert_lsn: int | None) -> int | None:
    if observation.role is not Role.STANDBY or not observation.up:
        return None
    if insert_lsn is None or observation.replay_lsn is None:
        return None
    # The two ends are read at different moments, so a standby may seem ahead.
    return max(0, insert_lsn - observation.replay_lsn)


def _without_lag(topology: Topology) -> Topology:
    replace = msgspec.structs.replace
    return replace(topology, nodes=tuple(replace(node, replay_lag_bytes=None) for node in topology.nodes))
