"""The runs of `make load`, short: all bounds are kept."""

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from middleware.sandbox import Sandbox
from tests.load import idle, serverless, storm, watched

pytestmark = pytest.mark.integration

CLIENTS_MAX = 1000
SPARE_DESCRIPTORS = 200


@pytest.fixture(scope="module", autouse=True)
def descriptors() -> Iterator[None]:
    """As many open files as there may be: most systems begin with 1024."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < CLIENTS_MAX + SPARE_DESCRIPTORS:
        pytest.skip(f"the hard limit on open files is {before[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """One to which nobody else connects: all its connections are counted."""
    with Sandbox(standbys=1) as alone:
        yield alone


@pytest.mark.parametrize(
    "plan",
    [
        storm.Plan("one worker", clients=250, seconds=5, workers=1, pool_size=5),
        storm.Plan("two workers", clients=250, seconds=5, workers=2, pool_size=5),
        storm.Plan("database", clients=100, seconds=4, workers=2, limit="max_db_connections", pool_size=5),
        storm.Plan("user", clients=100, seconds=4, workers=2, limit="max_user_connections", pool_size=5),
    ],
    ids=lambda plan: str(plan.variant),
)
def test_storm(cluster: Sandbox, tmp_path: Path, plan: storm.Plan) -> None:
    result = storm.storm(cluster, tmp_path, plan, print)
    assert result.failures == []
    assert result.figures["waited p50, ms"] > 0


def test_idle(cluster: Sandbox) -> None:
    result = idle.idle(cluster, idle.Plan("plain", clients=CLIENTS_MAX, watch_s=1), print)
    assert result.failures == []


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_watched(cluster: Sandbox) -> None:
    """What the console shows of all of them is right; how long it takes is not judged."""
    plan = watched.Plan("two workers", clients=CLIENTS_MAX - 200, working=50, seconds=2)
    assert watched.watched(cluster, plan, print).failures == []


def test_serverless(cluster: Sandbox, tmp_path: Path) -> None:
    """Without PgBouncer where that is not installed; and without bounds on time, which noise would break."""
    plan = serverless.Plan(clients=50, seconds=1, rounds=1, variants=(serverless.SCRAM, serverless.OVER_TLS))
    said: list[str] = []
    results = serverless.serverless(cluster, tmp_path, plan, said.append)
    assert [one for result in results for one in result.failures if "PgBouncer's CPU" not in one] == []
    ours = [result for result in results if result.variant.startswith("Pointsman")]
    assert len(ours) == 2, said
    assert all(result.figures["connections/s"] > 0 for result in ours)
