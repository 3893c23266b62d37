"""A client session between a client and model backends, driven as the relay drives it, without its I/O.

`choose(n)` gives a number below n: which server takes a batch, and whether a server's answers arrive now.
"""

from collections.abc import Callable
from typing import Final

from middleware.session.batch import COMPLETE, FULL, HELD, OPEN, Batch
from middleware.session.client import ClientSession
from middleware.session.prepared import StatementRegistry
from middleware.session.server import COPY_BEGUN, FAILED, HOLD_FAILED, HOLD_OVER, READY, ServerSession
from middleware.wire.build import READY_IDLE
from parser.shapes import FactsTable
from tests.session.model import Backend

STATEMENT_SIZE_MAX: Final = 100_000
PACKET_SIZE_MAX: Final = 2**30 - 1
FACTS: Final = FactsTable()

Choose = Callable[[int], int]


class Server:
    """One server: our books of it, the backend, and what it has answered and we have not read."""

    def __init__(self, statements_max: int) -> None:
        self.session = ServerSession(statements_max, {})
        self.backend = Backend()
        self.answers = b""


class Proxy:
    def __init__(self, servers: int, statements_max: int, choose: Choose) -> None:
        self.session = ClientSession(FACTS, StatementRegistry(), STATEMENT_SIZE_MAX, PACKET_SIZE_MAX)
        self.servers = [Server(statements_max) for _ in range(servers)]
        self.out = b""
        """What the client has got."""
        self._statements_max: Final = statements_max
        self._choose: Final = choose
        self._server: Server | None = None
        self._gathering: Batch | None = None
        self._kept = b""

    def feed(self, data: bytes) -> None:
        """The client sends."""
        data = self._kept + data
        self._kept = b""
        position = 0
        while position < len(data) or self._gathering is not None:
            batch = self._gathering or Batch(position)
            self._gathering = None
            self.session.scan(batch, data)
            if batch.state == OPEN:
                self._unfinished(batch, data)
                return
            position = batch.end
            self._dispatch(batch, data)
            if self._choose(2):
                self.deliver()

    def _unfinished(self, batch: Batch, data: bytes) -> None:
        if self._server is not None and batch.end > batch.start:
            batch.state = FULL
            self._send(self._server, batch, data)
            self._kept = data[batch.end :]
        else:
            self._kept = data[batch.start :]
            batch.rebase()
            self._gathering = batch if batch.end else None

    def _dispatch(self, batch: Batch, data: bytes) -> None:
        if self._server is None:
            if not batch.substance:
                self.out += READY_IDLE if batch.state == COMPLETE else b""
                return
            self._server = self.servers[self._choose(len(self.servers))]
            self._server.session.owner = self.session.statements
        self._send(self._server, batch, data)
        if batch.state == HELD:
            self.deliver()

    def _send(self, server: Server, batch: Batch, data: bytes) -> None:
        server.answers += server.backend.feed(self.session.emit(batch, data, server.session))

    def deliver(self) -> None:
        """The server's answers arrive, in two pieces."""
        server = self._server
        if server is None:
            return
        answers, server.answers = server.answers, b""
        middle = self._choose(len(answers) + 1)
        for piece in (answers[:middle], answers[middle:]):
            if piece:
                self.out += server.session.feed(piece)
                events, server.session.events = server.session.events, 0
                if events & HOLD_OVER:
                    self.session.hold_over(bool(events & HOLD_FAILED), bool(events & COPY_BEGUN))
                if events & FAILED and server.session.skipping:
                    self.session.failed()
                if events & READY and not server.session.expected:
                    self.session.unsettled.clear()
        assert server.session.hold == 0
        if server.session.at_rest() and not self.session.batch_open:
            self._give_back(server)

    def _give_back(self, server: Server) -> None:
        known, there = set(server.session.statements._names), server.backend.statements.keys() - {b""}
        assert known - server.session.unproven.keys() <= there <= known or server.session.uncertain
        self._server = None
        server.session.owner = None
        if server.session.uncertain:
            self.servers[self.servers.index(server)] = Server(self._statements_max)
        if self._gathering is None:
            self.session.returned()
