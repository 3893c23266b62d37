"""What the dashboard shows: a Snapshot each second, Details less often, a Point of each second for its charts.

Plain values, made by middleware.web.picture of Sources. Names and texts are as clients and nodes have them: the page
shows them as text, never as markup. Durations are in seconds, moments are time.time().
"""

import msgspec

from middleware.control import CacheCounters
from middleware.supervisor.cache_control import CacheRoute, CacheState
from middleware.supervisor.counters import CountersSnapshot
from middleware.supervisor.status import Status


class UnderWay(msgspec.Struct, frozen=True):
    """A command of a button that has not ended."""

    id: int
    command: str
    since: float
    waits: str = ""
    """What it waits for, in words."""


class Limits(msgspec.Struct, frozen=True):
    """What the settings allow."""

    clients: int
    cache_bytes: int
    """Of all workers."""


class Sources(msgspec.Struct, frozen=True):
    """What is known at one moment."""

    at: float
    status: Status
    counters: CountersSnapshot
    cache: CacheCounters
    cache_state: CacheState
    limits: Limits
    under_way: tuple[UnderWay, ...] = ()


class Sample(msgspec.Struct, frozen=True):
    """What had been counted by a moment."""

    as_of: float
    """Of the workers' reports; see CountersSnapshot."""
    nodes: dict[str, tuple[int, int]]
    """Reads and writes."""
    hits: int
    misses: int
    query: tuple[int, ...] = ()
    """How many took how long, by the buckets of a Histogram."""
    wait: tuple[int, ...] = ()
    cpu_s: dict[int, float] = {}
    """Of each worker."""


class Rates(msgspec.Struct, frozen=True):
    """Per second."""

    nodes: dict[str, tuple[float, float]] = {}
    hits: float = 0.0
    cpu: dict[int, float] = {}
    """Of each worker: seconds of a core."""

    @property
    def reads(self) -> float:
        """Of all nodes; those that the query cache has answered are not among them."""
        return sum(reads for reads, _ in self.nodes.values())

    @property
    def writes(self) -> float:
        return sum(writes for _, writes in self.nodes.values())


class Recently(msgspec.Struct, frozen=True):
    """What was seen in the last minute; None where there was nothing to see."""

    hit_ratio: float | None = None
    """Of those who asked the query cache."""
    query_p50_s: float | None = None
    """Half of all batches were answered within that."""
    query_p99_s: float | None = None
    wait_p99_s: float | None = None
    """For a server."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """A second of the charts; there are hundreds of them in a page's first message."""

    at: float
    reads: float
    writes: float
    hits: float
    clients: int
    waiting: int
    leased: int
    """Servers that are lent."""
    servers: int
    """Servers that are open."""
    lags: dict[str, int]
    """Of the standbys whose lag is known, in bytes."""


class NodeNow(msgspec.Struct, frozen=True):
    """A node."""

    name: str
    address: str
    role: str
    condition: str
    used: bool
    why: str
    timeline: int | None
    lag_bytes: int | None
    lag_s: float | None
    connections: int
    max_connections: int
    since: float | None
    reads_s: float
    writes_s: float
    reads: int
    writes: int
    leased: int
    servers: int


class CacheNow(msgspec.Struct, frozen=True):
    """The query cache."""

    state: str
    """"on" (at least for some), "off", or "changing"."""
    routes: tuple[CacheRoute, ...]
    hits: int
    misses: int
    hits_s: float
    entries: int
    bytes: int
    bytes_max: int
    stored: int
    evictions: int
    invalidations: int
    saved_s: float


class Reason(msgspec.Struct, frozen=True):
    """Why reads stayed on the primary."""

    why: str
    reads: int


class Offender(msgspec.Struct, frozen=True):
    """An application that leaves session state behind."""

    application_name: str
    user: str
    database: str
    state: str
    action: str
    statements: int


class WorkerNow(msgspec.Struct, frozen=True):
    """A worker's process."""

    worker: int
    pid: int | None
    cpu: float
    """Of one core."""
    rss_bytes: int
    loop_lag_s: float
    """How late its event loop was."""
    logins: int
    """Connections of clients that have not logged in yet."""


class Alarm(msgspec.Struct, frozen=True):
    """Something that an operator should look at."""

    severity: str
    """"bad" or "warning"."""
    text: str


class Snapshot(msgspec.Struct, frozen=True, tag_field="kind", tag="snapshot"):
    """All that is known without asking the workers."""

    at: float
    version: str
    failover: str
    topology_version: int
    primary: str | None
    alarms: tuple[Alarm, ...]
    nodes: tuple[NodeNow, ...]
    point: Point
    recently: Recently
    clients_max: int
    cache: CacheNow
    offenders: tuple[Offender, ...]
    offenders_left: int
    """How many there are beside those."""
    reasons: tuple[Reason, ...]
    on_standbys: int
    reads_again: int
    workers: tuple[WorkerNow, ...]
    under_way: tuple[UnderWay, ...]


class PoolNow(msgspec.Struct, frozen=True):
    """A pool, over all workers."""

    database: str
    user: str
    route: str
    node: str
    mode: str
    state: str
    size: int
    waiting: int
    maxwait_s: float
    active: int
    idle: int
    opening: int


class DigestNow(msgspec.Struct, frozen=True):
    """Statements of one shape, over all workers."""

    database: str
    shape: str
    calls: int
    errors: int
    rows: int
    total_s: float
    mean_s: float
    max_s: float
    on_primary: int
    on_standbys: int
    hits: int
    reason: str


class Details(msgspec.Struct, frozen=True, tag_field="kind", tag="details"):
    """What the workers say when they are asked."""

    at: float
    pools: tuple[PoolNow, ...]
    pools_left: int
    digests: tuple[DigestNow, ...]
    digests_left: int
    silent: tuple[int, ...]
    """Workers that have not answered."""
