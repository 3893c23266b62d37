"""Findings as tables for people."""

from collections import defaultdict
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.oracle.trial import Finding, Kind, Tally

SHOWN_PER_REASON = 4
STATEMENT_WIDTH = 150


def show_figures(console: Console, version: int, parts: Mapping[str, Tally]) -> None:
    """The two figures of each part, and of all."""
    table = Table(title=f"PostgreSQL {version}", title_justify="left")
    for name in ("", "statements", "misroutes", "routed", "stayed", "share stayed", "kept", "failed", "disputed"):
        table.add_column(name, justify="right" if name else "left")
    everything = Tally(finding for tally in parts.values() for finding in tally.findings)
    for name, tally in {**parts, "all": everything}.items():
        table.add_row(
            name,
            str(len(tally.findings)),
            str(tally.count(Kind.MISROUTED)),
            str(tally.count(Kind.ROUTED)),
            str(tally.count(Kind.STAYED)),
            f"{tally.share_stayed():.1%}",
            str(tally.count(Kind.KEPT)),
            str(tally.count(Kind.FAILED)),
            str(tally.count(Kind.DISPUTED)),
        )
    console.print(table)


def show_findings(console: Console, tally: Tally, most: int = SHOWN_PER_REASON) -> None:
    """What is to be looked at: misroutes by group, what stayed by reason, and disputed expectations."""
    _show(console, "misrouted", tally.of(Kind.MISROUTED), lambda finding: finding.statement.group, most)
    _show(console, "disputed", tally.of(Kind.DISPUTED), lambda finding: finding.statement.group, most)
    _show(console, "stayed", tally.of(Kind.STAYED), lambda finding: finding.reason, most)


def show_doubts(console: Console, findings: list[Finding], most: int = SHOWN_PER_REASON) -> None:
    """What is said to be for the primary without a sign of it."""
    _show(console, "in doubt", findings, lambda finding: finding.statement.group, most)


def _show(console: Console, title: str, findings: list[Finding], key: Callable[[Finding], str], most: int) -> None:
    groups: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[key(finding)].append(finding)
    for name, members in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        console.print(f"[bold]{title}[/bold] {len(members)}: {escape(name)}")
        for finding in members[:most]:
            console.print(f"    {escape(one_line(finding.statement.sql))}", soft_wrap=True)
            if finding.harm:
                console.print(f"      {escape(finding.harm)}", style="dim", soft_wrap=True)
        if len(members) > most:
            console.print(f"    .. and {len(members) - most} more", style="dim")


def one_line(sql: str) -> str:
    """The text without line ends, cut to what fits."""
    text = " ".join(sql.split())
    return text if len(text) <= STATEMENT_WIDTH else text[:STATEMENT_WIDTH] + ".."
