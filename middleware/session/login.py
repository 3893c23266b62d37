"""A client's way in: startup packets, then proof of who it is.

The manual's "Start-up" and "SASL Authentication": the client may ask for TLS first (`S`, and the handshake is the
caller's) or for GSSAPI encryption (`N`), may instead send a CancelRequest, or sends its startup message. What it asks
beyond protocol 3.2, and options `_pq_.*` that we do not know, are answered with NegotiateProtocolVersion, and the login
goes on. Then trust, or SCRAM-SHA-256 with scramp. What follows (ParameterStatus, BackendKeyData, ReadyForQuery) is the
caller's: it needs a server.

Everything is bounded before anyone is known: a startup packet as PostgreSQL bounds it, a password message likewise.
"""

import secrets
from typing import Final

import scramp

from middleware.config.tls import ENFORCING, Encryption
from middleware.errors import LoginRefused, NotSupported, ProtocolViolation
from middleware.wire.build import message
from middleware.wire.codes import (
    AUTHENTICATION,
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    NEGOTIATE_PROTOCOL_VERSION,
    PASSWORD,
    PROTOCOL_3_2,
    SSL_REQUEST,
)

STARTUP_BYTES_MAX: Final = 10_000
"""PostgreSQL's MAX_STARTUP_PACKET_LENGTH; the length itself does not count."""
PROOF_BYTES_MAX: Final = 65_535
"""PostgreSQL's PG_MAX_AUTH_TOKEN_LENGTH."""

SECRET_BYTES_3_0: Final = 4
SECRET_BYTES_3_2: Final = 32
SECRET_BYTES_MAX: Final = 256

SCRAM: Final = "SCRAM-SHA-256"
AUTHENTICATION_OK: Final = message(AUTHENTICATION, b"\0\0\0\0")

Proof = tuple[bytes, bytes, bytes, int]
"""What SCRAM keeps of a password: salt, stored key, server key, iterations."""


class Users:
    """Who may log in, and what SCRAM needs to check it."""

    def __init__(self, passwords: dict[str, str | None]) -> None:
        self._passwords: Final = passwords
        self._mechanism: Final = scramp.ScramMechanism(SCRAM)
        self._proofs: Final[dict[str, Proof]] = {}
        self._nobody: Final = self._derive(secrets.token_hex())

    def __contains__(self, user: str) -> bool:
        return user in self._passwords

    def proof(self, user: str) -> Proof:
        """What to check `user` against; for one who may not log in, something that no password fits."""
        known = self._proofs.get(user)
        if known is not None:
            return known
        password = self._passwords.get(user)
        if password is None:
            return self._nobody
        derived = self._proofs[user] = self._derive(password)
        return derived

    def _derive(self, password: str) -> Proof:
        salt, stored_key, server_key, iterations = self._mechanism.make_auth_info(password)
        return salt, stored_key, server_key, iterations


class ClientLogin:
    """One login. feed() what the client sends and send what it returns, until `user` or `cancel` is set."""

    def __init__(self, users: Users, auth_type: str, sslmode: str = "disable") -> None:
        self._users: Final = users
        self._auth_type: Final = auth_type
        self._sslmode: Final = sslmode
        self.starting_tls = False
        """The client has been told to begin a TLS handshake; encrypted() ends that."""
        self.encryption: Encryption | None = None
        self._pending = b""
        self._scram: scramp.core.ScramServer | None = None
        self._name = ""
        self._encryption_requests = 0
        self.protocol = 0
        self.startup: dict[bytes, bytes] = {}
        """The startup message's parameters."""
        self.user: bytes | None = None
        """Set when the client has proved to be it."""
        self.cancel: tuple[int, bytes] | None = None
        """The key of a CancelRequest."""

    @property
    def database(self) -> bytes:
        """The database asked for; by default it is named as the user."""
        return self.startup.get(b"database") or self.startup.get(b"user", b"")

    @property
    def rest(self) -> bytes:
        """What came behind the login."""
        return self._pending

    def feed(self, data: bytes) -> bytes:
        """Take what came; returns the answer to send. Raises PointsmanError to be sent before closing."""
        self._pending += data
        out = b""
        while self.user is None and self.cancel is None and not self.starting_tls:
            packet = self._next_proof() if self.startup else self._next_startup()
            if packet is None:
                break
            out += self._take_proof(packet) if self.startup else self._take_startup(packet)
        return out

    def encrypted(self, encryption: Encryption) -> None:
        """The handshake is done: what comes now comes over TLS."""
        self.starting_tls = False
        self.encryption = encryption

    def _next_startup(self) -> bytes | None:
        if len(self._pending) < 4:
            return None
        length = int.from_bytes(self._pending[:4], "big")
        if length < 8 or length > 4 + STARTUP_BYTES_MAX:
            raise ProtocolViolation("invalid length of startup packet")
        if len(self._pending) < length:
            return None
        packet, self._pending = self._pending[4:length], self._pending[length:]
        return packet

    def _take_startup(self, packet: bytes) -> bytes:
        code = int.from_bytes(packet[:4], "big")
        if code == CANCEL_REQUEST:
            if not SECRET_BYTES_3_0 <= len(packet) - 8 <= SECRET_BYTES_MAX:
                raise ProtocolViolation("invalid length of cancel request packet")
            self.cancel = int.from_bytes(packet[4:8], "big"), packet[8:]
            return b""
        if code in (SSL_REQUEST, GSSENC_REQUEST):
            self._encryption_requests += 1
            if self._encryption_requests > 2 or len(packet) > 4:
                raise ProtocolViolation("invalid encryption request")
            if self._pending:
                # It did not wait for the answer: whoever sits in between could put words into its mouth.
                kind = "SSL" if code == SSL_REQUEST else "GSSAPI encryption"
                raise ProtocolViolation(f"received unencrypted data after {kind} request")
            if code == GSSENC_REQUEST or self._sslmode == "disable":
                return b"N"
            if self.encryption is not None:
                raise ProtocolViolation("received an SSL request over TLS")
            self.starting_tls = True
            return b"S"
        major, minor = code >> 16, code & 0xFFFF
        if major != 3:
            raise NotSupported(f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2")
        self.startup = _parameters(packet[4:])
        return self._negotiate(code) + self._begin()

    def _negotiate(self, requested: int) -> bytes:
        self.protocol = min(requested, PROTOCOL_3_2)
        unknown = [name for name in self.startup if name.startswith(b"_pq_.")]
        if requested <= PROTOCOL_3_2 and not unknown:
            return b""
        body = self.protocol.to_bytes(4, "big") + len(unknown).to_bytes(4, "big")
        return message(NEGOTIATE_PROTOCOL_VERSION, body + b"".join(name + b"\0" for name in unknown))

    def _begin(self) -> bytes:
        user = self.startup.get(b"user", b"")
        if not user:
            raise LoginRefused("no PostgreSQL user name specified in startup packet")
        if self._sslmode in ENFORCING and self.encryption is None:
            raise LoginRefused(
                "connection requires TLS",
                hint=f'client_tls_sslmode is "{self._sslmode}": connect with sslmode=require.',
            )
        if self.startup.get(b"replication", b"false").lower() not in (b"false", b"off", b"no", b"0", b"f", b"n"):
            raise NotSupported("replication connections are not supported in transaction pooling")
        self._name = user.decode(errors="replace")
        if self._auth_type == "trust":
            if self._name not in self._users:
                raise LoginRefused(f'role "{self._name}" does not exist')
            self.user = user
            return AUTHENTICATION_OK
        proof = self._users.proof(self._name)
        # The name inside the SCRAM exchange does not count, as in PostgreSQL: libpq leaves it empty.
        self._scram = scramp.ScramMechanism(SCRAM).make_server(lambda _name: proof)
        return message(AUTHENTICATION, b"\0\0\0\x0a" + SCRAM.encode() + b"\0\0")

    def _next_proof(self) -> bytes | None:
        if len(self._pending) < 5:
            return None
        length = int.from_bytes(self._pending[1:5], "big")
        if self._pending[0] != PASSWORD:
            raise ProtocolViolation(f"expected SASL response, got message type {self._pending[0]}")
        if length < 4 or length > PROOF_BYTES_MAX:
            raise ProtocolViolation("invalid message length")
        if len(self._pending) <= length:
            return None
        body, self._pending = self._pending[5 : length + 1], self._pending[length + 1 :]
        return body

    def _take_proof(self, body: bytes) -> bytes:
        scram = self._scram
        assert scram is not None
        try:
            if scram.stage is None:
                scram.set_client_first(_initial_response(body))
                return message(AUTHENTICATION, b"\0\0\0\x0b" + scram.get_server_first().encode())
            scram.set_client_final(body.decode())
            final = scram.get_server_final()
        except (scramp.ScramException, UnicodeDecodeError, ValueError) as error:
            raise LoginRefused(f'password authentication failed for user "{self._name}"', sqlstate="28P01") from error
        self.user = self.startup[b"user"]
        return message(AUTHENTICATION, b"\0\0\0\x0c" + final.encode()) + AUTHENTICATION_OK


def _initial_response(body: bytes) -> str:
    """The client's first SCRAM message, out of a SASLInitialResponse."""
    mechanism, zero, rest = body.partition(b"\0")
    if zero and mechanism != SCRAM.encode():
        raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
    if not zero or len(rest) < 4 or int.from_bytes(rest[:4], "big") != len(rest) - 4:
        raise ProtocolViolation("malformed SASL initial response")
    return rest[4:].decode()


def _parameters(body: bytes) -> dict[bytes, bytes]:
    """Names and values in a startup message: each closed by a zero, all closed by one more."""
    if not body.endswith(b"\0"):
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    words = body.split(b"\0")
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(words) and words[position]:
        if position + 2 >= len(words):
            raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
        found[words[position]] = words[position + 1]
        position += 2
    if position != len(words) - 2:
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    if not found:
        raise LoginRefused("no PostgreSQL user name specified in startup packet")
    return found
