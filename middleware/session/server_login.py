"""Logging in to a server: startup message, authentication, ParameterStatus, BackendKeyData, ReadyForQuery.

The manual's "Start-up": after the startup message the server asks for a proof (or none), tells its parameters and the
key for CancelRequests, and says ReadyForQuery. No parameters beyond user and database are sent: a client's settings
come with its lease (session.parameters). SCRAM is scramp's.
"""

import hashlib
from struct import Struct
from typing import Final

import scramp

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

    def __init__(self, user: bytes, database: bytes, password: str | None) -> None:
        self._user: Final = user
        self._database: Final = database
        self._password: Final = password
        self._scram: scramp.ScramClient | None = None
        self._pending = b""
        self.reported: dict[bytes, bytes] = {}
        self.process_id = 0
        self.secret = b""
        self.done = False

    def startup(self) -> bytes:
        """The startup message."""
        body = b"user\0" + self._user + b"\0database\0" + self._database + b"\0\0"
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
            return self._authenticate(int.from_bytes(body[:4], "big"), body[4:])
        if code == ERROR_RESPONSE:
            raise _refusal(body)
        if code == PARAMETER_STATUS:
            name, _, value = body.partition(b"\0")
            self.reported[name] = value[:-1]
        elif code == BACKEND_KEY_DATA:
            self.process_id, self.secret = int.from_bytes(body[:4], "big"), body[4:]
        elif code == READY_FOR_QUERY:
            self.done = True
        elif code not in (NOTICE_RESPONSE, NEGOTIATE_PROTOCOL_VERSION):
            raise ConnectionLost("server sent an unexpected message during login")
        return b""

    def _authenticate(self, request: int, data: bytes) -> bytes:
        if request == AUTHENTICATION_OK:
            return b""
        if self._password is None:
            raise LoginRefused("server asks for a password, and none is known", sqlstate="28P01")
        password = self._password.encode()
        if request == AUTHENTICATION_CLEARTEXT_PASSWORD:
            return message(PASSWORD, password + b"\0")
        if request == AUTHENTICATION_MD5_PASSWORD:
            inner = _md5(password + self._user)
            return message(PASSWORD, b"md5" + _md5(inner + data[:4]) + b"\0")
        answer = self._sasl(request, data)
        return message(PASSWORD, answer) if answer else b""

    def _sasl(self, request: int, data: bytes) -> bytes:
        try:
            if request == AUTHENTICATION_SASL:
                mechanisms = [name.decode() for name in data.split(b"\0") if name]
                self._scram = scramp.ScramClient(mechanisms, self._user.decode(), self._password)
                first: bytes = self._scram.get_client_first().encode()
                mechanism: bytes = self._scram.mechanism_name.encode()
                return mechanism + b"\0" + len(first).to_bytes(4, "big") + first
            if request == AUTHENTICATION_SASL_CONTINUE and self._scram is not None:
                self._scram.set_server_first(data.decode())
                final: bytes = self._scram.get_client_final().encode()
                return final
            if request == AUTHENTICATION_SASL_FINAL and self._scram is not None:
                self._scram.set_server_final(data.decode())
                return b""
        except (scramp.ScramException, UnicodeDecodeError) as error:
            raise LoginRefused("SCRAM authentication with the server failed", sqlstate="28P01") from error
        raise LoginRefused("server asks for an authentication method that is not supported", sqlstate="28000")


def _md5(data: bytes) -> bytes:
    # The protocol's own use of MD5; the server chose it.
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


def _refusal(body: bytes) -> PointsmanError:
    """The server's error, to be passed on to the clients for whom this server was opened."""
    fields = {code: value.decode(errors="replace") for code, value in error_fields(body).items()}
    return LoginRefused(
        fields.get(b"M", "login failed"),
        detail=fields.get(b"D", ""),
        hint=fields.get(b"H", ""),
        sqlstate=fields.get(b"C", "08006"),
    )
