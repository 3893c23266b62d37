"""What the benchmark reads: pgbench's words, its log, and the CPU time of processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.contenders import Contender
from tests.bench.measure import latencies_ms, parse, percentile
from tests.waiting import eventually

SUMMARY = """pgbench (18.4)
number of transactions actually processed: 33884
number of failed transactions: 7 (0.020%)
latency average = 2.324 ms
tps = 6885.365692 (without initial connection time)
"""


def test_pgbench_summary() -> None:
    run = parse(SUMMARY, [1.0, 2.0, 3.0], cpu_s=1.0)
    assert (run.transactions, run.failed, run.tps) == (33884, 7, 6885.365692)
    assert run.p50_ms == 2.0
    assert run.cpu_us == pytest.approx(29.51, abs=0.01)


def test_pgbench_log(tmp_path: Path) -> None:
    (tmp_path / "pgbench_log.1").write_text("0 1 1500 0 1700000000 1\n1 1 2500 0 1700000000 2\n")
    (tmp_path / "pgbench_log.1.1").write_text("0 1 500 0 1700000000 3\n")
    assert sorted(latencies_ms(tmp_path)) == [0.5, 1.5, 2.5]


def test_percentiles() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([float(n) for n in range(100)], 0.99) == 99.0


def test_cpu_time_of_a_process_and_its_children() -> None:
    burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    process = subprocess.Popen([sys.executable, "-c", burn], start_new_session=True)
    contender = Contender("burner", 0, process, "")
    try:
        before = contender.cpu_s()
        eventually(lambda: contender.cpu_s() > before + 0.2)
    finally:
        subprocess.run(["pkill", "-KILL", "-g", str(process.pid)], check=False)
        process.wait()
