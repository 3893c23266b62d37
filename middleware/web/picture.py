"""What there is to see, of what is known: a Snapshot and its Point, Details, rates and alarms.

In: what a Site knows at one moment (Sources), and what had been counted earlier (Sample). Out: the values of
middleware.web.snapshot, within bounds. Pure: no I/O, no clock.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import astuple

from middleware.reports import BUCKETS_S, DigestReport, HealthReport, Histogram, PoolReport
from middleware.supervisor.asking import Answers
from middleware.supervisor.counters import CountersSnapshot
from middleware.supervisor.status import NodeStatus, Status, WorkerStatus
from middleware.web.snapshot import (
    Alarm,
    CacheNow,
    Details,
    DigestNow,
    NodeNow,
    Offender,
    Point,
    PoolNow,
    Rates,
    Reason,
    Recently,
    Sample,
    Snapshot,
    Sources,
    WorkerNow,
)

OFFENDERS_MAX: Final = 10
REASONS_MAX: Final = 10
POOLS_MAX: Final = 50
DIGESTS_MAX: Final = 25
TEXT_CHARS_MAX: Final = 500
"""Of a statement, a reason, a why: a page is no place for more."""

ELAPSED_MIN_S: Final = 0.2
"""Counts that are less apart give no rate: one report's jitter would double it."""


def sample(sources: Sources) -> Sample:
    """What has been counted by now."""
    return Sample(
        as_of=sources.counters.as_of,
        nodes={name: (one.reads, one.writes) for name, one in sources.counters.nodes.items()},
        hits=sources.cache.hits,
        misses=sources.cache.misses,
        query=_added(one.query for one in sources.counters.timings),
        wait=_added(one.wait for one in sources.counters.timings),
        cpu_s={worker: one.cpu_s for worker, one in sources.counters.health.items()},
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
    cpu = {
        # One that was started meanwhile has begun anew.
        worker: max(0.0, seconds - before.cpu_s.get(worker, seconds)) / elapsed_s
        for worker, seconds in after.cpu_s.items()
    }
    return Rates(nodes, max(0, after.hits - before.hits) / elapsed_s, cpu)


def recently(before: Sample, after: Sample) -> Recently:
    """What was seen between two samples."""
    hits, misses = after.hits - before.hits, after.misses - before.misses
    query, wait = _less(after.query, before.query), _less(after.wait, before.wait)
    return Recently(
        hit_ratio=hits / (hits + misses) if hits + misses > 0 else None,
        query_p50_s=quantile(query, 0.5),
        query_p99_s=quantile(query, 0.99),
        wait_p99_s=quantile(wait, 0.99),
    )


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Within how long so many of all were done, as far as the buckets tell; None of none."""
    left = sum(counts) * share
    if left <= 0:
        return None
    low = 0.0
    for count, high in zip(counts, BUCKETS_S, strict=False):
        if count >= left:
            return low + (high - low) * left / count
        left -= count
        low = high
    # Longer than the last bound: more is not known.
    return low


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


def picture(sources: Sources, speed: Rates, of_late: Recently) -> Snapshot:
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
        recently=of_late,
        clients_max=sources.limits.clients,
        cache=_cache(sources, speed),
        offenders=tuple(Offender(*astuple(use)) for use in counters.states[:OFFENDERS_MAX]),
        offenders_left=max(0, len(counters.states) - OFFENDERS_MAX),
        reasons=tuple(Reason(_short(why), reads) for why, reads in reasons),
        on_standbys=counters.on_standbys,
        reads_again=counters.reads_again,
        workers=tuple(_worker(one, counters, speed) for one in status.workers),
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


def _worker(worker: WorkerStatus, counters: CountersSnapshot, speed: Rates) -> WorkerNow:
    health = counters.health.get(worker.worker, HealthReport())
    return WorkerNow(
        worker=worker.worker,
        pid=worker.pid,
        cpu=speed.cpu.get(worker.worker, 0.0),
        rss_bytes=health.rss_bytes,
        loop_lag_s=health.loop_lag_s,
        logins=health.logins_in_flight,
    )


def _cache(sources: Sources, speed: Rates) -> CacheNow:
    state, counts = sources.cache_state, sources.cache
    return CacheNow(
        state="on" if state.serving else "changing" if state.tracking else "off",
        routes=state.routes,
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


def _added(histograms: Iterable[Histogram]) -> tuple[int, ...]:
    return tuple(sum(counts) for counts in zip(*(one.counts for one in histograms), strict=True))


def _less(after: Sequence[int], before: Sequence[int]) -> list[int]:
    # Before the first client there are no buckets.
    return [now - then for now, then in zip(after, before or (0,) * len(after), strict=False)]


def _short(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}…"
