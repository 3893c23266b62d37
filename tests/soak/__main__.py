"""The command: many transactions over few servers, a result and a COPY larger than memory may grow.

Exits with 1 when anything failed or a bound was passed. `--quick` runs the same with a hundredth of the load.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import psycopg
from rich.console import Console

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman

CLIENTS: Final = 100
POOL_SIZE: Final = 10
TRANSACTIONS: Final = 100_000
GIGABYTE: Final = 1_000_000_000
ROW_BYTES: Final = 1000
GROWTH_MAX_MB: Final = 64
SCALE: Final = 100
"""pgbench's tables: with fewer branches than clients, TPC-B measures row locks."""

SERVERS: Final = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND application_name <> 'soak'"


class Watch:
    """Samples a figure until stopped, and keeps the highest."""

    def __init__(self, sample: Callable[[], float], pause_s: float) -> None:
        self.highest = 0.0
        self._sample = sample
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            self.highest = max(self.highest, self._sample())


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    share = 100 if options.quick else 1
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    passed = True
    with Sandbox() as cluster, tempfile.TemporaryDirectory() as scratch:
        fill = [str(cluster.program("pgbench")), "-i", "-q", "-s", str(max(1, SCALE // share)), cluster.url()]
        subprocess.run(fill, check=True, capture_output=True)
        cluster.wait_for_replay(120)
        with pointsman(cluster, Path(scratch), workers=2, default_pool_size=POOL_SIZE) as endpoint:
            for mode in ("simple", "extended", "prepared"):
                for tpcb in (False, True):
                    passed &= transactions(console, cluster, endpoint, mode, tpcb, TRANSACTIONS // share)
            passed &= memory(console, endpoint, "result to a slow reader", slow_reader, GIGABYTE // share)
            passed &= memory(console, endpoint, "COPY in", copy_in, GIGABYTE // share)
    console.print("all within bounds" if passed else "FAILED")
    return 0 if passed else 1


def transactions(console: Console, cluster: Sandbox, endpoint: Endpoint, mode: str, tpcb: bool, count: int) -> bool:
    """pgbench with many clients; all must succeed, on no more servers than the pools may have."""

    def servers() -> float:
        return max(int(cluster.query(SERVERS, node)[0][0]) for node in cluster.nodes)

    command = [
        str(cluster.program("pgbench")),
        "--no-vacuum",
        *([] if tpcb else ["--select-only"]),
        f"--protocol={mode}",
        f"--client={CLIENTS}",
        # A thread each: pgbench waits for each Parse, and would hold up other clients' transactions of its thread.
        f"--jobs={CLIENTS}",
        f"--transactions={max(1, count // CLIENTS)}",
        endpoint.url(),
    ]
    with Watch(servers, 0.5) as watch:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    done = re.search(r"actually processed: (\d+)/(\d+)", answer.stdout)
    failed = re.search(r"failed transactions: (\d+)", answer.stdout)
    good = answer.returncode == 0 and done is not None and done[1] == done[2] and failed is not None
    good = good and failed is not None and failed[1] == "0" and watch.highest <= POOL_SIZE
    console.print(
        f"{'ok  ' if good else 'FAIL'} {'TPC-B ' if tpcb else 'select'} {mode:8} "
        f"{done[1] if done else 0} transactions, "
        f"{CLIENTS} clients, {failed[1] if failed else '?'} failed, at most {watch.highest:.0f} servers on a node"
    )
    if not good:
        console.print(answer.stderr.strip()[-2000:])
    return good


def memory(
    console: Console, endpoint: Endpoint, name: str, load: Callable[[Endpoint, int], None], size_bytes: int
) -> bool:
    """The workers' memory while a load runs must stay near what it was at rest."""
    workers = endpoint.workers()

    def resident_mb() -> float:
        return max(worker.memory_info().rss for worker in workers) / 1024 / 1024

    at_rest = resident_mb()
    began = time.monotonic()
    with Watch(resident_mb, 0.05) as watch:
        load(endpoint, size_bytes)
    growth = watch.highest - at_rest
    good = growth <= GROWTH_MAX_MB
    console.print(
        f"{'ok  ' if good else 'FAIL'} {name} of {size_bytes / 1e6:.0f} MB in {time.monotonic() - began:.1f} s: "
        f"worker at rest {at_rest:.1f} MB, growth {growth:.1f} MB"
    )
    return good


def slow_reader(endpoint: Endpoint, size_bytes: int) -> None:
    """Read a result in bursts, with pauses in which the server must wait."""
    rows = size_bytes // ROW_BYTES
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        query = f"SELECT repeat('x', {ROW_BYTES}) FROM generate_series(1, {rows})"
        for number, _ in enumerate(client.cursor().stream(query)):
            if number % (rows // 20) == 0:
                time.sleep(0.3)


def copy_in(endpoint: Endpoint, size_bytes: int) -> None:
    block = (b"y" * (ROW_BYTES - 1) + b"\n") * 64
    with psycopg.connect(endpoint.conninfo()) as client:
        client.execute("CREATE TABLE soak (line text)")
        with client.cursor().copy("COPY soak FROM STDIN") as copy:
            for _ in range(size_bytes // len(block)):
                copy.write(block)
        count = client.execute("SELECT count(*) FROM soak").fetchone()
        assert count == (size_bytes // len(block) * 64,)
        client.rollback()


if __name__ == "__main__":
    sys.exit(main())
