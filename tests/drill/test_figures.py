"""Outages, buckets and figures of books made by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.drill.books import Outcome
from middleware.drill.figures import BUCKET_S, Gap, Mark, buckets, figures_of, longest_gap, marks_back
from tests.drill.made import attempt, books_of, failure


def test_the_gap_that_the_break_falls_into_counts_from_the_last_moment_before_it() -> None:
    assert longest_gap([1.0, 2.0, 5.0, 5.5, 6.0], since=2.5, until=6.5) == Gap(2.0, 5.0)


def test_a_longer_gap_before_the_break_does_not_count() -> None:
    assert longest_gap([0.0, 10.0, 10.1, 10.4], since=10.05, until=11.0) == Gap(10.1, 10.4)


def test_what_is_not_over_says_so() -> None:
    assert longest_gap([1.0, 2.0], since=1.5, until=9.0) == Gap(2.0, 9.0, over=False)
    assert longest_gap([], since=1.0, until=3.0) == Gap(1.0, 3.0, over=False)


def test_the_stop_of_the_load_is_no_outage() -> None:
    assert longest_gap([1.0, 1.25, 1.375], since=1.125, until=2.25) == Gap(1.0, 1.25)


def test_moments_may_come_in_any_order() -> None:
    assert longest_gap([5.0, 1.0, 2.0], since=2.5, until=5.5) == Gap(2.0, 5.0)


@given(st.lists(st.floats(0, 100), max_size=30), st.floats(0, 50), st.floats(50, 100))
def test_no_moment_lies_within_the_longest_gap(moments: list[float], since: float, until: float) -> None:
    gap = longest_gap(moments, since, until)
    assert gap.begin <= gap.end <= max(until, since)
    assert not any(gap.begin < moment < gap.end for moment in moments)


def test_buckets_count_what_clients_heard_of() -> None:
    books = books_of(
        [attempt(1, at=0.05), attempt(2, at=0.15), attempt(3, Outcome.FAILED, at=0.15)],
        reads=[0.0, 0.19, 0.25, 7.0],
        failures=[failure(0.15)],
    )
    found = buckets(books, 0.0, 0.3)
    assert [(one.writes, one.reads, one.errors) for one in found] == [(1, 1, 0), (1, 1, 1), (0, 1, 0)]
    assert [one.begin for one in found] == pytest.approx([0.0, BUCKET_S, 2 * BUCKET_S])


def test_figures_count_from_the_break_on() -> None:
    books = books_of(
        [
            attempt(1, at=1.0),
            attempt(2, Outcome.FAILED, at=1.5),
            attempt(3, at=3.0, took_s=0.9),
            attempt(4, Outcome.FAILED, at=3.1, took_s=1.0),
            attempt(5, Outcome.UNKNOWN, at=3.2),
        ],
        reads=[1.0, 2.2, 3.0],
        failures=[
            failure(1.5, "write"),
            failure(3.1, "write", "57P03"),
            failure(3.2, "read", ""),
            failure(3.3, "connect"),
        ],
    )
    figures = figures_of(books, {Mark.BROKEN: 2.0, Mark.DETECTED: 2.5}, until=3.5)
    assert (figures.detect_s, figures.promote_s) == (0.5, None)
    assert (figures.write_outage, figures.read_outage) == (Gap(1.0, 3.0), Gap(1.0, 2.2))
    assert (figures.failed_writes, figures.unknown_writes, figures.failed_reads, figures.failed_connects) == (
        1,
        1,
        1,
        1,
    )
    assert (figures.writes, figures.reads) == (1, 2)
    assert figures.slowest_write_s == pytest.approx(1.0)
    assert figures.sqlstates == {"08006": 1, "57P03": 1, "none": 1}
    assert marks_back(figures) == {Mark.WRITES_BACK: 3.0, Mark.READS_BACK: 2.2}


def test_a_pause_is_no_outage_to_be_marked() -> None:
    books = books_of([attempt(n, at=n / 10) for n in range(1, 40)], [n / 10 for n in range(1, 40)], [])
    assert marks_back(figures_of(books, {Mark.BROKEN: 1.0}, until=4.0)) == {}
