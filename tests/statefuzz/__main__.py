"""The command line of `make state-fuzz`."""

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
from tests.statefuzz import report
from tests.statefuzz.run import Plan, Plant, run


def main(
    operations: Annotated[int, typer.Option(min=1, help="Operations of all clients together.")] = 100_000,
    clients: Annotated[int, typer.Option(min=1, max=100, help="Clients, each with two sessions.")] = 12,
    pool_size: Annotated[int, typer.Option(min=3, help="The setting default_pool_size.")] = 8,
    seed: Annotated[int | None, typer.Option(help="Of all choices; random unless given.")] = None,
    keep_going: Annotated[int, typer.Option(min=1, help="Stop after so many differences.")] = 1,
    plant: Annotated[Plant, typer.Option(help="A leak to be found.")] = Plant.NONE,
    self_check: Annotated[
        bool, typer.Option("--self-check", help="A direct connection in place of Pointsman.")
    ] = False,
    shrink: Annotated[bool, typer.Option("--shrink", help="Look for the fewest steps to each difference.")] = False,
) -> None:
    """Clients that share few servers see what each sees on a connection of its own.

    Exit status 1 on any difference; with a planted leak, when there was none.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    chosen = secrets.randbelow(2**32) if seed is None else seed
    plan = Plan(operations, clients, pool_size, chosen, keep_going, plant, self_check, shrink)
    console.print(f"seed {plan.seed}, {clients} clients, {pool_size} servers per node")
    columns = (TextColumn("operations"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Sandbox(standbys=1) as cluster,
        tempfile.TemporaryDirectory() as directory,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("", total=operations)
        tally = run(
            cluster,
            Path(directory),
            plan,
            lambda: bar.advance(task),
            lambda difference: console.print(report.told(difference), soft_wrap=True),
        )
    console.print(report.summary(tally, clients, pool_size))
    if plant is Plant.NONE:
        raise typer.Exit(1 if tally.differences else 0)
    console.print("the planted leak was found" if tally.differences else "the planted leak was not found")
    raise typer.Exit(0 if tally.differences else 1)


if __name__ == "__main__":
    typer.run(main)
