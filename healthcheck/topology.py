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


class Condition(Enum):
    """How a node is, by its probes and by what was ordered. In use are UP and SUSPECT."""

    UNKNOWN = "unknown"
    UP = "up"
    SUSPECT = "suspect"
    """Its last probe has failed, and not enough of them have."""
    DOWN = "down"
    DRAINING = "draining"
    """It is given no new work, and what it has may end."""
    DETACHED = "detached"
    """It answers, and is not used: by order, because it was fenced, or because it cannot be what it claims to be."""


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
    """Why the node is not used, for people; empty while it is and nothing is wrong with it."""
    condition: Condition = Condition.UNKNOWN
    cut_off: bool = False
    """It claims to be a primary, and is not to be one: what was begun on it must not be committed."""


class Topology(msgspec.Struct, frozen=True):
    """One consistent view of all nodes. `version` grows with every change that a worker must act on."""

    version: int = 0
    nodes: tuple[Node, ...] = ()
    system_identifier: int | None = None
    """The cluster these nodes belong to, once one was seen: a node of another one is not used."""
    timeline: int | None = None
    """The highest timeline a primary was seen on: one on a lower timeline missed a promotion, and is not used."""
    fenced: tuple[str, ...] = ()
    """Nodes given up as primaries: never used again until they are seen to follow another."""
    only_primary: str = ""
    """The one node that may be primary, where roles are not to change; "" where they may."""

    def primary(self) -> Node | None:
        """The node that takes writes, or None while there is none or more than one claims to be it."""
        for node in self.nodes:
            if node.role is Role.PRIMARY and node.up:
                return node
        return None

    def writer(self) -> Node | None:
        """The primary, also while it drains: it is given nothing new, and what standbys have is held against it."""
        for node in self.nodes:
            if node.role is Role.PRIMARY and (node.up or node.condition is Condition.DRAINING):
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
    """Why the node is not up, or suspect, for people."""
    condition: Condition = Condition.UNKNOWN
    denies: bool = False
    """It is alive: `why` is an error of its own, which it has answered the last probe with."""
    flaps: int = 0
    """How often it has been down of late, where it answers and is not used again for that reason alone; 0 where not."""
    replay_lag_s: float | None = None
    """How old the last replayed transaction is; 0 when all that was received is replayed."""
    upstream: str = ""
    """A standby's: `host:port` it streams from, or would; "" where that is not known."""
    standby_name: str = ""
    """What a standby is called in synchronous_standby_names and pg_stat_replication."""
    heard_s_ago: float | None = None
    """How long ago a standby's WAL receiver had a message from its upstream; None while it does not stream."""
    sync_standbys: tuple[str, ...] = ()
    """A primary's: the standby_names that commits wait for."""
    sync_needed: int = 0
    """How many of them must be there for each acknowledged commit to be on one of those; 0 without such."""
    connections: int = 0
    """Client backends that it has, and how many it may have."""
    max_connections: int = 0
    told_lag_bytes: int | None = None
    """A standby's lag by Patroni's word, for when there is no primary to measure it by."""


def decide(observations: Sequence[Observation], previous: Topology) -> Topology:
    """The topology that follows from what the monitors saw.

    A node is refused (not up, with the reason in `why`) when it belongs to another cluster, or claims to be the primary
    on a timeline below one seen before, or beside another primary: the higher timeline wins, and on the same timeline
    neither is believed. The version grows when anything changes that a worker must act on: not for lags and doubts.
    """
    system_identifier = _cluster(observations, previous)
    refused = _foreign(observations, system_identifier)
    fenced = _fenced(observations, previous)
    refused |= dict.fromkeys(fenced, "was given up as primary, and does not follow another yet")
    if previous.only_primary:
        refused |= {
            one.name: f"is a primary, but failover is off and {previous.only_primary} was the primary"
            for one in observations
            if one.up and one.role is Role.PRIMARY and one.name != previous.only_primary
        }
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
            condition=Condition.DETACHED if one.up and one.name in refused else one.condition,
            cut_off=one.up and one.role is Role.PRIMARY and one.name in refused,
        )
        for one in observations
    )
    decided = Topology(previous.version, nodes, system_identifier, timeline, fenced, previous.only_primary)
    if _without_news(decided) == _without_news(previous):
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
        return observation.told_lag_bytes
    # The two ends are read at different moments, so a standby may seem ahead.
    return max(0, insert_lsn - observation.replay_lsn)


def _fenced(observations: Sequence[Observation], previous: Topology) -> tuple[str, ...]:
    """Those of `previous` that were not seen as standbys since."""
    follows = {one.name for one in observations if one.up and one.role is Role.STANDBY}
    return tuple(name for name in previous.fenced if name not in follows)


def _without_news(topology: Topology) -> Topology:
    """Without what changes while nothing is to be done about it."""
    return msgspec.structs.replace(
        topology,
        nodes=tuple(
            msgspec.structs.replace(
                node,
                replay_lag_bytes=None,
                why="" if node.up else node.why,
                condition=Condition.UP if node.up else node.condition,
            )
            for node in topology.nodes
        ),
    )
