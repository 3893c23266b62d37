"""The side of a client's connection that outlives its servers: what a client hears whose server is gone.

Its connection stays, unless state of its session was on that server, or half a message of it has been passed on.

    outside a transaction
        what only reads or prepares, and of whose answer nothing was passed on, is sent again, elsewhere
        else what was not answered gets an error; of what may have been committed, that nobody knows (08007)
    in a transaction
        what was not answered gets the error; where all was answered, the next batch gets it, and a ROLLBACK none
        then the client is *adrift*: it believes itself in a failed transaction, and no server has one

A client that is adrift gets a server whose transaction was made to fail, for PostgreSQL itself to answer all that may
come until ROLLBACK. A plain ROLLBACK or COMMIT is answered here: nobody must wait for a primary to be told so little.
"""

from typing import Final

import structlog

from middleware.errors import OutcomeUnknown, PointsmanError
from middleware.pool.server_connection import ServerConnection
from middleware.relay.borrowing import TRIES_MAX
from middleware.relay.caching import Caching
from middleware.relay.own_settings import STANDBY_ONLY
from middleware.relay.parting import SERVER_LOST
from middleware.relay.transaction import ENDED, NONE
from middleware.session.batch import COMPLETE, Batch
from middleware.session.expected import HIDDEN_LAST
from middleware.session.server import IDLE, ServerSession
from middleware.session.tally import Tally
from middleware.wire.build import READY_FAILED, READY_IDLE, error_response, message
from middleware.wire.codes import COMMAND_COMPLETE, QUERY
from parser.facts import END
from routing.router import Target

log: Final = structlog.get_logger("client")

AGAIN_BYTES_MAX: Final = 16 * 1024
"""What is longer is not kept, to be read again."""
ROLLED_BACK: Final = message(COMMAND_COMPLETE, b"ROLLBACK\0") + READY_IDLE


class Losing(Caching):
    """See above."""

    __slots__ = ("_untold",)

    _untold: PointsmanError | None
    """What has become of its transaction, if it was not told yet."""

    def server_lost(self, server: ServerConnection, error: PointsmanError) -> None:
        """The server's connection is gone."""
        peer = server.session
        transaction = self.routing.transaction
        open_ = transaction.open() or (peer.status != IDLE and transaction.phase != ENDED)
        unknown = self._may_have_committed(peer)
        told = OutcomeUnknown(error) if unknown else error
        again = bool(self.again) and not open_ and self._nothing_else() and self._tries < TRIES_MAX
        if again:
            # Of what was asked there nothing has been seen.
            self.routing.saw = False
        tally = peer.meter.tally
        self._leave_server(server, goes_on=again)
        if self._closed:
            return
        if peer.mid_message():
            self.part(SERVER_LOST, error)
            self.close()
        elif self.state.lost_with_server(unknown):
            # What its session had there is gone, or what has become of it.
            self.refuse(told)
        elif again:
            peer.lose()
            self._sent_open = False
            self._read_again(server)
        elif self._sent_open and self._only_prepared and not open_ and not (peer.expected or peer.describing):
            # What it has prepared and seen described, any server can be made to have.
            self._sent_open = False
            self._leave()
        else:
            self._go_on_without(peer, open_, told, tally)

    def _may_have_committed(self, peer: ServerSession) -> bool:
        """Whether something was sent that commits, and no answer came."""
        due = self._sent_open or any(not entry.hidden or entry is HIDDEN_LAST for entry in peer.expected)
        if not self.wrote or not due:
            return False
        transaction = self.routing.transaction
        # What is in a transaction that nobody has seen begin may end it unseen.
        return transaction.commits or transaction.phase == NONE

    def _keep_for_again(self, peer: ServerSession, harmless: bool, raw: bytes) -> None:
        """Something is about to be sent to a server; whether it does no harm where it is sent twice."""
        due = peer.expected
        if not harmless or peer.status != IDLE:
            self.again = b""
        elif not peer.describing and (not due or (len(due) == 1 and due[0].hidden)):
            self.again = raw if len(raw) <= AGAIN_BYTES_MAX else b""
        elif self.again:
            raw = self.again + raw
            self.again = raw if len(raw) <= AGAIN_BYTES_MAX else b""

    def _nothing_else(self) -> bool:
        """It has sent nothing that comes behind what it may read again."""
        return self._held is None and not self._blocked and not self._backlog

    def _read_again(self, server: ServerConnection) -> None:
        """Have another server answer what the lost one has not."""
        raw, self.again = self.again, b""
        self._tries += 1
        self.relay.reads_again += 1
        if self._tries > 1 and self._may_read_from_primary():
            # Its servers are lost one by one, as those of a node that is being shut down are.
            self._aim = Target.PRIMARY
        self.session.unsettled.clear()
        log.debug("read again", user=self.user, database=self.database, node=server.pool.node)
        self.hold_up()
        self.put_back(raw)
        # Once all have heard that were lost with it: the next server of the same node is none.
        self.relay.loop.call_soon(self._serve_again)

    def _may_read_from_primary(self) -> bool:
        routing = self.routing
        own_way = routing.own.route == STANDBY_ONLY or routing.policy.read_from_primary == "never"
        return not own_way and routing.nodes().primary is not None

    def _serve_again(self) -> None:
        if self._closed:
            return
        try:
            self.unblock()
        except Exception as bug:
            self.failed(bug)

    def _go_on_without(self, peer: ServerSession, open_: bool, error: PointsmanError, tally: Tally) -> None:
        """Tell the client, and go on."""
        self.again = b""
        self._tries = 0
        out = self.state.lost(peer)
        self._settle(self.state)
        session = self.session
        session.unsettled.clear()
        unanswered = peer.lose()
        self.adrift = open_
        self._untold = error if open_ and not unanswered and not self._sent_open else None
        out += (error_response(error, "ERROR") + self._ready()) * unanswered
        tally.errors += unanswered
        if self._sent_open and not session.discarding:
            out += error_response(error, "ERROR")
            tally.errors += 1
            session.discarding = True
        if self._cut_short:
            # What it has sent behind that is held, and belongs to the same batch.
            out += error_response(error, "ERROR")
            tally.errors += 1
        if unanswered or self._sent_open or self._cut_short:
            self.tell_error(error)
        self._skip_rest = self._cut_short
        self._sent_open = session.copying = self._cut_short = False
        self.transport.write(out)
        batch, data = self._held, self._held_data
        self._held, self._held_data = None, b""
        if batch is None and self._draining:
            self.terminate()
            return
        if batch is None or self._dispatch(batch, data):
            self.unblock()
        self._leave()

    def _ready(self) -> bytes:
        """The ReadyForQuery of a client without a server."""
        return READY_FAILED if self.adrift else READY_IDLE

    def _tell(self, batch: Batch, answer: bytes, error: bool = False) -> None:
        """Answer a batch, or say that it has failed, in the place of a server."""
        here = self.account.here
        asked_bytes = batch.end - batch.start - batch.left
        if batch.state == COMPLETE:
            here.answered(asked_bytes, len(answer), not self.adrift, error)
        else:
            # Its Sync is still to be answered.
            here.received_bytes += asked_bytes
            here.sent_bytes += len(answer)
            here.errors += error
        self.transport.write(answer)

    def _answers_adrift(self, batch: Batch, data: bytes) -> bool:
        """Whether a batch is answered here, now that its transaction is lost."""
        control = batch.facts[0].transaction if len(batch.facts) == 1 else None
        ends = control is not None and control.kind == END
        untold, self._untold = self._untold, None
        if untold is not None and not (ends and control is not None and not control.commits):
            self.adrift = not ends
            self._fail_batch(batch, untold)
            return True
        if ends and batch.state == COMPLETE and data[batch.start] == QUERY:
            self.adrift = False
            self._tell(batch, ROLLED_BACK)
            return True
        return False
