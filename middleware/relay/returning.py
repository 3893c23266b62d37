"""The side of a client's connection that gives its server back.

It does so once all is answered and no transaction open, and PostgreSQL has said what that has led to; or it keeps the
server, where its session's state is there. A batch that must not go to the server that its client has is held until
then; where it goes on with a transaction that has begun there, that is ended, and begun again elsewhere.
"""

import time
from abc import abstractmethod
from typing import Final

import structlog

from middleware.errors import ConnectionLost
from middleware.pool.server_connection import ServerConnection
from middleware.relay.borrowing import Borrowing
from middleware.relay.session_state import SessionState
from middleware.relay.transaction import ENDED
from middleware.relay.writes import Writes
from middleware.session.batch import Batch
from middleware.session.expected import SYNC_UNSEEN
from middleware.session.inspection import findings
from middleware.session.server import IDLE, IN_FAILED_TRANSACTION, UNSURE, ServerSession
from middleware.wire.build import SYNC_MESSAGE
from routing.router import STANDBY, Target

log: Final = structlog.get_logger("client")


class Returning(Borrowing):
    """See above."""

    __slots__ = ()

    @abstractmethod
    def _dispatch(self, batch: Batch, data: bytes) -> bool:
        """Send a batch, or hold it. False: look at nothing more, because blocked or closed."""

    @abstractmethod
    def go_by_settings(self) -> None:
        """Have the newest settings hold for it: nothing is under way."""

    @abstractmethod
    def _drop_fill(self, why: str) -> None:
        """What the server answers is not kept."""

    @abstractmethod
    def _tell_writes(self, writes: Writes, peer: ServerSession, now: float) -> None:
        """The server has answered, and its client is about to hear it."""

    # Moving a transaction

    def _must_leave(self, server: ServerConnection, batch: Batch) -> bool:
        """Whether a batch must not go to the server it has: it is held until that was given back."""
        routing = self.routing
        if not routing.transaction.open():
            if self._on_primary:
                return False
            if not routing.saw and not self._sent_open and server.session.expected:
                # What was prepared there was answered from the cache: it may lack what that has shown.
                return True
            # What comes behind the end of a transaction may begin another, and waits until it is known to have ended.
            ended = routing.transaction.phase == ENDED and not self._sent_open
            if not ended and routing.target(batch) is STANDBY and not routing.lags(batch, server.pool):
                return False
            if self._sent_open and server.session.skipping:
                # Nothing of it will run.
                return False
            if self._sent_open:
                # Only statements were prepared there: a Sync ends that, and the next server will parse what it lacks.
                self._sent_open = False
                self._cut_short = True
                server.session.expected.append(SYNC_UNSEEN)
                server.transport.write(SYNC_MESSAGE)
            return True
        if self._sent_open or server.session.status == IN_FAILED_TRANSACTION:
            return False
        again = routing.leaves(batch, self._on_primary)
        to_primary = not self._on_primary
        if again is None:
            if not (routing.transaction.fresh() and self.state.must_precede(batch, server.session)):
                return False
            again = routing.transaction.begin()
            to_primary = self._on_primary
        if not server.session.expected:
            # End it here, and go on with this batch where it belongs.
            self._begin_again = again
            self._aim = Target.PRIMARY if to_primary else Target.STANDBY
            server.ask(b"ROLLBACK")
        return True

    def _reconsider(self, server: ServerConnection) -> None:
        """All is answered, and its transaction is still open: what of the batch that was held for that?"""
        batch, data = self._held, self._held_data
        assert batch is not None
        self._held, self._held_data = None, b""
        if not self.routing.transaction.open():
            self.routing.transaction.stay()
        if self._dispatch(batch, data):
            self.unblock()

    def in_transaction(self) -> bool:
        """Whether it has a server that it will not give back before its next statement."""
        server = self.server
        return server is not None and (server.session.status != IDLE or self.routing.transaction.open())

    # Giving it back

    def _rest(self, server: ServerConnection) -> None:
        """All is answered, and no transaction open: find out what that has led to, and give the server back."""
        state, peer = self.state, server.session
        if state.at_ease(peer):
            self._release(server)
            return
        if state.asking:
            rows = peer.answer
            found = None if rows is None else findings(rows)
            state.learn(found, peer)
            if found is None:
                log.warning("the state of a session could not be asked for", user=self.user, database=self.database)
            self._settle(state)
        elif state.touched(peer):
            sql = state.settle(peer)
            if sql:
                self._held_up = True
                self.hold_up()
                server.inspect(sql)
                return
            self._settle(state)
        if state.pinned:
            self._stay(server)
        else:
            state.returned()
            self._release(server)

    def _settle(self, state: SessionState) -> None:
        """Go by what was found out."""
        self.session.parameters = state.parameters
        self.routing.settle(state.parameters, state.why() if state.pinned else "")
        self._warn()

    def _warn(self) -> None:
        """Tell the client what it has not been told yet of its session's state, unless within a message."""
        pending = self.state.warnings.pending
        if pending and (self.server is None or not self.server.session.mid_message()):
            if not self.session.parameters.hears_no_warnings:
                self.transport.write(b"".join(pending))
            pending.clear()

    def _stay(self, server: ServerConnection) -> None:
        """Keep the server, though nothing is under way."""
        server.answered_at = self.relay.clock.now
        self.routing.left(server.pool, self._on_primary, self.wrote, time.monotonic())
        self.wrote = False
        self.admin = False
        self.session.returned()
        if self.stale:
            self.go_by_settings()
        if self._draining:
            self.terminate()
        elif server.pool.plan.closed and not server.pool.draining:
            self.refuse(ConnectionLost(f'node "{server.pool.node}" is no longer used'))
        elif server.session.parameters is not self.session.parameters:
            setup = server.settings_for(self.session.parameters, self.relay.parameters)
            if setup:
                server.transport.write(setup)
                return
        self._go_on()

    def _release(self, server: ServerConnection) -> None:
        """Give the server back, and go on with what waited for that."""
        self._leave_server(server, goes_on=bool(self._begin_again))
        self._tries = 0
        server.pool.give_back(server)
        if self.stale and self._aim is None:
            self.go_by_settings()
        if self._held is None:
            self.session.returned()
            if self._draining:
                self.terminate()
                return
        self._go_on()

    def _go_on(self) -> None:
        """Look at what has waited."""
        batch, data = self._held, self._held_data
        if batch is None:
            if self._held_up:
                self._held_up = False
                self.unblock()
            return
        self._held_up = False
        self._held, self._held_data = None, b""
        if self._dispatch(batch, data):
            self.unblock()

    def unread_bytes(self) -> int:
        """How much has come of it that was not sent on."""
        return self._kept_bytes + len(self._held_data)

    def note_write(self) -> None:
        """The answer to a write is about to be passed on: who hears of it must find it."""
        now = time.monotonic()
        self.relay.commits.note_write(now)
        server = self.server
        if self.writes is not None and server is not None:
            self._tell_writes(self.writes, server.session, now)
        elif server is not None and server.session.events & UNSURE:
            self.relay.cache.lost(now)
        if server is not None and server.session.status == IDLE and self.routing.changed_catalog():
            self.relay.commits.note_change(now)

    def _leave_server(self, server: ServerConnection, goes_on: bool = False, unheard: bool = False) -> None:
        """Have no server any more, and keep in mind what was seen and done on it. `goes_on`: elsewhere. `unheard`: what
        becomes of its writes is told by another."""
        self.server = None
        now = time.monotonic()
        server.session.meter.left(now, goes_on, server.session.unanswered())
        if self.fill is not None:
            self._drop_fill("not answered")
        writes, self.writes = self.writes, None
        if writes is not None:
            if not unheard:
                writes.lost(now, self._may_be_at_it(server.session))
        elif self.wrote and self._may_be_at_it(server.session):
            self.relay.cache.lost(now)
        self.idle_since = self.relay.clock.now
        self.routing.left(server.pool, self._on_primary, self.wrote, now)
        self.wrote = False
        self.admin = False

    def _may_be_at_it(self, peer: ServerSession) -> bool:
        """Whether a server may still carry out what it was sent."""
        return bool(peer.expected) or self._sent_open or peer.copy_in or not peer.between_messages()
