"""Checks: are the nodes one cluster, and do they answer?"""

import itertools
from collections.abc import Iterator
from typing import Final

from middleware.doctor.facts import Case, NodeFacts
from middleware.doctor.finding import Finding, advice, error, warning
from middleware.doctor.units import duration

CLOCK_S: Final = 1.0
"""Clocks that are kept by NTP differ by milliseconds."""


def _names(nodes: tuple[NodeFacts, ...]) -> str:
    return ", ".join(node.name for node in nodes)


def unasked(case: Case) -> Iterator[Finding]:
    """A node that could not be asked. Nothing else is said of it."""
    for node in case.nodes:
        if node.why:
            yield error(
                f"it could not be asked: {node.why}",
                "Pointsman's health checks ask in the same way: the node counts as down.",
                f"let [health_check] user in: host and port of [nodes.{node.name}], the node's listen_addresses, its "
                "pg_hba.conf, password and TLS",
                node.name,
            )


def primaries(case: Case) -> Iterator[Finding]:
    """No primary, or more than one."""
    found = [node for node in case.asked if not node.in_recovery]
    silent = tuple(node for node in case.nodes if node.why)
    if not found and case.asked:
        yield error(
            f"no primary: {_names(case.asked)} {'are standbys' if len(case.asked) > 1 else 'is a standby'}"
            + (f", {_names(silent)} could not be asked" if silent else ""),
            "No statement that writes can be run.",
            "promote one (pg_promote()), or name the primary in [nodes]",
        )
    elif len(found) > 1:
        yield error(
            f"{len(found)} primaries: " + ", ".join(f"{node.name} (timeline {node.timeline})" for node in found),
            "Both may have taken writes that the other lacks. The higher timeline is used, and none if they are equal.",
            "stop the wrong one, and take it back as a standby with pg_rewind",
        )


def no_standby(case: Case) -> Iterator[Finding]:
    """A primary alone."""
    if len(case.nodes) == 1:
        yield advice(
            "there is one node",
            "Reads have nowhere else to go, and nothing takes over when it fails.",
            "a streaming standby as another [nodes.NAME]",
        )


def system_identifiers(case: Case) -> Iterator[Finding]:
    """Nodes of different clusters."""
    base = case.primary or next(iter(case.asked), None)
    for node in case.asked:
        if base is not None and node.system_identifier != base.system_identifier:
            yield error(
                f"system identifier {node.system_identifier}; {base.name} has {base.system_identifier}",
                "It holds another cluster's data, made by another initdb. It is refused.",
                f"the right host and port of [nodes.{node.name}], or a new copy by pg_basebackup",
                node.name,
            )


def same_server(case: Case) -> Iterator[Finding]:
    """Two names for one server."""
    for one, other in itertools.combinations(case.asked, 2):
        if (one.system_identifier, one.started_at) == (other.system_identifier, other.started_at):
            yield error(
                f"{one.name} and {other.name} are the same server: started at the same microsecond",
                "Its connections are counted twice over, and its loss is that of two nodes.",
                f"another host or port for [nodes.{other.name}]; not the address of a load balancer or of a virtual IP",
            )


def timelines(case: Case) -> Iterator[Finding]:
    """A standby on another timeline than the primary's."""
    primary = case.primary
    for node in case.standbys:
        # Without pg_monitor a standby's timeline is that of its last restartpoint.
        if primary is not None and node.monitors and node.timeline != primary.timeline:
            yield warning(
                f"timeline {node.timeline}; {primary.name}, the primary, is on {primary.timeline}",
                "It has not followed the last promotion, and shows what was before.",
                "recovery_target_timeline = latest, primary_conninfo of the new primary, and pg_rewind if it has "
                "gone on by itself",
                node.name,
            )


def versions(case: Case) -> Iterator[Finding]:
    """Different major versions: an error. Different minor versions: advice."""
    numbers = {node.version for node in case.asked}
    shown = ", ".join(f"{node.name}: {node.version // 10_000}.{node.version % 10_000}" for node in case.asked)
    if len({number // 10_000 for number in numbers}) > 1:
        yield error(
            f"different major versions: {shown}",
            "Streaming replication is only possible within one, and statements may be read otherwise by another.",
            "the same major version on all nodes",
        )
    elif len(numbers) > 1:
        yield advice(
            f"different minor versions: {shown}",
            "A fix of one node is missing on another.",
            "the newest minor version on all nodes, standbys first",
        )


def collations(case: Case) -> Iterator[Finding]:
    """Versions of a database's collation that differ between nodes, or from the one its indexes were made with
    (PostgreSQL 15)."""
    base = case.catalog
    for node in case.asked:
        for database in node.databases:
            made, now = database.collation
            other = base.database(database.name) if base else None
            there = other.collation[1] if other else None
            if made and now and made != now:
                yield warning(
                    f'database "{database.name}" was made with collation version {made}, the node has {now}',
                    "Indexes on text may be in the wrong order: rows are not found, and unique ones come twice.",
                    "the same libc or ICU on all nodes; or REINDEX DATABASE and ALTER DATABASE .. REFRESH COLLATION "
                    "VERSION on the primary",
                    node.name,
                )
            elif base is not None and now and there and now != there:
                yield warning(
                    f'database "{database.name}" has collation version {now} here, {there} on {base.name}',
                    "The index that one node has made is in the wrong order for the other.",
                    "the same libc or ICU on all nodes",
                    node.name,
                )


def poolers(case: Case) -> Iterator[Finding]:
    """A pooler where a node should be: PgBouncer, pgpool-II, another Pointsman."""
    for node in case.asked:
        if node.pooler:
            yield error(
                f"[nodes.{node.name}] leads to {node.pooler}, and not to PostgreSQL itself",
                "Two poolers on top of each other: which node answers is no longer known here, the other's timeouts "
                "and limits count too, and session state is lost between its servers.",
                f"PostgreSQL's own host and port in [nodes.{node.name}]",
                node.name,
            )


def clocks(case: Case) -> Iterator[Finding]:
    """A node's clock that is more than a second off ours, or off the primary's."""
    primary = case.primary
    for node in case.asked:
        if abs(node.clock_offset_s) > CLOCK_S + node.clock_error_s:
            yield warning(
                f"its clock is {_off(node.clock_offset_s)} of this machine's (± {node.clock_error_s:.3f} s)",
                "Logs cannot be laid side by side, and what a standby says of its lag in time is wrong by as much.",
                "chrony or another NTP client on every machine",
                node.name,
            )
        elif primary is not None and node is not primary:
            apart = node.clock_offset_s - primary.clock_offset_s
            if abs(apart) > CLOCK_S + node.clock_error_s + primary.clock_error_s:
                yield warning(
                    f"its clock is {_off(apart)} of the primary's",
                    "recovery_min_apply_delay and lags in time compare the two.",
                    "chrony or another NTP client on every machine",
                    node.name,
                )


def _off(seconds: float) -> str:
    return f"{duration(round(abs(seconds), 3))} {'ahead' if seconds > 0 else 'behind'}"


CHECKS: Final = (
    unasked,
    primaries,
    no_standby,
    system_identifiers,
    same_server,
    timelines,
    versions,
    collations,
    poolers,
    clocks,
)
