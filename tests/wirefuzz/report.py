"""The outcome for people."""

from collections import Counter
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tests.wirefuzz.real import RealTally
from tests.wirefuzz.tally import Finding, Tally

TEXT_MAX: Final = 2000


def summary(tally: Tally) -> RenderableType:
    """The figures of a run in memory."""
    inputs = tally.inputs.total()
    rows = [
        ("inputs", f"{inputs:,}", _listed(tally.inputs)),
        ("findings", f"{len(tally.findings):,}", ""),
        ("compared", f"{tally.compared:,}", "with what the same client hears without Pointsman"),
        ("clients", f"{inputs:,}", _listed(tally.endings)),
        ("servers opened", f"{tally.servers_opened:,}", ""),
        ("neighbours' longest wait", f"{tally.delay_s:.2f} s", "by the stage's own clock"),
        ("wall time", f"{tally.wall_s:.0f} s", f"{inputs / max(0.001, tally.wall_s):.0f} inputs a second"),
        ("mutations", f"{tally.mutations.total():,}", _listed(tally.mutations)),
    ]
    return _table(rows)


def real_summary(tally: RealTally) -> RenderableType:
    """The figures of a run against PostgreSQL."""
    rows = [
        (
            "inputs",
            f"{tally.inputs:,}",
            f"{tally.over_tls:,} over TLS, {tally.inputs / max(0.001, tally.wall_s):.0f} a second",
        ),
        ("findings", f"{len(tally.faults):,}", ""),
        ("neighbours", f"{tally.neighbours:,}", f"statements; the longest took {tally.delay_s * 1000:.0f} ms"),
        ("worker's memory", f"{tally.growth_mb:+.1f} MB", "from the first hundreds of inputs to the end"),
        ("worker's descriptors", f"{tally.descriptors:+d}", "the same"),
    ]
    return _table(rows)


def told(finding: Finding) -> RenderableType:
    """A finding, as Python that a test can be made of."""
    again = "" if finding.again else " (it did not come up again on a stage of its own)"
    lines = [
        f"{finding.fault[:TEXT_MAX]}",
        f"  --seed {finding.seed} --part {finding.part}, input {finding.number}{again}",
    ]
    lines += [f"  {one!r}" for one in finding.inputs]
    return Text("\n".join(lines))


def _table(rows: list[tuple[str, str, str]]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for row in rows:
        table.add_row(*row)
    return table


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
