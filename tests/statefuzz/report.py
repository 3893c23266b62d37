"""The outcome for people."""

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tests.statefuzz.pair import Difference
from tests.statefuzz.tally import Tally

TEXT_MAX: Final = 600


def summary(tally: Tally, clients: int, pool_size: int) -> RenderableType:
    """The figures."""
    figures = Table(show_header=False, box=None, pad_edge=False)
    figures.add_column()
    figures.add_column(justify="right")
    figures.add_column()
    looked_at = max(1, tally.looked_at)
    rows = [
        (
            "operations",
            f"{tally.operations:,}",
            f"of {clients} clients, {tally.kinds.total():,} statements and messages",
        ),
        ("differences", f"{len(tally.differences):,}", ""),
        ("servers", f"{tally.servers}", f"of {pool_size} per node, those on standbys not counted"),
        ("pinned", f"{tally.pinned / looked_at:.1%}", "of all clients at any time"),
        ("in a transaction", f"{tally.in_transaction / looked_at:.1%}", "of all clients, and not pinned"),
        ("answered with an error", f"{tally.errors / max(1, tally.operations):.1%}", "by both"),
        ("notifications", f"{tally.notifications:,}", "heard and compared"),
        ("disconnects", f"{tally.disconnects.total():,}", _listed(tally.disconnects.most_common())),
        ("wall time", f"{tally.wall_s:.1f} s", f"{1000 * tally.wall_s / max(1, tally.operations):.2f} ms an operation"),
    ]
    for row in rows:
        figures.add_row(*row)
    return Group(figures, _counts("form", tally.forms.most_common()), _counts("sort", tally.kinds.most_common()))


def told(difference: Difference) -> RenderableType:
    """A difference, with what led to it."""
    here, there = differing(difference.here, difference.there)
    lines = [
        f"client {difference.client}, {difference.kind}: {difference.shown}",
        f"  through the endpoint: {here[:TEXT_MAX]}",
        f"  directly:             {there[:TEXT_MAX]}",
    ]
    if difference.fewest:
        lines += ["  after:", *(f"    {line[:TEXT_MAX]}" for line in difference.fewest)]
    else:
        lines += ["  before:", *(f"    {line[:TEXT_MAX]}" for line in difference.history)]
    return Text("\n".join(lines))


def differing(here: Sequence[str], there: Sequence[str]) -> tuple[str, str]:
    """What they do not have in common at their beginnings and ends."""
    start = 0
    while start < min(len(here), len(there)) and here[start] == there[start]:
        start += 1
    end = 0
    while end < min(len(here), len(there)) - start and here[-1 - end] == there[-1 - end]:
        end += 1
    left, right = here[start : len(here) - end], there[start : len(there) - end]
    return " ".join(left) or "(nothing)", " ".join(right) or "(nothing)"


def _listed(counts: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts)


def _counts(title: str, counts: list[tuple[str, int]]) -> Table:
    """In columns side by side."""
    columns = 3
    table = Table(*((title, "count") * columns), box=None, pad_edge=False)
    height = -(-len(counts) // columns)
    for row in range(height):
        cells = [counts[place] for place in range(row, len(counts), height)]
        table.add_row(*(text for name, count in cells for text in (name, f"{count:,}")))
    return table
