"""Counts over all workers: limits hold, whoever takes, and whoever dies."""

import multiprocessing
import tempfile
from collections.abc import Iterator
from typing import IO

import pytest

from middleware.pool.ledger import BUCKETS, ROWS_PER_BUCKET, Ledger, bytes_for, key_of

OFFSET = 4096
WORKERS = 3


@pytest.fixture
def shared() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        file.truncate(OFFSET + bytes_for(WORKERS))
        yield file


def ledger(file: IO[bytes], mine: int) -> Ledger:
    return Ledger(file.fileno(), OFFSET, WORKERS, mine)


def test_a_limit_is_over_all_workers(shared: IO[bytes]) -> None:
    one, two = ledger(shared, 0), ledger(shared, 1)
    pool = key_of(b"pool", b"a")
    assert [who.take([(pool, 3)]) for who in (one, two, one, two)] == [-1, -1, -1, 0]
    assert (one.mine(pool), two.mine(pool), one.total(pool), two.total(pool)) == (2, 1, 3, 3)
    one.give([(pool, 3)])
    assert two.take([(pool, 3)]) == -1
    assert (one.mine(pool), two.mine(pool), one.total(pool)) == (1, 2, 3)


def test_all_of_several_are_taken_or_none(shared: IO[bytes]) -> None:
    one = ledger(shared, 0)
    limits = [(key_of(b"pool"), 5), (key_of(b"database"), 1), (key_of(b"user"), 0)]
    assert one.take(limits) == -1
    assert one.take(limits) == 1
    assert [one.total(key) for key, _ in limits] == [1, 1, 1]
    one.give(limits)
    assert [one.total(key) for key, _ in limits] == [0, 0, 0]


def test_what_a_dead_worker_had_is_free_when_it_is_started_again(shared: IO[bytes]) -> None:
    key = key_of(b"pool")
    one, two = ledger(shared, 0), ledger(shared, 1)
    assert [one.take([(key, 2)]), two.take([(key, 2)])] == [-1, -1]
    again = ledger(shared, 0)
    assert (again.mine(key), again.total(key)) == (0, 1)
    assert again.take([(key, 2)]) == -1


def test_a_bucket_that_is_full_refuses_and_rows_of_nobody_are_used_again(shared: IO[bytes]) -> None:
    one, two = ledger(shared, 0), ledger(shared, 2)
    keys = [bytes(3) + bytes([7]) + bytes(8) + number.to_bytes(4, "big") for number in range(ROWS_PER_BUCKET + 1)]
    assert [one.take([(key, 0)]) for key in keys] == [-1] * ROWS_PER_BUCKET + [0]
    other = (BUCKETS + 8).to_bytes(4, "big") + bytes(12)
    assert two.take([(other, 0)]) == -1
    one.give([(keys[5], 0)])
    assert two.take([(keys[-1], 1)]) == -1
    assert (one.take([(keys[-1], 1)]), one.total(keys[-1]), one.total(keys[5])) == (0, 1, 0)


def _take_and_give(descriptor: int, mine: int, times: int) -> None:
    own = Ledger(descriptor, OFFSET, WORKERS, mine)
    limits = [(key_of(b"pool"), 2), (key_of(b"database"), 2)]
    for _ in range(times):
        if own.take(limits) == -1:
            assert own.total(limits[0][0]) <= 2
            own.give(limits)


def test_processes_do_not_lose_count(shared: IO[bytes]) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_take_and_give, args=(shared.fileno(), mine, 3000)) for mine in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * WORKERS
    assert ledger(shared, 0).total(key_of(b"pool")) == 0
