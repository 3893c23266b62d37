"""Checks: does replication keep standbys fit for reads, and for becoming the primary?"""

import re
from collections.abc import Iterator
from typing import Final

from middleware.doctor.facts import Case, NodeFacts
from middleware.doctor.finding import Finding, advice, error, warning
from middleware.doctor.units import duration, size

NOT_BELOW_PRIMARY: Final = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)
"""PostgreSQL's manual, "Hot Standby", "Administrator's Overview"."""
RETAINED_BYTES: Final = 2**30


def _lag_max_s(case: Case) -> float:
    """The most that any rule's reads may be behind."""
    return max(policy.max_replica_lag_s for policy in case.settings.policies())


def hot_standby_feedback(case: Case) -> Iterator[Finding]:
    """A standby with `hot_standby_feedback` off, or with `wal_receiver_status_interval` 0: then it is never sent."""
    for node in case.standbys:
        off = node.word("hot_standby_feedback") == "off"
        if off or node.number("wal_receiver_status_interval") == 0:
            canceled = f"; {node.replay.conflicts} reads were canceled so far" if node.replay else ""
            yield warning(
                ("hot_standby_feedback is off" if off else "wal_receiver_status_interval is 0: feedback is never sent")
                + canceled,
                "The primary's vacuum removes rows that reads here still need: after max_standby_streaming_delay they "
                "fail with 40001.",
                "hot_standby_feedback = on" if off else "wal_receiver_status_interval = 10s",
                node.name,
            )


def max_standby_streaming_delay(case: Case) -> Iterator[Finding]:
    """`max_standby_streaming_delay` of a standby above `max_replica_lag`."""
    lag_s = _lag_max_s(case)
    for node in case.standbys:
        delay_s = node.number("max_standby_streaming_delay")
        if delay_s is not None and (delay_s < 0 or delay_s > lag_s):
            shown = "-1 (without end)" if delay_s < 0 else duration(delay_s)
            yield (warning if delay_s < 0 else advice)(
                f"max_standby_streaming_delay {shown}, max_replica_lag {duration(lag_s)}",
                "One long read that stands in the way of replay holds it up for so long; meanwhile the standby is too "
                "far behind, and all its reads go elsewhere.",
                f"max_standby_streaming_delay = {lag_s:g}s, or a longer max_replica_lag",
                node.name,
            )


def recovery_min_apply_delay(case: Case) -> Iterator[Finding]:
    """A standby that is late on purpose: `recovery_min_apply_delay`."""
    lag_s = _lag_max_s(case)
    for node in case.standbys:
        delay_s = node.number("recovery_min_apply_delay") or 0
        if delay_s > 0 and case.settings.nodes[node.name].weight:
            yield (warning if delay_s >= lag_s else advice)(
                f"recovery_min_apply_delay {duration(delay_s)}, max_replica_lag {duration(lag_s)}",
                "It is always behind by that: no client that has written may read here before then, and beyond "
                "max_replica_lag nobody.",
                f"recovery_min_apply_delay = 0, or weight = 0 in [nodes.{node.name}]",
                node.name,
            )


def replay(case: Case) -> Iterator[Finding]:
    """A standby that does not stream, whose replay is paused, or which is behind by more than `max_replica_lag` or
    `max_replica_lag_bytes` now."""
    primary = case.primary
    for node in case.standbys:
        if node.replay is None:
            continue
        if node.replay.paused:
            yield error(
                "its replay is paused",
                "It gets WAL and shows nothing new; its reads go elsewhere, and the WAL fills its disk.",
                "SELECT pg_wal_replay_resume(); if the log says that parameters are insufficient, raise them to the "
                "primary's and restart",
                node.name,
            )
        if node.replay.streaming is False:
            yield error(
                "its WAL receiver does not stream",
                "It falls behind from now on, or lives from an archive.",
                "primary_conninfo, the primary's pg_hba.conf for replication, and the slot's name; its log says why",
                node.name,
            )
        yield from _lag(case, node, primary)


def _lag(case: Case, node: NodeFacts, primary: NodeFacts | None) -> Iterator[Finding]:
    assert node.replay is not None
    lag_s, most_bytes = _lag_max_s(case), case.settings.max_replica_lag_bytes
    behind = max(0, (primary.insert_lsn or 0) - node.replay.lsn) if primary else 0
    if node.replay.lag_s > lag_s or 0 < most_bytes < behind:
        yield warning(
            f"it is behind by {size(behind)} and {duration(round(node.replay.lag_s, 1))}; max_replica_lag "
            f"{duration(lag_s)}, max_replica_lag_bytes {most_bytes}",
            "It serves no reads now.",
            "what slows it: its disk, long reads on it (max_standby_streaming_delay), or the network",
            node.name,
        )


def standby_parameters(case: Case) -> Iterator[Finding]:
    """A standby with less than the primary of what its shared memory is made for: `max_connections`,
    `max_worker_processes`, `max_wal_senders`, `max_prepared_transactions`, `max_locks_per_transaction`."""
    primary = case.primary
    for node in case.standbys:
        for name in NOT_BELOW_PRIMARY:
            here, there = node.number(name), primary.number(name) if primary else None
            if here is not None and there is not None and here < there:
                yield error(
                    f"{name} {here:g}, {there:g} on the primary",
                    "Its replay pauses at the primary's change, and it refuses to start again.",
                    f"{name} = {there:g}, and a restart: first on standbys, then on the primary",
                    node.name,
                )


def pg_rewind(case: Case) -> Iterator[Finding]:
    """A node without data checksums and with `wal_log_hints` off, or with `full_page_writes` off."""
    for node in case.asked:
        hints = node.word("wal_log_hints") == "off" and node.word("data_checksums") == "off"
        if hints or node.word("full_page_writes") == "off":
            yield warning(
                "wal_log_hints is off, and there are no data checksums" if hints else "full_page_writes is off",
                "After a failover pg_rewind cannot take the former primary back: it has to be copied anew.",
                "wal_log_hints = on (a restart), or pg_checksums --enable" if hints else "full_page_writes = on",
                node.name,
            )


def fsync(case: Case) -> Iterator[Finding]:
    """A node with `fsync` off."""
    for node in case.asked:
        if node.word("fsync") == "off":
            yield error(
                "fsync is off",
                "A crash of the machine leaves data behind that cannot be trusted; a commit told of may be lost.",
                "fsync = on",
                node.name,
            )


def wal_level(case: Case) -> Iterator[Finding]:
    """A node with `wal_level = minimal`."""
    for node in case.asked:
        if node.word("wal_level") == "minimal":
            yield error(
                "wal_level is minimal",
                "Standbys cannot stream from it.",
                "wal_level = replica (a restart)",
                node.name,
            )


def wal_senders(case: Case) -> Iterator[Finding]:
    """Free WAL senders: one on the primary, for a new standby or a backup; on a standby as many as the other nodes
    would need of it as the primary."""
    for node in case.asked:
        most = node.number("max_wal_senders")
        used = len(node.senders)
        need = used + 1 if node is case.primary else len(case.nodes)
        if most is not None and most < need:
            yield warning(
                f"max_wal_senders {most:g}, {used} in use; {need} are needed",
                "pg_basebackup, pg_rewind or a standby that comes back finds none free.",
                f"max_wal_senders = {need + 2} (a restart), on all nodes",
                node.name,
            )


def replication_slots(case: Case) -> Iterator[Finding]:
    """Free replication slots, as for WAL senders; and slots that nobody uses and that keep more than 1 GB of WAL with
    no `max_slot_wal_keep_size`."""
    for node in case.asked:
        most, used = node.number("max_replication_slots"), len(node.slots)
        need = used + 1 if node is case.primary and used else len(case.nodes) - 1
        if most is not None and most < need:
            yield warning(
                f"max_replication_slots {most:g}, {used} in use; {need} are needed",
                "A new standby, or those of this node once it is the primary, find none free.",
                f"max_replication_slots = {need + 2} (a restart), on all nodes",
                node.name,
            )
        for slot in node.slots:
            endless = (node.number("max_slot_wal_keep_size") or -1) < 0
            if not slot.active and endless and slot.retained_bytes > RETAINED_BYTES:
                yield warning(
                    f'slot "{slot.name}" is used by nobody and keeps {size(slot.retained_bytes)} of WAL',
                    "Its WAL grows until the disk is full, and the node stops.",
                    f"SELECT pg_drop_replication_slot('{slot.name}'), or max_slot_wal_keep_size",
                    node.name,
                )


def synchronous_standbys(case: Case) -> Iterator[Finding]:
    """`synchronous_standby_names` of the primary: fewer standbys stream than it asks for, an error; just as many,
    advice."""
    node = case.primary
    names = node.word("synchronous_standby_names") if node else None
    # Without pg_monitor the rows are there, and their contents are not.
    if node is None or not names or not node.monitors:
        return
    counted = re.match(r"\s*(?:(?:FIRST|ANY)\s+)?(\d+)\s*\(", names, re.IGNORECASE)
    need = int(counted[1]) if counted else 1
    found = [one for one in node.senders if one.sync_state in ("sync", "quorum", "potential")]
    streaming = ", ".join(sorted(one.name for one in node.senders)) or "nobody"
    what = f"synchronous_standby_names = '{names}' waits for {need}; streaming: {streaming}"
    if len(found) < need:
        yield error(
            f"{what}; {len(found)} of them are named",
            "Every commit waits without end, unless its synchronous_commit is off or local.",
            "the standbys' application_name (in primary_conninfo, else cluster_name) in synchronous_standby_names",
            node.name,
        )
    elif len(found) == need:
        yield advice(
            what,
            "When one of them is lost, every commit waits.",
            f"one standby more that is named, such as ANY {need} (*)",
            node.name,
        )


CHECKS: Final = (
    hot_standby_feedback,
    max_standby_streaming_delay,
    recovery_min_apply_delay,
    replay,
    standby_parameters,
    pg_rewind,
    fsync,
    wal_level,
    wal_senders,
    replication_slots,
    synchronous_standbys,
)
