"""The run of `make state-fuzz`, short: nothing differs, and what is planted does."""

from pathlib import Path

import pytest
from rich.console import Console

from middleware.sandbox import Sandbox
from tests.statefuzz import report
from tests.statefuzz.run import Plan, Plant, run
from tests.statefuzz.tally import Tally

pytestmark = pytest.mark.integration

OPERATIONS = 1_500
SEED = 1


def told(tally: Tally) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        for difference in tally.differences:
            console.print(report.told(difference), soft_wrap=True)
    return captured.get()


def test_clients_see_what_they_see_on_a_connection_of_their_own(cluster: Sandbox, tmp_path: Path) -> None:
    tally = run(cluster, tmp_path, Plan(OPERATIONS, seed=SEED))
    assert tally.differences == [], told(tally)
    assert tally.operations == OPERATIONS
    assert tally.pinned
    assert tally.notifications


def test_two_direct_connections_see_the_same(cluster: Sandbox, tmp_path: Path) -> None:
    tally = run(cluster, tmp_path, Plan(OPERATIONS, seed=SEED, self_check=True))
    assert tally.differences == [], told(tally)


@pytest.mark.parametrize("plant", [Plant.ALLOW, Plant.HIDDEN], ids=lambda plant: plant.value)
def test_a_planted_leak_is_found(cluster: Sandbox, tmp_path: Path, plant: Plant) -> None:
    assert run(cluster, tmp_path, Plan(OPERATIONS, seed=SEED, plant=plant)).differences
