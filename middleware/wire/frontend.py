"""Messages a frontend sends, protocol 3.0 to 3.2 ("Message Formats"), as values with encode() and decode().

For what looks at single messages: tests, the console. What relays them reads headers only (session.client).

Startup packets have no type code; decode_startup() tells them by the number where a version would be. Message type
'p' has four readings, which only the authentication under way can tell apart: decode_frontend() gives the
GSSResponse, whose body is any bytes; who knows better decodes the body as another.
"""

from typing import ClassVar, Final, Self

import msgspec

from middleware.errors import ProtocolViolation
from middleware.wire import codes
from middleware.wire.fields import (
    Message,
    Reader,
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

STATEMENT: Final = b"S"
PORTAL: Final = b"P"

SECRET_BYTES_MIN: Final = 4
SECRET_BYTES_MAX: Final = 256
"""Of a CancelRequest's key: 4 in protocol 3.0, up to 256 in 3.2."""


class Query(Message, frozen=True):
    code: ClassVar[int] = codes.QUERY
    text: bytes

    def body(self) -> bytes:
        return string(self.text)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.string())


class Parse(Message, frozen=True):
    code: ClassVar[int] = codes.PARSE
    name: bytes
    text: bytes
    parameter_types: tuple[int, ...] = ()

    def body(self) -> bytes:
        return string(self.name) + string(self.text) + oids(self.parameter_types)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.string(), reader.string(), reader.oids())


class Bind(Message, frozen=True):
    """Formats: none for all text, one for all, or one each; 0 text, 1 binary."""

    code: ClassVar[int] = codes.BIND
    portal: bytes = b""
    statement: bytes = b""
    parameter_formats: tuple[int, ...] = ()
    parameters: tuple[bytes | None, ...] = ()
    result_formats: tuple[int, ...] = ()

    def body(self) -> bytes:
        names = string(self.portal) + string(self.statement)
        return names + int16s(self.parameter_formats) + values(self.parameters) + int16s(self.result_formats)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.string(), reader.string(), reader.int16s(), reader.values(), reader.int16s())


class _Named(Message, frozen=True):
    """Of a statement or a portal."""

    kind: bytes
    name: bytes = b""

    def body(self) -> bytes:
        return self.kind + string(self.name)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        kind = reader.byte()
        if kind not in (STATEMENT, PORTAL):
            raise ProtocolViolation(f"invalid {cls.__name__.upper()} message subtype {kind[0]}")
        return cls(kind, reader.string())


class Describe(_Named, frozen=True):
    code: ClassVar[int] = codes.DESCRIBE


class Close(_Named, frozen=True):
    code: ClassVar[int] = codes.CLOSE


class Execute(Message, frozen=True):
    """`rows_max` 0 means all."""

    code: ClassVar[int] = codes.EXECUTE
    portal: bytes = b""
    rows_max: int = 0

    def body(self) -> bytes:
        return string(self.portal) + int32(self.rows_max)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.string(), reader.int32())


class Flush(Message, frozen=True):
    code: ClassVar[int] = codes.FLUSH


class Sync(Message, frozen=True):
    code: ClassVar[int] = codes.SYNC


class Terminate(Message, frozen=True):
    code: ClassVar[int] = codes.TERMINATE


class FunctionCall(Message, frozen=True):
    code: ClassVar[int] = codes.FUNCTION_CALL
    function: int
    argument_formats: tuple[int, ...] = ()
    arguments: tuple[bytes | None, ...] = ()
    result_format: int = 0

    def body(self) -> bytes:
        return oid(self.function) + int16s(self.argument_formats) + values(self.arguments) + int16(self.result_format)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.oid(), reader.int16s(), reader.values(), reader.int16())


class CopyData(Message, frozen=True):
    code: ClassVar[int] = codes.COPY_DATA
    data: bytes

    def body(self) -> bytes:
        return self.data

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.rest())


class CopyDone(Message, frozen=True):
    code: ClassVar[int] = codes.COPY_DONE


class CopyFail(Message, frozen=True):
    code: ClassVar[int] = codes.COPY_FAIL
    reason: bytes

    def body(self) -> bytes:
        return string(self.reason)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.string())


class PasswordMessage(Message, frozen=True):
    code: ClassVar[int] = codes.PASSWORD
    password: bytes

    def body(self) -> bytes:
        return string(self.password)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.string())


class SASLInitialResponse(Message, frozen=True):
    code: ClassVar[int] = codes.PASSWORD
    mechanism: bytes
    data: bytes | None = None

    def body(self) -> bytes:
        return string(self.mechanism) + value(self.data)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.string(), reader.value())


class SASLResponse(Message, frozen=True):
    code: ClassVar[int] = codes.PASSWORD
    data: bytes

    def body(self) -> bytes:
        return self.data

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.rest())


class GSSResponse(SASLResponse, frozen=True):
    pass


class SSLRequest(msgspec.Struct, frozen=True):
    def encode(self) -> bytes:
        return _startup_packet(codes.SSL_REQUEST)


class GSSENCRequest(msgspec.Struct, frozen=True):
    def encode(self) -> bytes:
        return _startup_packet(codes.GSSENC_REQUEST)


class CancelRequest(msgspec.Struct, frozen=True):
    process_id: int
    secret: bytes

    def encode(self) -> bytes:
        return _startup_packet(codes.CANCEL_REQUEST, oid(self.process_id) + self.secret)


class StartupMessage(msgspec.Struct, frozen=True):
    """`parameters` in the order sent; `user` must be among them for a login, not for the layout."""

    parameters: tuple[tuple[bytes, bytes], ...]
    protocol: int = codes.PROTOCOL_3_0

    def encode(self) -> bytes:
        return _startup_packet(self.protocol, strings(word for pair in self.parameters for word in pair) + b"\0")


StartupPacket = SSLRequest | GSSENCRequest | CancelRequest | StartupMessage
"""In front of the first message: a length, a number, a body."""


def _startup_packet(request: int, body: bytes = b"") -> bytes:
    """The bytes of a startup packet; `request` stands in the place of the protocol version."""
    return int32(len(body) + 8) + oid(request) + body


def _read_cancel(reader: Reader) -> CancelRequest:
    process_id, secret = reader.oid(), reader.rest()
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise ProtocolViolation("invalid length of cancel request packet")
    return CancelRequest(process_id, secret)


def _read_parameters(reader: Reader) -> tuple[tuple[bytes, bytes], ...]:
    found: list[tuple[bytes, bytes]] = []
    while name := reader.string():
        found.append((name, reader.string()))
    return tuple(found)


def decode_startup(packet: bytes) -> StartupPacket:
    """The startup packet with these bytes behind its length. Raises ProtocolViolation."""
    reader = Reader(packet)
    number = reader.oid()
    decoded: StartupPacket
    if number == codes.CANCEL_REQUEST:
        decoded = _read_cancel(reader)
    elif number == codes.SSL_REQUEST:
        decoded = SSLRequest()
    elif number == codes.GSSENC_REQUEST:
        decoded = GSSENCRequest()
    else:
        decoded = StartupMessage(_read_parameters(reader), number)
    reader.end()
    return decoded


FRONTEND: Final[dict[int, type[Message]]] = {
    kind.code: kind
    for kind in (
        Query,
        Parse,
        Bind,
        Describe,
        Execute,
        Close,
        Flush,
        Sync,
        Terminate,
        FunctionCall,
        CopyData,
        CopyDone,
        CopyFail,
        GSSResponse,
    )
}


def decode_frontend(code: int, body: bytes) -> Message:
    """The frontend's message of this type. Raises ProtocolViolation."""
    kind = FRONTEND.get(code)
    if kind is None:
        raise ProtocolViolation(f"invalid frontend message type {code}")
    return kind.decode(body)
