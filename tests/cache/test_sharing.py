"""Which answers of one instance hold at another: two of them, with the versions of each, and what lies between.

What the watchers tell and what is asked and found come in an order of the test's own. Redis itself is in
test_second_level.py.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import pytest

from middleware.cache.counts import Counts
from middleware.cache.entry import Entry
from middleware.cache.fill import Fill
from middleware.cache.request import QUERY_PATTERN, Scope, query_key
from middleware.cache.sharing import OFFER_S, OFFERS_MAX, Found, Sharing, Told
from middleware.cache.versions import EVERYTHING, Versions, bytes_for, slot_of
from routing.catalog import Catalog

CLUSTER: Final = 77
TIMELINE: Final = 3
READY = b"Z\0\0\0\x05I"
ROW = b"T\0\0\0\x1a\0\1x\0" + b"\0" * 18
WHOLE = ROW + b"D\0\0\0\x0b\0\1\0\0\0\x017" + b"C\0\0\0\x0dSELECT 1\0" + READY
MESSAGE = b"Q\0\0\0\x0dSELECT 1\0"
TABLE = slot_of("db", 16384)
DATABASE = slot_of("db")
SLOTS: Final = (EVERYTHING, DATABASE, TABLE)


class Between(NamedTuple):
    """What all instances ask and tell."""

    values: dict[bytes, bytes]


class Level:
    """One instance's way to it: asked, and answered when the test says so."""

    def __init__(self, between: Between) -> None:
        self.between = between
        self.up = True
        self.asked: list[tuple[bytes, Told]] = []

    def start(self) -> None:
        """It is there."""

    def ready(self) -> bool:
        return self.up

    def ask(self, key: bytes, told: Told) -> None:
        self.asked.append((key, told))

    def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        self.between.values[key] = value

    def answer(self) -> None:
        asked, self.asked = self.asked, []
        for key, told in asked:
            value = self.between.values.get(key)
            told(None if value is None else Found(value, 50.0))


class Instance:
    """With one worker, and a supervisor that watches."""

    def __init__(self, between: Between, descriptor: int) -> None:
        self.worker, self.supervisor = (Versions(descriptor, 0, 1, mine) for mine in (0, 1))
        self.level = Level(between)
        self.wanted: list[str] = []
        self.sharing = Sharing(self.worker, self.level, lambda: self.wanted.append("watch"), self.wanted.append)
        self.sharing.use_cluster(CLUSTER, TIMELINE)
        self.digest = Counts().digest("db", "SELECT $1")
        self.fingerprint = "f"
        self.supervisor.catalog_read(DATABASE, 5, time.monotonic())
        self.supervisor.change((DATABASE,), time.monotonic(), 100)
        self.watch(100)

    def watch(self, lsn: int, before: int | None = None, timeline: int = TIMELINE) -> None:
        """The watcher comes to a position."""
        self.supervisor.watched(time.monotonic(), lsn)
        self.supervisor.vouch(timeline, lsn, lsn if before is None else before)

    def told(self, lsn: int, *slots: int) -> None:
        """The watcher tells of a commit."""
        self.supervisor.change(slots or (TABLE,), time.monotonic(), lsn)

    def write(self) -> None:
        """A client of its own commits."""
        self.worker.begin((TABLE,))
        self.worker.change((TABLE,), time.monotonic())
        self.worker.end((TABLE,))

    def plan(self, ttl_s: float = 60.0) -> Fill:
        scope = Scope(id(self), b"app", b"db", ())
        fill = Fill(query_key(scope, MESSAGE), QUERY_PATTERN, SLOTS, 5, self.digest, ttl_s, 10_000, True, 0)
        self.sharing.name(fill, scope, Catalog("db", 5, fingerprint=self.fingerprint))
        return fill

    def read(self) -> None:
        """Read from a node, and store."""
        fill = self.plan()
        version = self.worker.version(SLOTS)
        now = time.monotonic()
        entry = Entry(WHOLE, QUERY_PATTERN, SLOTS, version, 5, now, now, now + 60.0, 0.25, self.digest, 10)
        self.sharing.offer(fill, entry)
        self.sharing.tick()

    def share(self, lsn: int) -> None:
        """Read, and have the watcher come to it."""
        self.read()
        self.watch(lsn)
        self.sharing.tick()

    def ask(self, meanwhile: Callable[[], object] = lambda: None) -> Entry | None:
        """The answer of others, if it holds; `meanwhile` happens between the question and its answer."""
        fill = self.plan()
        if not self.sharing.may_have(fill, "db"):
            return None
        accepted: list[Entry | None] = []
        self.sharing.ask(fill, lambda found: accepted.append(found and self.sharing.accept(fill, found)))
        meanwhile()
        self.level.answer()
        return accepted[0]


@pytest.fixture
def two() -> Iterator[tuple[Instance, Instance]]:
    between = Between({})
    descriptors = [os.memfd_create("versions") for _ in range(2)]
    for descriptor in descriptors:
        os.truncate(descriptor, bytes_for(1))
    yield Instance(between, descriptors[0]), Instance(between, descriptors[1])
    for descriptor in descriptors:
        os.close(descriptor)


Two = tuple[Instance, Instance]


def test_an_answer_is_taken_as_it_is(two: Two) -> None:
    one, other = two
    one.share(200)
    other.watch(300)
    until = other.worker.watched_until()
    entry = other.ask()
    assert entry is not None
    assert (entry.whole, entry.pattern, entry.slots, entry.catalog) == (WHOLE, QUERY_PATTERN, SLOTS, 5)
    assert (entry.fresh, entry.cost_s) == (until, 0.25)
    assert 49 < entry.expires - time.monotonic() <= 50
    assert entry.version == other.worker.version(SLOTS)


def test_it_shows_nothing_behind_what_both_have_come_to(two: Two) -> None:
    one, other = two
    one.share(200)
    other.watch(300, before=200)
    entry = other.ask()
    assert entry is not None
    assert entry.shown == entry.fresh == other.worker.watched_until()


def test_where_that_is_not_known_it_shows_all_until_now(two: Two) -> None:
    one, other = two
    one.share(200)
    other.watch(300, before=199)
    now = time.monotonic()
    entry = other.ask()
    assert entry is not None
    assert entry.shown >= now > entry.fresh


def test_a_change_that_was_told_since_makes_it_old(two: Two) -> None:
    one, other = two
    one.share(200)
    other.told(201)
    other.watch(300)
    assert other.ask() is None
    one.told(201)
    assert other.ask() is None
    one.share(200)
    assert other.ask() is None
    one.share(201)
    assert other.ask() is not None


def test_changes_to_other_tables_do_not(two: Two) -> None:
    one, other = two
    one.share(200)
    other.told(201, slot_of("db", 99999))
    other.watch(300)
    assert other.ask() is not None


def test_all_tables_of_its_database_make_it_old(two: Two) -> None:
    """A watch that was begun anew knows nothing of what was committed before."""
    one, other = two
    one.share(200)
    other.told(250, DATABASE)
    other.watch(300)
    assert other.ask() is None


def test_what_is_told_again_or_late_takes_nothing_back(two: Two) -> None:
    """A commit waits for a synchronous standby, others after it do not: it is told once more when it can be seen."""
    one, other = two
    one.share(200)
    other.told(190)
    other.told(210)
    other.told(190)
    other.watch(300)
    assert other.worker.last_lsn(SLOTS) == 210
    assert other.ask() is None


def test_a_watcher_that_lags_where_it_was_read_costs_the_hit(two: Two) -> None:
    one, other = two
    one.read()
    assert one.level.between.values == {}
    other.told(201)
    other.watch(300)
    one.watch(200)
    one.sharing.tick()
    assert other.ask() is None


def test_a_watcher_that_lags_where_it_is_asked_for_holds_its_own_writes_back(two: Two) -> None:
    """It has committed what its watcher has not told of yet: nobody can say whether an answer has that."""
    one, other = two
    one.share(200)
    other.watch(300)
    assert other.ask() is not None
    other.write()
    assert other.ask() is None
    assert "watch" in other.wanted
    # It comes back by the WAL.
    other.told(350)
    assert other.ask() is None
    other.watch(400)
    assert other.ask() is None
    one.told(350)
    one.share(360)
    assert other.ask() is not None


@pytest.mark.parametrize(
    "happens",
    [
        lambda other: other.told(201),
        lambda other: other.told(201, DATABASE),
        lambda other: other.told(0),
        lambda other: other.write(),
        lambda other: other.worker.begin((TABLE,)),
        lambda other: other.worker.doubt((TABLE,), time.monotonic() + 60),
        lambda other: other.watch(300, timeline=TIMELINE + 1),
        lambda other: other.supervisor.vouch(0, 0),
        lambda other: other.sharing.use_cluster(CLUSTER, TIMELINE + 1),
    ],
    ids=["told", "all told", "reshaped", "own write", "under way", "in doubt", "other timeline", "polling", "failover"],
)
def test_what_happens_between_question_and_answer_counts(two: Two, happens: Callable[[Instance], object]) -> None:
    one, other = two
    one.share(200)
    other.watch(300)
    assert other.ask(lambda: happens(other)) is None


@pytest.mark.parametrize(
    "differs",
    [
        lambda other: other.sharing.use_cluster(CLUSTER + 1, TIMELINE),
        lambda other: (other.sharing.use_cluster(CLUSTER, TIMELINE + 1), other.watch(300, timeline=TIMELINE + 1)),
        lambda other: setattr(other, "fingerprint", "g"),
    ],
    ids=["cluster", "timeline", "catalog"],
)
def test_it_is_another_key_where_it_is_about_something_else(two: Two, differs: Callable[[Instance], object]) -> None:
    one, other = two
    one.share(200)
    other.watch(300)
    before = other.plan().shared_key
    differs(other)
    assert other.plan().shared_key != before
    assert other.ask() is None


@pytest.mark.parametrize(
    "lacks",
    [
        lambda other: setattr(other.level, "up", False),
        lambda other: other.supervisor.vouch(0, 0),
        lambda other: setattr(other, "fingerprint", ""),
        lambda other: other.sharing.use_cluster(CLUSTER, None),
        lambda other: other.worker.begin((TABLE,)),
        lambda other: other.worker.doubt((TABLE,), time.monotonic() + 60),
    ],
    ids=["down", "not vouched for", "no catalog", "no timeline", "under way", "in doubt"],
)
def test_it_is_not_even_asked_for_where_it_could_not_hold(two: Two, lacks: Callable[[Instance], object]) -> None:
    one, other = two
    one.share(200)
    other.watch(300)
    assert other.sharing.may_have(other.plan(), "db")
    lacks(other)
    assert not other.sharing.may_have(other.plan(), "db")


def test_nor_before_its_database_is_watched() -> None:
    descriptor = os.memfd_create("versions")
    os.truncate(descriptor, bytes_for(1))
    other = Instance(Between({}), descriptor)
    assert other.sharing.may_have(other.plan(), "db")
    other.supervisor.catalog_read(slot_of("another"), 5, time.monotonic())
    assert not other.sharing.may_have(other.plan(), "another")
    other.told(100, slot_of("another"))
    assert other.sharing.may_have(other.plan(), "another")
    os.close(descriptor)


@pytest.mark.parametrize("slot", [EVERYTHING, DATABASE])
def test_what_touched_all_waits_for_a_catalog_that_was_read_later(two: Two, slot: int) -> None:
    """DDL, a grant, a role: no watcher tells of that, and no position."""
    one, other = two
    one.share(200)
    other.worker.change((slot,), time.monotonic())
    other.watch(300)
    assert other.ask() is None
    assert "db" in other.wanted
    other.supervisor.catalog_read(DATABASE, 4, time.monotonic())
    assert other.ask() is None, "its worker has another one"
    other.supervisor.catalog_read(DATABASE, 5, time.monotonic())
    assert other.ask() is not None


def test_what_has_changed_since_is_not_shared(two: Two) -> None:
    one, _ = two
    one.read()
    one.told(150)
    one.watch(200)
    one.sharing.tick()
    assert one.level.between.values == {}


def test_what_the_watcher_does_not_come_to_is_forgotten(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = two
    one.read()
    assert "watch" in one.wanted
    later = time.monotonic() + OFFER_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    one.sharing.tick()
    assert (one.sharing._offers, one.sharing._offers_bytes) == ({}, 0)


def test_what_waits_is_bounded_and_of_one_question_there_is_one(two: Two) -> None:
    one, _ = two
    for _ in range(3):
        one.read()
    assert len(one.sharing._offers) == 1
    fill = one.plan()
    now = time.monotonic()
    entry = Entry(WHOLE, QUERY_PATTERN, SLOTS, one.worker.version(SLOTS), 5, now, now, 0.0, 0.1, one.digest, 10)
    for number in range(2 * OFFERS_MAX):
        fill.shared_key = b"%d" % number
        one.sharing.offer(fill, entry)
    assert len(one.sharing._offers) == OFFERS_MAX
    one.watch(200)
    one.sharing.tick()
    assert (one.sharing._offers, one.sharing._offers_bytes) == ({}, 0)
    assert len(one.level.between.values) == OFFERS_MAX


def test_a_failover_in_between_is_not_shared(two: Two) -> None:
    one, _ = two
    one.read()
    one.sharing.use_cluster(CLUSTER, TIMELINE + 1)
    one.watch(200, timeline=TIMELINE + 1)
    one.sharing.tick()
    assert one.level.between.values == {}


def test_a_shorter_life_here_counts(two: Two) -> None:
    one, other = two
    one.share(200)
    other.watch(300)
    fill = other.plan(ttl_s=2.0)
    other.sharing.ask(fill, lambda found: None)
    entry = other.sharing.accept(fill, Found(one.level.between.values[fill.shared_key], 50.0))
    assert entry is not None
    assert entry.expires <= time.monotonic() + 2.0


def test_parts_that_its_instance_was_not_asked_for_are_a_miss(two: Two) -> None:
    one, other = two
    one.share(200)
    other.watch(300)
    scope = Scope(id(other), b"app", b"db", ())
    fill = Fill(query_key(scope, MESSAGE), b"PBDE", SLOTS, 5, other.digest, 60.0, 10_000, True, 0)
    other.sharing.name(fill, scope, Catalog("db", 5, fingerprint="f"))
    other.sharing.ask(fill, lambda found: None)
    assert other.sharing.accept(fill, Found(one.level.between.values[fill.shared_key], 50.0)) is None
