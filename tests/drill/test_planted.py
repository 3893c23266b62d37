"""A real drill over a world that is really wrong: it must say so, and say what.

Rows are deleted and doubled behind the clients' backs, and Pointsman is told to promise less than the drill asks for.
"""

import os
from typing import Any

import pytest

from middleware.config.drilling import DrillSettings
from middleware.drill.acts import Act
from middleware.drill.ledger import TABLE, Size
from middleware.drill.run import Run
from middleware.drill.sandbox_stage import SandboxStage
from middleware.drill.scenarios import BY_NAME

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

# Writer 0's third row vanishes, its fourth is there twice, and there is one that nobody wrote.
WRONG = (
    f"DELETE FROM {TABLE} WHERE writer = 0 AND number = 3;"
    f"INSERT INTO {TABLE} SELECT * FROM {TABLE} WHERE writer = 0 AND number = 4;"
    f"INSERT INTO {TABLE} VALUES (77, 1);"
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class WrongStage(SandboxStage):
    """Its standby lags, and that is not all."""

    def _settings(self, port: int) -> dict[str, Any]:
        return {**super()._settings(port), "consistency": "eventual"}

    async def heal(self, act: Act, node: str) -> None:
        self._sandbox.query(WRONG)
        await super().heal(act, node)


async def test_what_is_planted_is_found() -> None:
    version = int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))
    drill = BY_NAME["replica-lag"]
    generous = DrillSettings(bystander_outage_max=60, read_outage_max=60)
    async with WrongStage(synchronous=False, standbys=1, version=version, forwarded=False) as stage:
        result = await Run(drill, stage, generous, Size(), 1, lambda _: None).play()
    assert result.trouble == ""
    found = result.findings
    assert found is not None
    assert [one.key for one in found.lost] == [(0, 3)]
    assert [one.key for one in found.doubled] == [(0, 4)]
    assert found.strangers == ((77, 1),)
    # The standby stood still for two seconds, and was read all the while.
    assert {one.node for one in found.stale} == {"db2"}
    assert "own" in {one.kind for one in found.stale}
    assert not result.passed
    assert {verdict.what for verdict in result.verdicts if not verdict.passed} == {
        "lost commits",
        "commits there twice",
        "rows that nobody wrote",
        "stale reads",
    }
