"""What the dashboard shows: a Snapshot each second, Details less often, a Point of each second for its charts.

In: what a Site knows at one moment (Sources), and what had been counted earlier (Sample). Out: plain values, made by
functions that do no I/O and read no clock. Names and texts are as clients and nodes have them: the page shows them as
text, never as markup. Durations are in seconds, moments are time.time().
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from middleware.control import CacheCounters
from middleware.reports import DigestReport, PoolReport
from middleware.supervisor.asking import Answers
from middleware.supervisor.cache_control import CacheRoute, CacheState
from middleware.supervisor.counters import CountersSnapshot
from middleware.supervisor.status import NodeStatus, Status

OFFENDERS_MAX: Final = 10
REASONS_MAX: Final = 10
POOLS_MAX: Final = 50
DIGESTS_MAX: Final = 25
TEXT_CHARS_MAX: Final = 500
"""Of a statement, a reason, a why: a page is no place for more."""

ELAPSED_MIN_S: Final = 0.2
"""Counts that are less apart give no rate: one report's jitter would double it."""


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


class Rates(msgspec.Struct, frozen=True):
    """Per second."""

    nodes: dict[str, tuple[float, float]] = {}
    hits: float = 0.0

    @property
    def reads(self) -> float:
        """Of all nodes; those that the query cache has answered are not among them."""
        return sum(reads for reads, _ in self.nodes.values())

    @property
    def writes(self) -> float:
        return sum(writes for _, writes in self.nodes.values())


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
    hit_ratio: float | None
    """Of the last minute; None where nobody asked."""
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


def sample(sources: Sources) -> Sample:
    """What has been counted by now."""
    return Sample(
        as_of=sources.counters.as_of,
        nodes={name: (one.reads, one.writes) for name, one in sources.counters.nodes.items()},
        hits=sources.cache.hits,
        misses=sources.cache.misses,
    )


def rates(before: Sample, after: Sample) -> Rates | None:
    """What was counted between two samples, per second; None where that cannot be told from them."""
    elapsed_s = after.as_of - before.as_of
    if elapsed_s < ELAPSED_MIN_S:
        return None
    nodes = {}
    for name, (reads, writes) in after.nodes.items():
        had_reads, had_writes = before.nodes.get(name, (0, 0))
        nodes[name] = (max(0, reads - had_reads) / elapsed_s, max(0, writes - had_writes) / elapsed_s)
    return Rates(nodes, max(0, after.hits - before.hits) / elapsed_s)


def hit_ratio(before: Sample, after: Sample) -> float | None:
    """Of those who asked the query cache between two samples."""
    hits, misses = after.hits - before.hits, after.misses - before.misses
    return hits / (hits + misses) if hits + misses > 0 else None


def point(sources: Sources, speed: Rates) -> Point:
    """A second of the charts."""
    nodes = sources.counters.nodes.values()
    return Point(
        at=round(sources.at, 1),
        reads=round(speed.reads, 1),
        writes=round(speed.writes, 1),
        hits=round(speed.hits, 1),
        clients=sources.counters.clients,
        waiting=sources.counters.waiting,
        leased=sum(node.leases for node in nodes),
        servers=sum(node.servers for node in nodes),
        lags={node.name: node.replay_lag_bytes for node in sources.status.nodes if node.replay_lag_bytes is not None},
    )


def picture(sources: Sources, speed: Rates, ratio: float | None) -> Snapshot:
    """All of it."""
    status, counters = sources.status, sources.counters
    reasons = sorted(counters.reasons.items(), key=lambda one: (-one[1], one[0]))[:REASONS_MAX]
    return Snapshot(
        at=sources.at,
        version=status.version,
        failover=status.failover,
        topology_version=status.topology_version,
        primary=status.primary,
        alarms=alarms(status),
        nodes=tuple(_node(node, counters, speed) for node in status.nodes),
        point=point(sources, speed),
        clients_max=sources.limits.clients,
        cache=_cache(sources, speed, ratio),
        offenders=tuple(Offender(*msgspec.structs.astuple(use)) for use in counters.states[:OFFENDERS_MAX]),
        offenders_left=max(0, len(counters.states) - OFFENDERS_MAX),
        reasons=tuple(Reason(_short(why), reads) for why, reads in reasons),
        on_standbys=counters.on_standbys,
        reads_again=counters.reads_again,
        workers=tuple(WorkerNow(one.worker, one.pid) for one in status.workers),
        under_way=sources.under_way,
    )


def alarms(status: Status) -> tuple[Alarm, ...]:
    """What is not as it should be, the worst first."""
    bad, warnings = [], []
    if status.topology_version == 0:
        return (Alarm("warning", "The nodes have not been looked at yet."),)
    if status.primary is None and not any(
        node.role == "primary" and node.condition == "draining" for node in status.nodes
    ):
        bad.append("There is no primary: writes wait, and fail after query_wait_timeout.")
    for node in status.nodes:
        why = f": {_short(node.why)}" if node.why else ""
        if node.condition in ("draining", "suspect"):
            warnings.append(f"Node {node.name} is {node.condition}{why}.")
        elif not node.used:
            bad.append(f"Node {node.name} is not used ({node.condition}){why}.")
    bad.extend(f"Worker {one.worker} is being started again." for one in status.workers if one.pid is None)
    return (*(Alarm("bad", text) for text in bad), *(Alarm("warning", text) for text in warnings))


def details(at: float, pools: Answers, digests: Answers) -> Details:
    """What the workers have said, added up."""
    all_pools = _pools(report for _, report in pools.reports if isinstance(report, PoolReport))
    all_digests = _digests(report for _, report in digests.reports if isinstance(report, DigestReport))
    return Details(
        at=at,
        pools=tuple(all_pools[:POOLS_MAX]),
        pools_left=max(0, len(all_pools) - POOLS_MAX),
        digests=tuple(all_digests[:DIGESTS_MAX]),
        digests_left=max(0, len(all_digests) - DIGESTS_MAX),
        silent=tuple(sorted({*pools.silent, *digests.silent})),
    )


def _node(node: NodeStatus, counters: CountersSnapshot, speed: Rates) -> NodeNow:
    have = counters.nodes.get(node.name)
    reads_s, writes_s = speed.nodes.get(node.name, (0.0, 0.0))
    return NodeNow(
        name=node.name,
        address=f"[{node.host}]:{node.port}" if ":" in node.host else f"{node.host}:{node.port}",
        role=node.role,
        condition=node.condition,
        used=node.used,
        why=_short(node.why),
        timeline=node.timeline,
        lag_bytes=node.replay_lag_bytes,
        lag_s=node.replay_lag_s,
        connections=node.connections,
        max_connections=node.max_connections,
        since=node.since,
        reads_s=reads_s,
        writes_s=writes_s,
        reads=have.reads if have else 0,
        writes=have.writes if have else 0,
        leased=have.leases if have else 0,
        servers=have.servers if have else 0,
    )


def _cache(sources: Sources, speed: Rates, ratio: float | None) -> CacheNow:
    state, counts = sources.cache_state, sources.cache
    return CacheNow(
        state="on" if state.serving else "changing" if state.tracking else "off",
        routes=state.routes,
        hit_ratio=ratio,
        hits=counts.hits,
        misses=counts.misses,
        hits_s=speed.hits,
        entries=counts.entries,
        bytes=counts.bytes,
        bytes_max=sources.limits.cache_bytes,
        stored=counts.stored,
        evictions=counts.evictions,
        invalidations=sum(counts.invalidations.values()),
        saved_s=counts.saved_s,
    )


def _pools(reports: Iterable[PoolReport]) -> list[PoolNow]:
    """Those who wait first, then the busiest."""
    totals: dict[tuple[str, str, str, str], PoolNow] = {}
    for one in reports:
        key = (one.database, one.user, one.route, one.node)
        have = totals.get(key)
        totals[key] = PoolNow(
            database=one.database,
            user=one.user,
            route=one.route,
            node=one.node,
            mode=one.mode,
            # Where workers differ, what is out of the ordinary is what an operator looks for.
            state=one.state if have is None or have.state == "active" else have.state,
            size=one.size,
            waiting=one.cl_waiting + (have.waiting if have else 0),
            maxwait_s=max(one.maxwait_s, have.maxwait_s if have else 0.0),
            active=one.sv_active + one.sv_active_cancel + one.sv_being_canceled + (have.active if have else 0),
            idle=one.sv_idle + one.sv_used + one.sv_tested + (have.idle if have else 0),
            opening=one.sv_login + (have.opening if have else 0),
        )
    return sorted(
        totals.values(), key=lambda one: (-one.waiting, -one.active, -one.idle, one.database, one.user, one.node)
    )


def _digests(reports: Iterable[DigestReport]) -> list[DigestNow]:
    """Those that took longest first."""
    totals: dict[tuple[str, str], DigestReport] = {}
    for one in reports:
        have = totals.get((one.database, one.shape))
        totals[one.database, one.shape] = one if have is None else _sum(have, one)
    most = sorted(totals.values(), key=lambda one: (-one.total_s, -one.calls, one.database, one.shape))
    return [
        DigestNow(
            database=one.database,
            shape=_short(one.shape),
            calls=one.calls,
            errors=one.errors,
            rows=one.rows,
            total_s=one.total_s,
            # What the query cache has answered took none of it.
            mean_s=one.total_s / max(1, one.calls - one.hits),
            max_s=one.max_s,
            on_primary=one.on_primary,
            on_standbys=one.on_standbys,
            hits=one.hits,
            reason=_short(one.reason),
        )
        for one in most
    ]


def _sum(one: DigestReport, other: DigestReport) -> DigestReport:
    return DigestReport(
        database=one.database,
        shape=one.shape,
        calls=one.calls + other.calls,
        errors=one.errors + other.errors,
        rows=one.rows + other.rows,
        total_s=one.total_s + other.total_s,
        max_s=max(one.max_s, other.max_s),
        on_primary=one.on_primary + other.on_primary,
        on_standbys=one.on_standbys + other.on_standbys,
        hits=one.hits + other.hits,
        reason=one.reason or other.reason,
    )


def _short(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}…"
