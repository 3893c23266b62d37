"""The control channel between the supervisor and its workers: messages and their framing.

A local socket pair per worker carries frames: a length (4 bytes, big-endian), then a msgpack array tagged by the
message's type. Snapshots and orders go down, counters and reports go up. Nothing on the hot path waits for it.
"""

from typing import Final

import msgspec

from healthcheck.topology import Topology
from middleware.config import WorkerSettings
from routing.catalog import Catalog

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
"""A frame above this is a bug: the biggest message is a Catalog, some hundred kilobytes."""


class Configure(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down, first: which worker this is and how to behave. `listeners` are inherited file descriptors."""

    worker: int
    settings: WorkerSettings
    listeners: tuple[int, ...]


class SetTopology(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: the nodes have changed. The first one makes the worker accept clients."""

    topology: Topology


class SetCatalog(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: a database's catalog, in answer to CatalogWanted and after each refresh."""

    catalog: Catalog


class Drain(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Down: take no new clients, let open transactions end within `timeout_s`, then close the rest with 57P01."""

    timeout_s: float


class ForwardCancel(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up, then down to the worker the key names: a CancelRequest that landed on another worker."""

    process_id: int
    secret: bytes


class Ready(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: the worker is accepting clients."""

    worker: int


class CatalogWanted(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: a client has come for a database of which the worker has no catalog, or (`stale`) DDL was seen on it."""

    database: str
    stale: bool = False


class NodeTrouble(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: a connection to a node failed; look at it now rather than at the next period."""

    node: str
    message: str


class NodeCounters(msgspec.Struct, frozen=True, array_like=True):
    """Counts since the worker started, for one node."""

    node: str
    reads: int
    """Statements or batches decided for a standby, or that would have been."""
    writes: int
    """Statements or batches that only the primary may serve."""
    leases: int
    """Servers lent to a client now."""
    servers: int
    """Connections open to the node now."""


class Counters(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up, about once a second: what this worker has done since it started."""

    worker: int
    clients: int
    waiting: int
    nodes: tuple[NodeCounters, ...]


class Drained(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Up: after Drain, the last client is gone."""

    worker: int


Down = Configure | SetTopology | SetCatalog | Drain | ForwardCancel
Up = Ready | CatalogWanted | NodeTrouble | Counters | Drained | ForwardCancel
