"""The command. Rounds are interleaved: in each, every contender meets every workload once, in turn."""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from middleware.sandbox import Sandbox
from tests.bench import contenders as c
from tests.bench.contenders import Contender, NotInstalled
from tests.bench.measure import Run, Workload, run
from tests.bench.report import Results, print_tables, write_json

MODES: Final = ("simple", "extended", "prepared")
CLIENTS: Final = (1, 16, 100)
SCALE: Final = 10
RESULTS: Final = Path("bench-results")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--clients", nargs="+", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=int, default=4, help="of each run (default 4)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tpcb", action="store_true", help="also pgbench's read-write transactions")
    parser.add_argument("--compiled", type=Path, help="a directory with a compiled build (make compiled)")
    parser.add_argument("--quick", action="store_true", help="one round of a second each, 16 clients: does it run?")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    if options.quick:
        options.seconds, options.rounds, options.clients = 1, 1, (16,)
    workloads = [
        Workload(mode, clients, options.seconds, tpcb)
        for tpcb in ((False, True) if options.tpcb else (False,))
        for mode in options.modes
        for clients in options.clients
    ]
    starters: list[Callable[[Sandbox, Path], Contender]] = [c.direct, c.pointsman(1), c.pointsman(2)]
    if options.compiled:
        starters += [c.pointsman(1, options.compiled.resolve()), c.pointsman(2, options.compiled.resolve())]
    starters += [c.pgbouncer, c.pgbouncer_session, c.pgpool]
    results: Results = {workload: {} for workload in workloads}
    with contextlib.ExitStack() as stack:
        console.print("starting a primary and two standbys, filling pgbench's tables")
        cluster = stack.enter_context(Sandbox(standbys=2))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pointsman-bench-")))
        scratch.chmod(0o711)
        _fill(cluster)
        running: list[Contender] = []
        for number, start in enumerate(starters):
            directory = scratch / str(number)
            directory.mkdir(mode=0o700)
            try:
                contender = start(cluster, directory)
            except NotInstalled as missing:
                console.print(f"left out: {missing}")
                continue
            stack.callback(contender.stop)
            running.append(contender)
            console.print(f"started {contender.name} ({contender.version})")
        _measure(console, cluster, running, results, options.rounds, scratch)
        print_tables(console, results)
        console.print(f"written to {write_json(RESULTS, results, running)}")
    return 1 if any(one.failed for runs in results.values() for rounds in runs.values() for one in rounds) else 0


def _fill(cluster: Sandbox) -> None:
    subprocess.run(
        [str(cluster.program("pgbench")), "-i", "-q", "-s", str(SCALE), cluster.url()], check=True, capture_output=True
    )
    cluster.wait_for_replay(60)


def _measure(
    console: Console, cluster: Sandbox, running: list[Contender], results: Results, rounds: int, scratch: Path
) -> None:
    log_directory = scratch / "log"
    log_directory.mkdir()
    expected: dict[tuple[Workload, str], float] = {}
    total = rounds * len(results)
    for number in range(rounds):
        for place, (workload, runs) in enumerate(results.items(), 1):
            console.print(f"round {number + 1}/{rounds}, {workload} ({number * len(results) + place}/{total})")
            for contender in running:
                if not _plays(contender, workload, running):
                    continue
                key = workload, contender.name
                one: Run = run(cluster, contender, workload, log_directory, expected.get(key, 20_000.0))
                expected[key] = one.tps
                runs.setdefault(contender.name, []).append(one)


def _plays(contender: Contender, workload: Workload, running: list[Contender]) -> bool:
    """An old PgBouncer meets prepared statements in session mode, and everything else in transaction mode."""
    old = any(other.name == "PgBouncer session" for other in running)
    if contender.name == "PgBouncer session":
        return workload.mode == "prepared"
    return not (contender.name == "PgBouncer" and workload.mode == "prepared" and old)


if __name__ == "__main__":
    sys.exit(main())
