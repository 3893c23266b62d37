"""Which targets count for which drill, and on which side of them a figure passes."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from middleware.config.drilling import DrillSettings
from middleware.drill.books import Outcome
from middleware.drill.checks import Findings
from middleware.drill.figures import Figures, Gap, Mark, figures_of
from middleware.drill.scenarios import BY_NAME, DRILLS, Drill
from middleware.drill.verdicts import Verdict, judge
from tests.drill.made import attempt, books_of, suspect

MOMENTS = [number / 10 for number in range(1, 51)]
WELL = figures_of(
    books_of([attempt(number) for number in range(1, 51)], MOMENTS, []),
    {Mark.BROKEN: 1.0, Mark.DETECTED: 1.1, Mark.PROMOTED: 1.2},
    until=5.0,
)
CLEAN = Findings(acknowledged=50)


def missed(
    drill: Drill,
    figures: Figures = WELL,
    findings: Findings = CLEAN,
    *,
    synchronous: bool = True,
    noticed: bool = True,
    **targets: Any,
) -> set[str]:
    verdicts = judge(drill, figures, findings, DrillSettings(**targets), synchronous=synchronous, noticed=noticed)
    return {verdict.what for verdict in verdicts if not verdict.passed}


def changed(**figures: Any) -> Figures:
    return msgspec.structs.replace(WELL, **figures)


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_all_well_passes_everywhere(drill: Drill) -> None:
    assert missed(drill) == set()
    assert missed(drill, synchronous=False) == set()


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("primary-crash", "write_outage_max"),
        ("primary-hang", "hang_outage_max"),
        ("primary-partition", "hang_outage_max"),
        ("switchover", "switchover_outage_max"),
        ("rolling-restart", "switchover_outage_max"),
        ("replica-crash", "bystander_outage_max"),
        ("replica-lag", "bystander_outage_max"),
        ("worker-crash", "bystander_outage_max"),
    ],
)
def test_each_drill_has_its_own_limit_of_writes(name: str, setting: str) -> None:
    figures = changed(write_outage=Gap(1.0, 1.5))
    enough: dict[str, Any] = {setting: 0.5}
    too_little: dict[str, Any] = {setting: 0.4}
    assert missed(BY_NAME[name], figures, **enough) == set()
    assert missed(BY_NAME[name], figures, **too_little) == {"write outage"}
    for slow in (changed(slowest_write_s=0.5), changed(slowest_read_s=0.5)):
        assert missed(BY_NAME[name], slow, **enough) == set()
        assert missed(BY_NAME[name], slow, **too_little) == {"slowest statement"}


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
@pytest.mark.parametrize(
    ("findings", "what"),
    [
        ({"lost": (attempt(1),)}, "lost commits"),
        ({"doubled": (attempt(1),)}, "commits there twice"),
        ({"phantoms": (attempt(1, Outcome.FAILED),)}, "reported failed, but there"),
        ({"strangers": ((9, 9),)}, "rows that nobody wrote"),
        ({"stale": (suspect(1),)}, "stale reads"),
    ],
)
def test_what_must_never_be(drill: Drill, findings: Mapping[str, Any], what: str) -> None:
    assert missed(drill, findings=Findings(**findings)) == {what}


def test_what_a_former_primary_takes_fails_where_one_was_lost() -> None:
    assert missed(BY_NAME["primary-partition"], findings=Findings(astray=(attempt(1),))) == {
        "writes taken by the former primary"
    }
    # Not to be taken for a good word.
    verdicts = judge(BY_NAME["primary-hang"], WELL, Findings(), DrillSettings(), synchronous=True, noticed=True)
    assert [one.note for one in verdicts if one.what == "writes taken by the former primary"] == [
        "nobody has looked at it before it followed"
    ]


def test_commits_lost_by_asynchronous_replication_are_reported_unless_they_are_to_fail() -> None:
    lost = Findings(lost=(attempt(1),))
    crash, bystander = BY_NAME["primary-crash"], BY_NAME["replica-crash"]
    assert missed(crash, findings=lost, synchronous=False) == set()
    verdict = next(
        one
        for one in judge(crash, WELL, lost, DrillSettings(), synchronous=False, noticed=True)
        if one.what == "lost commits"
    )
    assert (verdict.value, verdict.limit) == (1, None)
    assert verdict.note
    assert missed(crash, findings=lost, synchronous=False, lost_commits_async="fail") == {"lost commits"}
    # Nobody died who could have taken them along.
    assert missed(bystander, findings=lost, synchronous=False) == {"lost commits"}


@pytest.mark.parametrize("name", ["replica-crash", "replica-lag", "switchover", "rolling-restart"])
def test_failures_count_where_no_primary_is_lost(name: str) -> None:
    figures = changed(failed_reads=1, failed_writes=1, unknown_writes=1, disconnected=1)
    assert missed(BY_NAME[name], figures) == {"failed reads", "failed writes", "connections lost"}
    assert missed(BY_NAME[name], figures, failed_reads_max=1, failed_writes_max=2) == {"connections lost"}


@pytest.mark.parametrize("name", ["primary-crash", "primary-hang", "primary-partition", "worker-crash"])
def test_failures_do_not_count_where_one_is(name: str) -> None:
    assert missed(BY_NAME[name], changed(failed_reads=9, failed_writes=9, unknown_writes=9, disconnected=9)) == set()


def test_a_loss_that_nobody_noticed_and_a_promotion_that_was_none() -> None:
    crash = BY_NAME["primary-crash"]
    assert missed(crash, changed(promote_s=None), noticed=False) == {"node's loss not noticed", "no promotion"}
    assert missed(BY_NAME["replica-crash"], noticed=False) == {"node's loss not noticed"}
    assert missed(BY_NAME["replica-lag"], noticed=False) == set()


def test_an_outage_that_was_not_over_fails_however_short() -> None:
    figures = changed(read_outage=Gap(1.0, 1.25, over=False))
    (verdict,) = (
        one
        for one in judge(BY_NAME["replica-lag"], figures, CLEAN, DrillSettings(), synchronous=True, noticed=True)
        if not one.passed
    )
    why = "it was not over when the drill ended"
    assert verdict == Verdict("read outage", 0.25, 1.0, "s", False, "read_outage_max", why)
