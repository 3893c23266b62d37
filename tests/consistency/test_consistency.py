"""The load of `make consistency`, short: what each level promises, and that the load notices when it is not kept."""

from pathlib import Path

import pytest

from middleware.sandbox import Sandbox
from tests.consistency import report
from tests.consistency.run import Level, Plan, run

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("level", [Level.SESSION, Level.EVENTUAL], ids=lambda level: level.value)
def test_reads_while_standbys_lag(cluster: Sandbox, tmp_path: Path, level: Level) -> None:
    tally, lag = run(cluster, tmp_path, Plan(level, pairs=2_000, clients=10, seed=1))
    assert tally.pairs == 2_000
    assert lag.pauses
    assert report.failures(level, tally, set(lag.paused_s)) == [], "\n".join(tally.examples)
