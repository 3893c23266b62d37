"""A frontend that sends the bytes it is told to, and tells what came back as messages.

Its socket blocks, with a deadline on everything: a peer that owes an answer shows as `Ending.DEADLINE`.
"""

import socket
import time
from collections import deque
from enum import Enum
from types import TracebackType
from typing import Final, NamedTuple, Self

import scramp

from middleware.wire.backend import (
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    BackendKeyData,
    ReadyForQuery,
    decode_backend,
)
from middleware.wire.fields import Message
from middleware.wire.framing import Framer
from middleware.wire.frontend import SASLInitialResponse, SASLResponse, StartupMessage

DEADLINE_S: Final = 30.0
MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024


class Address(NamedTuple):
    """Where to connect, and as whom."""

    host: str
    port: int
    user: str
    password: str
    database: str

    def startup(self) -> bytes:
        """The startup message of an ordinary login."""
        return StartupMessage(((b"user", self.user.encode()), (b"database", self.database.encode()))).encode()


class Ending(Enum):
    """Why reading stopped."""

    ENOUGH = "what was waited for came"
    EOF = "the peer closed"
    DEADLINE = "nothing came for too long"


class RawClient:
    """One connection. A context manager."""

    def __init__(self, address: Address) -> None:
        self._address: Final = address
        self._socket: Final = socket.create_connection((address.host, address.port), timeout=DEADLINE_S)
        # What is sent in pieces is to arrive in pieces.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._framer: Final = Framer(MESSAGE_BYTES_MAX)
        self._come: deque[Message] = deque()
        self._ended = False
        self.key: BackendKeyData | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send, or find out that the peer has closed: then reading will tell."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self._ended = True

    def half_close(self) -> None:
        """Say that nothing more will come."""
        self._socket.shutdown(socket.SHUT_WR)

    def read_bytes(self, size: int) -> bytes:
        """Bare bytes, as the answer to an encryption request is; fewer where the peer closed."""
        self._socket.settimeout(DEADLINE_S)
        taken = b""
        while len(taken) < size and (data := self._socket.recv(size - len(taken))):
            taken += data
        return taken

    def read(
        self, number: int, kind: type[Message] = ReadyForQuery, deadline_s: float = DEADLINE_S
    ) -> tuple[list[Message], Ending]:
        """The messages up to and with the `number`-th of a kind; all until it closes if that does not come."""
        until = time.monotonic() + deadline_s
        taken: list[Message] = []
        while True:
            while self._come:
                message = self._come.popleft()
                taken.append(message)
                number -= isinstance(message, kind)
                if isinstance(message, kind) and number == 0:
                    return taken, Ending.ENOUGH
            if not self._receive(until):
                return taken, Ending.EOF if self._ended else Ending.DEADLINE

    def _receive(self, until: float) -> bool:
        remaining = until - time.monotonic()
        if remaining <= 0:
            return False
        self._socket.settimeout(remaining)
        try:
            data = self._socket.recv(1 << 18)
        except TimeoutError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            self._ended = True
            return False
        self._come += [decode_backend(code, body) for code, body in self._framer.feed(data)]
        return True

    def _next(self) -> Message | None:
        until = time.monotonic() + DEADLINE_S
        while not self._come and self._receive(until):
            pass
        return self._come.popleft() if self._come else None

    def log_in(self, startup: bytes | None = None, password: str | None = None) -> tuple[list[Message], Ending]:
        """Send a startup message and prove to be who it says; what came, the proof's own messages left out."""
        self.send(startup or self._address.startup())
        scram = scramp.ScramClient(["SCRAM-SHA-256"], self._address.user, password or self._address.password)
        seen: list[Message] = []
        while (message := self._next()) is not None:
            if isinstance(message, AuthenticationSASL):
                first = scram.get_client_first().encode()
                self.send(SASLInitialResponse(b"SCRAM-SHA-256", first).encode())
            elif isinstance(message, AuthenticationSASLContinue):
                scram.set_server_first(message.data.decode())
                self.send(SASLResponse(scram.get_client_final().encode()).encode())
            elif isinstance(message, AuthenticationSASLFinal):
                scram.set_server_final(message.data.decode())
            elif isinstance(message, AuthenticationOk):
                rest, ending = self.read(1)
                self.key = next((told for told in rest if isinstance(told, BackendKeyData)), None)
                return [*seen, message, *rest], ending
            else:
                seen.append(message)
        return seen, Ending.EOF if self._ended else Ending.DEADLINE
