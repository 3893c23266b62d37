"""The command line of `make consistency`."""

import secrets
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from middleware.sandbox import Sandbox
from tests.consistency import report
from tests.consistency.run import Level, Plan, run


def main(
    level: Annotated[Level, typer.Option(help="The setting `consistency`; none leaves it out.")] = Level.SESSION,
    pairs: Annotated[int, typer.Option(min=1, help="Writes, each with a read of it right behind.")] = 100_000,
    clients: Annotated[int, typer.Option(min=1, max=100, help="Clients that write.")] = 50,
    standbys: Annotated[int, typer.Option(min=1, help="Standbys of the cluster.")] = 2,
    seed: Annotated[int | None, typer.Option(help="Of the load's choices; random unless given.")] = None,
) -> None:
    """Read-your-writes and monotonic reads through the endpoint, while standbys' replay is paused and resumed.

    Exit status 1 when the level "session" or "global" was not kept. Under the other levels it is 1 when nothing was
    stale: then the load would not have noticed.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    plan = Plan(level, pairs, clients, secrets.randbelow(2**32) if seed is None else seed)
    console.print(f"level {level.value}, {clients} clients, {standbys} standbys, seed {plan.seed}")
    columns = (TextColumn("pairs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Sandbox(standbys=standbys) as cluster,
        tempfile.TemporaryDirectory() as directory,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("", total=pairs)
        tally, lag = run(cluster, Path(directory), plan, lambda: bar.advance(task))
    console.print(report.summary(tally, lag), markup=False)
    failures = report.failures(level, tally, set(lag.paused_s))
    for failure in failures:
        console.print(failure, style="red", markup=False)
    if failures:
        raise typer.Exit(1)
    console.print("as the level promises" if level in report.PROMISING else "stale, as it may be: the load notices")


if __name__ == "__main__":
    typer.run(main)
