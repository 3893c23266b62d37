"""The command line of `make cache-check`."""

import secrets
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from middleware.sandbox import Sandbox
from tests.cachecheck import report
from tests.cachecheck.plan import Level, Plan, Watch
from tests.cachecheck.plant import PLANTS
from tests.cachecheck.run import run

STEPS: Final = 1000


def main(
    level: Annotated[Level, typer.Option(help="The setting `consistency`.")] = Level.SESSION,
    operations: Annotated[int, typer.Option(min=0, help="Reads and writes; 0 for none but --seconds.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=0, help="The load ends then, too; 0 for no such end.")] = 0,
    clients: Annotated[int, typer.Option(min=2, max=200, help="Of all Pointsmans together.")] = 30,
    standbys: Annotated[int, typer.Option(min=0, help="Standbys of the cluster.")] = 2,
    instances: Annotated[int, typer.Option(min=1, max=4, help="Pointsmans in front of it.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Of each Pointsman.")] = 2,
    failovers: Annotated[int, typer.Option(min=0, help="Kills of the primary, each with a promotion.")] = 0,
    worker_kills: Annotated[int, typer.Option(min=0, help="Kills of a worker.")] = 0,
    out_of_band: Annotated[int, typer.Option(min=0, help="Clients that write on the primary itself.")] = 0,
    watch: Annotated[Watch, typer.Option(help="The setting `cache_watch`.")] = Watch.OFF,
    cache: Annotated[bool, typer.Option(help="Whether answers are cached at all.")] = True,
    lag: Annotated[bool, typer.Option(help="Pause standbys' replay at random.")] = True,
    tell: Annotated[bool, typer.Option(help="Show with a violation where its reads went.")] = False,
    plant: Annotated[str, typer.Option(help=f"A bug that must be found: {', '.join(PLANTS)}.")] = "",
    version: Annotated[int, typer.Option(help="PostgreSQL's major version.")] = 18,
    seed: Annotated[int | None, typer.Option(help="Of the load's choices; random unless given.")] = None,
) -> None:
    """Clients read and write registers through the query cache, and their history is held against the level's promise.

    Exit status 1 on any violation, or when too few answers came from the cache to prove something. With a planted bug
    it is 1 when that is *not* found.
    """
    if plant and plant not in PLANTS:
        raise typer.BadParameter(f"{plant!r} is none of {', '.join(PLANTS)}", param_hint="--plant")
    if not operations and not seconds:
        raise typer.BadParameter("the load has no end: give --operations or --seconds", param_hint="--seconds")
    if failovers and not standbys:
        raise typer.BadParameter("there is no standby to promote", param_hint="--failovers")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = Plan(
        level=level,
        operations=operations,
        seconds=seconds,
        clients=clients,
        standbys=standbys,
        instances=instances,
        workers=workers,
        failovers=failovers,
        worker_kills=worker_kills,
        out_of_band=out_of_band,
        watch=watch,
        cache=cache,
        plant=plant,
        lag=lag,
        tell=tell,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        version=version,
    )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(f"level {level.value}, {clients} clients, {instances} times {workers} workers, seed {plan.seed}")
    if _show(console, plan):
        raise typer.Exit(1)
    console.print("the bug was found" if plant else "as promised")


def _show(console: Console, plan: Plan) -> list[str]:
    """Run it and print what has come of it; what is wrong."""
    columns = (TextColumn("load"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with (
        Sandbox(standbys=plan.standbys, version=plan.version, parameters=plan.parameters()) as cluster,
        tempfile.TemporaryDirectory() as directory,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("", total=STEPS)
        result = run(cluster, Path(directory), plan, lambda part: bar.update(task, completed=round(part * STEPS)))
    console.print(report.summary(result), markup=False)
    failures = report.failures(result)
    for failure in failures:
        console.print(failure, style="red", markup=False)
    return failures


if __name__ == "__main__":
    typer.run(main)
