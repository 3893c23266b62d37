"""The outcome of a load for people, and whether it is as the level promises."""

from collections import Counter
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tests.consistency.lag import Lag
from tests.consistency.run import Level
from tests.consistency.tally import Tally

PROMISING: Final = (Level.SESSION, Level.GLOBAL)
"""The levels under which nothing may be stale for the one who wrote it."""


def failures(level: Level, tally: Tally, standbys: set[str]) -> list[str]:
    """What is wrong under this level, a sentence each; nothing when all is as it should be."""
    if level not in PROMISING:
        return [] if tally.violations() else ["Nothing was stale: this load would not notice if anything were."]
    wrong = []
    if tally.stale.total():
        wrong.append(f"{tally.stale.total()} reads did not find what the same client had written.")
    if tally.backwards.total():
        wrong.append(f"{tally.backwards.total()} reads went backwards.")
    if level is Level.GLOBAL and tally.others_stale:
        wrong.append(f"{tally.others_stale} reads did not find what another client had been told is committed.")
    if not sum(tally.reads[name] for name in standbys):
        wrong.append("No read was served by a standby: nothing is proved.")
    return wrong


def summary(tally: Tally, lag: Lag) -> RenderableType:
    """The figures."""
    figures = Table(show_header=False, box=None, pad_edge=False)
    figures.add_column()
    figures.add_column(justify="right")
    figures.add_column()
    reads = tally.reads.total()
    from_standbys = sum(tally.reads[name] for name in lag.paused_s)
    rows = [
        ("pairs of a write and a read of it", f"{tally.pairs:,}", ""),
        ("stale reads", f"{tally.late:,}", "of these"),
        (
            "stale reads of one's own writes",
            f"{tally.stale.total():,}",
            f"of {tally.own_reads.total():,}, later ones, too",
        ),
        ("reads that went backwards", f"{tally.backwards.total():,}", f"of {tally.monotonic.total():,}"),
        ("stale reads of another's write", f"{tally.others_stale:,}", f"of {tally.others:,}"),
        ("reads served by standbys", f"{from_standbys / max(1, reads):.1%}", f"of {reads:,}"),
        ("read after a write, p50", f"{1000 * percentile(tally.latencies_s, 50):.2f} ms", ""),
        ("read after a write, p99", f"{1000 * percentile(tally.latencies_s, 99):.2f} ms", ""),
        ("read after a write, longest wait", f"{1000 * percentile(tally.latencies_s, 100):.2f} ms", ""),
        ("pauses of replay", f"{lag.pauses}", ", ".join(f"{name} {time:.1f} s" for name, time in lag.paused_s.items())),
        ("all standbys paused", f"{lag.all_paused_s:.1f} s", ""),
    ]
    for row in rows:
        figures.add_row(*row)
    parts: list[RenderableType] = [figures]
    if tally.violations():
        parts += [
            _shares("written by way of", "stale", tally.stale, tally.own_reads),
            _shares("client", "stale", tally.stale_styles, tally.own_styles),
            _shares("row that only grows", "backwards", tally.backwards, tally.monotonic),
            Text("\n".join(tally.examples)),
        ]
    return Group(*parts)


def percentile(values: list[float], percent: int) -> float:
    """The value that `percent` of all do not exceed; 0 of none."""
    if not values:
        return 0.0
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def _shares(what: str, outcome: str, part: Counter[str], whole: Counter[str]) -> Table:
    table = Table(what, outcome, "of", box=None, pad_edge=False)
    for name, count in whole.most_common():
        table.add_row(name, f"{part[name]:,}", f"{count:,}")
    return table
