"""A client's way in: startup packets, then proof of who it is.

The manual's "Start-up" and "SASL Authentication": the client may ask for TLS first (`S`, and the handshake is the
caller's) or for GSSAPI encryption (`N`), may instead send a CancelRequest, or sends its startup message. What it asks
beyond protocol 3.2, and options `_pq_.*` that we do not know, are answered with NegotiateProtocolVersion, and the login
goes on. Then the first rule that matches (auth.rules) says how the client proves who it is. What follows
(ParameterStatus, BackendKeyData, ReadyForQuery) is the caller's: it needs a server.

Everything is bounded before anyone is known: a startup packet as PostgreSQL bounds it, a password message likewise.
"""

import secrets
from collections.abc import Callable
from typing import Final

from middleware.auth import Authority, HbaRule
from middleware.auth.rules import Visitor
from middleware.auth.scram import PLAIN, PLUS, Keys, ServerExchange
from middleware.config.tls import ENFORCING, Encryption
from middleware.errors import LoginRefused, NotSupported, ProtocolViolation
from middleware.session.replication import PHYSICAL, PHYSICAL_DATABASE, REPLICATION_OFF, replication_of
from middleware.sqlstate import INVALID_PARAMETER_VALUE
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
MD5_SALT_BYTES: Final = 4

AUTHENTICATION_OK: Final = message(AUTHENTICATION, b"\0\0\0\0")


class ClientLogin:
    """One login. feed() what the client sends and send what it returns, until `user` or `cancel` is set.

    Where `asks_for` is set, only auth_query can say who that is: go_on() when the authority knows. Where `derives` is
    set, keys are to be derived (auth.scram.keys_of): derived() when they are there.
    """

    def __init__(
        self, authority: Authority, address: str, sslmode: str = "disable", peer: Callable[[], str] = str
    ) -> None:
        """`address`: where it comes from, "unix" for a unix socket; `peer`: the user of the system, "" for unknown."""
        self._peer: Final = peer
        self._authority: Final = authority
        self._address: Final = address
        self._sslmode: Final = sslmode
        self.starting_tls = False
        """The client has been told to begin a TLS handshake; encrypted() ends that."""
        self.encryption: Encryption | None = None
        self._pending = b""
        self._name = ""
        self._method = ""
        """How the client is to prove who it is; "" until a rule has said it."""
        self._salt = b""
        self._scram: ServerExchange | None = None
        self._verifier_salt = b""
        self._iterations = 0
        self.asks_for: str | None = None
        self.derives: tuple[str, bytes, int] | None = None
        """A password that was shown in clear text, a salt, and iterations."""
        self._rule: HbaRule | None = None
        self._encryption_requests = 0
        self.protocol = 0
        self.startup: dict[bytes, bytes] = {}
        """The startup message's parameters."""
        self.replication = REPLICATION_OFF
        """PHYSICAL or LOGICAL for a replication connection (session.replication)."""
        self.user: bytes | None = None
        """Set when the client has proved to be it."""
        self.cancel: tuple[int, bytes] | None = None
        """The key of a CancelRequest."""

    @property
    def database(self) -> bytes:
        """The database asked for; by default it is named as the user. A physical replication connection has none."""
        if self.replication == PHYSICAL:
            return PHYSICAL_DATABASE
        return self.startup.get(b"database") or self.startup.get(b"user", b"")

    @property
    def rest(self) -> bytes:
        """What came behind the login."""
        return self._pending

    def feed(self, data: bytes) -> bytes:
        """Take what came; returns the answer to send. Raises PointsmanError to be sent before closing."""
        self._pending += data
        out = b""
        while (
            self.user is None
            and self.cancel is None
            and not self.starting_tls
            and self.asks_for is None
            and self.derives is None
        ):
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
        self._set_replication()
        self._name = user.decode(errors="replace")
        self._rule = rule = self._find_rule()
        if rule.client_cert or rule.method == "cert":
            self._check_certificate(rule)
        if rule.method == "peer":
            peer = self._peer()
            if not peer or not self._authority.is_mapped(rule, peer, self._name):
                raise LoginRefused(f'Peer authentication failed for user "{self._name}"')
        if self._authority.must_ask(self._name):
            self.asks_for = self._name
            return b""
        return self.go_on()

    def _set_replication(self) -> None:
        value = self.startup.get(b"replication", b"false")
        replication = replication_of(value)
        if replication is None:
            raise LoginRefused(
                f'invalid value for parameter "replication": "{value.decode(errors="replace")}"',
                hint='Valid values are: "false", 0, "true", 1, "database".',
                sqlstate=INVALID_PARAMETER_VALUE,
            )
        self.replication = replication

    def go_on(self) -> bytes:
        """The authority knows the user, or knows that there is none."""
        rule = self._rule
        assert rule is not None
        self.asks_for = None
        method = rule.method
        if method in ("trust", "cert", "peer"):
            return self._believe()
        if method == "md5" and self._authority.kind(self._name) == "scram":
            # As PostgreSQL: nothing else can be done with such a secret, and it is better.
            method = "scram-sha-256"
        self._method = method
        if method == "password":
            return message(AUTHENTICATION, b"\0\0\0\x03")
        if method == "md5":
            self._salt = secrets.token_bytes(MD5_SALT_BYTES)
            return message(AUTHENTICATION, b"\0\0\0\x05" + self._salt)
        mechanisms = [PLUS] if self._end_point() else []
        if method == "scram-sha-256":
            mechanisms.append(PLAIN)
        elif not mechanisms:
            raise self._unbound()
        return message(AUTHENTICATION, b"\0\0\0\x0a" + b"\0".join(mechanisms) + b"\0\0")

    def _end_point(self) -> bytes:
        """What a channel can be bound to; empty where it cannot."""
        return b"" if self.encryption is None else self.encryption.server_end_point

    def _unbound(self) -> LoginRefused:
        if self.encryption is None:
            hint = 'The method is "scram-sha-256-plus": connect with sslmode=require.'
            return LoginRefused("channel binding requires TLS", hint=hint)
        return LoginRefused("channel binding is not possible: the certificate's signature has no hash of its own")

    def _find_rule(self) -> HbaRule:
        database = self.database.decode(errors="replace")
        physical = self.replication == PHYSICAL
        visitor = Visitor(self._address, self.encryption is not None, database, self._name, physical)
        rule = self._authority.rule(visitor)
        if rule is None:
            whom = "replication connection from " if physical else ""
            raise LoginRefused(f"no pg_hba.conf entry for {whom}{visitor.described()}")
        if rule.method == "reject":
            what = "replication connection" if physical else "connection"
            raise LoginRefused(f"pg_hba.conf rejects {what} for {visitor.described()}")
        return rule

    def _check_certificate(self, rule: HbaRule) -> None:
        """Whether the client's certificate, which was verified in the handshake, says what the rule wants of it."""
        encryption = self.encryption
        if encryption is None or not encryption.distinguished_name:
            raise LoginRefused("connection requires a valid client certificate")
        name = encryption.distinguished_name if rule.client_name == "DN" else encryption.common_name
        wanted = rule.method == "cert" or rule.client_cert == "verify-full"
        if wanted and not self._authority.is_mapped(rule, name, self._name):
            raise LoginRefused(f'certificate authentication failed for user "{self._name}"')

    def _believe(self) -> bytes:
        if self._name not in self._authority:
            self._authority.failed(self._name)
            raise LoginRefused(f'role "{self._name}" does not exist')
        self.user = self.startup[b"user"]
        return AUTHENTICATION_OK

    def _next_proof(self) -> bytes | None:
        if len(self._pending) < 5:
            return None
        length = int.from_bytes(self._pending[1:5], "big")
        if self._pending[0] != PASSWORD:
            raise ProtocolViolation(f"expected password response, got message type {self._pending[0]}")
        if length < 4 or length > PROOF_BYTES_MAX:
            raise ProtocolViolation("invalid message length")
        if len(self._pending) <= length:
            return None
        body, self._pending = self._pending[5 : length + 1], self._pending[length + 1 :]
        return body

    def _take_proof(self, body: bytes) -> bytes:
        try:
            return self._check(body)
        except LoginRefused:
            self._authority.failed(self._name)
            raise

    def _check(self, body: bytes) -> bytes:
        authority, name = self._authority, self._name
        if self._method in ("password", "md5"):
            shown, zero, rest = body.partition(b"\0")
            if not zero or rest:
                raise ProtocolViolation("invalid password packet size")
            if not shown:
                raise LoginRefused("empty password returned by client", sqlstate="28P01")
            if self._method == "md5":
                return self._believe_if(authority.is_md5(name, self._salt, shown))
            password = shown.decode(errors="replace")
            work = authority.password_work(name)
            if work is not None:
                self.derives = password, *work
                return b""
            return self._believe_password(password, None)
        if self._scram is None:
            return self._first(body)
        final = self._scram.final(body)
        assert self._scram.keys is not None
        authority.credentials(name).shown_keys(self._scram.keys, self._verifier_salt, self._iterations)
        return message(AUTHENTICATION, b"\0\0\0\x0c" + final) + self._believe()

    def derived(self, keys: Keys) -> bytes:
        """What `derives` has asked for; returns the answer to send. Raises PointsmanError as feed()."""
        assert self.derives is not None
        password, self.derives = self.derives[0], None
        try:
            return self._believe_password(password, keys)
        except LoginRefused:
            self._authority.failed(self._name)
            raise

    def _believe_password(self, password: str, keys: Keys | None) -> bytes:
        authority, name = self._authority, self._name
        right = authority.is_password(name, password, keys)
        if right:
            authority.credentials(name).shown_password(password)
        return self._believe_if(right)

    def _believe_if(self, right: bool) -> bytes:
        if not right:
            raise LoginRefused(f'password authentication failed for user "{self._name}"', sqlstate="28P01")
        return self._believe()

    def _first(self, body: bytes) -> bytes:
        """Take SASLInitialResponse."""
        mechanism, zero, rest = body.partition(b"\0")
        if zero and mechanism not in (PLAIN, PLUS):
            raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
        if not zero or len(rest) < 4 or int.from_bytes(rest[:4], "big") != len(rest) - 4:
            raise ProtocolViolation("malformed SASL initial response")
        end_point = self._end_point()
        if (mechanism == PLUS and not end_point) or (mechanism == PLAIN and self._method == "scram-sha-256-plus"):
            raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
        verifier, real = self._authority.verifier(self._name)
        self._verifier_salt, self._iterations = verifier.salt, verifier.iterations
        self._scram = ServerExchange(verifier, not real, self._name, end_point, bool(end_point))
        return message(AUTHENTICATION, b"\0\0\0\x0b" + self._scram.first(mechanism, rest[4:]))


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
