"""Figures and findings held against the settings' targets. No I/O."""

from collections.abc import Iterator
from typing import Final

import msgspec

from middleware.config.drilling import DrillSettings
from middleware.drill.checks import Findings
from middleware.drill.figures import Figures, Gap
from middleware.drill.scenarios import Drill, Kind

_OUTAGE: Final = {
    Kind.DEATH: "write_outage_max",
    Kind.SILENCE: "hang_outage_max",
    Kind.HANDOVER: "switchover_outage_max",
    Kind.BYSTANDER: "bystander_outage_max",
    Kind.WORKER: "bystander_outage_max",
}


class Verdict(msgspec.Struct, frozen=True):
    """One target."""

    what: str
    value: float
    limit: float | None
    """The highest value that passes; None for any."""
    unit: str
    """`s` or nothing."""
    passed: bool
    setting: str
    """Which one says so; "" for what no setting can allow."""
    note: str = ""


def judge(
    drill: Drill, figures: Figures, findings: Findings, targets: DrillSettings, *, synchronous: bool, noticed: bool
) -> tuple[Verdict, ...]:
    """All that count for a drill. `noticed`: Pointsman has told of what was done to it."""
    verdicts = [*_outages(drill, figures, targets), *_failures(drill, figures, targets)]
    if drill.noticeable:
        verdicts.append(_count("node's loss not noticed", int(not noticed), 0))
    if drill.fails_over:
        verdicts.append(_count("no promotion", int(figures.promote_s is None), 0))
    verdicts.extend(_commits(drill, findings, targets, synchronous=synchronous))
    return tuple(verdicts)


def _outages(drill: Drill, figures: Figures, targets: DrillSettings) -> Iterator[Verdict]:
    key = _OUTAGE[drill.kind]
    yield _outage("write outage", figures.write_outage, getattr(targets, key), key)
    yield _outage("read outage", figures.read_outage, targets.read_outage_max, "read_outage_max")
    # While most go on, one may wait. A read may wait for what only the primary has.
    slowest = max(figures.slowest_write_s, figures.slowest_read_s)
    limit = getattr(targets, key)
    yield Verdict("slowest statement", slowest, limit, "s", slowest <= limit, key)


def _failures(drill: Drill, figures: Figures, targets: DrillSettings) -> Iterator[Verdict]:
    if drill.kind in (Kind.BYSTANDER, Kind.HANDOVER):
        failed = figures.failed_writes + figures.unknown_writes
        yield _count("failed writes", failed, targets.failed_writes_max, "failed_writes_max")
        yield _count("failed reads", figures.failed_reads, targets.failed_reads_max, "failed_reads_max")
        yield _count("connections lost", figures.disconnected, 0)


def _commits(drill: Drill, findings: Findings, targets: DrillSettings, *, synchronous: bool) -> Iterator[Verdict]:
    lost = len(findings.lost)
    if drill.fails_over and not synchronous and targets.lost_commits_async == "report":
        note = "reported, not judged: replication is asynchronous"
        yield Verdict("lost commits", lost, None, "", True, "lost_commits_async", note)
    else:
        yield _count("lost commits", lost, targets.lost_commits_max, "lost_commits_max")
    yield _count("commits there twice", len(findings.doubled), 0)
    yield _count("reported failed, but there", len(findings.phantoms), 0)
    yield _count("rows that nobody wrote", len(findings.strangers), 0)
    yield _count("stale reads", len(findings.stale), 0)
    if drill.fails_over and findings.astray is None:
        note = "nobody has looked at it before it followed"
        yield Verdict("writes taken by the former primary", 0, None, "", True, "", note)
    elif drill.fails_over and findings.astray is not None:
        yield _count("writes taken by the former primary", len(findings.astray), 0)


def _outage(what: str, gap: Gap, limit: float, setting: str) -> Verdict:
    note = "" if gap.over else "it was not over when the drill ended"
    return Verdict(what, gap.seconds, limit, "s", gap.over and gap.seconds <= limit, setting, note)


def _count(what: str, value: int, limit: int, setting: str = "") -> Verdict:
    return Verdict(what, value, limit, "", value <= limit, setting)
