"""A client's end of a connection in memory: what it was told, as messages, and what it answers to a SCRAM challenge."""

import asyncio
import base64
import hashlib
import hmac
import secrets
from typing import Final, cast

from middleware.errors import ProtocolViolation
from middleware.wire import codes
from middleware.wire.backend import ErrorResponse, decode_backend
from middleware.wire.framing import Framer
from middleware.wire.frontend import SASLInitialResponse, SASLResponse

MESSAGE_BYTES_MAX: Final = 2**30
UNHEARD: Final = frozenset({codes.NOTICE_RESPONSE, codes.PARAMETER_STATUS})
"""Whether and when they come is not the same through a pooler."""


class MemoryClient(asyncio.Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.heard = bytearray()
        self.closed = False
        self.ended_by_peer = False
        """Before it has said goodbye itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def eof_received(self) -> bool:
        self.ended_by_peer = self.closed = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.ended_by_peer = self.ended_by_peer or exc is not None

    def send(self, data: bytes) -> None:
        if not self.closed:
            self.transport.write(data)

    def half_close(self) -> None:
        if not self.closed:
            self.transport.write_eof()

    def drop(self) -> None:
        self.transport.close()

    def words(self, since: int = 0) -> list[str]:
        """What it heard, a word for each message: see words_of()."""
        return words_of(bytes(self.heard[since:]))

    def answers_to_requests(self) -> int:
        """How many bytes answer requests for encryption, in front of the first message: `N` is all they are told."""
        heard = self.heard
        at = 0
        # A NoticeResponse is no shorter than this, and begins with the same letter and a zero.
        while heard[at : at + 1] == b"N" and heard[at + 1 : at + 2] != b"\0":
            at += 1
        return at

    def welcomed(self) -> int:
        """Where in what it heard the answers begin that belong to no login: behind the first ReadyForQuery; or -1."""
        at = self.answers_to_requests()
        while at + 5 <= len(self.heard):
            end = at + 1 + int.from_bytes(self.heard[at + 1 : at + 5], "big")
            if self.heard[at] == codes.READY_FOR_QUERY:
                return end
            at = end
        return -1


def words_of(stream: bytes) -> list[str]:
    """A word for each message: its type, an error's SQLSTATE, a ReadyForQuery's state. Raises ProtocolViolation."""
    framer = Framer(MESSAGE_BYTES_MAX)
    found = []
    for code, body in framer.feed(stream):
        if code in UNHEARD:
            decode_backend(code, body)
        else:
            found.append(_word(code, body))
    if framer.pending:
        found.append("..")
    return found


def _word(code: int, body: bytes) -> str:
    decoded = decode_backend(code, body)
    if isinstance(decoded, ErrorResponse):
        severity = decoded.field(b"V").decode(errors="replace")
        return f"!{decoded.field(b'C').decode(errors='replace')}{'' if severity == 'ERROR' else ' ' + severity}"
    if code == codes.READY_FOR_QUERY:
        return f"Z{body.decode(errors='replace')}"
    if code == codes.DATA_ROW:
        return f"D{hashlib.md5(body, usedforsecurity=False).hexdigest()[:6]}"
    return type(decoded).__name__


class ScramClient:
    """The proofs of one exchange, from what the server has said so far."""

    def __init__(self, password: str) -> None:
        self._password: Final = password
        self._bare: Final = b"n=,r=" + base64.b64encode(secrets.token_bytes(18))
        self.started = False
        self.finished = False

    def answer(self, heard: bytes) -> bytes:
        """The next message, or nothing when none is due."""
        try:
            messages = Framer(MESSAGE_BYTES_MAX).feed(heard)
        except ProtocolViolation:
            return b""
        for code, body in messages:
            request = int.from_bytes(body[:4], "big") if code == codes.AUTHENTICATION else -1
            if request == codes.AUTHENTICATION_SASL and not self.started:
                self.started = True
                return SASLInitialResponse(b"SCRAM-SHA-256", b"n,," + self._bare).encode()
            if request == codes.AUTHENTICATION_SASL_CONTINUE and not self.finished:
                self.finished = True
                return SASLResponse(self._final(body[4:])).encode()
        return b""

    def _final(self, challenge: bytes) -> bytes:
        nonce, salt, count = (part[2:] for part in challenge.split(b",")[:3])
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), base64.b64decode(salt), int(count))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = b"c=biws,r=" + nonce
        said = self._bare + b"," + challenge + b"," + without_proof
        signature = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return without_proof + b",p=" + base64.b64encode(proof)
