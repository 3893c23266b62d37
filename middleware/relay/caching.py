"""The side of a client's connection that knows the query cache: it takes answers from there, keeps those of its reads,
and has all workers know what it writes.

Whether an answer may be taken is decided in client_cache.py, when others hear of writes in writes.py.
"""

import time
from collections.abc import Sequence
from typing import Final

from middleware.cache.fill import Fill
from middleware.pool.server_connection import ServerConnection
from middleware.relay.client_cache import NEWEST, ON_NODE, OUTSIDE, ClientCache
from middleware.relay.returning import Returning
from middleware.relay.transaction import NONE
from middleware.relay.writes import Writes
from middleware.session.batch import Batch
from middleware.session.expected import SYNC_UNSEEN
from middleware.session.server import (
    FAILED,
    IDLE,
    IN_FAILED_TRANSACTION,
    IN_TRANSACTION,
    MISREAD,
    READY,
    UNSURE,
    ServerSession,
)
from middleware.wire.build import SYNC_MESSAGE, notice
from parser.facts import END, StatementFacts
from parser.session_state import UNKNOWN

IN_TRANSACTION_STATUS: Final = bytes((IN_TRANSACTION,))

SERVER_IDLE_S: Final = 0.5
"""How long a transaction's server may be asked nothing: it may have idle_in_transaction_session_timeout."""


def _comes_to_nothing(statements: Sequence[StatementFacts], peer: ServerSession) -> bool:
    """Whether all that a whole batch does is to end a transaction that has failed."""
    if peer.status != IN_FAILED_TRANSACTION or peer.expected or len(statements) != 1:
        return False
    control = statements[0].transaction
    return control is not None and control.kind == END


class Caching(Returning):
    """See above."""

    __slots__ = ()

    # Answers from the cache

    def _client_cache(self) -> ClientCache:
        known = self.caching
        if known is None:
            known = self.caching = ClientCache(self.relay, self.routing, self.session, self.user, self.database)
        return known

    def answers_kept(self, facts: StatementFacts) -> bool:
        """Whether a statement is one that its client, or the settings, would have answered from the cache."""
        return self._client_cache().wants(facts)

    def _takes_from_cache(self, batch: Batch, data: bytes) -> bool:
        """Whether a batch is answered from the cache; else what it waits for, if anything, is in `awaited`."""
        caching = self._client_cache()
        answer = b"" if self._slow else caching.batch(batch, data)
        if not answer:
            return False
        self._give(batch.facts[0], answer, batch.end - batch.start)
        # All that it has prepared is known, though no server has seen it.
        self.session.returned()
        return True

    def _takes_beside_server(self, server: ServerConnection, batch: Batch, data: bytes) -> bool:
        """The same for a client that has a server: in a transaction that only reads, or where all that the server got
        of the batch prepares its statement (asyncpg does that)."""
        peer, transaction = server.session, self.routing.transaction
        now = self.relay.clock.now
        if peer.expected or peer.describing or self._slow or self.routing.confined is not None:
            return False
        if now - server.sent_at >= SERVER_IDLE_S:
            return False
        reading = transaction.open() and not self._sent_open
        if reading:
            if not self.routing.only_reads() or peer.status != IN_TRANSACTION:
                return False
        elif not (self._sent_open and self._only_prepared and transaction.phase == NONE):
            return False
        caching = self._client_cache()
        fresh = OUTSIDE
        if reading:
            fresh = NEWEST if self._on_primary else server.pool.state.fresh_as_of
            if self.routing.saw:
                # What it has read there, nobody has noted yet.
                marks = self.routing.marks
                marks.seen = max(marks.seen, time.monotonic())
        # It does not wait for others: what it has others may wait for.
        caching.flown = True
        answer = caching.batch(batch, data, fresh)
        if not answer:
            return False
        if reading:
            transaction.note(batch.facts[0], reads=True)
            server.answered_at = now
            answer = answer[:-1] + IN_TRANSACTION_STATUS
        else:
            self._sent_open = False
            # What it has seen, it has not seen there.
            self.routing.saw = False
            peer.expected.append(SYNC_UNSEEN)
            server.transport.write(SYNC_MESSAGE)
        self._give(batch.facts[0], answer, batch.end - batch.start)
        self.session.unsettled.clear()
        return True

    def _give(self, facts: StatementFacts, answer: bytes, asked_bytes: int) -> None:
        """Answer a statement from the cache."""
        routing = self.routing
        self.held_at = 0.0
        self.idle_since = self.relay.clock.now
        routing.last_node, routing.last_facts = ON_NODE, facts
        if routing.own.notices:
            answer = notice("statement answered from the query cache") + answer
        account = self.account
        account.here.answered(asked_bytes, len(answer), not routing.transaction.open())
        account.digests.of(facts).hit()
        if self.relay.tracing is not None:
            routing.statement_log.hit(facts, self.session.parameters)
        self.transport.write(answer)

    def _board(self, batch: Batch, data: bytes) -> None:
        """Hold a batch until another client's read of the same has ended, or other instances have been asked."""
        caching, cache, now = self.caching, self.relay.cache, self.relay.clock.now
        assert caching is not None
        flight = caching.awaited
        assert flight is not None
        self._waits()
        self._held, self._held_data = batch, data
        if flight is caching.planned:
            cache.hold(flight, self, now)
        else:
            cache.board(flight, self, now)

    def _leaves_flight(self) -> bool:
        """It waits for another's read no more; False if it did not."""
        caching = self.caching
        if caching is None or caching.awaited is None:
            return False
        caching.awaited.waiting.pop(self, None)
        caching.awaited = None
        return True

    def landed(self) -> None:
        """The read has ended that it waits for, or no other instance has the answer."""
        caching = self.caching
        if caching is not None and caching.awaited is not None:
            caching.awaited = None
            caching.flown = True
            self.choose_again()
            if self._draining and not self._closed and self._held is None and self.server is None:
                # It was answered without a server, whose return it would have gone with.
                self.terminate()

    # What is sent

    def _cache_sees(
        self,
        server: ServerConnection,
        statements: Sequence[StatementFacts],
        executes: bool,
        more: bool,
        data: bytes,
        start: int,
    ) -> None:
        """A batch is about to be sent, that begins at `start`; `more`: its statements may do more than read."""
        caching = self.caching
        if self.fill is not None:
            self._drop_fill("another statement was sent behind it")
        if caching is not None and caching.planned is not None:
            self.fill = caching.begin(server, self._on_primary, time.monotonic(), data, start)
        if more:
            self._note_writes(statements)
        if self.writes is not None:
            self.writes.sent(statements)
        # What is executed may have been bound long ago.
        may_commit = executes and self.routing.transaction.commits
        if may_commit and not self._sent_open and _comes_to_nothing(statements, server.session):
            # Behind a Flush nobody knows whether the transaction is still the failed one.
            may_commit = False
        if self.writes is not None and may_commit:
            self.writes.commit()

    def _filled(self, fill: Fill, server: ServerConnection, events: int) -> None:
        """The server has said something that matters, in answer to it."""
        assert self.caching is not None
        peer = server.session
        if fill.too_large():
            self._drop_fill("too large")
        elif events & ~READY:
            self._drop_fill("not only rows")
        elif not peer.expected:
            self.fill = None
            self.caching.end(fill)

    def _drop_fill(self, why: str) -> None:
        fill, self.fill = self.fill, None
        if fill is not None:
            self.relay.cache.give_up(fill, why)

    def _forgo_cache(self) -> None:
        """It does not send what was planned."""
        if self.caching is not None:
            self.caching.forgo()

    # Writes

    def _note_writes(self, statements: Sequence[StatementFacts]) -> None:
        """They are about to be sent, and may write."""
        cache, routing = self.relay.cache, self.routing
        blind = routing.blind or self.relay.commits.unreported()
        for facts in statements:
            if routing.router.renames(facts):
                blind = routing.blind = True
        writes = self.writes
        for facts in statements:
            if routing.router.route(facts).writes:
                slots = cache.touches(routing.router, self._database_name, facts)
                if slots:
                    if writes is None:
                        writes = self.writes = Writes(cache.versions, cache.all_of(self._database_name))
                    writes.note((cache.all_of(self._database_name), *slots) if blind else slots)
            if any(effect.state == UNKNOWN for effect in facts.effects):
                # What it has done to the settings is not known before it is asked for.
                routing.blind = True
        if writes is not None:
            # The answer brings it.
            self.wrote = True

    def track_writes(self, begin: bool) -> None:
        """Its writes are noted from now on, for the query cache, or are no longer."""
        writes, self.writes = self.writes, None
        server = self.server
        if writes is not None:
            writes.lost(time.monotonic(), server is not None and self._may_be_at_it(server.session))
        if not begin or server is None:
            return
        peer = server.session
        asked = bool(peer.expected) or (self._sent_open and not self._only_prepared)
        if asked or peer.status != IDLE:
            # What it has sent before was not noted.
            everything = self.relay.cache.all_of(self._database_name)
            self.wrote = True
            self.writes = Writes(self.relay.cache.versions, everything)
            self.writes.note((everything,))
            self.writes.sent(None)
            if asked:
                self.writes.commit()

    def _tell_writes(self, writes: Writes, peer: ServerSession, now: float) -> None:
        """The server has answered, and its client is about to hear it."""
        # PostgreSQL sends an error at once, and its ReadyForQuery when it comes to that.
        writes.errors |= peer.events & (FAILED | MISREAD | UNSURE)
        if not peer.events & READY:
            return
        due = bool(peer.expected)
        if writes.errors & UNSURE and not due and peer.status == IDLE:
            writes.lost(now, busy=False)
            self.writes = None
        elif writes.errors and not due and peer.status == IDLE and self._came_to_nothing(writes):
            writes.end()
            self.writes = None
        elif not writes.answered(now, due or peer.status != IDLE) and peer.status == IDLE:
            self.writes = None

    def _came_to_nothing(self, writes: Writes) -> bool:
        """Whether an error that leaves no transaction open has undone all that was sent."""
        if self.routing.transaction.phase != NONE:
            return False
        return writes.one_step or (writes.one_string and bool(writes.errors & MISREAD))
