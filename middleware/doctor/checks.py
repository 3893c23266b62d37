"""All checks, by chapters, and what they find together."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from middleware.doctor import (
    access,
    capacity,
    cluster,
    http,
    limits,
    memory,
    node_timeouts,
    query_cache,
    replication,
    timeouts,
)
from middleware.doctor.facts import Case
from middleware.doctor.finding import Finding, Severity

Check = Callable[[Case], Iterable[Finding]]

CHAPTERS: Final[tuple[tuple[str, tuple[Check, ...]], ...]] = (
    ("The nodes together", cluster.CHECKS),
    ("Connections", capacity.CHECKS),
    ("Memory", memory.CHECKS),
    ("Limits", limits.CHECKS),
    ("Timeouts", timeouts.CHECKS),
    ("Timeouts of the nodes", node_timeouts.CHECKS),
    ("Replication", replication.CHECKS),
    ("The query cache", query_cache.CHECKS),
    ("Users and databases", access.CHECKS),
    ("HTTP", http.CHECKS),
)


def name_of(check: Check) -> str:
    """What a check is called in the output."""
    return check.__name__


def diagnose(case: Case) -> tuple[Finding, ...]:
    """All findings: errors first, then as the chapters have them."""
    found = [
        msgspec.structs.replace(finding, check=name_of(check))
        for _, checks in CHAPTERS
        for check in checks
        for finding in check(case)
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def reference() -> str:
    """All checks, as Markdown: the end of docs/doctor.md, and what `pointsman doctor --checks` prints."""
    chapters = []
    for title, checks in CHAPTERS:
        rows = [f"| `{name_of(check)}` | {' '.join((check.__doc__ or '').split())} |" for check in checks]
        chapters.append("\n".join([f"### {title}", "", "| Check | Finds |", "|---|---|", *rows, ""]))
    return "\n".join(chapters)
