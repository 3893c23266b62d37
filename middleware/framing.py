"""The framing of the control channel between the supervisor and its workers.

A frame is a length (4 bytes, big-endian), then a message of control.py as a msgpack array tagged by the message's type.
"""

from typing import Final

import msgspec

from middleware.control import Down, Up

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
"""A frame above this is a bug: the biggest message is a Catalog, some hundred kilobytes."""

_LENGTH_BYTES: Final = 4
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Down | Up)


class ControlError(Exception):
    """What came over the channel is not a frame of a known message: a bug, or a stranger on the socket."""


def encode(message: Down | Up) -> bytes:
    """The message as one frame. Raises ControlError above FRAME_BYTES_MAX."""
    payload = _encoder.encode(message)
    if len(payload) > FRAME_BYTES_MAX:
        raise ControlError(f"{type(message).__name__} of {len(payload)} bytes is above {FRAME_BYTES_MAX}")
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


class FrameReader:
    """Bytes in, messages out, for either end; what is left of an unfinished frame is kept."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Down | Up]:
        """The messages that `data` completes, in order. Raises ControlError, after which the reader is of no use."""
        buffer = self._buffer
        buffer += data
        messages: list[Down | Up] = []
        start = 0
        while len(buffer) - start >= _LENGTH_BYTES:
            length = int.from_bytes(buffer[start : start + _LENGTH_BYTES], "big")
            if length > FRAME_BYTES_MAX:
                raise ControlError(f"a frame of {length} bytes is above {FRAME_BYTES_MAX}")
            end = start + _LENGTH_BYTES + length
            if len(buffer) < end:
                break
            # bytes: the decoder may keep views into what it is given, and a bytearray with views cannot shrink.
            payload = bytes(buffer[start + _LENGTH_BYTES : end])
            try:
                messages.append(_decoder.decode(payload))
            except (msgspec.DecodeError, ValueError) as error:
                # Not chained: the cause's text names fields and types, never values, but its frames hold the payload.
                raise ControlError(f"not a message: {error}") from None
            start = end
        del buffer[:start]
        return messages
