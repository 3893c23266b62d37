"""The load of `make cache-check`, short: the promises are kept, by whatever happens, and everything does happen."""

import os
from pathlib import Path

import pytest

from middleware.sandbox import Sandbox
from tests.cachecheck import report
from tests.cachecheck.clients import FORMS
from tests.cachecheck.plan import Level, Plan, Watch
from tests.cachecheck.run import run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

VERSION = int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))

PLANS = {
    "session": Plan(operations=6_000, clients=12, seed=1, version=VERSION),
    "global": Plan(Level.GLOBAL, operations=6_000, clients=12, seed=2, version=VERSION),
    "global, without a cache": Plan(Level.GLOBAL, operations=6_000, clients=12, seed=5, cache=False, version=VERSION),
    "failover, two Pointsmans": Plan(
        operations=8_000, clients=12, seed=3, instances=2, failovers=1, worker_kills=1, out_of_band=1, version=VERSION
    ),
}

if VERSION >= 15:  # before, test_decoding is needed, which not every installation has
    PLANS["others write, logical decoding"] = Plan(
        operations=8_000, clients=12, seed=4, instances=2, out_of_band=2, watch=Watch.LOGICAL, version=VERSION
    )


@pytest.mark.parametrize("name", PLANS)
def test_promises_are_kept(name: str, tmp_path: Path) -> None:
    plan = PLANS[name]
    with Sandbox(standbys=plan.standbys, version=plan.version, parameters=plan.parameters()) as cluster:
        result = run(cluster, tmp_path, plan)
    told = "\n".join(report.violations(result.findings))
    assert report.failures(result) == [], told
    assert result.disturbance.pauses
    assert result.disturbance.workers_killed == plan.worker_kills
    assert result.world.forms.keys() == FORMS.keys()
    assert {spot.kind.name for spot in result.world.spots} == result.world.looks.keys()


PLANTED = {"store-unchecked": Level.GLOBAL, "own-worker": Level.GLOBAL}
"""Those that show themselves soon; others are found by longer loads (`make cache-check`), or in test_planted.py."""
SEEDS = range(1, 9)
"""What a bug shows hangs on moments: it is looked for until it has shown itself."""


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_bug_is_found(plant: str, tmp_path: Path) -> None:
    for seed in SEEDS:
        plan = Plan(PLANTED[plant], operations=10_000, clients=16, seed=seed, plant=plant, version=VERSION)
        own = tmp_path / str(seed)
        own.mkdir()
        with Sandbox(standbys=plan.standbys, version=plan.version, parameters=plan.parameters()) as cluster:
            if not report.failures(run(cluster, own, plan)):
                return
    raise AssertionError(f"not found in {len(SEEDS)} loads")
