"""What is to be seen while a drill runs: a live table on a terminal, a line for each thing that happens elsewhere."""

import time
from collections import deque
from typing import Final

import anyio
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from middleware.drill.books import Books
from middleware.drill.result import Note
from middleware.drill.views import Event

REFRESH_S: Final = 0.25
LINES_SHOWN: Final = 12
SPARKS_SHOWN: Final = 60
SPARKS: Final = "▁▂▃▄▅▆▇█"


class Progress:
    """Of one drill. `watch` draws until cancelled; `tell` is given what happens."""

    def __init__(self, console: Console, name: str) -> None:
        self._console: Final = console
        self._name: Final = name
        self._began: Final = time.time()
        self._lines: Final[deque[Text]] = deque(maxlen=LINES_SHOWN)
        self._rates: Final[deque[int]] = deque(maxlen=SPARKS_SHOWN)
        self._before = (0, 0)
        self.books: Books | None = None

    def tell(self, one: Note | Event) -> None:
        """Show a line."""
        line = Text(f"{one.at - self._began:+7.2f} s  ")
        if isinstance(one, Note):
            line.append(f"{one.node or '-':<8} {one.text}", "bold")
        else:
            line.append(f"{one.node or '-':<8} {one.what}: {one.text}", "red" if one.bad else "dim")
        if self._console.is_terminal:
            self._lines.append(line)
        else:
            self._console.print(line, soft_wrap=True)

    async def watch(self) -> None:
        if not self._console.is_terminal:
            return
        with Live(self._picture(), console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                await anyio.sleep(REFRESH_S)
                live.update(self._picture(), refresh=True)

    def _picture(self) -> Group:
        books = self.books or Books()
        writes, reads = len(books.attempts), len(books.reads)
        self._rates.append(writes - self._before[0] + reads - self._before[1])
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("drill", "time", "writes", "reads", "failures"):
            table.add_column(column, justify="left" if column == "drill" else "right")
        failures = len(books.failures)
        table.add_row(
            Text(self._name, "bold cyan"),
            f"{time.time() - self._began:.0f} s",
            str(writes),
            str(reads),
            Text(str(failures), "red" if failures else ""),
        )
        self._before = (writes, reads)
        return Group(table, Text(self._sparks(), "cyan"), *self._lines)

    def _sparks(self) -> str:
        most = max(self._rates, default=0) or 1
        return "".join(SPARKS[rate * (len(SPARKS) - 1) // most] for rate in self._rates)
