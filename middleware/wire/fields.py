"""The fields messages are made of ("Message Data Types"), and the base class of all typed messages.

Int16, Int32 and Byte4 are big-endian; a String ends with a zero; a value is an Int32 length, -1 for null, and that
many bytes. A Reader takes fields off a body in order and raises ProtocolViolation where they are not there.
"""

from collections.abc import Iterable
from typing import ClassVar, Final, Self

import msgspec

from middleware.errors import ProtocolViolation
from middleware.wire.build import message

VALUE_NULL: Final = -1


class Reader:
    """Takes the fields of one body, first to last."""

    __slots__ = ("_body", "_position")

    def __init__(self, body: bytes) -> None:
        self._body: Final = body
        self._position = 0

    def take(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        end = self._position + size
        if size < 0 or end > len(self._body):
            raise ProtocolViolation("insufficient data left in message")
        taken = self._body[self._position : end]
        self._position = end
        return taken

    def rest(self) -> bytes:
        """All that is left, maybe nothing."""
        return self.take(len(self._body) - self._position)

    def byte(self) -> bytes:
        return self.take(1)

    def int8(self) -> int:
        return self.take(1)[0]

    def int16(self) -> int:
        return int.from_bytes(self.take(2), "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def oid(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def count(self) -> int:
        """How many things follow: an Int16 that PostgreSQL reads unsigned, since there may be 65535 parameters."""
        return int.from_bytes(self.take(2), "big")

    def string(self) -> bytes:
        """Up to the next zero, which is taken and not returned."""
        end = self._body.find(0, self._position)
        if end < 0:
            raise ProtocolViolation("invalid string in message")
        text = self._body[self._position : end]
        self._position = end + 1
        return text

    def value(self) -> bytes | None:
        """A length and that many bytes, or null."""
        size = self.int32()
        return None if size == VALUE_NULL else self.take(size)

    def values(self) -> tuple[bytes | None, ...]:
        return tuple([self.value() for _ in range(self.count())])

    def int16s(self) -> tuple[int, ...]:
        return tuple([self.int16() for _ in range(self.count())])

    def oids(self) -> tuple[int, ...]:
        return tuple([self.oid() for _ in range(self.count())])

    def end(self) -> None:
        """Nothing may be left."""
        if self._position != len(self._body):
            raise ProtocolViolation("invalid message format")


def int16(number: int) -> bytes:
    return number.to_bytes(2, "big", signed=True)


def count(number: int) -> bytes:
    return number.to_bytes(2, "big")


def int32(number: int) -> bytes:
    return number.to_bytes(4, "big", signed=True)


def oid(number: int) -> bytes:
    return number.to_bytes(4, "big")


def string(text: bytes) -> bytes:
    return text + b"\0"


def value(data: bytes | None) -> bytes:
    return int32(VALUE_NULL) if data is None else int32(len(data)) + data


def values(items: tuple[bytes | None, ...]) -> bytes:
    return count(len(items)) + b"".join(map(value, items))


def int16s(numbers: tuple[int, ...]) -> bytes:
    return count(len(numbers)) + b"".join(map(int16, numbers))


def oids(numbers: tuple[int, ...]) -> bytes:
    return count(len(numbers)) + b"".join(map(oid, numbers))


def strings(texts: Iterable[bytes]) -> bytes:
    return b"".join(map(string, texts))


class Message(msgspec.Struct, frozen=True):
    """A message with a type code. A subclass without fields has an empty body, and needs no more than its code."""

    code: ClassVar[int]

    def body(self) -> bytes:
        """What follows the length."""
        return b""

    def encode(self) -> bytes:
        """Its bytes: code, length, body."""
        return message(self.code, self.body())

    @classmethod
    def read(cls, _reader: Reader) -> Self:
        """The message whose fields `_reader` gives."""
        return cls()

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """The message with this body, all of it. Raises ProtocolViolation."""
        reader = Reader(body)
        decoded = cls.read(reader)
        reader.end()
        return decoded
