"""Findings for people and for programs."""

from collections import defaultdict
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from middleware.doctor.capacity import for_us, formula
from middleware.doctor.facts import Case, NodeFacts
from middleware.doctor.finding import Finding, Severity
from middleware.doctor.pools import assumption, servers

_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.ADVICE: "bold cyan"}
_TITLES: Final = {Severity.ERROR: "Errors", Severity.WARNING: "Warnings", Severity.ADVICE: "Advice"}

_LEGEND: Final = (
    "for clients: max_connections less those that are reserved; each: of these for one instance; needed: what one "
    "instance opens at most; advised: cores x 2 + spindles."
)


def as_json(case: Case, findings: tuple[Finding, ...]) -> str:
    """One object: what was counted, and the findings."""
    document = {
        "instances": case.instances,
        "assumption": assumption(case),
        "nodes": [_sums(case, node) for node in case.nodes],
        "findings": findings,
    }
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def show(console: Console, case: Case, findings: tuple[Finding, ...]) -> None:
    """As wide as the terminal, and the same without colours."""
    console.print(_table(case))
    console.print()
    _print(console, 0, Text(f"{_LEGEND} {assumption(case)}", style="dim"))
    for severity in Severity:
        found = [finding for finding in findings if finding.severity is severity]
        together: dict[Finding, list[str]] = defaultdict(list)
        for finding in found:
            # What is the same on several nodes is said once.
            together[msgspec.structs.replace(finding, node="")].extend(filter(None, [finding.node]))
        if together:
            console.print(Text(f"\n{_TITLES[severity]} ({len(together)})", style=_STYLES[severity]))
        for finding, nodes in together.items():
            _show(console, nodes, finding)
    if not findings:
        console.print("\nNothing to change was found.")


def _show(console: Console, nodes: list[str], finding: Finding) -> None:
    console.print()
    where = ", ".join(nodes) or "settings"
    _print(console, 2, Text.assemble((where, "bold"), f": {finding.what}"))
    _print(console, 6, Text(finding.why))
    _print(console, 6, Text.assemble(("change: ", "green"), finding.change, (f"  [{finding.check}]", "dim")))


def _print(console: Console, indent: int, text: Text) -> None:
    """Wrapped, and without the blanks that rich fills its blocks with: they are in the way where it is copied from."""
    for line in text.wrap(console, max(20, console.width - indent)):
        line.rstrip()
        console.print(Text(" " * indent) + line)


def _sums(case: Case, node: NodeFacts) -> dict[str, Any]:
    """The formulas' figures for one node; None for what is not known."""
    if node.why:
        return {"node": node.name, "role": None, "why": node.why}
    room, ours = for_us(node), servers(case)
    return {
        "node": node.name,
        "role": "standby" if node.in_recovery else "primary",
        "version": f"{node.version // 10_000}.{node.version % 10_000}",
        "max_connections": node.number("max_connections"),
        "for_clients": room,
        "for_each_instance": None if room is None else room // case.instances,
        "needed_by_each": ours.all,
        "cores_formula": formula(case, node),
        "memory_bytes": node.memory_bytes,
    }


def _table(case: Case) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("node", "role", "version"):
        table.add_column(heading)
    for heading in ("max_connections", "for clients", "each", "needed", "advised"):
        table.add_column(heading, justify="right")
    for sums in (_sums(case, node) for node in case.nodes):
        keys = ("version", "max_connections", "for_clients", "for_each_instance", "needed_by_each", "cores_formula")
        table.add_row(sums["node"], sums["role"] or "not asked", *(_figure(sums.get(key)) for key in keys))
    return table


def _figure(value: float | str | None) -> str:
    if value is None:
        return "?"
    return value if isinstance(value, str) else f"{value:g}"
