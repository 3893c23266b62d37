"""The side of a client's connection that ends it.

A client goes when it says so, and has its answers; when it is told to, by an operator, a timeout or an error; and when
its connection is gone. What it leaves behind is brought to rest: its place in queues, and the server that it has.
"""

from typing import Final

from middleware.errors import Canceled, PointsmanError, ShuttingDown
from middleware.pool.ledger import Limit
from middleware.pool.server_connection import LENT, ServerConnection
from middleware.relay.cancel import send_cancel
from middleware.relay.parting import reason_of
from middleware.relay.renewing import Renewing
from middleware.relay.session_state import SESSION_POOLING
from middleware.relay.unheard import Unheard
from middleware.session.batch import Batch
from middleware.session.expected import HIDDEN_LAST, SYNC
from middleware.session.server import IDLE, ServerSession
from middleware.wire.build import error_response, message
from middleware.wire.codes import COPY_FAIL

LEAVING_S: Final = 2.0
"""How long a client that sends no more is waited for, and its statement let run."""
COPY_FAILED: Final = message(COPY_FAIL, b"its client has gone\0")
"""Ends a COPY that no more data comes for; behind CopyDone a server takes no notice of it."""


class Leaving(Renewing):
    """See above."""

    __slots__ = ("_drops_left", "_gathering", "_leaving", "_left", "counted", "deadline", "secret")

    counted: list[Limit]
    secret: bytes
    deadline: float
    """When it is closed, if it is leaving."""
    _gathering: Batch | None
    """A batch whose end has not come yet."""
    _left: int
    """Bytes of a message that are passed on, or dropped, unseen."""
    _drops_left: bool
    """They are dropped: no server has got the beginning of the message."""
    _leaving: bool
    """It has said goodbye, and stays for the answers that are due."""

    def _owed(self) -> bool:
        """Whether whole batches that the client has sent are still to be answered."""
        if self._closed or self.session.copying:
            return False
        if self._held is not None or self.server is None:
            return self._held is not None
        expected = self.server.session.expected
        return SYNC in expected or HIDDEN_LAST in expected

    def _goodbye(self) -> bool:
        """The client will send no more; whether it is still owed something.

        It may have gone altogether, and its statement may take hours: PostgreSQL would hold a session for it so long,
        we a server that others wait for. So the answers have a little time, and then the statement is cancelled.
        """
        self._leaving = self._owed()
        if self._leaving:
            self.deadline = self.relay.clock.now + LEAVING_S
            self.relay.leaving.add(self)
        return self._leaving

    def _leave(self) -> None:
        """Go, if the client has said goodbye and has all its answers."""
        if self._leaving and not self._owed():
            self.close()

    def cancel(self) -> None:
        """A CancelRequest with its key has come."""
        if self.server is not None:
            send_cancel(self.relay, self.server)
        elif self._held is not None and self._stops_waiting():
            self._cancel_held(self._held)

    def _cancel_held(self, batch: Batch) -> None:
        self._held, self._held_data = None, b""
        self._fail_batch(batch, Canceled())
        self.unblock()

    def drain(self) -> None:
        """Go when nothing is under way."""
        self._draining = True
        server = self.server
        if self._held is None and (server is None or (bool(self.state.pinned) and server.session.at_rest())):
            self.terminate()

    def terminate(self) -> None:
        """Go now, and say why."""
        self.refuse(ShuttingDown())

    def refuse(self, error: PointsmanError) -> None:
        """Say FATAL and close, unless the client is in the middle of a message."""
        if self._closed:
            return
        if self.server is None or not self.server.session.mid_message():
            self.account.here.errors += 1
            self.transport.write(error_response(error, "FATAL"))
        self.part(reason_of(error), error)
        self.close()

    def close(self) -> None:
        """Close the connection, and leave nothing behind. Safe to call again."""
        if self._closed:
            return
        self._closed = True
        self.tell_end(self.session.parameters, self.relay.loop.time())
        self.relay.leaving.discard(self)
        self.relay.gone(self)
        if self._pool is not None:
            self._pool.withdraw(self)
            self._pool = None
        self.relay.without_primary.leave(self)
        self._wait.end()
        self._leaves_flight()
        self._forgo_cache()
        self._held = self._gathering = None
        # It knows us: without this only the garbage collector would free us, and for long it does not look.
        self.session.answerer = None
        self.forget()
        if self._slow:
            self.transport.abort()
        else:
            self.transport.close()
        if self.server is not None:
            self._abandon(self.server)

    def _abandon(self, server: ServerConnection) -> None:
        """The client is gone, its server may be busy."""
        session = server.session
        if session.expected and session.only_ours() and not self._unsent():
            self._leave_server(server)
            server.pool.clean(server)
            return
        if self._unsent() or session.expected or session.copy_in or session.mid_message():
            if server.state == LENT:
                # Its statement would run on to its end: nobody waits for that.
                send_cancel(self.relay, server)
                if session.copy_in and not self._unsent():
                    server.transport.write(COPY_FAILED)
            self._drop_server(server)
            return
        self._leave_server(server)
        if session.uncertain or not session.between_messages():
            # It may not be listening, and could not be reset.
            server.discard()
        elif session.status == IDLE:
            if SESSION_POOLING in self.state.pinned:
                session.dirty = session.dirty or SESSION_POOLING
            server.pool.give_back(server)
        else:
            server.pool.roll_back(server)

    def _unsent(self) -> bool:
        """Whether a server has got a batch without its end, or a message."""
        return self._sent_open or (self._left > 0 and not self._drops_left)

    def _drop_server(self, server: ServerConnection) -> None:
        """Have nothing more to do with a server that cannot be lent again."""
        outcome = self._unheard(server.session)
        self._leave_server(server, unheard=outcome is not None)
        server.discard(outcome)

    def _unheard(self, peer: ServerSession) -> Unheard | None:
        """Who is to be told of its writes in its place, if the server may be expected to answer all it was sent."""
        writes = self.writes
        if writes is None or not peer.expected or peer.uncertain or self._unsent():
            return None
        return Unheard(self.relay, writes, self._database_name, self.routing.catalog_changes())
