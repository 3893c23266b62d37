"""Contenders with their query caches on, how these are filled before a run, and what is checked of that.

A cache that does not answer makes its contender look like one without: so the hits that it counts itself are set
against the statements that pgbench counts.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from middleware.sandbox import Sandbox
from tests.bench.contenders import BenchError, Contender, Pointsman
from tests.bench.pgbench import Mode, visit
from tests.bench.poolers import PgpoolII

CACHE_BYTES: Final = 512 << 20
"""Enough for every key of the largest run, by far: nothing is evicted."""
KEYS_MAX: Final = 200_000
FILLED: Final = 0.99
"""The share of hits by which a cache counts as full."""
FILLS_MAX: Final = 5


class CachedPointsman(Pointsman):
    """Every answer that can be kept is."""

    def __init__(self, cluster: Sandbox, directory: Path, *, workers: int, build: Path | None = None) -> None:
        super().__init__(cluster, directory, workers=workers, build=build)
        self.key += "-cached"
        self.title += " cached"
        self.caches = workers
        # A worker tells its counts once a second.
        self.told_after_s = 1.5
        self.more_settings = {
            "query_cache": "on",
            "query_cache_size": CACHE_BYTES,
            # All takes longer than a minute.
            "query_cache_ttl": 0,
            "control_socket": str(directory / "control"),
        }

    def note(self, mode: Mode) -> str:
        caches = "its cache" if self.caches == 1 else f"{self.caches} caches, one a worker,"
        return f"{super().note(mode)}; query_cache = on, {caches} filled before, without an end of life"

    def hits(self) -> int:
        answer = subprocess.run(
            [sys.executable, "-m", "middleware", "cache", "stats", "--json", "-c", self.directory / "pointsman.toml"],
            env=self.environment(),
            cwd=self.build,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise BenchError(f"{self.title}: pointsman cache stats: {answer.stderr.strip()}")
        told: dict[str, Any] = json.loads(answer.stdout)
        return int(told["counters"]["hits"])


class CachedPgpoolII(PgpoolII):
    """memory_cache_enabled, in shared memory that all its processes have in common."""

    key = "pgpool-cached"
    title = "pgpool-II cached"
    caches = 1

    def note(self, mode: Mode) -> str:
        return f"{super().note(mode)}; memory_cache_enabled in shared memory, filled before, without an end of life"

    def filled_in(self, mode: Mode) -> Mode:
        # 4.3 keeps the answer to a prepared statement's first execution alone, and finds those of others.
        return "extended" if mode == "prepared" else mode

    def more_settings(self) -> dict[str, object]:
        oids = self.directory / "oiddir"
        oids.mkdir(exist_ok=True)
        return {
            "memory_cache_enabled": "on",
            "memqcache_method": "shmem",
            "memqcache_total_size": CACHE_BYTES,
            "memqcache_expire": 0,
            "memqcache_oiddir": oids,
        }

    def hits(self) -> int:
        command = [str(self.cluster.program("psql")), "-X", "-A", "-c", "SHOW POOL_CACHE"]
        answer = subprocess.run(
            command, env=self.target("simple").environment(), capture_output=True, text=True, check=False
        )
        lines = [line.split("|") for line in answer.stdout.splitlines()]
        if answer.returncode or len(lines) < 2 or "num_cache_hits" not in lines[0]:
            raise BenchError(f"{self.title}: SHOW POOL_CACHE: {answer.stderr.strip() or answer.stdout.strip()}")
        return int(lines[1][lines[0].index("num_cache_hits")])


def fill(program: Path, contender: Contender, mode: Mode, keys: int) -> float:
    """Have its caches hold the answers for the first `keys` accounts; the share of hits of the last reading of all.

    Raises BenchError.
    """
    target, filled_in, ratio = contender.target(mode), contender.filled_in(mode), 0.0
    for _ in range(FILLS_MAX):
        try:
            # Clients are the workers' by chance: each of them reads all, and no worker is likely to have none.
            visit(program, target, filled_in, keys, each=contender.caches > 1)
            time.sleep(contender.told_after_s)
            before = contender.hits()
            asked = visit(program, target, mode, keys, each=False)
            time.sleep(contender.told_after_s)
        except subprocess.CalledProcessError as error:
            raise BenchError(
                f"{contender.title}: the cache cannot be filled: {error.stderr.decode().strip()}"
            ) from error
        ratio = (contender.hits() - before) / asked
        if ratio >= FILLED:
            break
    return ratio


def fill_all(
    program: Path, contenders: Sequence[Contender], modes: Sequence[Mode], keys: int, say: Callable[[str], None]
) -> None:
    """Those of all that have one, for all modes: a cache may tell one from another."""
    for contender in contenders:
        for mode in modes if contender.caches else ():
            ratio = fill(program, contender, mode, keys)
            say(f"{contender.title}, {mode}: {keys:,} keys read, {ratio:.1%} of them from the cache the last time")
