"""The answers that one worker keeps, and what is asked of them.

In: keys, and the reads whose answers may be kept. Out: answers that hold now. What a question may be, and for whom an
answer is fresh enough, is for relay/client_cache.py to say; whether its tables have changed, the versions say.

An answer that no longer holds is found when it is asked for, and makes room then; one that is never asked for again is
the first to go when room is needed.
"""

import time
from typing import Final

from middleware.cache.answers import Answers
from middleware.cache.counts import Counts, DigestCounts
from middleware.cache.entry import Entry, well_formed
from middleware.cache.fill import CallSoon, Fill, Passenger
from middleware.cache.request import SAID_AT, Key, Scope
from middleware.cache.sharing import Found, Sharing
from middleware.cache.toggle import Toggle
from middleware.cache.versions import DOUBT_S, EVERYTHING, Versions, slot_of
from middleware.config import CacheSettings, RoutePolicy
from middleware.control import CacheCounters, SetCache
from middleware.wire.build import READY_IDLE, message
from middleware.wire.codes import READY_FOR_QUERY
from parser.analyse import shape_of, without_comments
from parser.dates import time_words
from parser.facts import StatementFacts
from routing.router import Router

NEVER: Final = -1
OFF: Final = 0
HINT: Final = 1
ON: Final = 2
MODES: Final = {"off": OFF, "hint": HINT, "on": ON}
"""Whether answers are kept: none, those of statements that ask for it, or all that can be. NEVER is an operator's."""

IN_TRANSACTION: Final = message(READY_FOR_QUERY, b"T")
"""An answer within a transaction is kept as one outside."""

SCOPES_MAX: Final = 1000
"""Beyond it all are forgotten, and their answers with them."""
TABLES_MAX: Final = 20_000
USED_S: Final = 1.0
"""How long ago an answer may have been used for the last time and count as used just now, when room is made: so most
hits need not tell."""


class Tables:
    """The slots of what statements read and may write, under one router's catalog."""

    __slots__ = ("alone", "catalog", "reads", "touches")

    def __init__(self, catalog: object) -> None:
        self.catalog: Final = catalog
        self.alone: Final[set[StatementFacts]] = set()
        """Those whose answers other instances can say nothing of."""
        self.reads: Final[dict[StatementFacts, tuple[int, ...] | None]] = {}
        self.touches: Final[dict[StatementFacts, tuple[int, ...]]] = {}


class QueryCache:
    """Those of one worker."""

    def __init__(self, settings: CacheSettings, versions: Versions, call_soon: CallSoon) -> None:
        self.settings = settings
        self.versions: Final = versions
        self._call_soon: Final = call_soon
        self._toggle = Toggle()
        self._lost_at = 0.0
        """When a write was lost last that was not noted."""
        self.tracking = False
        """Writes are noted, in what all workers share."""
        self.serving = False
        """Answers are kept and given: all workers note writes."""
        self.serial = 0
        """Another number after each change of what is on and off."""
        self.watched = settings.watch != "off"
        """Others' writes are noticed, too."""
        self.sharing: Sharing | None = None
        """The way to other instances' answers, if there is one."""
        self._answers: Final = Answers(settings.size_bytes)
        self._found: Final[dict[Key, Entry]] = self._answers.found
        self._flights: Final[dict[Key, Fill]] = {}
        self._scopes: dict[tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]], Scope] = {}
        self._scope_serial = 0
        self._tables: dict[Router, Tables] = {}
        self.counts: Final = Counts()
        self._digests: dict[tuple[str, StatementFacts], DigestCounts] = {}

    # What is asked

    def scope(self, user: bytes, database: bytes, settings: tuple[tuple[bytes, bytes], ...]) -> Scope:
        """The one object for these."""
        known = self._scopes.get((user, database, settings))
        if known is None:
            if len(self._scopes) >= SCOPES_MAX:
                self._scopes = {}
            self._scope_serial += 1
            known = self._scopes[user, database, settings] = Scope(self._scope_serial, user, database, settings)
        return known

    def reads(self, router: Router, database: str, facts: StatementFacts) -> tuple[int, ...] | None:
        """The slots that the answer to a statement depends on; None where it may not be kept."""
        tables = self._tables_of(router)
        try:
            return tables.reads[facts]
        except KeyError:
            found = router.cached(facts)
            slots = None
            if not found.why:
                relations = {slot_of(database, oid) for oid in found.relations}
                slots = (EVERYTHING, slot_of(database), *sorted(relations))
            if len(tables.reads) >= TABLES_MAX:
                tables.reads.clear()
                tables.alone.clear()
            tables.reads[facts] = slots
            if found.alone:
                tables.alone.add(facts)
            return slots

    def alone(self, router: Router, facts: StatementFacts) -> bool:
        """Whether what reads() has found is of this instance alone."""
        return facts in self._tables_of(router).alone

    def touches(self, router: Router, database: str, facts: StatementFacts) -> tuple[int, ...]:
        """The slots of what a statement may change."""
        tables = self._tables_of(router)
        slots = tables.touches.get(facts)
        if slots is None:
            found = router.touched(facts)
            if found is None:
                slots = (slot_of(database),)
            else:
                slots = tuple({slot_of(database, oid) if oid else EVERYTHING for oid in found})
            if len(tables.touches) >= TABLES_MAX:
                tables.touches.clear()
            tables.touches[facts] = slots
        return slots

    def all_of(self, database: str) -> int:
        """The slot of whatever a database holds."""
        return slot_of(database)

    def _tables_of(self, router: Router) -> Tables:
        tables = self._tables.get(router)
        if tables is None or tables.catalog is not router.catalog:
            if len(self._tables) >= SCOPES_MAX:
                self._tables = {}
            tables = self._tables[router] = Tables(router.catalog)
        return tables

    def find(self, key: Key, catalog: int, now: float, strict: bool) -> Entry | None:
        """The answer that holds now; `strict`: not while a commit is under way that may change it."""
        entry = self._found.get(key)
        if entry is None:
            return None
        if now - entry.used >= USED_S:
            entry.used = now
            self._answers.use(key)
        if entry.expires and entry.expires <= now:
            self.counts.expired += 1
            del self._answers[key]
            return None
        if entry.catalog != catalog:
            self._drop(key, "catalog")
            return None
        versions = self.versions
        # First: what happens from here on makes it another number.
        events = versions.events()
        if entry.verified != events:
            if versions.version(entry.slots) != entry.version:
                _, database, *relations = entry.slots
                self._drop(key, versions.cause(database, relations, entry.shown))
                return None
            if versions.settled(entry.slots, now):
                entry.verified = events
            elif strict:
                return None
        return entry

    def _drop(self, key: Key, why: str) -> None:
        del self._answers[key]
        self.counts.invalidate(why)

    # What is read

    def flight(self, key: Key) -> Fill | None:
        """The read of the same that is under way."""
        return self._flights.get(key)

    def plan(
        self,
        key: Key,
        pattern: bytes,
        slots: tuple[int, ...],
        catalog: int,
        database: str,
        facts: StatementFacts,
        text: bytes,
    ) -> Fill:
        """The answer is about to be asked for: others' first, if hold() is called, or a node."""
        digest = self._digest(database, facts, text)
        leads = key not in self._flights
        ttl_s = facts.cache_ttl_s or self.settings.ttl_s
        fill = Fill(key, pattern, slots, catalog, digest, ttl_s, self.settings.result_bytes_max, leads, self.serial)
        if leads:
            self._flights[key] = fill
        return fill

    def begin(self, fill: Fill, fresh: float) -> bool:
        """It is sent now, to a server that has all that was committed before `fresh`; whether that may be kept."""
        fill.version = self.versions.version(fill.slots)
        fill.sent = time.monotonic()
        fill.fresh = fresh
        if self.versions.doubted_until(fill.slots) > fill.sent:
            self.give_up(fill, "in doubt")
            return False
        return True

    def end(self, fill: Fill, catalog: int, clock_now: float) -> None:
        """The answer is there, whole."""
        if fill.ended or fill.serial != self.serial:
            self.give_up(fill, "switched")
            return
        whole = b"".join(fill.pieces)
        if whole.endswith(IN_TRANSACTION):
            whole = whole[: -len(IN_TRANSACTION)] + READY_IDLE
        why = self._why_not(fill, catalog, whole)
        if why:
            self.give_up(fill, why)
            return
        shown = time.monotonic()
        expires = clock_now + fill.ttl_s if fill.ttl_s else 0.0
        entry = Entry(
            whole,
            fill.pattern,
            fill.slots,
            fill.version,
            fill.catalog,
            fill.fresh,
            shown,
            expires,
            shown - fill.sent,
            fill.digest,
            len(fill.key),
        )
        entry.used = clock_now
        if entry.size <= self._answers.maxsize:
            self._answers[fill.key] = entry
            self.counts.store(fill.digest, len(whole))
            if self.sharing is not None:
                self.sharing.offer(fill, entry)
        self._land(fill)

    def _why_not(self, fill: Fill, catalog: int, whole: bytes) -> str:
        """Why an answer is not kept; "" where it is."""
        if fill.too_large():
            return "too large"
        if not well_formed(whole, fill.pattern):
            return "not only rows"
        if time_words(fill.key[SAID_AT:]):
            return "words for a time"
        if fill.catalog != catalog:
            return "catalog changed"
        return self.stale(fill)

    def stale(self, fill: Fill) -> str:
        """Why an answer may be older than what others have been told of; "" where it is not."""
        versions = self.versions
        if versions.version(fill.slots) != fill.version:
            return "changed meanwhile"
        if fill.fresh < max(versions.changed_at(fill.slots), versions.doubted_until(fill.slots)):
            return "from a standby that lags behind the last change"
        return ""

    def give_up(self, fill: Fill, why: str) -> None:
        """It will not be kept."""
        if not fill.ended:
            self.counts.refuse(why)
            self._land(fill)

    def _land(self, fill: Fill) -> None:
        """Have those go on who have waited for it."""
        fill.ended = True
        fill.pieces = []
        self.leave_behind(fill)

    def leave_behind(self, fill: Fill) -> None:
        """Have nobody wait for it any more."""
        if fill.leads and self._flights.get(fill.key) is fill:
            del self._flights[fill.key]
        waiting, fill.waiting = fill.waiting, {}
        for passenger in waiting:
            # Not within the callback of another client's server.
            self._call_soon(passenger.landed)

    def board(self, fill: Fill, passenger: Passenger, now: float) -> None:
        """A client waits for it."""
        self.counts.flights += 1
        fill.waiting[passenger] = now

    def hold(self, fill: Fill, leader: Passenger, now: float) -> None:
        """Ask other instances for what a client has planned to read; it waits, and goes on as those who board do."""
        assert self.sharing is not None
        fill.leader = leader
        fill.waiting[leader] = now
        self.sharing.ask(fill, lambda found: self._told(fill, found))

    def _told(self, fill: Fill, found: Found | None) -> None:
        """What other instances have of it."""
        leader, fill.leader = fill.leader, None
        if fill.ended or leader is None:
            return
        assert self.sharing is not None
        entry = None
        if found is not None and self.serving and fill.serial == self.serial:
            entry = self.sharing.accept(fill, found)
        if entry is not None and entry.size <= self._answers.maxsize:
            self.counts.second_level_hits += 1
            self._answers[fill.key] = entry
            self._land(fill)
            return
        self.counts.second_level_misses += 1
        self.counts.miss(fill.digest)
        if fill.waiting.pop(leader, None) is not None:
            self._call_soon(leader.landed)

    def _digest(self, database: str, facts: StatementFacts, text: bytes) -> DigestCounts:
        digest = self._digests.get((database, facts))
        if digest is None:
            if len(self._digests) >= TABLES_MAX:
                self._digests = {}
            # A comment may tell one call from the next, or something that is nobody's business.
            words, _ = without_comments(text.decode(errors="replace"))
            shape = shape_of(words) or facts.kind
            digest = self._digests[database, facts] = self.counts.digest(database, " ".join(shape.split()))
        return digest

    # What is changed

    def lost(self, now: float) -> None:
        """What the server of a client was sent may still be committed, though it is gone; nothing was noted of that."""
        self._lost_at = now

    def use(self, said: SetCache) -> bool:
        """Do so from now on; whether that begins or ends the noting of writes."""
        before = self.tracking
        self._toggle = Toggle(said.tracking, said.serving, said.modes, said.forced)
        self.tracking, self.serving = said.tracking, said.serving
        if self.tracking and not before and self._lost_at:
            self.versions.doubt((EVERYTHING,), self._lost_at + DOUBT_S)
        self.serial += 1
        # What is under way may have missed writes that nobody has noted.
        for fill in list(self._flights.values()):
            self.give_up(fill, "switched")
        if not self.serving:
            self.clear("off")
        return before != self.tracking

    def use_settings(self, settings: CacheSettings) -> None:
        """By these, and by other rules, from now on. The way to other instances' answers stays the one there is."""
        if settings.size_bytes != self.settings.size_bytes:
            self._answers.resize(settings.size_bytes)
        self.settings = settings
        self.watched = settings.watch != "off"
        self.serial += 1

    def exact(self) -> bool:
        """Whether others' writes are told as they are committed, and not some time later."""
        return self.settings.watch == "logical" or self.versions.watched_lsn() != 0

    def mode_of(self, policy: RoutePolicy) -> int:
        """Whether the answers to a rule's clients are kept, unless they say otherwise; NEVER where they cannot."""
        return MODES.get(self._toggle.mode_of(policy), NEVER)

    def clear(self, cause: str) -> None:
        """Forget all answers."""
        self.counts.invalidate(cause, len(self._answers))
        self._answers.clear()

    def counters(self) -> CacheCounters:
        """What it has done since the worker started."""
        return self.counts.counters(len(self._answers), int(self._answers.currsize), self._answers.evictions)

    def tick(self, now: float) -> None:
        """Let those go on by themselves who have waited for as long as they may; called a few times a second."""
        if self.sharing is not None:
            self.sharing.tick()
        for fill in list(self._flights.values()):
            if fill.waiting:
                for passenger, since in list(fill.waiting.items()):
                    if now - since >= passenger.limits.query_wait_s:
                        del fill.waiting[passenger]
                        self._call_soon(passenger.landed)
