"""Places in the memory that generations share: who lives is seen by locks, whatever has become of the others."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from middleware.pool.ledger import key_of
from middleware.relay.shared import SLOTS, commits_of, ledger_of
from middleware.supervisor.slots import NoSlots, Slots

OTHER = """
import os, sys
from middleware.relay.shared import commits_of, ledger_of, live
from middleware.supervisor.slots import Slots
from middleware.pool.ledger import key_of
descriptor, workers = int(sys.argv[1]), int(sys.argv[2])
slots = Slots(workers, descriptor)
print(slots.first, slots.columns(), flush=True)
sys.stdin.readline()
ledger_of(descriptor, slots.first).take([(key_of(b"pool"), 5)])
commits = commits_of(descriptor, slots.first)
commits.note_write(7.5)
commits.note_change(8.5)
print("done", flush=True)
sys.stdin.readline()
os._exit(0)
"""


class Other:
    """Another generation, in a process of its own."""

    def __init__(self, descriptor: int, workers: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(descriptor), str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[descriptor],
            text=True,
        )
        assert self._process.stdout is not None
        self.first, self.columns = map(int, self._process.stdout.readline().split())

    def work(self) -> None:
        """Count one of a pool, tell of a write and of a change of a catalog."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def other(descriptor: int, workers: int) -> Iterator[Other]:
    one = Other(descriptor, workers)
    try:
        yield one
    finally:
        one.kill()


@pytest.fixture
def slots() -> Iterator[Slots]:
    one = Slots(2)
    yield one
    one.close()


def test_each_generation_has_places_of_its_own_and_those_of_the_dead_are_free(slots: Slots) -> None:
    assert (slots.first, slots.columns()) == (0, 2)
    assert [slots.mine(slot) for slot in range(3)] == [True, True, False]
    with other(slots.descriptor, 3) as second:
        assert (second.first, second.columns) == (2, 5)
        with other(slots.descriptor, 1) as third:
            assert third.first == 5
        assert slots.columns() == 6
        with other(slots.descriptor, 1) as fourth:
            assert (fourth.first, fourth.columns) == (5, 6)
    with other(slots.descriptor, 2) as fifth:
        assert fifth.first == 2


def test_what_the_dead_have_left_behind_is_cleared_and_nothing_else(slots: Slots) -> None:
    key, descriptor = key_of(b"pool"), slots.descriptor
    ours, commits = ledger_of(descriptor, 0), commits_of(descriptor, 0)
    ours.take([(key, 5)])
    with other(descriptor, 1) as second, other(descriptor, 1) as third:
        for one in (second, third):
            one.work()
        assert ours.total(key) == 3
        assert (commits.latest(), commits.unreported()) == (7.5, True)
        assert slots.bury() == []
        assert slots.others() == [2, 3]
        second.kill()
        # It may have told nobody of what it has changed.
        assert slots.bury() == [2]
        assert (ours.total(key), slots.others()) == (2, [3])
        slots.settle([2])
        commits.reported = (0.0, 0.0, 0.0, 8.5)
        # Its commits are commits all the same.
        assert (commits.latest(), commits.unreported()) == (7.5, False)
    assert slots.bury() == [3]
    assert (ours.total(key), slots.others()) == (1, [])
    assert slots.bury() == []


def test_others_whose_memory_is_not_shared_may_have_written_at_any_time() -> None:
    slots = Slots(1, taken=[(0, 2), (5, 1)])
    assert slots.first == 2
    commits = commits_of(slots.descriptor, slots.first)
    slots.blind([(0, 2), (5, 1)])
    assert slots.columns() == 6
    assert (commits.latest(), commits.unreported()) == (math.inf, False)
    assert slots.bury() == []
    slots.see([(0, 2), (5, 1)], 100.0)
    assert commits.latest() == 100.0
    slots.bury()
    assert slots.others() == []
    slots.close()


def test_there_are_only_so_many(slots: Slots) -> None:
    with pytest.raises(NoSlots, match="there is no place for 511 workers beside those that live"):
        Slots(SLOTS - 1, slots.descriptor, [(0, 2)])
    os.fstat(slots.descriptor)
