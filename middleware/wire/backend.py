"""Messages a backend sends, protocol 3.0 to 3.2 ("Message Formats"), as values with encode() and decode().

For what looks at single messages: tests, the console. What relays them reads headers only (session.server).
"""

from typing import ClassVar, Final, Self

import msgspec

from middleware.errors import ProtocolViolation
from middleware.wire import codes
from middleware.wire.fields import (
    Message,
    Reader,
    count,
    int16,
    int16s,
    int32,
    oid,
    oids,
    string,
    strings,
    value,
    values,
)
from middleware.wire.frontend import SECRET_BYTES_MAX, SECRET_BYTES_MIN, CopyData, CopyDone

TRANSACTION_STATES: Final = (b"I", b"T", b"E")
"""ReadyForQuery's: idle, in a transaction block, in a failed one."""

SALT_BYTES: Final = 4


class _Authentication(Message, frozen=True):
    """Type 'R': a number says what is asked for, and what follows it."""

    code: ClassVar[int] = codes.AUTHENTICATION
    request: ClassVar[int]

    def details(self) -> bytes:
        """What follows the number."""
        return b""

    @classmethod
    def read_details(cls, _reader: Reader) -> Self:
        return cls()

    def body(self) -> bytes:
        return int32(self.request) + self.details()

    @classmethod
    def read(cls, reader: Reader) -> Self:
        if reader.int32() != cls.request:
            raise ProtocolViolation("unexpected authentication request")
        return cls.read_details(reader)


class _AuthenticationData(_Authentication, frozen=True):
    data: bytes

    def details(self) -> bytes:
        return self.data

    @classmethod
    def read_details(cls, reader: Reader) -> Self:
        return cls(reader.rest())


class AuthenticationOk(_Authentication, frozen=True):
    request: ClassVar[int] = codes.AUTHENTICATION_OK


class AuthenticationKerberosV5(_Authentication, frozen=True):
    request: ClassVar[int] = codes.AUTHENTICATION_KERBEROS_V5


class AuthenticationCleartextPassword(_Authentication, frozen=True):
    request: ClassVar[int] = codes.AUTHENTICATION_CLEARTEXT_PASSWORD


class AuthenticationMD5Password(_Authentication, frozen=True):
    request: ClassVar[int] = codes.AUTHENTICATION_MD5_PASSWORD
    salt: bytes

    def details(self) -> bytes:
        return self.salt

    @classmethod
    def read_details(cls, reader: Reader) -> Self:
        return cls(reader.take(SALT_BYTES))


class AuthenticationGSS(_Authentication, frozen=True):
    request: ClassVar[int] = codes.AUTHENTICATION_GSS


class AuthenticationGSSContinue(_AuthenticationData, frozen=True):
    request: ClassVar[int] = codes.AUTHENTICATION_GSS_CONTINUE


class AuthenticationSSPI(_Authentication, frozen=True):
    request: ClassVar[int] = codes.AUTHENTICATION_SSPI


class AuthenticationSASL(_Authentication, frozen=True):
    request: ClassVar[int] = codes.AUTHENTICATION_SASL
    mechanisms: tuple[bytes, ...]

    def details(self) -> bytes:
        return strings(self.mechanisms) + b"\0"

    @classmethod
    def read_details(cls, reader: Reader) -> Self:
        return cls(tuple(iter(reader.string, b"")))


class AuthenticationSASLContinue(_AuthenticationData, frozen=True):
    request: ClassVar[int] = codes.AUTHENTICATION_SASL_CONTINUE


class AuthenticationSASLFinal(_AuthenticationData, frozen=True):
    request: ClassVar[int] = codes.AUTHENTICATION_SASL_FINAL


class BackendKeyData(Message, frozen=True):
    code: ClassVar[int] = codes.BACKEND_KEY_DATA
    process_id: int
    secret: bytes

    def body(self) -> bytes:
        return oid(self.process_id) + self.secret

    @classmethod
    def read(cls, reader: Reader) -> Self:
        process_id, secret = reader.oid(), reader.rest()
        if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
            raise ProtocolViolation("invalid length of cancel request key")
        return cls(process_id, secret)


class NegotiateProtocolVersion(Message, frozen=True):
    """The newest protocol the server speaks of the major version asked for, and the options it does not know."""

    code: ClassVar[int] = codes.NEGOTIATE_PROTOCOL_VERSION
    protocol: int
    unknown_options: tuple[bytes, ...] = ()

    def body(self) -> bytes:
        return int32(self.protocol) + int32(len(self.unknown_options)) + strings(self.unknown_options)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        protocol, number = reader.int32(), reader.int32()
        if number < 0:
            raise ProtocolViolation("negative count in message")
        return cls(protocol, tuple([reader.string() for _ in range(number)]))


class ParameterStatus(Message, frozen=True):
    code: ClassVar[int] = codes.PARAMETER_STATUS
    name: bytes
    value: bytes

    def body(self) -> bytes:
        return string(self.name) + string(self.value)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.string(), reader.string())


class ReadyForQuery(Message, frozen=True):
    code: ClassVar[int] = codes.READY_FOR_QUERY
    status: bytes

    def body(self) -> bytes:
        return self.status

    @classmethod
    def read(cls, reader: Reader) -> Self:
        status = reader.byte()
        if status not in TRANSACTION_STATES:
            raise ProtocolViolation("invalid transaction status in ReadyForQuery")
        return cls(status)


class ParseComplete(Message, frozen=True):
    code: ClassVar[int] = codes.PARSE_COMPLETE


class BindComplete(Message, frozen=True):
    code: ClassVar[int] = codes.BIND_COMPLETE


class CloseComplete(Message, frozen=True):
    code: ClassVar[int] = codes.CLOSE_COMPLETE


class NoData(Message, frozen=True):
    code: ClassVar[int] = codes.NO_DATA


class EmptyQueryResponse(Message, frozen=True):
    code: ClassVar[int] = codes.EMPTY_QUERY_RESPONSE


class PortalSuspended(Message, frozen=True):
    code: ClassVar[int] = codes.PORTAL_SUSPENDED


class CommandComplete(Message, frozen=True):
    code: ClassVar[int] = codes.COMMAND_COMPLETE
    tag: bytes

    def body(self) -> bytes:
        return string(self.tag)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.string())


class ParameterDescription(Message, frozen=True):
    code: ClassVar[int] = codes.PARAMETER_DESCRIPTION
    types: tuple[int, ...] = ()

    def body(self) -> bytes:
        return oids(self.types)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.oids())


class Column(msgspec.Struct, frozen=True):
    """Of a RowDescription. `type_size` is negative where it varies."""

    name: bytes
    type_oid: int
    type_size: int
    type_modifier: int = -1
    format: int = 0
    table_oid: int = 0
    number: int = 0

    def encode(self) -> bytes:
        table, kind = oid(self.table_oid) + int16(self.number), oid(self.type_oid) + int16(self.type_size)
        return string(self.name) + table + kind + int32(self.type_modifier) + int16(self.format)


def _read_column(reader: Reader) -> Column:
    name, table_oid, number = reader.string(), reader.oid(), reader.int16()
    type_oid, type_size, type_modifier = reader.oid(), reader.int16(), reader.int32()
    return Column(name, type_oid, type_size, type_modifier, reader.int16(), table_oid, number)


class RowDescription(Message, frozen=True):
    code: ClassVar[int] = codes.ROW_DESCRIPTION
    columns: tuple[Column, ...] = ()

    def body(self) -> bytes:
        return count(len(self.columns)) + b"".join(column.encode() for column in self.columns)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(tuple([_read_column(reader) for _ in range(reader.count())]))


class DataRow(Message, frozen=True):
    code: ClassVar[int] = codes.DATA_ROW
    values: tuple[bytes | None, ...] = ()

    def body(self) -> bytes:
        return values(self.values)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.values())


class FunctionCallResponse(Message, frozen=True):
    code: ClassVar[int] = codes.FUNCTION_CALL_RESPONSE
    result: bytes | None

    def body(self) -> bytes:
        return value(self.result)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.value())


class NotificationResponse(Message, frozen=True):
    code: ClassVar[int] = codes.NOTIFICATION_RESPONSE
    process_id: int
    channel: bytes
    payload: bytes = b""

    def body(self) -> bytes:
        return oid(self.process_id) + string(self.channel) + string(self.payload)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.oid(), reader.string(), reader.string())


class _Report(Message, frozen=True):
    """Fields by their one-letter codes ("Error and Notice Message Fields"), in the order sent."""

    fields: tuple[tuple[bytes, bytes], ...]

    def field(self, letter: bytes) -> bytes:
        """A field's text, empty where there is none."""
        return dict(self.fields).get(letter, b"")

    def body(self) -> bytes:
        return b"".join(letter + string(text) for letter, text in self.fields) + b"\0"

    @classmethod
    def read(cls, reader: Reader) -> Self:
        found: list[tuple[bytes, bytes]] = []
        while (letter := reader.byte()) != b"\0":
            found.append((letter, reader.string()))
        return cls(tuple(found))


class ErrorResponse(_Report, frozen=True):
    code: ClassVar[int] = codes.ERROR_RESPONSE


class NoticeResponse(_Report, frozen=True):
    code: ClassVar[int] = codes.NOTICE_RESPONSE


class _CopyResponse(Message, frozen=True):
    """`format` 0 text, 1 binary, of the whole; `column_formats` of each column."""

    format: int
    column_formats: tuple[int, ...] = ()

    def body(self) -> bytes:
        return self.format.to_bytes(1, "big") + int16s(self.column_formats)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.int8(), reader.int16s())


class CopyInResponse(_CopyResponse, frozen=True):
    code: ClassVar[int] = codes.COPY_IN_RESPONSE


class CopyOutResponse(_CopyResponse, frozen=True):
    code: ClassVar[int] = codes.COPY_OUT_RESPONSE


class CopyBothResponse(_CopyResponse, frozen=True):
    code: ClassVar[int] = codes.COPY_BOTH_RESPONSE


AUTHENTICATION: Final[dict[int, type[_Authentication]]] = {
    kind.request: kind
    for kind in (
        AuthenticationOk,
        AuthenticationKerberosV5,
        AuthenticationCleartextPassword,
        AuthenticationMD5Password,
        AuthenticationGSS,
        AuthenticationGSSContinue,
        AuthenticationSSPI,
        AuthenticationSASL,
        AuthenticationSASLContinue,
        AuthenticationSASLFinal,
    )
}

BACKEND: Final[dict[int, type[Message]]] = {
    kind.code: kind
    for kind in (
        BackendKeyData,
        BindComplete,
        CloseComplete,
        CommandComplete,
        CopyBothResponse,
        CopyData,
        CopyDone,
        CopyInResponse,
        CopyOutResponse,
        DataRow,
        EmptyQueryResponse,
        ErrorResponse,
        FunctionCallResponse,
        NegotiateProtocolVersion,
        NoData,
        NoticeResponse,
        NotificationResponse,
        ParameterDescription,
        ParameterStatus,
        ParseComplete,
        PortalSuspended,
        ReadyForQuery,
        RowDescription,
    )
}


def decode_backend(code: int, body: bytes) -> Message:
    """The backend's message of this type. Raises ProtocolViolation."""
    kind = AUTHENTICATION.get(Reader(body).int32()) if code == codes.AUTHENTICATION else BACKEND.get(code)
    if kind is None:
        raise ProtocolViolation(f"invalid backend message type {code}")
    return kind.decode(body)
