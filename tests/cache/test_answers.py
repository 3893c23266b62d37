"""What is forgotten to make room, and that what is looked up is what is kept."""

import os
from collections.abc import Iterator

import pytest

from middleware.cache.answers import Answers
from middleware.cache.cache import USED_S, QueryCache
from middleware.cache.counts import Counts
from middleware.cache.entry import OVERHEAD_BYTES, Entry
from middleware.cache.versions import Versions, bytes_for
from middleware.config import CacheSettings
from parser.facts import StatementFacts

SIZE = OVERHEAD_BYTES + 100
"""Of each entry here."""
WHOLE = b"T\0\0\0\x06\0\0" + b"C\0\0\0\x0d" + b"SELECT 0\0" + b"Z\0\0\0\x05I"


def entry(size: int = SIZE) -> Entry:
    digest = Counts().digest("db", "SELECT")
    return Entry(b"x" * (size - OVERHEAD_BYTES), b"Q", (0,), 0, 1, 0.0, 0.0, 0.0, 0.1, digest, 0)


def test_what_was_not_used_for_longest_makes_room() -> None:
    answers = Answers(3 * SIZE)
    for key in (b"1", b"2", b"3"):
        answers[key] = entry()
    answers.use(b"1")
    answers[b"4"] = entry(2 * SIZE)
    assert set(answers.found) == set(answers) == {b"1", b"4"}
    assert (answers.evictions, answers.currsize) == (2, 3 * SIZE)
    del answers[b"1"]
    assert set(answers.found) == set(answers) == {b"4"}
    answers.use(b"no such key")
    assert answers.evictions == 2


def test_to_forget_all_is_no_eviction() -> None:
    answers = Answers(3 * SIZE)
    answers[b"1"], answers[b"2"] = entry(), entry()
    answers.clear()
    assert (len(answers), answers.found, answers.currsize, answers.evictions) == (0, {}, 0, 0)


@pytest.fixture
def versions() -> Iterator[Versions]:
    fd = os.memfd_create("versions")
    os.truncate(fd, bytes_for(1))
    yield Versions(fd, 0, 1, 0)
    os.close(fd)


def key_of(number: int) -> bytes:
    return b"%090d" % number


def test_a_hit_keeps_an_answer_from_making_room(versions: Versions) -> None:
    size = OVERHEAD_BYTES + len(WHOLE) + len(key_of(0))
    cache = QueryCache(CacheSettings(size_bytes=3 * size), versions, lambda _: None)

    def store(number: int, now: float) -> None:
        fill = cache.plan(key_of(number), b"Q", (0, 1), 1, "db", StatementFacts("SelectStmt"), b"select")
        assert cache.begin(fill, 0.0)
        fill.take(WHOLE)
        cache.end(fill, 1, now)

    def found(number: int, now: float) -> bool:
        return cache.find(key_of(number), 1, now, strict=True) is not None

    for number in (1, 2, 3):
        store(number, 10.0)
    # It is a hit whether or not that is told.
    assert found(1, 10.0)
    assert found(1, 10.0 + USED_S)
    store(4, 12.0)
    assert [number for number in (1, 2, 3, 4) if found(number, 12.0)] == [1, 3, 4]
    assert cache.counters().evictions == 1
