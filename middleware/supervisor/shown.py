"""Tables of what the control plane itself knows: nodes, workers, events, why reads stay, session state, the cache.

In: its own values, as they are now. Out: Tables, for the console's SHOW. See admin/ for those made of workers' reports.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from middleware.admin.columns import COLUMNS
from middleware.admin.grammar import HELP
from middleware.admin.table import Table, Value
from middleware.config import Settings
from middleware.control import CacheCounters, Counters
from middleware.supervisor.cache_control import CacheState
from middleware.supervisor.cache_watch import WatchStatus
from middleware.supervisor.counters import CountersSnapshot
from middleware.supervisor.journal import Event
from middleware.supervisor.status import Status

Row = tuple[Value, ...]

ON_STANDBYS: Final = "none: a standby served it"
FAILOVER_EVENTS_SHOWN: Final = 10
FAILOVER_KINDS: Final = ("failover_", "switchover_", "primary_lost", "fenced", "promoted", "repoint", "follow")
"""How the kinds of events begin that tell of one."""


class Outlook(msgspec.Struct, frozen=True):
    """How it stands with a failover."""

    state: str
    """As healthcheck.failover.Kind has it."""
    why: str
    """What it rests on, or what is waited for; "" for nothing."""
    hindered: str
    """Why this Pointsman may not change roles; "" if it may."""


def help_table() -> Table:
    """Every command."""
    return Table(COLUMNS["help"], HELP)


def version(status: Status) -> Table:
    return Table(COLUMNS["version"], ((f"Pointsman {status.version}",),))


def nodes(status: Status, counters: CountersSnapshot, settings: Settings) -> Table:
    """Each node, in the order of the settings."""
    rows: list[Row] = []
    for node in status.nodes:
        done = counters.nodes.get(node.name)
        given = settings.nodes.get(node.name)
        rows.append(
            (
                *(node.name, node.host, node.port, node.role, node.condition, node.used, node.since),
                float(given.weight) if given is not None else None,
                node.replay_lag_bytes,
                None if node.replay_lag_s is None else round(node.replay_lag_s * 1000, 3),
                node.timeline,
                *((done.reads, done.writes, done.leases, done.servers) if done is not None else (0, 0, 0, 0)),
                *(node.connections, node.max_connections),
                node.why,
            )
        )
    return Table(COLUMNS["nodes"], tuple(rows))


def workers(status: Status, counters: Mapping[int, Counters]) -> Table:
    """The processes that serve clients, as they last reported."""
    rows: list[Row] = []
    for worker in status.workers:
        one = counters.get(worker.worker)
        state = "starting" if worker.pid is None or one is None else "running"
        if one is None:
            rows.append((worker.worker, worker.pid, state, *(None,) * 7))
            continue
        servers, health = sum(node.servers for node in one.nodes), one.health
        lag_ms, cpu_s = round(health.loop_lag_s * 1000, 3), round(health.cpu_s, 3)
        rows.append(
            (
                *(worker.worker, worker.pid, state, one.clients, one.waiting, health.logins_in_flight, servers),
                *(lag_ms, cpu_s, health.rss_bytes),
            )
        )
    return Table(COLUMNS["workers"], tuple(rows))


def memory(counters: Mapping[int, Counters]) -> Table:
    """What the workers' processes have, and of that their query caches' answers; bytes."""
    rows: list[Row] = []
    for worker, one in sorted(counters.items()):
        rows.append((f"worker_{worker}", one.health.rss_bytes, 1, 0, one.health.rss_bytes))
        entries, size = one.cache.entries, one.cache.bytes
        rows.append((f"worker_{worker}_query_cache", size // entries if entries else 0, entries, 0, size))
    return Table(COLUMNS["mem"], tuple(rows))


def events(those: Sequence[Event], limit: int) -> Table:
    """The latest, the oldest of them first; 0 for all."""
    kept = those[-limit:] if limit else those
    return Table(COLUMNS["events"], tuple([(one.seq, one.at, one.node, one.what, one.text, one.bad) for one in kept]))


def reasons(counters: CountersSnapshot) -> Table:
    """Why reads stayed on the primary, the commonest first; and how many did not."""
    total = sum(counters.reasons.values()) + counters.on_standbys
    found = [*sorted(counters.reasons.items(), key=lambda one: -one[1]), (ON_STANDBYS, counters.on_standbys)]
    rows = [(reason, count, round(100 * count / total, 1) if total else 0.0) for reason, count in found]
    return Table(COLUMNS["reasons"], tuple(rows))


def session_state(counters: CountersSnapshot) -> Table:
    """Who leaves state behind, and what is done about it, the most first."""
    rows = [
        (use.application_name, use.user, use.database, use.state, use.action, use.statements) for use in counters.states
    ]
    return Table(COLUMNS["session_state"], tuple(rows))


def cache(state: CacheState, counters: CacheCounters, watch: Iterable[WatchStatus]) -> Table:
    """What the query cache is, and what it has done."""
    asked = counters.hits + counters.misses
    rows: list[tuple[str, str]] = [
        ("serving", "yes" if state.serving else "no"),
        ("tracking", "yes" if state.tracking else "no"),
    ]
    rows += [(f"mode of {rule.name or 'all others'}", f"{rule.mode}, by {rule.by}") for rule in state.routes]
    rows += [
        ("hits", str(counters.hits)),
        ("misses", str(counters.misses)),
        ("hit_percent", f"{100 * counters.hits / asked:.1f}" if asked else "0.0"),
        ("stored", str(counters.stored)),
        ("entries", str(counters.entries)),
        ("bytes", str(counters.bytes)),
        ("evictions", str(counters.evictions)),
        ("expired", str(counters.expired)),
        ("flights", str(counters.flights)),
        ("saved_s", f"{counters.saved_s:.3f}"),
        ("second_level_hits", str(counters.second_level_hits)),
        ("second_level_misses", str(counters.second_level_misses)),
        ("second_level_errors", str(counters.second_level_errors)),
    ]
    rows += [(f"invalidations by {cause}", str(count)) for cause, count in sorted(counters.invalidations.items())]
    rows += [(f"not stored: {why}", str(count)) for why, count in sorted(counters.not_stored.items())]
    rows += [(f"watch of {one.database}", _watch(one)) for one in watch]
    return Table(COLUMNS["cache"], tuple(rows))


def _watch(one: WatchStatus) -> str:
    return f"{one.mode}: {one.why}" if one.why else one.mode


def state(everything: str) -> Table:
    """Whether work goes on: "active", "paused" or "suspended"."""
    words = ("active", "paused", "suspended")
    return Table(COLUMNS["state"], tuple([(word, "yes" if word == everything else "no") for word in words]))


def failover(status: Status, settings: Settings, outlook: Outlook, those: Sequence[Event]) -> Table:
    """What is done when the primary is lost, how that stands now, and what was done last."""
    rows = [
        ("failover", status.failover),
        ("primary", status.primary or ""),
        ("failover_after", f"{settings.failover_after:g} s"),
        ("max_failover_lag", f"{settings.max_failover_lag} bytes"),
        ("state", outlook.state),
        ("why", outlook.why),
        ("hindered", outlook.hindered),
    ]
    kept = [one for one in those if one.what.startswith(FAILOVER_KINDS)][-FAILOVER_EVENTS_SHOWN:]
    rows += [(f"event {one.seq}", f"{one.node}: {one.text}" if one.node else one.text) for one in kept]
    return Table(COLUMNS["failover"], tuple(rows))


def empty(subject: str) -> Table:
    """What PgBouncer has and this has not: peers, zones."""
    return Table(COLUMNS[subject], ())
