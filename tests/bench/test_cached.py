"""Caches that are filled, and that the hits counted are those of the statements that pgbench has sent."""

import tempfile
from pathlib import Path

import pytest

from middleware.sandbox import Sandbox
from tests.bench.cached import CachedPgpoolII, CachedPointsman, fill
from tests.bench.contenders import BenchError, Contender, Proxy
from tests.bench.measure import Bench
from tests.bench.pgbench import Load, Mode, Target

KEYS = 400
"""Of which each client that fills has as many as the others."""
MODES: list[Mode] = ["simple", "prepared"]


def check(cluster: Sandbox, contender: Proxy) -> None:
    program = cluster.program("pgbench")
    bench = Bench(program, [node.pid for node in cluster.nodes if node.pid is not None])
    with contender:
        for mode in MODES:
            assert fill(program, contender, mode, KEYS) == 1.0
            sample = bench.sample(contender, Load(mode, 4, 1, "keys", KEYS), 1)
            assert (sample.outcome.failed, sample.outcome.error) == (0, "")
            # Pointsman tells its counts once a second: it may have had one second's fewer.
            assert sample.hit_ratio == pytest.approx(1.0, abs=0.001)
            assert sample.servers_cpu_us is not None
            # Twice as many keys as there are answers for: half of what is asked, and what was asked before.
            more = bench.sample(contender, Load(mode, 1, 1, "keys", 100_000), 1)
            assert more.hit_ratio is not None
            assert more.hit_ratio < 0.9


@pytest.mark.integration
@pytest.mark.parametrize("workers", [1, 2])
def test_pointsman_answers_from_its_cache(cluster: Sandbox, filled: Target, tmp_path: Path, workers: int) -> None:
    check(cluster, CachedPointsman(cluster, tmp_path / "c", workers=workers))


@pytest.mark.integration
def test_pgpool_answers_from_its_cache(cluster: Sandbox, filled: Target) -> None:
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as directory:
        # The user that it runs as must get through to its own.
        Path(directory).chmod(0o711)
        contender = CachedPgpoolII(cluster, Path(directory) / "p")
        if contender.missing:
            pytest.skip(contender.missing)
        check(cluster, contender)


@pytest.mark.integration
def test_a_cache_that_cannot_be_filled_says_why(cluster: Sandbox, tmp_path: Path) -> None:
    contender = Contender(cluster, tmp_path)
    with pytest.raises(BenchError, match=r"cannot be filled: .*pgbench_accounts"):
        fill(cluster.program("pgbench"), contender, "simple", KEYS)
