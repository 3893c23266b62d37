"""The command line of `make bench`."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final, get_args

import typer
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from middleware.sandbox import Sandbox, SandboxError
from tests.bench import report
from tests.bench.cached import KEYS_MAX, CachedPgpoolII, CachedPointsman, fill_all
from tests.bench.contenders import COMPILED, BenchError, Contender, Pointsman
from tests.bench.measure import Bench, Sample, started
from tests.bench.pgbench import Load, Mode, Workload
from tests.bench.poolers import PgBouncer, PgpoolII

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
KEYS: Final = ("direct", "pointsman-1", "pointsman-2", "pgbouncer", "pgpool")
CLIENTS_MAX: Final = 100
CONNECTIONS_MAX: Final = 900
"""pgpool-II and session pooling keep a connection per client while the others run."""
PLAIN_WIDTH: Final = 150
KEYS_DEFAULT: Final = 10_000
ACCOUNTS_PER_SCALE: Final = 100_000


def main(
    contenders: Annotated[str, typer.Option(help=f"Any of {', '.join(KEYS)}; commas between.")] = ",".join(KEYS),
    modes: Annotated[str, typer.Option(help=f"pgbench's --protocol: any of {', '.join(MODES)}.")] = ",".join(MODES),
    clients: Annotated[str, typer.Option(help="Numbers of clients, at most 100.")] = "1,16,100",
    seconds: Annotated[int, typer.Option(min=1, help="Length of a run, after a second of warm-up.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="How often each run is made.")] = 3,
    scale: Annotated[int, typer.Option(min=1, help="pgbench's scale: 100,000 accounts each.")] = 10,
    tpcb: Annotated[bool, typer.Option("--tpcb", help="pgbench's TPC-B-like transactions instead of -S.")] = False,
    repeated: Annotated[
        bool, typer.Option("--repeated", help="-S with one constant: the same text each time.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="-S of some keys; who has a query cache also with it on, and filled.")
    ] = False,
    keys: Annotated[
        int, typer.Option(min=1, max=KEYS_MAX, help="With --cache: how many accounts are read.")
    ] = KEYS_DEFAULT,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run: one round of one second each.")] = False,
    compiled: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", exists=True, file_okay=False, help="A source tree with compiled modules: one more contender."
        ),
    ] = None,
) -> None:
    """CPU per transaction, throughput and latency of Pointsman and others before the same PostgreSQL cluster.

    Rounds of short pgbench runs, all contenders in turn. Ctrl-C ends the run early and shows what there is.

    Exit status 1 when a transaction failed or a contender that is installed did not start.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    if quick:
        seconds, rounds = 1, 1
    wanted = _chosen(modes, MODES, "--modes")
    if cache and (tpcb or repeated or keys > scale * ACCOUNTS_PER_SCALE):
        raise typer.BadParameter("with -S, and no more --keys than --scale has accounts", param_hint="--cache")
    workload: Workload = "tpcb" if tpcb else "repeated" if repeated else "keys" if cache else "select"
    loads = [
        Load(mode, number, seconds, workload, keys) for mode in MODES if mode in wanted for number in _clients(clients)
    ]
    chosen_keys = _chosen(contenders, KEYS, "--contenders")
    load_before = os.getloadavg()[0]
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    try:
        with (
            Sandbox(parameters={"max_connections": str(CONNECTIONS_MAX)}) as cluster,
            tempfile.TemporaryDirectory(prefix="pointsman-bench-") as directory,
        ):
            # The users that others run as must get through to their own directories, and see nothing of it.
            Path(directory).chmod(0o711)
            _fill(cluster, scale)
            chosen = [
                one
                for one in _all(cluster, Path(directory), compiled)
                if one.key.removesuffix("-cached") in chosen_keys or one.key.startswith(COMPILED)
                if cache or not one.caches
            ]
            with started(chosen, partial(console.print, style="yellow", markup=False)) as running:
                machine = report.describe_machine(running, load_before)
                samples: list[Sample] = []
                bench = Bench(cluster.program("pgbench"), _postmasters(cluster) if cache else ())
                # A Ctrl-C ends the measuring; extend keeps what came before it.
                with contextlib.suppress(KeyboardInterrupt):
                    _greet(bench, running, loads[0])
                    modes_run = list(dict.fromkeys(load.mode for load in loads))
                    fill_all(cluster.program("pgbench"), running, modes_run, keys, console.print)
                    samples.extend(_run_all(bench, console, running, loads, rounds))
    except (SandboxError, BenchError) as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    titles = {
        "select": "-S",
        "repeated": "-S with one constant",
        "keys": f"-S of the first {keys:,} accounts",
        "tpcb": "TPC-B-like",
    }
    results = report.Results(began, f"pgbench {titles[workload]}, scale {scale}", seconds, rounds, machine, samples)
    path = report.save(results)
    _show(console, running, results, loads)
    console.print(f"saved as {path}", highlight=False)
    hardly_cached = report.hardly_cached(running, samples)
    for line in hardly_cached:
        console.print(line, style="bold red", markup=False, soft_wrap=True)
    broken = hardly_cached or len(running) < len([one for one in chosen if not one.missing])
    if broken or any(sample.outcome.failed or not sample.outcome.transactions for sample in samples):
        raise typer.Exit(1)
    if len(samples) < rounds * len(loads) * len(running):
        raise typer.Exit(128 + signal.SIGINT)


def _all(cluster: Sandbox, directory: Path, compiled: Path | None) -> list[Contender]:
    ours = [
        kind(cluster, directory / f"{name}{number}{workers}", workers=workers, build=build)
        for name, build in (("p", None), ("c", None if compiled is None else compiled.resolve()))
        for workers in (1, 2)
        for number, kind in enumerate((Pointsman, CachedPointsman))
        if name == "p" or build is not None
    ]
    return [
        Contender(cluster, directory),
        *ours,
        PgBouncer(cluster, directory / "pgbouncer"),
        PgpoolII(cluster, directory / "pgpool"),
        CachedPgpoolII(cluster, directory / "pgpool-cached"),
    ]


def _postmasters(cluster: Sandbox) -> list[int]:
    return [node.pid for node in cluster.nodes if node.pid is not None]


def _fill(cluster: Sandbox, scale: int) -> None:
    """pgbench's tables, on the primary and replayed on the standbys."""
    target = Contender(cluster, Path()).target("simple")
    command = [str(cluster.program("pgbench")), "--initialize", "--quiet", f"--scale={scale}"]
    subprocess.run(command, env=target.environment(), check=True, capture_output=True)
    cluster.query("CHECKPOINT")
    cluster.wait_for_replay(60.0)


def _run_all(
    bench: Bench, console: Console, contenders: Sequence[Contender], loads: Sequence[Load], rounds: int
) -> Iterator[Sample]:
    """All samples, rounds outermost: what is compared lies close in time, what is repeated lies apart."""
    with _progress(console, rounds * len(loads) * len(contenders)) as advance:
        for number in range(1, rounds + 1):
            for load in loads:
                for contender in contenders:
                    sample = bench.sample(contender, load, number)
                    advance(
                        f"round {number}/{rounds}  {load.mode:8}  {load.clients:3} clients  {contender.title}", sample
                    )
                    yield sample


def _greet(bench: Bench, contenders: Sequence[Contender], load: Load) -> None:
    """Their first clients make proxies look at the catalogs and fill their pools."""
    for contender in contenders:
        bench.sample(contender, replace(load, clients=4, seconds=1), 0)


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[str, Sample], None]]:
    """A bar on a terminal, a line per run elsewhere. Yields what is to be told of each run."""
    if not console.is_terminal:
        yield lambda label, sample: console.print(f"{label:55} {_brief(sample)}", markup=False, highlight=False)
        return
    columns = (TextColumn("{task.description:55}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda label, _sample: bar.update(task, advance=1, description=label)


def _brief(sample: Sample) -> str:
    outcome = sample.outcome
    cpu = "" if sample.cpu_us is None else f"  {sample.cpu_us:7.1f} µs/txn"
    hits = "" if sample.hit_ratio is None else f"  {sample.hit_ratio:6.1%} hits"
    failed = f"  {outcome.failed} FAILED: {outcome.error}" if outcome.failed or outcome.error else ""
    return f"{outcome.tps:9.0f} TPS{cpu}{hits}{failed}"


def _show(console: Console, contenders: Sequence[Contender], results: report.Results, loads: Sequence[Load]) -> None:
    machine = results.machine
    versions = ", ".join(f"{one.title} {machine.versions[one.key]}" for one in contenders)
    console.print(
        f"{results.workload}; {results.rounds} x {results.seconds} s; {machine.cpus} CPUs ({machine.cpu}), "
        f"{machine.kernel}, Python {machine.python}, load {machine.load_before:.2f} before; commit {machine.commit}\n"
        f"{versions}",
        markup=False,
        highlight=False,
    )
    for load in loads:
        console.print(report.table(contenders, results.samples, load.mode, load.clients))
        errors = {sample.contender: sample.outcome.error for sample in results.samples if _is_of(sample, load)}
        for key, error in errors.items():
            if error:
                console.print(f"{key}: {error}", style="red", markup=False, soft_wrap=True)
    for one in contenders:
        for note in dict.fromkeys(one.note(load.mode) for load in loads):
            modes = [load.mode for load in loads if one.note(load.mode) == note]
            console.print(f"{one.title} ({', '.join(dict.fromkeys(modes))}): {note}", highlight=False, soft_wrap=True)


def _is_of(sample: Sample, load: Load) -> bool:
    return (sample.mode, sample.clients) == (load.mode, load.clients)


def _chosen(text: str, allowed: Sequence[str], option: str) -> list[str]:
    """The words of an option. Ends the command when one is not allowed."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in allowed]
    if unknown or not words:
        raise typer.BadParameter(f"{', '.join(unknown) or 'nothing'}: any of {', '.join(allowed)}", param_hint=option)
    return words


def _clients(text: str) -> list[int]:
    """The numbers of --clients. Ends the command when one cannot be."""
    try:
        numbers = [int(word) for word in text.split(",") if word.strip()]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= CLIENTS_MAX for number in numbers):
        raise typer.BadParameter(f"{text}: numbers from 1 to {CLIENTS_MAX}", param_hint="--clients")
    return numbers


if __name__ == "__main__":
    typer.run(main)
