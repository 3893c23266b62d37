"""One run of pgbench: its command line, and what it said, as numbers.

A run has a warm-up of one second that is not counted: logins, first connections to the servers, first plans. pgbench's
first progress line marks its end, as the only moment that pgbench tells of while it runs; at that moment and at the end
the caller's `mark` is called, so that CPU time is taken over the very transactions that are counted.

pgbench's clock for `--time` runs while it logs in, so a run must be given the time that logins take: the caller's
`login_s`, best known from the run before.
"""

import math
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

Mode = Literal["simple", "extended", "prepared"]

WARM_UP_S: Final = 1
"""The shortest interval between two progress lines."""
SAMPLING_RATE: Final = 0.25
"""The share of transactions whose latency is logged: enough for a p99, little work for pgbench."""
SELECT: Final = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
"""That of -S, letter by letter."""
VISITORS: Final = 8
"""The clients that fill a cache."""
VISIT_TIMEOUT_S: Final = 600.0
OVERTIME_S: Final = 60.0
"""How long past its time a run may take (100 logins, a last slow transaction) before it is killed."""

_PROGRESS: Final = re.compile(r"^progress: ([\d.]+) s, ([\d.]+) tps")
PROCESSED: Final = "number of transactions actually processed"
FAILED: Final = "number of failed transactions"
LOGIN_MS: Final = "initial connection time"
TPS: Final = "tps"
_REPORT: Final = re.compile(rf"^({PROCESSED}|{FAILED}|{LOGIN_MS}|{TPS})(?:: | = )([\d.]+)", re.MULTILINE)


class Target(msgspec.Struct, frozen=True):
    """Where pgbench connects to."""

    host: str
    port: int
    user: str
    password: str
    database: str

    def environment(self) -> dict[str, str]:
        """Ours, with libpq's variables for this target and no other."""
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGCONNECT_TIMEOUT": "20",
        }


Workload = Literal["select", "repeated", "keys", "tpcb"]
"""`pgbench -S`, whose every statement has another constant; the same with one constant; with one of the first `keys`;
the TPC-B-like default."""


class Load(msgspec.Struct, frozen=True):
    """What pgbench does: `seconds` are those that count, after the warm-up."""

    mode: Mode
    clients: int
    seconds: int
    workload: Workload = "select"
    keys: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """What came of one run. Transactions and latencies are those after the warm-up."""

    transactions: int
    seconds: float
    """How long these took; 0.0 when the logins left no time."""
    login_s: float
    tps: float
    p50_ms: float | None
    p99_ms: float | None
    failed: int
    """Transactions that failed and clients that gave up, in the whole run."""
    error: str
    """The first thing pgbench complained of, if any."""
    processed: int = 0
    """Transactions in the whole run, warm-up and all."""


class Seen(msgspec.Struct, frozen=True):
    """What a run of `duration_s` showed: report, complaints, exit status; transactions, length and end of warm-up."""

    duration_s: int
    report: str
    complaints: list[str]
    status: int
    warm: int
    warm_s: float
    warm_at: float


def run(program: Path, target: Target, load: Load, login_s: float, mark: Callable[[], None]) -> Outcome:
    """Run pgbench; `mark` is called at the end of the warm-up, if there was one, and at the end."""
    duration_s = WARM_UP_S + load.seconds + round(login_s)
    with tempfile.TemporaryDirectory(prefix="pointsman-pgbench-") as directory:
        process = subprocess.Popen(
            [program, *_arguments(load, duration_s, directory)],
            env=target.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A Ctrl-C at the terminal is for us, who then end pgbench.
            start_new_session=True,
        )
        watchdog = threading.Timer(duration_s + OVERTIME_S, process.kill)
        # A Ctrl-C may come at any line: the thread must not keep us from ending then.
        watchdog.daemon = True
        try:
            watchdog.start()
            seen = _watch(process, duration_s, mark)
        finally:
            watchdog.cancel()
            process.kill()
            process.communicate()
        latencies_ms = [
            ms for path in Path(directory).iterdir() for ms in read_latencies_ms(path.read_text(), seen.warm_at)
        ]
    return summarise(load, seen, latencies_ms)


def _watch(process: subprocess.Popen[str], duration_s: int, mark: Callable[[], None]) -> Seen:
    """Read what pgbench says until it ends."""
    assert process.stdout is not None
    assert process.stderr is not None
    warm, warm_s, warm_at, complaints = 0, 0.0, 0.0, []
    for line in process.stderr:
        progress = _PROGRESS.match(line)
        if progress is None:
            complaints.append(line.strip())
        elif warm_at == 0.0:
            mark()
            warm_at = time.time()
            warm_s = float(progress[1])
            warm = round(warm_s * float(progress[2]))
    mark()
    return Seen(duration_s, process.stdout.read(), complaints, process.wait(), warm, warm_s, warm_at)


def _arguments(load: Load, duration_s: int, directory: str) -> list[str]:
    return [
        "-n",
        *_script(load, directory),
        f"--protocol={load.mode}",
        f"--client={load.clients}",
        f"--jobs={min(load.clients, os.cpu_count() or 1, 4)}",
        f"--time={duration_s}",
        f"--progress={WARM_UP_S}",
        "--log",
        f"--log-prefix={directory}/log",
        f"--sampling-rate={SAMPLING_RATE}",
    ]


def _script(load: Load, directory: str) -> list[str]:
    if load.workload == "tpcb":
        return []
    if load.workload == "select":
        return ["-S"]
    key = f"\\set aid random(1, {load.keys})\n{SELECT}" if load.workload == "keys" else SELECT.replace(":aid", "1")
    script = Path(directory) / "script.sql"
    script.write_text(key)
    return [f"--file={script}"]


def visit(program: Path, target: Target, mode: Mode, keys: int, *, each: bool) -> int:
    """Have pgbench read the first `keys` accounts in order, all together or `each` client all of them.

    Returns how many statements that were. Raises CalledProcessError when one failed.
    """
    share = math.ceil(keys / VISITORS)
    count = keys if each else share
    with tempfile.TemporaryDirectory(prefix="pointsman-pgbench-") as directory:
        script = Path(directory) / "script.sql"
        # Each begins at another, so that they do not run side by side.
        first = f":client_id * {share} + :seen"
        script.write_text(f"\\set seen :seen + 1\n\\set aid 1 + mod({first} - 1, {keys})\n{SELECT}")
        command = [
            str(program),
            "-n",
            f"--file={script}",
            "--define=seen=0",
            f"--protocol={mode}",
            f"--client={VISITORS}",
            f"--jobs={min(VISITORS, os.cpu_count() or 1)}",
            f"--transactions={count}",
        ]
        subprocess.run(command, env=target.environment(), check=True, capture_output=True, timeout=VISIT_TIMEOUT_S)
    return count * VISITORS


def read_latencies_ms(log: str, since: float) -> list[float]:
    """The latencies in a log of pgbench, of transactions that ended at Unix time `since` or later.

    Fields ("Per-Transaction Logging"): client, transaction, microseconds or "failed", script, epoch, microseconds.
    """
    found = []
    for line in log.splitlines():
        fields = line.split()
        if len(fields) >= 6 and fields[2].isdigit() and int(fields[4]) + int(fields[5]) / 1e6 >= since:
            found.append(int(fields[2]) / 1000)
    return found


def summarise(load: Load, seen: Seen, latencies_ms: list[float]) -> Outcome:
    """The outcome from what a run showed."""
    errors = [line for line in seen.complaints if "error" in line or "FATAL" in line]
    aborted = sum("aborted" in line for line in errors)
    error = errors[0] if errors else ""
    report = {name: float(value) for name, value in _REPORT.findall(seen.report)}
    if TPS not in report and seen.status == 0:
        # Without a transaction pgbench says no more, so the logins took all of the time, at least.
        error = error or f"no transaction within {seen.duration_s} s: the logins took longer"
        return Outcome(0, 0.0, seen.duration_s, 0.0, None, None, 0, error)
    if TPS not in report:
        # pgbench ended before its first transaction, or was killed.
        return Outcome(0, 0.0, 0.0, 0.0, None, None, load.clients, error or f"pgbench ended with status {seen.status}")
    processed, tps = report[PROCESSED], report[TPS]
    seconds = processed / tps - seen.warm_s if seen.warm_s else 0.0
    transactions = int(processed) - seen.warm if seconds > 0 else 0
    latencies_ms = sorted(latencies_ms)
    return Outcome(
        transactions=transactions,
        seconds=max(0.0, seconds),
        login_s=report[LOGIN_MS] / 1000,
        tps=transactions / seconds if seconds > 0 else 0.0,
        p50_ms=percentile(latencies_ms, 0.50) if seconds > 0 else None,
        p99_ms=percentile(latencies_ms, 0.99) if seconds > 0 else None,
        failed=int(report.get(FAILED, 0)) + (aborted or int(seen.status != 0)),
        error=error,
        processed=int(processed),
    )


def percentile(ordered: list[float], share: float) -> float | None:
    """The smallest value that `share` of the values do not exceed; None of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
