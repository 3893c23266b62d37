"""What the checks find is what was planted, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.drill.books import Outcome, outcome_of
from middleware.drill.checks import Findings, astray, check
from tests.drill.made import attempt, suspect

KINDS = ("lost", "doubled", "phantoms", "strangers", "unknown_there", "unknown_gone", "stale", "astray")


def found(findings: Findings) -> set[str]:
    """The kinds of which there is something."""
    return {kind for kind in KINDS if getattr(findings, kind)}


def test_books_that_agree_with_the_table() -> None:
    attempts = [attempt(1), attempt(2), attempt(3, Outcome.FAILED), attempt(1, writer=1)]
    findings = check(attempts, [], {(0, 1): 1, (0, 2): 1, (1, 1): 1})
    assert found(findings) == set()
    assert findings.acknowledged == 3


@pytest.mark.parametrize(
    ("outcome", "there", "kind"),
    [
        (Outcome.ACKNOWLEDGED, 0, "lost"),
        (Outcome.ACKNOWLEDGED, 1, None),
        (Outcome.ACKNOWLEDGED, 2, "doubled"),
        (Outcome.FAILED, 0, None),
        (Outcome.FAILED, 1, "phantoms"),
        (Outcome.UNKNOWN, 0, "unknown_gone"),
        (Outcome.UNKNOWN, 1, "unknown_there"),
    ],
)
def test_each_outcome_against_each_count(outcome: Outcome, there: int, kind: str | None) -> None:
    planted = attempt(7, outcome)
    findings = check([attempt(1), planted], [], {(0, 1): 1, (0, 7): there})
    assert found(findings) == ({kind} if kind else set())
    if kind:
        assert getattr(findings, kind) == (planted,)


def test_one_that_failed_and_is_there_twice_is_both() -> None:
    assert found(check([attempt(7, Outcome.FAILED)], [], {(0, 7): 2})) == {"phantoms", "doubled"}


def test_a_row_that_nobody_asked_for() -> None:
    assert check([attempt(1)], [], {(0, 1): 1, (5, 5): 1}).strangers == ((5, 5),)


def test_a_missing_row_was_read_stale_only_if_it_is_there_at_the_end() -> None:
    attempts = [attempt(1), attempt(2)]
    findings = check(attempts, [suspect(1), suspect(2, kind="seen")], {(0, 2): 1})
    # The first was lost with its node: that is counted once, and as what it is.
    assert findings.lost == (attempts[0],)
    assert findings.stale == (suspect(2, kind="seen"),)


def test_what_a_former_primary_took_behind_the_fence() -> None:
    before, after = attempt(1, Outcome.UNKNOWN, at=5.0, took_s=2.0), attempt(2, Outcome.UNKNOWN, at=5.0, took_s=0.5)
    elsewhere = attempt(3, at=6.0)
    assert astray([before, after, elsewhere], 4.0, {(0, 1): 1, (0, 2): 1}) == (after,)


@given(
    st.lists(
        st.tuples(st.sampled_from(Outcome), st.integers(0, 2)),
        max_size=20,
    )
)
def test_every_row_is_in_its_place(fates: list[tuple[Outcome, int]]) -> None:
    attempts = [attempt(number, outcome) for number, (outcome, _) in enumerate(fates, 1)]
    rows = {(0, number): there for number, (_, there) in enumerate(fates, 1)}
    findings = check(attempts, [], rows)

    def count(outcome: Outcome, *counts: int) -> int:
        return sum(fate == outcome and there in counts for fate, there in fates)

    assert len(findings.lost) == count(Outcome.ACKNOWLEDGED, 0)
    assert len(findings.phantoms) == count(Outcome.FAILED, 1, 2)
    assert len(findings.unknown_gone) == count(Outcome.UNKNOWN, 0)
    assert len(findings.unknown_there) == count(Outcome.UNKNOWN, 1, 2)
    assert len(findings.doubled) == sum(there == 2 for _, there in fates)
    assert findings.strangers == ()


@pytest.mark.parametrize(
    ("sqlstate", "at_commit"),
    [
        ("", Outcome.UNKNOWN),
        ("08007", Outcome.UNKNOWN),
        ("40003", Outcome.UNKNOWN),
        ("08006", Outcome.FAILED),
        ("57P01", Outcome.FAILED),
        ("57P02", Outcome.FAILED),
        ("57P03", Outcome.FAILED),
        ("40001", Outcome.FAILED),
        ("25006", Outcome.FAILED),
        ("53300", Outcome.FAILED),
    ],
)
def test_only_a_statement_that_commits_can_end_in_doubt(sqlstate: str, at_commit: Outcome) -> None:
    assert outcome_of(sqlstate, commits=True) is at_commit
    assert outcome_of(sqlstate, commits=False) is Outcome.FAILED
