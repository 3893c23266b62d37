"""A byte stream cut into messages ("Message Formats": a type code, a length that counts itself, a body)."""

from typing import Final

from middleware.errors import ProtocolViolation

HEADER_BYTES: Final = 5
LENGTH_BYTES: Final = 4


class Framer:
    """Feed it what came; it gives the messages that are whole. Neither direction's startup packets are framed so.

    After a ProtocolViolation the stream has no known boundaries any more, and every further feed() raises it again;
    messages in front of it that came in the same piece are not given.
    """

    def __init__(self, message_bytes_max: int) -> None:
        self._length_max: Final = message_bytes_max
        """Of a message's length field: more than that is not gathered."""
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The (code, body) of each message that `data` completes. Raises ProtocolViolation."""
        pending = self._pending
        pending += data
        found: list[tuple[int, bytes]] = []
        position = 0
        while position + HEADER_BYTES <= len(pending):
            length = int.from_bytes(pending[position + 1 : position + HEADER_BYTES], "big")
            if not LENGTH_BYTES <= length <= self._length_max:
                del pending[:position]
                raise ProtocolViolation("invalid message length")
            end = position + 1 + length
            if end > len(pending):
                break
            found.append((pending[position], bytes(pending[position + HEADER_BYTES : end])))
            position = end
        del pending[:position]
        return found

    @property
    def pending(self) -> bytes:
        """The start of a message that is not whole."""
        return bytes(self._pending)
