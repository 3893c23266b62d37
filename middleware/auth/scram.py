"""SCRAM-SHA-256, both ends of it, and what PostgreSQL keeps of a password.

RFC 5802 and 7677, with PostgreSQL's manual, "SASL Authentication": no authorization identity, no extensions, the
user's name is the startup message's, channel binding of type tls-server-end-point. Ours, because the client's key is
needed: who has proved to know a password to us, has given us what logs in to the servers in its name.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from typing import Final, NamedTuple

from scramp.core import saslprep

from middleware.errors import LoginRefused, NotSupported, ProtocolViolation

PLAIN: Final = b"SCRAM-SHA-256"
PLUS: Final = b"SCRAM-SHA-256-PLUS"
ITERATIONS: Final = 4096
"""PostgreSQL's scram_iterations."""
ITERATIONS_MAX: Final = 10_000_000
"""Some seconds of work: who asks for more wants something else."""
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 18
_END_POINT: Final = b"p=tls-server-end-point"
_NONCE: Final = re.compile(rb"[!-+\--~]+")
_VERIFIER: Final = re.compile(r"SCRAM-SHA-256\$(\d+):([^$:]+)\$([^$:]+):([^$:]+)")


class Keys(NamedTuple):
    """What a password becomes with one salt: enough to log in with, and to know the server by."""

    client_key: bytes
    server_key: bytes


class Verifier(NamedTuple):
    """What is kept to check a password, and does not let anyone log in."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes


def keys_of(password: str, salt: bytes, iterations: int) -> Keys:
    """The work of SCRAM: some milliseconds."""
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password), salt, iterations)
    return Keys(_hmac(salted, b"Client Key"), _hmac(salted, b"Server Key"))


def verifier_of(keys: Keys, salt: bytes, iterations: int) -> Verifier:
    """What a server keeps of the keys."""
    return Verifier(iterations, salt, hashlib.sha256(keys.client_key).digest(), keys.server_key)


def parsed_verifier(text: str) -> Verifier | None:
    """`SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; None where it is none."""
    found = _VERIFIER.fullmatch(text)
    if found is None:
        return None
    try:
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in found.groups()[1:])
    except binascii.Error:
        return None
    iterations = int(found[1])
    if len(stored_key) != 32 or len(server_key) != 32 or not 1 <= iterations <= ITERATIONS_MAX:
        return None
    return Verifier(iterations, salt, stored_key, server_key)


class ServerExchange:
    """The end of the one who asks for a proof: first(), then final(), after which `keys` are the client's."""

    def __init__(self, verifier: Verifier, doomed: bool, user: str, end_point: bytes, plus_offered: bool) -> None:
        """`doomed`: no proof fits, but nobody must be able to tell."""
        self._verifier: Final = verifier
        self._doomed: Final = doomed
        self._user: Final = user
        self._end_point: Final = end_point
        self._plus_offered: Final = plus_offered
        self._binding = b""
        self._nonce = b""
        self._said = b""
        self.keys: Keys | None = None

    def first(self, mechanism: bytes, message: bytes) -> bytes:
        """Take client-first-message, answer with server-first-message."""
        flag, _, rest = message.partition(b",")
        identity, comma, bare = rest.partition(b",")
        if not comma:
            raise _malformed("The message is too short.")
        if mechanism == PLUS:
            if flag != _END_POINT:
                raise _malformed("Channel binding of type tls-server-end-point is wanted.")
        elif flag == b"y" and self._plus_offered:
            raise LoginRefused(
                "SCRAM channel binding negotiation error",
                detail="The client supports SCRAM channel binding but thinks the server does not. "
                "However, this server does support channel binding.",
            )
        elif flag not in (b"n", b"y"):
            raise _malformed("The client selected SCRAM-SHA-256 without channel binding, but asks for it.")
        if identity:
            raise NotSupported("client uses authorization identity, but it is not supported")
        if bare.startswith(b"m="):
            raise NotSupported("client requires an unsupported SCRAM extension")
        attributes = bare.split(b",")
        if len(attributes) < 2 or not attributes[0].startswith(b"n=") or not attributes[1].startswith(b"r="):
            raise _malformed("The user's name or the nonce is missing.")
        nonce = attributes[1][2:]
        if _NONCE.fullmatch(nonce) is None:
            raise _malformed("The nonce is not printable.")
        header = flag + b"," + identity + b","
        self._binding = base64.b64encode(header + (self._end_point if mechanism == PLUS else b""))
        self._nonce = nonce + base64.b64encode(secrets.token_bytes(NONCE_BYTES))
        salt = base64.b64encode(self._verifier.salt)
        answer = b"r=" + self._nonce + b",s=" + salt + b",i=%d" % self._verifier.iterations
        self._said = bare + b"," + answer
        return answer

    def final(self, message: bytes) -> bytes:
        """Take client-final-message, answer with server-final-message. Raises LoginRefused for a wrong proof."""
        without_proof, _, last = message.rpartition(b",")
        attributes = without_proof.split(b",")
        if len(attributes) < 2 or not last.startswith(b"p="):
            raise _malformed("The proof is missing.")
        proof = _decoded(last[2:])
        if proof is None or len(proof) != 32:
            raise _malformed("The proof is malformed.")
        if attributes[0] != b"c=" + self._binding:
            if self._binding.startswith(b"cD10"):
                raise LoginRefused("SCRAM channel binding check failed")
            raise ProtocolViolation("unexpected SCRAM channel-binding attribute in client-final-message")
        if attributes[1] != b"r=" + self._nonce:
            raise ProtocolViolation("invalid SCRAM response", detail="Nonce does not match.")
        verifier, said = self._verifier, self._said + b"," + without_proof
        client_key = _xor(proof, _hmac(verifier.stored_key, said))
        fits = hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key)
        if not fits or self._doomed:
            raise LoginRefused(f'password authentication failed for user "{self._user}"', sqlstate="28P01")
        self.keys = Keys(client_key, verifier.server_key)
        return b"v=" + base64.b64encode(_hmac(verifier.server_key, said))


class ClientExchange:
    """The end of the one who proves: first(), then final(), then verify()."""

    def __init__(self, end_point: bytes) -> None:
        """`end_point`: the hash of the server's certificate, for the mechanism PLUS; else b""."""
        self._header: Final = _END_POINT + b",," if end_point else b"n,,"
        self._end_point: Final = end_point
        self._bare: Final = b"n=,r=" + base64.b64encode(secrets.token_bytes(NONCE_BYTES))
        self._expected = b""
        self.verified = False
        """The server has proved to know the password, too."""

    def first(self) -> bytes:
        """client-first-message."""
        return self._header + self._bare

    def challenge(self, message: bytes) -> tuple[bytes, int]:
        """The salt and the iterations of server-first-message. Raises LoginRefused."""
        attributes = message.split(b",")
        nonce = self._bare.partition(b",")[2]
        if len(attributes) < 3 or not attributes[0].startswith(nonce) or len(attributes[0]) == len(nonce):
            raise _failed("Its nonce is not ours.")
        salt = _decoded(attributes[1][2:]) if attributes[1].startswith(b"s=") else None
        count = attributes[2][2:] if attributes[2].startswith(b"i=") else b""
        if not salt or not re.fullmatch(rb"[0-9]{1,8}", count) or not 1 <= int(count) <= ITERATIONS_MAX:
            raise _failed("Its salt or iteration count is malformed.")
        return salt, int(count)

    def final(self, message: bytes, keys: Keys) -> bytes:
        """client-final-message, in answer to server-first-message."""
        without_proof = b"c=" + base64.b64encode(self._header + self._end_point) + b"," + message.split(b",")[0]
        said = self._bare + b"," + message + b"," + without_proof
        signature = _hmac(hashlib.sha256(keys.client_key).digest(), said)
        self._expected = b"v=" + base64.b64encode(_hmac(keys.server_key, said))
        return without_proof + b",p=" + base64.b64encode(_xor(keys.client_key, signature))

    def verify(self, message: bytes) -> None:
        """Take server-final-message. Raises LoginRefused where it does not know the password."""
        if not self._expected or not hmac.compare_digest(message.split(b",")[0], self._expected):
            raise _failed("Its signature is wrong: it does not know the password.")
        self.verified = True


def _prepared(password: str) -> bytes:
    """As PostgreSQL: SASLprep where the password allows it, else the password as it is."""
    if not password.isascii():
        try:
            return str(saslprep(password)).encode()
        except Exception:
            # Whatever it does not like about the password.
            return password.encode()
    return password.encode()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")


def _decoded(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _malformed(detail: str) -> ProtocolViolation:
    return ProtocolViolation("malformed SCRAM message", detail=detail)


def _failed(detail: str) -> LoginRefused:
    return LoginRefused("SCRAM authentication with the server failed", detail=detail, sqlstate="28P01")
