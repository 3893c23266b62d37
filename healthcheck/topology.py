"""Who may do what: the nodes as last observed, and the one primary among them.

In: one Observation per node, made by the monitors. Out: an immutable Topology, published to the workers.
Nothing here does I/O or reads a clock.
"""

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

    def primary(self) -> Node | None:
        """The node that takes writes, or None while there is none or more than one claims to be it."""
        for node in self.nodes:
            if node.role is Role.PRIMARY and node.up:
                return node
        return None

    def standbys(self) -> tuple[Node, ...]:
        """The nodes that may take reads."""
        return tuple(node for node in self.nodes if node.role is Role.STANDBY and node.up)
