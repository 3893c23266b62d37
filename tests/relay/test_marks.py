"""What a client has seen, and when a worker last told of a write."""

import asyncio
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator

import pytest

from middleware.config import build_settings
from middleware.pool.pool import Pool
from middleware.relay.freshness import BYTES_PER_WORKER, Commits, Marks
from tests.pool.made import pool_of

SETTINGS = """
[health_check]
user = "pointsman"
[nodes.db1]
host = "127.0.0.1"
[users.app]
password = "app"
"""


@pytest.fixture
def standbys() -> Iterator[Pool]:
    settings = build_settings(tomllib.loads(SETTINGS)).worker_settings()
    loop = asyncio.new_event_loop()
    yield pool_of("db2", settings, loop)
    loop.close()


def marks_of(marks: Marks) -> tuple[float, float, Pool | None]:
    return marks.written, marks.seen, marks.last


def test_a_new_client_has_seen_nothing() -> None:
    assert marks_of(Marks()) == (0.0, 0.0, None)


def test_a_read_is_seen_and_where_it_was_served_is_kept(standbys: Pool) -> None:
    marks = Marks()
    marks.read(standbys, 5.0)
    assert marks_of(marks) == (0.0, 5.0, standbys)
    marks.read(None, 6.0)
    assert marks_of(marks) == (0.0, 6.0, None)


def test_a_write_is_seen_on_the_primary(standbys: Pool) -> None:
    marks = Marks()
    marks.read(standbys, 5.0)
    marks.wrote(6.0)
    # What a standby served before says nothing of the write.
    assert marks_of(marks) == (6.0, 6.0, None)


def test_a_read_takes_no_write_back(standbys: Pool) -> None:
    marks = Marks()
    marks.wrote(6.0)
    marks.read(standbys, 7.0)
    assert marks_of(marks) == (6.0, 7.0, standbys)
    marks.wrote(8.0)
    marks.read(None, 9.0)
    assert marks_of(marks) == (8.0, 9.0, None)


@pytest.fixture
def shared() -> Iterator[int]:
    """Memory for three workers."""
    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), 3 * BYTES_PER_WORKER)
        yield file.fileno()


def test_each_worker_sees_the_latest_commit_of_all(shared: int) -> None:
    first, second, third = (Commits(shared, 3, worker) for worker in range(3))
    assert [one.latest() for one in (first, second, third)] == [0.0, 0.0, 0.0]
    second.note_write(10.5)
    assert [one.latest() for one in (first, second, third)] == [10.5, 10.5, 10.5]
    first.note_write(10.25)
    assert [one.latest() for one in (first, second, third)] == [10.5, 10.5, 10.5]
    third.note_write(11.0)
    first.note_write(12.0)
    assert [one.latest() for one in (first, second, third)] == [12.0, 12.0, 12.0]


def test_each_worker_has_a_place_of_its_own(shared: int) -> None:
    for worker, now in enumerate((1.5, 2.5, 3.5)):
        Commits(shared, 3, worker).note_write(now)
    view = memoryview(os.pread(shared, 3 * BYTES_PER_WORKER, 0)).cast("d")
    assert list(view)[:3] == [1.5, 2.5, 3.5]


def test_a_worker_that_comes_back_knows_of_what_was_told_before(shared: int) -> None:
    Commits(shared, 3, 1).note_write(7.0)
    again = Commits(shared, 3, 1)
    assert again.latest() == 7.0
    again.note_write(8.0)
    assert Commits(shared, 3, 0).latest() == 8.0


def test_the_descriptor_may_be_closed_afterwards(shared: int) -> None:
    descriptor = os.dup(shared)
    commits = Commits(descriptor, 3, 0)
    os.close(descriptor)
    commits.note_write(3.0)
    assert Commits(shared, 3, 1).latest() == 3.0


def test_another_process_is_told() -> None:
    with tempfile.TemporaryFile() as file:
        descriptor = file.fileno()
        os.ftruncate(descriptor, 2 * BYTES_PER_WORKER)
        mine = Commits(descriptor, 2, 0)
        mine.note_write(20.0)
        program = (
            "import sys; from middleware.relay.freshness import Commits\n"
            "commits = Commits(int(sys.argv[1]), 2, 1); print(commits.latest()); commits.note_write(30.0)"
        )
        command = [sys.executable, "-c", program, str(descriptor)]
        answer = subprocess.run(command, pass_fds=[descriptor], capture_output=True, text=True, check=True)
        assert answer.stdout == "20.0\n"
        assert mine.latest() == 30.0
