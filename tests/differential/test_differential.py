"""One conversation with PostgreSQL, the same with Pointsman in front of it: the same answers, message by message."""

import pytest

from tests.differential.conversation import hold
from tests.differential.raw_client import Address, Ending
from tests.differential.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_same_answers(scenario: Scenario, direct: Address, proxied: Address) -> None:
    expected = hold(scenario, direct)
    assert all(ending is not Ending.DEADLINE for _, ending in expected)
    assert hold(scenario, proxied) == expected
