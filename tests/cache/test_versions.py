"""What one worker tells of the tables, and what another finds."""

import os
from collections.abc import Iterator

import pytest

from middleware.cache.versions import EVERYTHING, SLOTS, Versions, bytes_for, slot_of

WORKERS = 2


@pytest.fixture
def descriptor() -> Iterator[int]:
    fd = os.memfd_create("versions")
    os.truncate(fd, bytes_for(WORKERS))
    yield fd
    os.close(fd)


@pytest.fixture
def all_three(descriptor: int) -> tuple[Versions, Versions, Versions]:
    one, two, supervisor = (Versions(descriptor, 0, WORKERS, mine) for mine in range(WORKERS + 1))
    return one, two, supervisor


def test_a_change_is_seen_by_all(all_three: tuple[Versions, Versions, Versions]) -> None:
    one, two, supervisor = all_three
    before, events = two.version((3, 4)), two.events()
    one.change((3,), 17.0)
    assert two.version((3, 4)) != before
    assert two.version((4,)) == before
    assert two.events() != events
    assert supervisor.changed_at((3, 4)) == 17.0
    assert supervisor.changed_at((4,)) == 0.0


def test_two_that_change_the_same_table_are_both_seen(all_three: tuple[Versions, Versions, Versions]) -> None:
    one, two, supervisor = all_three
    seen = {supervisor.version((7,))}
    for teller in (one, two, supervisor, two, one):
        teller.change((7,), 1.0)
        seen.add(one.version((7,)))
    assert len(seen) == 6


def test_what_is_under_way_is_not_settled(all_three: tuple[Versions, Versions, Versions]) -> None:
    one, two, _ = all_three
    one.begin((5, 6))
    two.begin((6,))
    assert not two.settled((1, 5), 0.0)
    assert two.settled((1,), 0.0)
    one.end((5, 6))
    assert two.settled((5,), 0.0)
    assert not one.settled((6,), 0.0)
    two.end((6,))
    assert one.settled((6,), 0.0)


def test_what_is_in_doubt_settles_by_time(all_three: tuple[Versions, Versions, Versions]) -> None:
    one, two, _ = all_three
    one.doubt((9,), 100.0)
    one.doubt((9,), 50.0)
    assert not two.settled((9,), 99.9)
    assert two.settled((9,), 100.0)
    assert two.doubted_until((1, 9)) == 100.0
    assert two.doubted_until((1,)) == 0.0


def test_who_takes_over_a_column_doubts_what_was_under_way(descriptor: int) -> None:
    dead, other = Versions(descriptor, 0, WORKERS, 0), Versions(descriptor, 0, WORKERS, 1)
    dead.begin((11, EVERYTHING))
    dead.change((12,), 3.0)
    version = other.version((11, 12, EVERYTHING))
    Versions(descriptor, 0, WORKERS, 0).restart(5.0, 60.0)
    assert not other.settled((11,), 59.0)
    assert other.settled((11,), 60.0)
    assert other.settled((12,), 0.0)
    assert other.version((11, 12, EVERYTHING)) == version + 2
    assert other.changed_at((11,)) == 5.0


def test_what_the_watcher_has_seen(all_three: tuple[Versions, Versions, Versions]) -> None:
    one, _, supervisor = all_three
    assert one.watched_until() == 0.0
    supervisor.change((2,), 5.0, 0x1_0000_0010)
    supervisor.watched(6.0, 0x1_0000_0020)
    assert (one.watched_until(), one.watched_lsn()) == (6.0, 0x1_0000_0020)
    assert one.last_lsn((1, 2)) == 0x1_0000_0010
    assert one.last_lsn((1,)) == one.last_lsn(()) == 0


def test_why_something_has_changed(all_three: tuple[Versions, Versions, Versions]) -> None:
    one, two, supervisor = all_three
    database, tables = 8, (9, 10)
    one.change((9,), 1.0)
    two.change((9,), 5.0)
    assert two.cause(database, tables, 4.0) == "write"
    one.change((8,), 7.0)
    assert two.cause(database, tables, 6.0) == "unseen write"
    supervisor.change((10,), 9.0)
    assert one.cause(database, tables, 8.0) == "watcher"


def test_slots() -> None:
    slots = {slot_of("app", oid) for oid in range(16384, 16484)}
    assert EVERYTHING not in slots
    assert max(slots) < SLOTS
    assert len(slots) > 90
    assert slot_of("app", 16384) != slot_of("other", 16384)
    assert slot_of("app") == slot_of("app", 0)


def test_of_positions_the_highest_counts(all_three: tuple[Versions, Versions, Versions]) -> None:
    one, _, supervisor = all_three
    for lsn in (100, 300, 200, 0):
        supervisor.change((3,), 1.0, lsn)
    supervisor.change((4,), 1.0, 250)
    assert (one.last_lsn((3,)), one.last_lsn((4, 3)), one.last_lsn((4,)), one.last_lsn((5,))) == (300, 300, 250, 0)


def test_what_commits_here_have_changed_is_told_apart(all_three: tuple[Versions, Versions, Versions]) -> None:
    one, two, supervisor = all_three
    supervisor.change((3,), 5.0, 100)
    assert two.changed_here_at((3,)) == 0.0
    one.change((3,), 4.0)
    assert two.changed_here_at((2, 3)) == 4.0
    supervisor.change((EVERYTHING,), 6.0)
    assert two.changed_here_at((EVERYTHING, 3)) == 6.0


def test_what_is_vouched_for_is_of_one_timeline(all_three: tuple[Versions, Versions, Versions]) -> None:
    one, _, supervisor = all_three
    assert (one.vouched(), one.vouched_before()) == ((0, 0), 0)
    supervisor.vouch(2, 500, 400)
    assert (one.vouched(), one.vouched_before()) == ((2, 500), 400)
    supervisor.vouch(3, 450)
    assert (one.vouched(), one.vouched_before()) == ((3, 450), 0)
    supervisor.vouch(0, 0)
    assert (one.vouched(), one.vouched_before()) == ((0, 0), 0)


def test_a_catalog_was_read_when_its_version_was_found(all_three: tuple[Versions, Versions, Versions]) -> None:
    one, _, supervisor = all_three
    slot = slot_of("db")
    assert one.catalog_read_at(slot, 7) == 0.0
    supervisor.catalog_read(slot, 7, 12.5)
    assert (one.catalog_read_at(slot, 7), one.catalog_read_at(slot, 6)) == (12.5, 0.0)
    supervisor.catalog_read(SLOTS - 1, 8, 13.5)
    assert (one.catalog_read_at(slot, 7), one.catalog_read_at(SLOTS - 1, 8)) == (12.5, 13.5)
