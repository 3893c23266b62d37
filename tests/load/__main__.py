"""The command line of `make load`."""

import os
import platform
import resource
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from middleware.sandbox import Sandbox
from tests.load import idle, serverless, storm, watched
from tests.load.result import Result, save, table

RUNS: Final = ("storm", "idle", "watched", "serverless")
WORKING: Final = 100
"""Clients that do something while the others do nothing."""
PLAIN_WIDTH: Final = 140
SPARE_DESCRIPTORS: Final = 1000


def main(
    runs: Annotated[str, typer.Option(help=f"Any of {', '.join(RUNS)}; commas between.")] = ",".join(RUNS),
    storm_clients: Annotated[int, typer.Option(min=100, help="Clients over 20 servers.")] = 2000,
    storm_seconds: Annotated[float, typer.Option(min=5, help="Length of a storm; there are four.")] = 60,
    idle_clients: Annotated[int, typer.Option(min=100, help="Clients that do nothing.")] = 10_000,
    idle_seconds: Annotated[float, typer.Option(min=1, help="How long the workers' CPU is watched meanwhile.")] = 20,
    watched_seconds: Annotated[float, typer.Option(min=1, help="With 100 at work, alone and looked at.")] = 20,
    serverless_clients: Annotated[int, typer.Option(min=1, max=500, help="Clients that connect for a query.")] = 500,
    serverless_seconds: Annotated[float, typer.Option(min=1, help="Of each proxy in each round.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="How often each proxy has its turn.")] = 3,
    seed: Annotated[int, typer.Option(help="Of what the clients of a storm do.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run: a tenth of the clients, some seconds.")] = False,
    compiled: Annotated[
        Path | None, typer.Option(metavar="DIR", exists=True, file_okay=False, help="A build with compiled modules.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Save all figures.")] = None,
) -> None:
    """Many connections: 2,000 busy clients who come and go, 10,000 idle ones, also looked at in the console, and
    clients that connect for one query.

    Exit status 1 where a bound is missed. Ctrl-C ends it.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    chosen = [name.strip() for name in runs.split(",")]
    if unknown := [name for name in chosen if name not in RUNS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: known are {', '.join(RUNS)}", param_hint="--runs")
    if quick:
        storm_clients, storm_seconds = storm_clients // 10, 8
        idle_clients, idle_seconds = idle_clients // 10, 3
        watched_seconds = 3
        serverless_clients, serverless_seconds, rounds = serverless_clients // 10, 1, 1
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    say = partial(console.print, markup=False)
    build = None if compiled is None else compiled.resolve()
    began = time.time()
    _raise_descriptors(max(idle_clients, storm_clients), console)
    results: list[Result] = []
    with Sandbox(standbys=1) as cluster, tempfile.TemporaryDirectory() as scratch:
        # Others' programs run as another user, and must get through to their directories.
        directory = Path(scratch)
        directory.chmod(0o711)
        if "storm" in chosen:
            plans = _storms(storm_clients, storm_seconds, seed, build)
            results += [storm.storm(cluster, directory, one, say) for one in plans]
        if "idle" in chosen:
            idlers = [idle.Plan("plain Python", idle_clients, idle_seconds)]
            if build is not None:
                idlers.append(idle.Plan("compiled", idle_clients, idle_seconds, build=build))
            results += [idle.idle(cluster, one, say) for one in idlers]
        if "watched" in chosen:
            looks = [watched.Plan("plain Python", idle_clients, WORKING, watched_seconds)]
            if build is not None:
                looks.append(watched.Plan("compiled", idle_clients, WORKING, watched_seconds, build=build))
            results += [watched.watched(cluster, one, say) for one in looks]
        if "serverless" in chosen:
            plan = serverless.Plan(serverless_clients, serverless_seconds, rounds, build=build)
            results += serverless.serverless(cluster, directory, plan, say)
    _show(console, results)
    if json is not None:
        save(results, _machine(), began, json)
    raise typer.Exit(1 if any(result.failures for result in results) else 0)


def _storms(clients: int, seconds: float, seed: int, build: Path | None) -> list[storm.Plan]:
    """The whole crowd for one worker and for two; then smaller ones for the limits that several pools share."""
    few, short = max(50, clients // 4), seconds / 2
    return [
        storm.Plan("1 worker", clients, seconds, 1, seed=seed, build=build),
        storm.Plan("2 workers", clients, seconds, 2, seed=seed, build=build),
        storm.Plan("max_db_connections", few, short, 2, "max_db_connections", seed, build),
        storm.Plan("max_user_connections", few, short, 2, "max_user_connections", seed, build),
    ]


def _raise_descriptors(clients: int, console: Console) -> None:
    """Let this process, and those it starts, have as many open files as may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < clients + SPARE_DESCRIPTORS:
        console.print(f"{clients} clients need more than the {most} open files that are allowed here (ulimit -Hn)")
        raise typer.Exit(1)


def _show(console: Console, results: list[Result]) -> None:
    for run in dict.fromkeys(result.run for result in results):
        console.print(table([result for result in results if result.run == run]))
    failures = [f"{one.run}, {one.variant}: {failure}" for one in results for failure in one.failures]
    for failure in failures:
        console.print(failure, style="red", markup=False)
    console.print("FAILED" if failures else "all within bounds")


def _machine() -> str:
    return f"{os.cpu_count()} CPUs, {platform.system()} {platform.release()}, Python {platform.python_version()}"


if __name__ == "__main__":
    typer.run(main)
