"""One run of pgbench against a contender: transactions, latencies, and the contender's CPU time."""

import re
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from middleware.sandbox import Sandbox
from tests.bench.contenders import Contender

LATENCIES_WANTED: Final = 20_000
"""About this many transactions of a run are logged: logging each would be a load of its own."""


class Run(NamedTuple):
    """What one run gave. Latencies in milliseconds; `cpu_us` is the contender's, per transaction."""

    tps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    transactions: int
    failed: int


class Workload(NamedTuple):
    """A pgbench run: protocol mode, clients, seconds, and whether it writes (TPC-B) or only selects."""

    mode: str
    clients: int
    seconds: int
    tpcb: bool = False

    def __str__(self) -> str:
        return f"{'TPC-B' if self.tpcb else 'select'} {self.mode}, {self.clients} clients"


def run(cluster: Sandbox, contender: Contender, workload: Workload, directory: Path, expected_tps: float) -> Run:
    """Run pgbench once. `expected_tps` sets how many transactions are logged. Raises RuntimeError with its words."""
    for old in directory.glob("pgbench_log.*"):
        old.unlink()
    sampling = min(1.0, LATENCIES_WANTED / max(1.0, expected_tps * workload.seconds))
    before = contender.cpu_s()
    answer = subprocess.run(
        [
            str(cluster.program("pgbench")),
            "--no-vacuum",
            *([] if workload.tpcb else ["--select-only"]),
            f"--protocol={workload.mode}",
            f"--client={workload.clients}",
            # With prepared statements pgbench waits for each Parse, holding up all other clients of its thread: fewer
            # threads than clients would wait for each other's servers in transactions.
            f"--jobs={workload.clients if workload.tpcb else min(workload.clients, 2)}",
            f"--time={workload.seconds}",
            "--log",
            f"--sampling-rate={sampling:.6f}",
            "--host=127.0.0.1",
            f"--port={contender.port}",
            f"--username={cluster.user}",
            cluster.database,
        ],
        cwd=directory,
        env={"PGPASSWORD": cluster.passwords[cluster.user], "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    spent_s = contender.cpu_s() - before
    if answer.returncode != 0:
        raise RuntimeError(f"pgbench against {contender.name}, {workload}:\n{answer.stderr.strip()[-2000:]}")
    return parse(answer.stdout, latencies_ms(directory), spent_s)


def parse(output: str, latencies: list[float], cpu_s: float) -> Run:
    """pgbench's summary (of version 16 and 18), with the latencies from its log."""
    transactions = int(_field(r"transactions actually processed: (\d+)", output))
    return Run(
        tps=float(_field(r"tps = ([\d.]+)", output)),
        p50_ms=percentile(latencies, 0.50),
        p99_ms=percentile(latencies, 0.99),
        cpu_us=cpu_s * 1e6 / max(1, transactions),
        transactions=transactions,
        failed=int(_field(r"number of failed transactions: (\d+)", output)),
    )


def _field(pattern: str, output: str) -> str:
    match = re.search(pattern, output)
    if match is None:
        raise RuntimeError(f"pgbench did not say {pattern!r}:\n{output}")
    return match[1]


def latencies_ms(directory: Path) -> list[float]:
    """The latencies pgbench has logged: the third field of each line, in microseconds."""
    return [
        int(line.split()[2]) / 1000 for log in directory.glob("pgbench_log.*") for line in log.read_text().splitlines()
    ]


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
