"""The results: a table per workload for people, JSON for machines."""

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.bench.contenders import Contender
from tests.bench.measure import Run, Workload

Results = dict[Workload, dict[str, list[Run]]]

PEERS: Final = ("PgBouncer", "pgpool-II")


def print_tables(console: Console, results: Results) -> None:
    """Medians over the rounds, and the CPU time against each peer's in the same rounds."""
    for workload, runs in results.items():
        table = Table(title=str(workload), title_justify="left", box=None, pad_edge=False, header_style="dim")
        table.add_column("contender", no_wrap=True)
        for column in ("TPS", "p50 ms", "p99 ms", "CPU us/txn", "min-max", *(f"/ {peer}" for peer in PEERS), "failed"):
            table.add_column(column, justify="right")
        for name, rounds in runs.items():
            cpu = [run.cpu_us for run in rounds]
            failed = sum(run.failed for run in rounds)
            table.add_row(
                name,
                f"{median(run.tps for run in rounds):.0f}",
                f"{median(run.p50_ms for run in rounds):.2f}",
                f"{median(run.p99_ms for run in rounds):.2f}",
                f"{median(cpu):.1f}" if any(cpu) else "",
                f"{min(cpu):.0f}-{max(cpu):.0f}" if any(cpu) else "",
                *(_ratio(runs, name, peer) for peer in PEERS),
                f"[red]{failed}[/red]" if failed else "",
            )
        console.print(table, "")


def _ratio(runs: dict[str, list[Run]], name: str, peer: str) -> str:
    """The median of the rounds' ratios: what both met in a round cancels out."""
    theirs = next((rounds for other, rounds in runs.items() if other.startswith(peer)), None)
    if theirs is None or name.startswith(peer) or not any(run.cpu_us for run in runs[name]):
        return ""
    return f"{median(a.cpu_us / b.cpu_us for a, b in zip(runs[name], theirs, strict=False) if b.cpu_us):.2f}"


def write_json(directory: Path, results: Results, contenders: list[Contender]) -> Path:
    """All runs, with the machine and the versions."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    record = {
        "commit": commit,
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "load_average": os.getloadavg(),
        "versions": {contender.name: contender.version for contender in contenders},
        "runs": [
            {"workload": workload._asdict(), "contender": name, "rounds": [run._asdict() for run in rounds]}
            for workload, runs in results.items()
            for name, rounds in runs.items()
        ],
    }
    path.write_text(json.dumps(record, indent=1))
    return path
