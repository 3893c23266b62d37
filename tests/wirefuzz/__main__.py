"""The command line of `make wire-fuzz`."""

import os
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
from tests.wirefuzz import real, report
from tests.wirefuzz.run import Plan, Plant, run
from tests.wirefuzz.tally import Tally


def main(
    inputs: Annotated[
        int, typer.Option(min=0, help="Mutated streams in memory, of clients and of servers.")
    ] = 1_000_000,
    real_inputs: Annotated[int, typer.Option("--real", min=0, help="Of clients, with PostgreSQL behind.")] = 50_000,
    jobs: Annotated[int, typer.Option(min=1, help="Processes for those in memory.")] = max(1, os.cpu_count() or 1),
    seed: Annotated[int | None, typer.Option(help="Of all choices; random unless given.")] = None,
    part: Annotated[int | None, typer.Option(min=0, help="Play this part of those in memory alone.")] = None,
    keep_going: Annotated[int, typer.Option(min=1, help="Stop after so many findings.")] = 1,
    plant: Annotated[Plant, typer.Option(help="A bug to be found, in memory.")] = Plant.NONE,
) -> None:
    """Bytes that no client and no server should send: nobody else may notice.

    Exit status 1 on any finding; with a planted bug, when there was none.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    chosen = secrets.randbelow(2**32) if seed is None else seed
    plan = Plan(inputs, chosen, 1 if part is not None else jobs, keep_going, plant, part)
    console.print(f"seed {chosen}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("in memory", total=sum(size for _, size in plan.parts()))
        told = 0

        def done(over: Tally) -> None:
            nonlocal told
            count = over.inputs.total()
            told += count
            bar.advance(task, count)
            for finding in over.findings:
                console.print(report.told(finding), soft_wrap=True)
            if not console.is_terminal and told % 10_000 < count:
                console.print(f"{told:,} inputs in memory")

        tally = run(plan, done)
    console.print(report.summary(tally))
    faults = len(tally.findings)
    if real_inputs and part is None and plant is Plant.NONE:
        faults += _real(console, real_inputs, chosen, columns)
    if plant is Plant.NONE:
        raise typer.Exit(1 if faults else 0)
    console.print("the planted bug was found" if faults else "the planted bug was not found")
    raise typer.Exit(0 if faults else 1)


def _real(console: Console, inputs: int, seed: int, columns: tuple[object, ...]) -> int:
    """The run against PostgreSQL; returns the number of its findings."""
    with (
        Sandbox(standbys=1) as cluster,
        tempfile.TemporaryDirectory() as directory,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,  # type: ignore[arg-type]
    ):
        task = bar.add_task("with PostgreSQL", total=inputs)
        tally = real.run(cluster, Path(directory), inputs, seed, lambda: bar.advance(task))
    for fault in tally.faults:
        console.print(fault, soft_wrap=True)
    console.print(report.real_summary(tally))
    return len(tally.faults)


if __name__ == "__main__":
    typer.run(main)
