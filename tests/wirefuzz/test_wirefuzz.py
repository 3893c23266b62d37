"""The runs of `make wire-fuzz`, short: nothing is found, and what is planted is."""

from pathlib import Path

import pytest
from rich.console import Console

from middleware.sandbox import Sandbox
from tests.wirefuzz import real, report
from tests.wirefuzz.run import Plan, Plant, fails_with, run
from tests.wirefuzz.tally import Tally

# On a machine that others use, too.
pytestmark = pytest.mark.timeout(300)

INPUTS = 2_000
REAL_INPUTS = 600
SEED = 1


def told(tally: Tally) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        for finding in tally.findings:
            console.print(report.told(finding), soft_wrap=True)
        console.print(report.summary(tally))
    return captured.get()


def test_nobody_notices_mutated_streams() -> None:
    tally = run(Plan(INPUTS, SEED))
    assert tally.findings == [], told(tally)
    assert tally.inputs.total() == INPUTS
    assert set(tally.inputs) == {"session", "login", "servers"}
    assert tally.compared
    assert len(tally.endings) == 4, told(tally)


def test_the_same_seed_plays_the_same() -> None:
    first, second = (run(Plan(200, SEED)) for _ in range(2))
    assert (first.endings, first.mutations) == (second.endings, second.mutations)


@pytest.mark.parametrize(("plant", "kind"), [(Plant.RAISE, "bug"), (Plant.DIRTY, "books")])
def test_a_planted_bug_is_found_and_made_small(plant: Plant, kind: str) -> None:
    tally = run(Plan(INPUTS, SEED, plant=plant))
    assert len(tally.findings) == 1
    (finding,) = tally.findings
    assert finding.fault.partition(":")[0] == kind, told(tally)
    assert finding.again
    assert fails_with(finding.fault, plant)(list(finding.inputs))
    assert not fails_with(finding.fault)(list(finding.inputs))
    assert len(finding.inputs) == 1


@pytest.mark.integration
def test_nobody_notices_them_with_postgresql_behind(cluster: Sandbox, tmp_path: Path) -> None:
    tally = real.run(cluster, tmp_path, REAL_INPUTS, SEED)
    assert tally.faults == []
    assert tally.inputs == REAL_INPUTS
    assert tally.neighbours
    assert tally.over_tls
