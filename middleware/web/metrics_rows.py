"""The metrics as of now: what a Site and its workers say, as families of the Prometheus client's.

In: a Site, and the pools that its workers have told of. Out: Families. Rows are bounded here: what comes beyond a bound
is added up under OTHERS, so sums stay right. Counters' rows keep their place once they have one, for a counter must
not come and go.
"""

import asyncio
import platform
import time
from collections.abc import Hashable, Iterable
from itertools import accumulate
from typing import Final, TypeVar

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.utils import floatToGoString

from healthcheck.topology import Condition, Role
from middleware.reports import BUCKETS_S, OTHERS, Histogram, PoolReport, TrafficReport
from middleware.supervisor.asking import Answers
from middleware.supervisor.counters import CountersSnapshot
from middleware.web.metrics_table import METRICS, NONE
from middleware.web.pulse import Pulse
from middleware.web.site import Site
from middleware.wire import codes

TRAFFIC_ROWS_MAX: Final = 500
POOL_ROWS_MAX: Final = 200
TIMING_ROWS_MAX: Final = 100
REASON_ROWS_MAX: Final = 100
SLICE_S: Final = 0.003
LABEL_CHARS_MAX: Final = 128
"""Of what others have named."""

EVENTS: Final = (
    "node_up", "node_down", "node_flaps", "primary_lost", "promoted", "failover_begun", "failover_done",
    "failover_held", "failover_abandoned", "failover_trouble", "switchover_begun", "switchover_done",
    "switchover_abandoned", "leads", "leads_no_more", "etcd_trouble", "patroni_trouble", "state_file_trouble",
    "cache_not_switched", "reloaded", "not_reloaded",
)  # fmt: skip
"""Kinds that are exposed before they have happened: the first is an increase then. Others come as they do."""

_LE: Final = (*map(floatToGoString, BUCKETS_S), "+Inf")
_Key = TypeVar("_Key", bound=Hashable)


class Families:
    """What has been said so far, each metric a family, in the table's order."""

    def __init__(self) -> None:
        self._families: Final[dict[str, Family]] = {}
        for metric in METRICS.values():
            kind = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
            self._families[metric.name] = kind[metric.type](metric.name, metric.help, labels=metric.labels)

    def all(self) -> list[Family]:
        """Those that have something to say, or might."""
        return list(self._families.values())

    def add(self, name: str, value: float, *labels: str) -> None:
        """A value of `pointsman_<name>`."""
        family = self._families[f"pointsman_{name}"]
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
        assert len(labels) == len(METRICS[f"pointsman_{name}"].labels)
        family.add_metric(labels, value)

    def histogram(self, name: str, value: Histogram, *labels: str) -> None:
        """The same, of a histogram."""
        family = self._families[f"pointsman_{name}"]
        assert isinstance(family, HistogramMetricFamily)
        family.add_metric(labels, list(zip(_LE, map(float, accumulate(value.counts)), strict=True)), value.sum_s)

    def one_of(self, name: str, of: Iterable[str], which: str, *labels: str) -> None:
        """1 for one, 0 for the others."""
        for one in of:
            self.add(name, float(one == which), *labels, one)


class Breath:
    """Lets others have the event loop, when they have waited for SLICE_S."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def take(self) -> None:
        """Between two steps."""
        if time.monotonic() - self._since >= SLICE_S:
            await asyncio.sleep(0)
            self._since = time.monotonic()


class _Places:
    """Who has a row of its own: the first that come, for good."""

    def __init__(self, maximum: int) -> None:
        self._maximum: Final = maximum
        self._have: Final[set[Hashable]] = set()

    def of(self, key: _Key, others: _Key) -> _Key:
        """The key itself, or that of all who came too late."""
        if key in self._have:
            return key
        if len(self._have) >= self._maximum:
            return others
        self._have.add(key)
        return key


class Rows:
    """Says what there is, one scrape after the other."""

    def __init__(self, site: Site, pulse: Pulse) -> None:
        self._site: Final = site
        self._pulse: Final = pulse
        self._process: Final = psutil.Process()
        self._started_at: Final = time.time()
        self._traffic: Final = _Places(TRAFFIC_ROWS_MAX)
        self._timings: Final = _Places(TIMING_ROWS_MAX)
        self._reasons: Final = _Places(REASON_ROWS_MAX)
        self._not_stored: Final = _Places(REASON_ROWS_MAX)
        self._causes: Final = _Places(REASON_ROWS_MAX)

    async def say(self, out: Families, answers: Answers, breath: Breath) -> None:
        """All of it. `answers`: the workers', about pools."""
        self.itself(out)
        self.cache(out)
        await breath.take()
        counters = self._site.counters()
        await breath.take()
        self.clients(out, counters)
        self.nodes(out, counters)
        self.reads(out, counters)
        await self.traffic(out, counters, breath)
        await self.times(out, counters, breath)
        await self.pools(out, answers, breath)

    def itself(self, out: Families) -> None:
        """Pointsman itself, and its workers."""
        site, settings = self._site, self._site.settings
        version = site.status().version
        compiled = "compiled" if codes.__file__.endswith(".so") else "python"
        out.add("build_info", 1, version, platform.python_version(), compiled)
        out.add("start_time_seconds", self._started_at)
        out.one_of("phase", ("starting", "serving", "draining"), site.phase)
        with self._process.oneshot():
            times = self._process.cpu_times()
            out.add("supervisor_cpu_seconds_total", times.user + times.system)
            out.add("supervisor_resident_memory_bytes", self._process.memory_info().rss)
        out.add("supervisor_loop_lag_seconds", self._pulse.worst_s())
        for setting, moment in site.certificates_not_after().items():
            out.add("certificate_not_after_timestamp_seconds", moment, setting)
        standing = site.leadership()
        if standing is not None:
            out.add("leads", standing.leads)
            out.add("leads_since_timestamp_seconds", standing.since)
            out.add("etcd_answers", standing.answered)
        counts = dict.fromkeys(EVENTS, 0) | site.journal.counts
        for event, count in counts.items():
            out.add("events_total", count, event)
        out.add("workers", settings.workers)
        now = time.monotonic()
        for life in site.lives():
            worker = str(life.worker)
            out.add("worker_up", life.pid is not None and life.ready, worker)
            out.add("worker_restarts_total", life.restarts, worker)
            if life.heard_at:
                out.add("worker_silence_seconds", max(0.0, now - life.heard_at), worker)

    def clients(self, out: Families, counters: CountersSnapshot) -> None:
        """Clients, and what workers say of themselves."""
        settings = self._site.settings
        out.add("clients", counters.clients)
        out.add("clients_before", self._site.status().clients_before)
        out.add("clients_waiting", counters.waiting)
        out.add("max_client_conn", settings.max_client_conn)
        out.add("max_client_logins", settings.max_client_logins)
        for index, health in counters.health.items():
            worker = str(index)
            out.add("worker_loop_lag_seconds", health.loop_lag_s, worker)
            out.add("worker_cpu_seconds_total", health.cpu_s, worker)
            out.add("worker_resident_memory_bytes", health.rss_bytes, worker)
            out.add("client_logins_in_flight", health.logins_in_flight, worker)
            out.add("client_logins_total", health.logins_done, worker, "done")
            out.add("client_logins_total", health.logins_refused, worker, "refused")
            out.add("client_logins_total", health.logins_abandoned, worker, "abandoned")
            out.histogram("client_login_seconds", health.client_login, worker)
            out.add("server_logins_in_flight", health.server_logins_in_flight, worker)
            out.add("server_login_failures_total", health.server_logins_failed, worker)
            out.histogram("server_login_seconds", health.server_login, worker)

    async def traffic(self, out: Families, counters: CountersSnapshot, breath: Breath) -> None:
        """What has gone between clients and nodes."""
        rows: dict[tuple[str, str, str], list[TrafficReport]] = {}
        for one in counters.traffic:
            node = one.node or NONE
            key = _short(one.database), one.route or NONE, node
            rows.setdefault(self._traffic.of(key, (OTHERS, OTHERS, node)), []).append(one)
        for key, reports in rows.items():
            for name, field in _TRAFFIC:
                out.add(name, sum([getattr(one, field) for one in reports]), *key)
            await breath.take()

    async def times(self, out: Families, counters: CountersSnapshot, breath: Breath) -> None:
        """How long it took."""
        rows: dict[tuple[str, str], list[tuple[Histogram, Histogram, Histogram]]] = {}
        for one in counters.timings:
            node = one.node or NONE
            key = self._timings.of((one.route or NONE, node), (OTHERS, node))
            rows.setdefault(key, []).append((one.query, one.wait, one.checkout))
        for key, found in rows.items():
            query, wait, checkout = (_sum(histograms) for histograms in zip(*found, strict=True))
            out.histogram("query_duration_seconds", query, *key)
            out.histogram("wait_duration_seconds", wait, *key)
            out.histogram("checkout_duration_seconds", checkout, *key)
            await breath.take()

    def nodes(self, out: Families, counters: CountersSnapshot) -> None:
        """Each node, and which is the primary."""
        site, settings = self._site, self._site.settings
        status = site.status()
        out.add("primary_available", status.primary is not None)
        out.add("topology_version", status.topology_version)
        if site.topology.timeline is not None:
            out.add("timeline", site.topology.timeline)
        out.add("max_replica_lag_seconds", settings.max_replica_lag)
        for node in status.nodes:
            name = node.name
            out.add("node_up", node.used, name)
            out.one_of("node_role", [role.value for role in Role], node.role, name)
            out.one_of("node_condition", [condition.value for condition in Condition], node.condition, name)
            if node.since is not None:
                out.add("node_since_timestamp_seconds", node.since, name)
            if node.replay_lag_bytes is not None:
                out.add("node_replay_lag_bytes", node.replay_lag_bytes, name)
            if node.replay_lag_s is not None and node.role == Role.STANDBY.value:
                out.add("node_replay_lag_seconds", node.replay_lag_s, name)
            if node.timeline is not None:
                out.add("node_timeline", node.timeline, name)
            if node.max_connections:
                out.add("node_connections", node.connections, name)
                out.add("node_max_connections", node.max_connections, name)
            if name in settings.nodes:
                out.add("node_weight", settings.nodes[name].weight, name)
        for name, counted in counters.nodes.items():
            out.add("node_reads_total", counted.reads, name)
            out.add("node_writes_total", counted.writes, name)
            out.add("node_servers", counted.servers, name)
            out.add("node_leases", counted.leases, name)

    def reads(self, out: Families, counters: CountersSnapshot) -> None:
        """Why reads stay on the primary, and what sessions leave behind."""
        out.add("standby_reads_total", counters.on_standbys)
        out.add("reads_again_total", counters.reads_again)
        _counts(out, "primary_reads_total", counters.reasons, self._reasons)
        states: dict[tuple[str, str], int] = {}
        for use in counters.states:
            states[use.state, use.action] = states.get((use.state, use.action), 0) + use.statements
        for (state, action), count in states.items():
            out.add("session_state_statements_total", count, state, action)

    def cache(self, out: Families) -> None:
        """The query cache."""
        cache, settings = self._site.cache_counters(), self._site.settings
        out.add("cache_serving", self._site.cache_state().serving)
        watched = [one for one in self._site.watch_status() if not one.absent]
        for mode in ("logical", "poll", ""):
            out.add("cache_watched_databases", sum(one.mode == mode for one in watched), mode or "none")
        ages = [one.confirmed_s_ago for one in watched if one.confirmed_s_ago is not None]
        if ages:
            out.add("cache_watch_age_seconds", max(ages))
        for name in ("hits", "misses", "stored", "evictions", "expired", "flights"):
            out.add(f"cache_{name}_total", getattr(cache, name))
        for name in ("hits", "misses", "errors"):
            out.add(f"cache_second_level_{name}_total", getattr(cache, f"second_level_{name}"))
        _counts(out, "cache_not_stored_total", cache.not_stored, self._not_stored)
        _counts(out, "cache_invalidations_total", cache.invalidations, self._causes)
        out.add("cache_entries", cache.entries)
        out.add("cache_bytes", cache.bytes)
        out.add("query_cache_size_bytes", settings.query_cache_size * settings.workers)
        out.add("cache_saved_seconds_total", cache.saved_s)

    async def pools(self, out: Families, answers: Answers, breath: Breath) -> None:
        """The pools that workers have told of."""
        out.add("workers_silent", len(answers.silent))
        pools: dict[tuple[str, str, str, str], _Pool] = {}
        states = dict.fromkeys(POOL_STATES, 0)
        for _, report in answers.reports:
            assert isinstance(report, PoolReport)
            key = _short(report.database), _short(report.user), report.route or NONE, report.node
            pools.setdefault(key, _Pool()).add(report)
            states[report.state] = states.get(report.state, 0) + 1
            await breath.take()
        for state, count in states.items():
            out.add("pools", count, state)
        said = self._site.pausing.state()
        out.add("paused", said.everything != "active")
        out.add("databases_paused", sum(one.paused for one in said.databases))
        out.add("databases_disabled", sum(one.disabled for one in said.databases))
        others: dict[str, _Pool] = {}
        kept = sorted(pools.items(), key=lambda entry: (-entry[1].weight(), entry[0]))
        for key, pool in kept[:POOL_ROWS_MAX]:
            pool.say(out, key)
            await breath.take()
        for key, pool in kept[POOL_ROWS_MAX:]:
            others.setdefault(key[3], _Pool()).merge(pool)
        for node, pool in others.items():
            pool.say(out, (OTHERS, OTHERS, OTHERS, node))


POOL_STATES: Final = ("active", "draining", "closed", "failing")

_TRAFFIC: Final = (
    ("transactions_total", "xacts"),
    ("queries_total", "queries"),
    ("server_assignments_total", "assignments"),
    ("received_bytes_total", "received_bytes"),
    ("sent_bytes_total", "sent_bytes"),
    ("transaction_seconds_total", "xact_s"),
    ("query_seconds_total", "query_s"),
    ("wait_seconds_total", "wait_s"),
    ("client_parses_total", "client_parses"),
    ("server_parses_total", "server_parses"),
    ("binds_total", "binds"),
    ("errors_total", "errors"),
)
_SERVERS: Final = ("active", "active_cancel", "being_canceled", "idle", "used", "tested", "login", "closing")
_CLIENTS: Final = ("active", "waiting", "active_cancel_req", "waiting_cancel_req")


class _Pool:
    """One in all workers, or several that have no rows of their own."""

    def __init__(self) -> None:
        self.servers: Final = [0] * len(_SERVERS)
        self.clients: Final = [0] * len(_CLIENTS)
        self.size = 0
        self.reserve_size = 0
        self.max_wait_s = 0.0

    def add(self, report: PoolReport) -> None:
        """What one worker has of it; bounds hold over all workers."""
        for index, state in enumerate(_SERVERS):
            self.servers[index] += getattr(report, f"sv_{state}")
        for index, state in enumerate(_CLIENTS):
            self.clients[index] += getattr(report, f"cl_{state}")
        self.size = max(self.size, report.size)
        self.reserve_size = max(self.reserve_size, report.reserve_size)
        self.max_wait_s = max(self.max_wait_s, report.maxwait_s)

    def merge(self, other: "_Pool") -> None:
        """Another pool beside it."""
        self.servers[:] = [a + b for a, b in zip(self.servers, other.servers, strict=True)]
        self.clients[:] = [a + b for a, b in zip(self.clients, other.clients, strict=True)]
        self.size += other.size
        self.reserve_size += other.reserve_size
        self.max_wait_s = max(self.max_wait_s, other.max_wait_s)

    def weight(self) -> int:
        """How much is going on in it."""
        return sum(self.servers) + sum(self.clients)

    def say(self, out: Families, key: tuple[str, str, str, str]) -> None:
        """Its rows."""
        for state, count in zip(_SERVERS, self.servers, strict=True):
            out.add("pool_servers", count, *key, state)
        for state, count in zip(_CLIENTS, self.clients, strict=True):
            out.add("pool_clients", count, *key, state)
        out.add("pool_size", self.size, *key)
        out.add("pool_reserve_size", self.reserve_size, *key)
        out.add("pool_max_wait_seconds", self.max_wait_s, *key)


def _counts(out: Families, name: str, counts: dict[str, int], places: _Places) -> None:
    rows: dict[str, int] = {}
    for what, count in counts.items():
        key = places.of(_short(what), OTHERS)
        rows[key] = rows.get(key, 0) + count
    for key, count in rows.items():
        out.add(name, count, key)


def _sum(histograms: tuple[Histogram, ...]) -> Histogram:
    if len(histograms) == 1:
        return histograms[0]
    columns = zip(*[one.counts for one in histograms], strict=True)
    return Histogram(tuple(map(sum, columns)), sum(one.sum_s for one in histograms))


def _short(name: str) -> str:
    return name if len(name) <= LABEL_CHARS_MAX else name[: LABEL_CHARS_MAX - 2] + ".."
