"""One client that is logged in: its batches, and their answers.

The protocol object of asyncio's transport, after Arrival; ClientSession decides, this moves bytes. Everything happens
in callbacks: bytes from the client (data_received), from its server (server_answered), and from the pool (lent).

A client either has no server, and the next batch chooses a node (see borrowing.py); or it has one, and what it sends is
passed on; or it is blocked, and what it sends is kept, one chunk of it, until it is unblocked: by the server it waits
for, or by the answer that its session holds messages back for.
"""

import asyncio
from time import monotonic
from typing import Final

from middleware.errors import NotSupported, PointsmanError, ProtocolViolation
from middleware.pool.ledger import Limit
from middleware.pool.server_connection import ServerConnection
from middleware.relay.accounts import Account
from middleware.relay.answers import RouteAnswers
from middleware.relay.intake import BLOCKED
from middleware.relay.leaving import Leaving
from middleware.relay.own_settings import OwnSettings
from middleware.relay.parting import CLOSED, GOODBYE, LOST, SERVER
from middleware.relay.policies import KnownAs
from middleware.relay.relay import Relay
from middleware.relay.session_state import NO_TRANSACTIONS
from middleware.session.batch import COMPLETE, FLUSHED, FULL, HELD, OPEN, TERMINATED, Batch
from middleware.session.expected import SYNC, SYNC_UNSEEN
from middleware.session.parameters import StartupParameters
from middleware.session.server import (
    COPY_BEGUN,
    DEALLOCATED,
    FAILED,
    FATAL,
    HOLD_FAILED,
    HOLD_FOR_QUERY,
    HOLD_OVER,
    IDLE,
    IN_FAILED_TRANSACTION,
    LEFT_OPEN,
    READY,
    SETUP_FAILED,
    STALE_PLAN,
    VIOLATED,
)
from middleware.wire.build import FLUSH_MESSAGE, error_response, message, notice
from middleware.wire.codes import PARSE, QUERY
from parser.facts import StatementFacts
from routing.router import STANDBY

REFUSED_QUERY: Final = message(QUERY, b"refused by pointsman\0")
"""What no server can read: its error is then shown as ours, and its transaction has failed."""
REFUSED_PARSE: Final = message(PARSE, b"\0refused by pointsman\0\0\0") + FLUSH_MESSAGE


class ClientConnection(Leaving):
    """A client's connection to us: an asyncio.Protocol in all but name (a base class in Python cannot be compiled)."""

    __slots__ = ()

    def __init__(
        self,
        relay: Relay,
        transport: asyncio.Transport,
        user: bytes,
        database: bytes,
        parameters: StartupParameters,
        own: OwnSettings,
        account: Account,
        known_as: KnownAs,
        counted: list[Limit],
    ) -> None:
        super().__init__(relay, transport, user, database, parameters, own, account, known_as)
        self.counted = counted
        self.secret = b""
        self.deadline = 0.0
        self.session.answerer = RouteAnswers(self)
        self._gathering = None
        self._left = 0
        self._drops_left = False
        self._untold = None
        self._leaving = False

    # Transport

    def data_received(self, data: bytes) -> None:
        try:
            if self._closed:
                return
            if self._left and self._blocked:
                # The answer that is waited for is one to the message that this is a part of.
                data = self._pass_on(data)
            if data:
                self.take_in(data)
        except PointsmanError as error:
            self.refuse(error)
        except Exception as bug:
            self.failed(bug)

    def eof_received(self) -> bool:
        """The client sends no more: what it has sent is answered, as PostgreSQL does, and then it is gone."""
        self.part(CLOSED)
        return self._goodbye()

    def connection_lost(self, exc: Exception | None) -> None:
        self.part(CLOSED if exc is None else LOST)
        self.close()

    def pause_writing(self) -> None:
        """The client reads slower than its server sends."""
        self._slow = True
        if self.fill is not None:
            # Others are not to wait for it.
            self.relay.cache.leave_behind(self.fill)
        if self.server is not None:
            self.server.pause_reading()

    def resume_writing(self) -> None:
        self._slow = False
        if self.server is not None:
            self.server.resume_reading()

    # From the client

    def serve(self, data: bytes) -> None:
        if self._left:
            data = self._pass_on(data)
        elif data[0] == QUERY and self._gathering is None and self._serve_query(data):
            return
        position = 0
        while position < len(data) or self._gathering is not None:
            batch = self._gathering or Batch(position)
            self._gathering = None
            self.session.scan(batch, data)
            if batch.state == OPEN:
                self._unfinished(batch, data)
                return
            position = batch.end
            if not self._dispatch(batch, data):
                if not self._closed:
                    self.block(data[position:])
                return

    def _pass_on(self, data: bytes) -> bytes:
        """The rest of a message whose beginning was sent, or dropped; returns what is behind it."""
        chunk = data if len(data) <= self._left else data[: self._left]
        self._left -= len(chunk)
        if self.server is not None and not self._drops_left:
            self.server.sends(len(chunk))
            self.server.transport.write(chunk)
        return data[len(chunk) :]

    def _serve_query(self, data: bytes) -> bool:
        """The short way for the commonest case: one whole Query, and a server there for it. False: not this case."""
        session = self.session
        if session.batch_open or session.discarding or session.copying or len(data) < 6:
            return False
        if int.from_bytes(data[1:5], "big") != len(data) - 1:
            return False
        routing = self.routing
        facts = session.facts_of(data[5:-1])
        if facts.special or routing.own.special or (facts.calls and routing.router.leaves_state(facts)):
            return False
        decision = routing.router.route(facts)
        server = self.server
        prefix = b""
        if server is None:
            if self.adrift or self._aim is not None:
                return False
            reads = decision.target is STANDBY and routing.confined is None
            if reads and self.relay.cache.serving and self._query_from_cache(facts, data):
                return True
            route = routing.nodes()
            pool = route.primary
            if reads:
                reader = routing.reader(route, routing.own.level)
                if reader is not None:
                    pool = reader
                elif routing.wants_standby(route, routing.own.level) and self._wait.wanted(route):
                    return False
            if pool is None:
                return False
            server = pool.lease(self, self.session.parameters)
            if server is None:
                # The batch waits for it here: choosing again would be another turn, and a pool that has no server yet
                # would never be the one that is chosen the second time.
                batch = Batch(0)
                session.scan(batch, data)
                self._hold(batch, data, pool)
                self.block(b"")
                return True
            prefix = self._take(server, pool is route.primary)
        elif not self._on_primary or (self.relay.cache.serving and routing.transaction.open()):
            return False
        elif not server.session.expected and server.session.status == IDLE:
            server.lent_at = self.relay.clock.now
        routing.sends_query(facts, decision, server.pool, self._on_primary, server.session.meter)
        if self.relay.cache.tracking:
            self._cache_sees(server, (facts,), True, decision.writes, data, 0)
        server.sends(len(data))
        peer = server.session
        if decision.writes:
            self.wrote = True
        self._keep_for_again(peer, decision.target is STANDBY, data)
        session.statements.unnamed = None
        peer.unnamed = None
        peer.expected.append(SYNC)
        server.transport.write(prefix + data if prefix else data)
        return True

    def _query_from_cache(self, facts: StatementFacts, data: bytes) -> bool:
        """Whether a Query is answered from the cache, or waits there."""
        caching = self._client_cache()
        if self._slow or not caching.wants(facts):
            # What it is given from the cache would only pile up.
            return False
        answer = caching.query(facts, data)
        if answer:
            self._give(facts, answer, len(data))
            self.session.statements.unnamed = None
            return True
        if caching.awaited is None:
            return False
        batch = Batch(0)
        self.session.scan(batch, data)
        self._board(batch, data)
        self.block(b"")
        return True

    def _unfinished(self, batch: Batch, data: bytes) -> None:
        """The data ended within a batch or a message: send what can be sent now, keep the rest."""
        server = self.server
        if server is not None and self._on_primary and batch.end > batch.start and not self._parts_from(server):
            batch.state = FULL
            self._send(server, batch, data)
            self.keep(data[batch.end :], batch.need)
        else:
            rest = data[batch.start :]
            batch.rebase()
            self._gathering = batch if batch.end else None
            self.keep(rest, batch.end + batch.need)

    def _parts_from(self, server: ServerConnection) -> bool:
        """Whether it will have given its server back by the next batch: it waits for a Sync of ours alone."""
        expected = server.session.expected
        return len(expected) == 1 and expected[0] is SYNC_UNSEEN and not self._sent_open

    def _dispatch(self, batch: Batch, data: bytes) -> bool:
        """Send a batch, or hold it. False: look at nothing more, because blocked or closed."""
        self._cut_short = False
        if self._skip_rest:
            self._skip_rest = False
            self.session.skip(batch)
            self.put_back(data[batch.start : batch.end])
            return True
        if batch.state == TERMINATED:
            # What came before is carried out, as by PostgreSQL.
            self.part(GOODBYE)
            if not self._goodbye():
                self.close()
            return False
        server = self.server
        error = (self.routing.set_own(batch) or self.state.refuses(batch)) if batch.special else None
        if server is None:
            if self._draining:
                self.terminate()
                return False
            if self.adrift and batch.substance and self._answers_adrift(batch, data):
                return True
            if error is not None:
                self._fail_batch(batch, error)
                return True
            if batch.substance:
                return self._choose(batch, data)
            if batch.state == COMPLETE:
                self._tell(batch, self._ready())
            # Of a CopyData that is dropped, more may be to come.
            self._left, self._drops_left = batch.left, True
            return True
        if error is not None and server.session.status != IN_FAILED_TRANSACTION:
            return self._refuse_batch(server, batch, data, error)
        if self.relay.cache.serving and batch.state == COMPLETE and self._takes_beside_server(server, batch, data):
            return True
        if (not self.state.pinned and self._must_leave(server, batch)) or (
            not self._sent_open and self.state.must_wait(batch, server.session)
        ):
            self._held, self._held_data = batch, data
            return False
        self._send(server, batch, data)
        return batch.state != HELD

    def _refuse_batch(self, server: ServerConnection, batch: Batch, data: bytes, error: PointsmanError) -> bool:
        """Have the server fail in its place, so that its transaction fails with it. False: held until that can be."""
        peer = server.session
        if peer.expected:
            self._held, self._held_data = batch, data
            return False
        self.tell_error(error)
        self.session.take_back(batch)
        peer.substitute = error_response(error, "ERROR")
        peer.unnamed = None
        if batch.state == COMPLETE or batch.hold == HOLD_FOR_QUERY:
            batch.state = COMPLETE
            self.routing.asks_for_end(peer.meter, self._on_primary)
            peer.expected.append(SYNC)
            server.transport.write(REFUSED_QUERY)
        else:
            batch.state = FULL
            self._sent_open = True
            server.transport.write(REFUSED_PARSE)
        self._left, self._drops_left = batch.left, True
        return True

    def _send(self, server: ServerConnection, batch: Batch, data: bytes, prefix: bytes = b"") -> None:
        if self._sent_open and not server.session.expected:
            # What was sent of it before was answered, and its client has thought meanwhile.
            server.session.meter.asked(monotonic())
        server.sends(min(batch.end, len(data)) - batch.start)
        if not server.session.expected and server.session.status == IDLE:
            # It may have been at rest with its server for long.
            server.lent_at = server.sent_at
        fresh = not self.routing.saw
        begin = self._begin_again
        if begin:
            self._begin_again = b""
            self.routing.transaction.begun_again()
        if batch.facts:
            if self.routing.sends(batch, server.pool, self._on_primary):
                self.wrote = True
            # Not within the answer to what was sent before.
            if (
                self.routing.own.notices
                and not batch.facts[-1].asks
                and not server.session.expected
                and not server.session.mid_message()
            ):
                self.transport.write(notice(f"statement routed to {RouteAnswers(self).last_route()}"))
        if self.relay.cache.tracking:
            more = bool(batch.facts) and (self.routing.writes or not self.routing.reads)
            self._cache_sees(server, batch.facts, batch.executes > 0, more, data, batch.start)
        behind = b""
        calls = self.routing.leaves_state(batch)
        if batch.special or batch.sql_names or calls:
            front, behind = self.state.sends(batch, server.session, self._sent_open, fresh)
            prefix += front
            if calls:
                self.state.calls(server.session)
            self._warn()
        if begin:
            prefix += server.unseen(begin)
        plain = not (batch.special or batch.sql_names or calls or (self._sent_open and not self._only_prepared))
        if batch.state == COMPLETE:
            harmless = plain and (not batch.executes or self.routing.reads)
        else:
            harmless = self._only_prepared = plain and batch.state == FLUSHED and not batch.executes and not batch.binds
        whole = batch.start == 0 and batch.end == len(data)
        self._keep_for_again(server.session, harmless, data if whole else data[batch.start : batch.end])
        out = self.session.emit(batch, data, server.session)
        self.routing.sends_end(batch, server.session.meter, self._on_primary)
        if self._only_prepared and batch.state == FLUSHED:
            server.session.describing += batch.describes
        self._left, self._drops_left = batch.left, batch.drops_left
        self._sent_open = self.session.batch_open
        if behind and batch.state == COMPLETE:
            out += server.behind(behind)
        if out:
            server.transport.write(prefix + out if prefix else out)
        if self._left and batch.state == HELD:
            self._pass_on_kept()

    def _pass_on_kept(self) -> None:
        """The same for what has come of a message while its beginning waited for a server."""
        kept = b"".join(self._backlog)
        if kept:
            rest = self._pass_on(kept)
            self.forget()
            if rest:
                self._backlog = [rest]
            else:
                self.resume_reading(BLOCKED)

    def _fail_batch(self, batch: Batch, error: PointsmanError) -> None:
        """Answer a batch that was not sent with an error, as a server would."""
        self.tell_error(error)
        session = self.session
        if self._begin_again:
            # In the client's eyes it is in the transaction that was to begin again: that has failed.
            self._begin_again = b""
            self.adrift = True
        self._aim = None
        self.waiting_since = self.held_at = 0.0
        self._wait.end()
        self._forgo_cache()
        session.take_back(batch)
        out = error_response(error, "ERROR")
        if batch.state == COMPLETE or batch.hold == HOLD_FOR_QUERY:
            out += self._ready()
            batch.state = COMPLETE
        else:
            session.discarding = True
            batch.state = FULL
        self._left, self._drops_left = batch.left, True
        self._tell(batch, out, error=True)

    # From the server

    def server_answered(self, server: ServerConnection, events: int) -> None:
        """The server has said something that matters; it has been passed on."""
        try:
            self._act_on(server, events)
        except Exception as bug:
            # Called from within the server's callback, which is no part of this.
            self.failed(bug)

    def _act_on(self, server: ServerConnection, events: int) -> None:
        if self.fill is not None:
            self._filled(self.fill, server, events)
        if events & ~READY:
            self._note(server, events)
            if self._closed or self.server is not server:
                return
        if events & READY and self.session.unsettled and not server.session.expected and self._held is None:
            self.session.unsettled.clear()
        if events & READY and not self._sent_open and (self._drops_left or not self._left):
            if server.session.at_rest():
                self._rest(server)
            else:
                self._answered(server)
        if events & HOLD_OVER and not self.state.asking:
            self.unblock()
        if self._leaving:
            self._leave()

    def _answered(self, server: ServerConnection) -> None:
        """Something is answered, and it is not at rest."""
        server.answered_at = server.asked_at = self.relay.clock.now
        if server.session.expected:
            return
        if self._held is not None:
            self._reconsider(server)

    def _note(self, server: ServerConnection, events: int) -> None:
        """Act on all that is not a plain ReadyForQuery."""
        session = self.session
        if events & SETUP_FAILED:
            # Its statement ran without its settings, or will.
            error = server.settings_refused()
            server.session.uncertain = True
            self.refuse(error)
            return
        if events & FATAL:
            if server.session.last_words:
                server.said_goodbye()
                return
            # It has reached the client, and the server's connection ends: the client's ends as it would directly.
            self.part(SERVER)
            self._drop_server(server)
            self.close()
            return
        if events & LEFT_OPEN:
            # Its text did not show it: one of several statements, or a part of a string too long to be read.
            self.refuse(NotSupported(NO_TRANSACTIONS))
            return
        if events & DEALLOCATED:
            self.state.statements_dropped()
        if events & STALE_PLAN:
            session.plan_went_stale()
        if events & HOLD_OVER:
            session.hold_over(failed=bool(events & HOLD_FAILED), copying=bool(events & COPY_BEGUN))
        elif events & COPY_BEGUN:
            # A COPY that its text did not announce: our count of the Syncs that are answered may be off.
            session.copying = True
            server.session.uncertain = True
        if events & FAILED:
            self.state.failed()
            self._skip_rest = self._cut_short
            if session.copy_disturbed and not events & VIOLATED:
                # The COPY had failed before: whether the server will answer that too cannot be told.
                self.refuse(ProtocolViolation("unexpected message type during COPY from stdin"))
                return
            session.copy_disturbed = False
            if session.copying and not server.session.copy_in:
                session.copy_failed()
            elif server.session.skipping:
                session.failed()
