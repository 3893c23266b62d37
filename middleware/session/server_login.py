"""Logging in to a server: startup message, authentication, ParameterStatus, BackendKeyData, ReadyForQuery.

The manual's "Start-up": after the startup message the server asks for a proof (or none), tells its parameters and the
key for CancelRequests, and says ReadyForQuery; nothing of that comes before it has let us in. For a pool no parameters
beyond user and database are sent: a client's settings come with its lease (session.parameters). A server that begins
SCRAM must end it: its proof shows who it is.
"""

from struct import Struct
from typing import Final

from middleware.auth import ServerCredentials
from middleware.auth.authority import md5_hex
from middleware.auth.scram import PLAIN, PLUS, ClientExchange
from middleware.config.tls import end_point_of
from middleware.errors import ConnectionLost, LoginRefused, PointsmanError
from middleware.session.server import error_fields
from middleware.wire.build import message
from middleware.wire.codes import (
    AUTHENTICATION,
    AUTHENTICATION_CLEARTEXT_PASSWORD,
    AUTHENTICATION_MD5_PASSWORD,
    AUTHENTICATION_OK,
    AUTHENTICATION_SASL,
    AUTHENTICATION_SASL_CONTINUE,
    AUTHENTICATION_SASL_FINAL,
    BACKEND_KEY_DATA,
    ERROR_RESPONSE,
    NEGOTIATE_PROTOCOL_VERSION,
    NOTICE_RESPONSE,
    PARAMETER_STATUS,
    PASSWORD,
    PROTOCOL_3_0,
    READY_FOR_QUERY,
)

_header: Final = Struct(">BI").unpack_from

REPLY_BYTES_MAX: Final = 64 * 1024
"""No reply during a login is longer; one that claims to be comes from no PostgreSQL."""


class ServerLogin:
    """One login, by protocol 3.0: all servers speak it, and nothing of 3.2 is needed towards them.

    startup(), then feed() what the server sends and send what it returns, until `done`.
    """

    def __init__(
        self, user: bytes, database: bytes, credentials: ServerCredentials, more: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """`more`: parameters of the startup message beyond user and database."""
        self._user: Final = user
        self._database: Final = database
        self._credentials: Final = credentials
        self._more: Final = more
        self._scram: ClientExchange | None = None
        self.certificate = b""
        """The server's, as DER, for channel binding; b"" without TLS."""
        self._pending = b""
        self.reported: dict[bytes, bytes] = {}
        self.process_id = 0
        self.secret = b""
        self._believed = False
        """The server has said AuthenticationOk."""
        self.done = False

    @property
    def rest(self) -> bytes:
        """What came behind the login."""
        return self._pending

    def startup(self) -> bytes:
        """The startup message."""
        parameters = ((b"user", self._user), (b"database", self._database), *self._more)
        body = b"".join(name + b"\0" + value + b"\0" for name, value in parameters) + b"\0"
        return (len(body) + 8).to_bytes(4, "big") + PROTOCOL_3_0.to_bytes(4, "big") + body

    def feed(self, data: bytes) -> bytes:
        """Take what came; returns the answer to send. Raises PointsmanError when the login has failed."""
        self._pending += data
        out = b""
        while len(self._pending) >= 5 and not self.done:
            code, length = _header(self._pending)
            if length < 4 or length > REPLY_BYTES_MAX:
                raise ConnectionLost("server sent an invalid message during login")
            if len(self._pending) <= length:
                break
            body = self._pending[5 : length + 1]
            self._pending = self._pending[length + 1 :]
            out += self._take(code, body)
        return out

    def _take(self, code: int, body: bytes) -> bytes:
        if code == AUTHENTICATION:
            if len(body) < 4:
                raise ConnectionLost("server sent an invalid message during login")
            return self._authenticate(int.from_bytes(body[:4], "big"), body[4:])
        if code == ERROR_RESPONSE:
            raise _refusal(body)
        if code in (NOTICE_RESPONSE, NEGOTIATE_PROTOCOL_VERSION):
            return b""
        if not self._believed:
            raise ConnectionLost("server sent an unexpected message during login")
        if code == PARAMETER_STATUS:
            name, _, value = body.partition(b"\0")
            self.reported[name] = value[:-1]
        elif code == BACKEND_KEY_DATA:
            self.process_id, self.secret = int.from_bytes(body[:4], "big"), body[4:]
        elif code == READY_FOR_QUERY and body == b"I":
            self.done = True
        else:
            raise ConnectionLost("server sent an unexpected message during login")
        return b""

    def _authenticate(self, request: int, data: bytes) -> bytes:
        scram, credentials = self._scram, self._credentials
        if request == AUTHENTICATION_OK:
            if scram is not None and not scram.verified:
                raise LoginRefused("server ended SCRAM authentication without its proof", sqlstate="28P01")
            self._believed = True
            return b""
        if request == AUTHENTICATION_CLEARTEXT_PASSWORD:
            password = credentials.password()
            return message(PASSWORD, _known(password).encode() + b"\0")
        if request == AUTHENTICATION_MD5_PASSWORD and len(data) == 4:
            inner = _known(credentials.md5()).encode()
            return message(PASSWORD, b"md5" + md5_hex(inner + data).encode() + b"\0")
        if request == AUTHENTICATION_SASL and scram is None:
            return self._begin_scram(data.split(b"\0"))
        if request == AUTHENTICATION_SASL_CONTINUE and scram is not None:
            keys = credentials.keys(*scram.challenge(data))
            if keys is None:
                raise _nothing_known()
            return message(PASSWORD, scram.final(data, keys))
        if request == AUTHENTICATION_SASL_FINAL and scram is not None:
            scram.verify(data)
            return b""
        raise LoginRefused("server asks for an authentication method that is not supported", sqlstate="28000")

    def _begin_scram(self, offered: list[bytes]) -> bytes:
        end_point = end_point_of(self.certificate) if PLUS in offered and self.certificate else b""
        mechanism = PLUS if end_point else PLAIN
        if mechanism not in offered:
            raise LoginRefused("server asks for an authentication method that is not supported", sqlstate="28000")
        self._scram = ClientExchange(end_point)
        first = self._scram.first()
        return message(PASSWORD, mechanism + b"\0" + len(first).to_bytes(4, "big") + first)


def _nothing_known() -> LoginRefused:
    return LoginRefused(
        "server asks for a password, and none is known",
        hint="Give it in [users] or auth_file, or give the server's own SCRAM secret there (auth_query does) and let "
        "the client log in by scram-sha-256.",
        sqlstate="28P01",
    )


def _known(password: str | None) -> str:
    if password is None:
        raise _nothing_known()
    return password


def _refusal(body: bytes) -> PointsmanError:
    """The server's error, to be passed on to the clients for whom this server was opened."""
    fields = {code: value.decode(errors="replace") for code, value in error_fields(body).items()}
    return LoginRefused(
        fields.get(b"M", "login failed"),
        detail=fields.get(b"D", ""),
        hint=fields.get(b"H", ""),
        sqlstate=fields.get(b"C", "08006"),
    )
