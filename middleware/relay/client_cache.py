"""One client's side of the query cache: what of its may be answered from there, and what its reads leave there.

In: a statement that only reads, before a node is chosen for it. Out: the answer; or else a read that is planned, whose
answer is kept; or the same read of another client's, which is worth waiting for.

Nothing of a client is answered from the cache that must be seen by a server: in transactions that may write, in those
with one snapshot for all, and while something of its session is on its server.
"""

import math
from typing import Final

from middleware.cache.cache import HINT, NEVER, OFF, QueryCache
from middleware.cache.entry import Entry
from middleware.cache.fill import Fill
from middleware.cache.request import NO_LIMIT, QUERY_PATTERN, Key, Scope, query_key, request_of, telling
from middleware.cache.sharing import Sharing
from middleware.pool.server_connection import ServerConnection
from middleware.relay.client_routing import ClientRouting
from middleware.relay.freshness import EVENTUAL, PRIMARY
from middleware.relay.own_settings import AUTO
from middleware.relay.relay import Relay
from middleware.session.batch import COMPLETE, Batch
from middleware.session.client import ClientSession
from middleware.session.parameters import NONE, StartupParameters
from middleware.wire.codes import QUERY
from parser.facts import StatementFacts
from routing.router import STANDBY

ON_NODE: Final = "query cache"
"""Where a statement went that was answered from it."""

OUTSIDE: Final = math.inf
"""Of the server whose transaction it is in, where it is in none."""
NEWEST: Final = 1e300
"""The same of the primary."""


class ClientCache:
    """See above."""

    __slots__ = (
        "_cache",
        "_data",
        "_database",
        "_mode",
        "_name",
        "_relay",
        "_routing",
        "_scope",
        "_scope_of",
        "_serial",
        "_session",
        "_start",
        "_user",
        "awaited",
        "flown",
        "planned",
    )

    def __init__(
        self, relay: Relay, routing: ClientRouting, session: ClientSession, user: bytes, database: bytes
    ) -> None:
        self._relay: Final = relay
        self._cache: Final[QueryCache] = relay.cache
        self._routing: Final = routing
        self._session: Final = session
        self._user: Final = user
        self._database: Final = database
        self._name: Final = database.decode(errors="replace")
        self._serial = -1
        self._mode = OFF
        """What holds for it unless it has said otherwise."""
        self._scope_of: StartupParameters = NONE
        self._scope: Scope | None = None
        self.planned: Fill | None = None
        """The read that it is about to send."""
        self._data = b""
        self._start = 0
        """Which bytes those are."""
        self.awaited: Fill | None = None
        """Another's read that it waits for; or its own, while other instances are asked for it."""
        self.flown = False
        """It has waited for one."""

    def wants(self, facts: StatementFacts) -> bool:
        """Whether a statement is one that its client, or the settings, would have answered from the cache."""
        if self._serial != self._cache.serial:
            self._serial = self._cache.serial
            self._mode = self._cache.mode_of(self._routing.policy)
        own = self._routing.own
        mode = self._mode if own.query_cache < 0 or self._mode == NEVER else own.query_cache
        hint = facts.cache_hint
        if mode <= OFF or hint == "off" or (mode == HINT and not hint):
            return False
        if self._relay.pools.some_paused and self._routing.nodes().paused:
            # Whoever has paused a database may be about to change it, unseen.
            return False
        # "primary" is for who would have that asked.
        return own.route == AUTO and own.level != PRIMARY and not facts.hint and not facts.pattern

    def query(self, facts: StatementFacts, message: bytes) -> bytes:
        """The answer to a whole Query that only reads; b"" where there is none, see `planned` and `awaited`."""
        slots = self._cache.reads(self._routing.router, self._name, facts)
        if slots is None:
            return b""
        self._data, self._start = message, 0
        return self._look(query_key(self._scope_now(), message), QUERY_PATTERN, slots, facts, message)

    def batch(self, batch: Batch, data: bytes, server_fresh: float = OUTSIDE) -> bytes:
        """The same for a batch, whatever it is; what it reads next has all that was committed by `server_fresh`."""
        if batch.state != COMPLETE or len(batch.facts) != 1 or batch.special:
            return b""
        facts = batch.facts[0]
        router = self._routing.router
        if router.route(facts).target is not STANDBY or not self.wants(facts):
            return b""
        slots = self._cache.reads(router, self._name, facts)
        if slots is None:
            return b""
        self._data, self._start = data, batch.start
        scope = self._scope_now()
        if data[batch.start] == QUERY:
            message = data[batch.start : batch.end]
            return self._look(query_key(scope, message), QUERY_PATTERN, slots, facts, message, server_fresh)
        request = request_of(batch, data, self._session.statements)
        if request is None or (request.limit != NO_LIMIT and server_fresh != OUTSIDE):
            # In a transaction the portal stays, to be read on.
            return b""
        return self._look(request.key(scope), request.pattern, slots, facts, request.body, server_fresh)

    def _look(
        self,
        key: Key,
        pattern: bytes,
        slots: tuple[int, ...],
        facts: StatementFacts,
        told: bytes,
        server_fresh: float = OUTSIDE,
    ) -> bytes:
        """`told` has its text: the Query, or what is in a Parse behind the name."""
        cache, relay = self._cache, self._relay
        planned, self.planned = self.planned, None
        flown, self.flown = self.flown, False
        if relay.commits.unreported():
            # Another worker's client has changed the catalog: what is known of what it depends on is old.
            self._forgo(planned)
            return b""
        catalog = self._routing.router.catalog
        assert catalog is not None
        entry = cache.find(key, catalog.version, relay.clock.now, self._routing.own.level != EVENTUAL)
        if entry is not None and entry.shown > server_fresh:
            # It may be newer than what its server would show next, which will have it later.
            self._forgo(planned)
            return b""
        if entry is not None and self._fresh_enough(entry.fresh):
            answer = entry.answer(pattern)
            if answer:
                self._forgo(planned)
                self._saw(entry)
                cache.counts.hit(entry.digest, entry.cost_s)
                return answer
        if planned is not None and planned.key == key:
            # It is chosen for once more.
            self.planned = planned
            return b""
        self._forgo(planned)
        flight = cache.flight(key)
        if flight is not None and not flown and cache.versions.settled(slots, relay.clock.now):
            self.awaited = flight
        else:
            text = told[5:-1] if pattern == QUERY_PATTERN else told[: told.find(0)]
            fill = self.planned = cache.plan(key, pattern, slots, catalog.version, self._name, facts, text)
            if cache.sharing is not None and self._others_may_have(cache.sharing, fill, facts, flown):
                self.awaited = fill
            else:
                cache.counts.miss(fill.digest)
        return b""

    def _others_may_have(self, sharing: Sharing, fill: Fill, facts: StatementFacts, flown: bool) -> bool:
        """Whether other instances are to be asked before a node is."""
        router, catalog = self._routing.router, self._routing.router.catalog
        if catalog is None or self._cache.alone(router, facts):
            return False
        sharing.name(fill, self._scope_now(), catalog)
        # Who may not wait, or has waited, does not; and of those who ask the same one asks others. What they have is
        # as fresh as what the watcher has told.
        return fill.leads and not flown and sharing.may_have(fill, self._name) and self._fresh_enough(0.0)

    def _fresh_enough(self, fresh: float) -> bool:
        """Whether an answer, filled as of then, has what its client must see of others' writes, that did not pass
        through us."""
        cache, routing = self._cache, self._routing
        if not cache.watched:
            return True
        fresh = max(cache.versions.watched_until(), fresh)
        enough = fresh >= self._relay.clock.now - routing.policy.max_replica_lag_s
        if enough and cache.exact() and routing.own.level != EVENTUAL:
            enough = fresh >= routing.marks.seen
        if not enough:
            self._relay.want_watch()
        return enough

    def _saw(self, entry: Entry) -> None:
        """What it reads next must not be older."""
        marks = self._routing.marks
        marks.seen = max(marks.seen, entry.shown)
        # The standby that it has read from last need not have what this shows, however long ago another has read it.
        marks.last = None

    def _scope_now(self) -> Scope:
        parameters = self._session.parameters
        scope = self._scope
        if scope is None or parameters is not self._scope_of:
            self._scope_of = parameters
            scope = self._scope = self._cache.scope(self._user, self._database, telling(parameters.values))
        return scope

    # The read that is planned

    def begin(self, server: ServerConnection, on_primary: bool, now: float, data: bytes, start: int) -> Fill | None:
        """The batch that begins at `start` of `data` is about to be sent; None where it is not what was planned."""
        fill, self.planned = self.planned, None
        if fill is not None:
            if data is not self._data or start != self._start:
                self._cache.give_up(fill, "not sent")
                return None
            if server.session.reported_before:
                # Its settings may be others than its client's.
                self._cache.give_up(fill, "settings of the server have changed")
                return None
            if not self._cache.begin(fill, now if on_primary else server.pool.state.fresh_as_of):
                return None
        return fill

    def end(self, fill: Fill) -> None:
        """It is answered."""
        catalog = self._routing.router.catalog
        self._cache.end(fill, -1 if catalog is None else catalog.version, self._relay.clock.now)

    def forgo(self) -> None:
        """Its client does not send what was planned, and waits for nothing."""
        planned, self.planned = self.planned, None
        self._forgo(planned)
        self.awaited = None

    def _forgo(self, planned: Fill | None) -> None:
        if planned is not None:
            self._cache.give_up(planned, "not sent")
