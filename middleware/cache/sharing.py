"""Which answers of other instances hold here, and which of ours hold there: by WAL positions. See docs/decisions/0014.

Instances share nothing but the cluster. Each has a watcher that vouches for a position: what was committed up to there
has been told to its versions. So of an answer that is valid here, by the versions, we can say that it has all changes
of its tables up to that position; and an answer of which another instance says so is valid here, if no later change of
its tables has been told here, and all commits of our own have come back by the watcher.

In: reads that are planned, values from the second level, answers that were stored. Out: entries, and what is to be kept
there. Nothing is shared that was read from a materialized view, or whose slots a watcher by counters tells of.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from middleware.cache.entry import Entry
from middleware.cache.fill import Fill
from middleware.cache.request import Scope
from middleware.cache.shared_value import pack, shared_key, unpack
from middleware.cache.versions import EVERYTHING, Versions, slot_of
from routing.catalog import Catalog

OFFER_S: Final = 5.0
"""How long a stored answer waits for the watcher to come to it, before it is not shared."""
OFFERS_MAX: Final = 1000
OFFERS_BYTES_MAX: Final = 16 * 1024 * 1024


class Found(NamedTuple):
    """What is kept under a key."""

    value: bytes
    left_s: float
    """How much longer."""


Told = Callable[[Found | None], None]
"""Who has asked: called once, with None where there is nothing in time."""


class Level(Protocol):
    """Where values are kept: middleware/cache/second_level.py, which needs a package that not everybody has."""

    def start(self) -> None:
        """Connect, and go on doing so."""

    def ready(self) -> bool:
        """Whether it may be asked now."""

    def ask(self, key: bytes, told: Told) -> None:
        """Have `told` called with what is kept under a key: never from within, and soon in any case."""

    def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Have a value kept, for `ttl_s` if that is not 0. At the bounds it is not."""


class _Offer(NamedTuple):
    timeline: int
    entry: Entry
    until: float


class Sharing:
    """Of one worker."""

    def __init__(
        self, versions: Versions, level: Level, want_watch: Callable[[], None], want_catalog: Callable[[str], None]
    ) -> None:
        """`want_watch` is called when the watcher should look sooner than it would, and `want_catalog` when a
        database's catalog should be read sooner."""
        self._want_watch: Final = want_watch
        self._want_catalog: Final = want_catalog
        self._versions: Final = versions
        self._level: Final = level
        self._system_identifier = 0
        self._timeline = 0
        """Of the cluster; 0 while it is not known."""
        self._offers: Final[dict[bytes, _Offer]] = {}
        """By the key; of one key the last that was stored."""
        self._offers_bytes = 0

    def start(self) -> None:
        """Connect."""
        self._level.start()

    def use_cluster(self, system_identifier: int | None, timeline: int | None) -> None:
        """It is this one from now on."""
        self._system_identifier, self._timeline = system_identifier or 0, timeline or 0

    # What others have stored

    def name(self, fill: Fill, scope: Scope, catalog: Catalog) -> None:
        """Find out under which key others may have what is to be read."""
        if self._timeline and catalog.fingerprint:
            fill.timeline = self._timeline
            fill.shared_key = shared_key(self._system_identifier, self._timeline, catalog.fingerprint, scope, fill.key)

    def may_have(self, fill: Fill, database: str) -> bool:
        """Whether it is worth asking: whether an answer could hold now, if there is one."""
        if not fill.shared_key or not self._level.ready():
            return False
        versions, own = self._versions, slot_of(database)
        # The watch of this database has begun at some position.
        if not versions.last_lsn((own,)):
            return False
        # Of what touched everything, DDL among it, only a catalog that was read later tells.
        if versions.catalog_read_at(own, fill.catalog) <= versions.changed_here_at((EVERYTHING, own)):
            self._want_catalog(database)
            return False
        return self._holds_until(fill) is not None

    def _holds_until(self, fill: Fill) -> float | None:
        """Until when all changes of its tables are told, if all commits of our own have been; None if not."""
        versions = self._versions
        # The order matters: what is told after this is read is in what is read below, or makes it another version.
        until = versions.watched_until()
        if versions.vouched()[0] != self._timeline or fill.timeline != self._timeline:
            return None
        if versions.changed_here_at(fill.slots) > until:
            self._want_watch()
            return None
        return until if versions.settled(fill.slots, time.monotonic()) else None

    def ask(self, fill: Fill, told: Told) -> None:
        """Ask for it. `told` is called later, with None if there is nothing in time."""
        fill.asked_version = self._versions.version(fill.slots)
        self._level.ask(fill.shared_key, told)

    def accept(self, fill: Fill, found: Found) -> Entry | None:
        """What was found, as an entry of ours; None where it does not hold."""
        shared = unpack(fill.shared_key, found.value)
        if shared is None or len(shared.whole) > fill.bytes_max:
            return None
        versions = self._versions
        if versions.vouched()[0] != self._timeline:
            return None
        before = versions.vouched_before()
        until = self._holds_until(fill)
        if until is None or shared.lsn < versions.last_lsn(fill.slots):
            return None
        if versions.version(fill.slots) != fill.asked_version:
            return None
        now = time.monotonic()
        entry = Entry(
            shared.whole,
            shared.pattern,
            fill.slots,
            fill.asked_version,
            fill.catalog,
            until,
            until if shared.upper_lsn <= before else now,
            now + min(found.left_s, fill.ttl_s or found.left_s),
            shared.cost_s,
            fill.digest,
            len(fill.key),
        )
        entry.used = now
        # Another instance's clients may not have asked for all parts of the answer.
        return entry if entry.answer(fill.pattern) else None

    # What we have stored

    def offer(self, fill: Fill, entry: Entry) -> None:
        """It was stored: share it, as soon as the watcher has come to it."""
        if not fill.shared_key:
            return
        self._withdraw(fill.shared_key)
        if len(self._offers) < OFFERS_MAX and self._offers_bytes + entry.size <= OFFERS_BYTES_MAX:
            self._offers[fill.shared_key] = _Offer(fill.timeline, entry, entry.shown + OFFER_S)
            self._offers_bytes += entry.size

    def _withdraw(self, key: bytes) -> None:
        offer = self._offers.pop(key, None)
        if offer is not None:
            self._offers_bytes -= offer.entry.size

    def tick(self) -> None:
        """Look again at what waits; called a few times a second."""
        for key, offer in list(self._offers.items()):
            if self._give(key, offer):
                self._withdraw(key)
        if self._offers:
            self._want_watch()

    def _give(self, key: bytes, offer: _Offer) -> bool:
        """Share it if that can be done now; False if it is to wait."""
        versions, entry = self._versions, offer.entry
        now = time.monotonic()
        until, upper_lsn = versions.watched_until(), versions.watched_lsn()
        timeline, lsn = versions.vouched()
        # Last: what is vouched for has been told by then.
        if versions.version(entry.slots) != entry.version or offer.timeline != self._timeline or now > offer.until:
            return True
        if timeline != offer.timeline:
            return False
        if until < entry.shown or lsn < versions.last_lsn(entry.slots):
            # What it has may be behind all positions that are known, and it may seem older elsewhere than it is.
            return False
        # The clock of workers is the same as this one, as of their last tick.
        left_s = entry.expires - now if entry.expires else 0.0
        if left_s > 0 or not entry.expires:
            value = pack(key, lsn, upper_lsn, entry.cost_s, entry.pattern, entry.whole)
            self._level.put(key, value, left_s)
        return True
