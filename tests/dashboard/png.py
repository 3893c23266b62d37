"""A screenshot made small: few colours instead of all, and what is left compressed as far as zlib can.

In: a PNG as a browser makes it, 8 bits a channel, not interlaced. Out: one with a palette of at most 256 colours; a
colour that is rarer has become the nearest of those. Pages of text lose nothing that can be seen by it.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
COLOURS_MAX: Final = 256


def shrink(png: bytes) -> bytes:
    """The same picture in fewer bytes."""
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", dict(_chunks(png))[b"IHDR"])
    channels = {2: 3, 6: 4}[kind]
    assert (depth, interlaced) == (8, 0)
    data = zlib.decompress(b"".join(body for name, body in _chunks(png) if name == b"IDAT"))
    rows = list(_unfiltered(data, width * channels, height, channels))
    seen: Counter[bytes] = Counter()
    for row in rows:
        seen.update(row[at : at + 3] for at in range(0, len(row), channels))
    palette = [colour for colour, _ in seen.most_common(COLOURS_MAX)]
    number = {colour: palette.index(_nearest(colour, palette)) for colour in seen}
    lines = b"".join(b"\0" + bytes(number[row[at : at + 3]] for at in range(0, len(row), channels)) for row in rows)
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", b"".join(palette)),
            _chunk(b"IDAT", zlib.compress(lines, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _nearest(colour: bytes, palette: list[bytes]) -> bytes:
    return min(palette, key=lambda one: sum((a - b) ** 2 for a, b in zip(one, colour, strict=True)))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    assert png.startswith(SIGNATURE)
    at = len(SIGNATURE)
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += 12 + size


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _unfiltered(data: bytes, size: int, height: int, step: int) -> Iterator[bytes]:
    """The rows as they were: PNG, "Filter Algorithms"."""
    above = bytearray(size)
    for number in range(height):
        at = number * (size + 1)
        kind, row = data[at], bytearray(data[at + 1 : at + 1 + size])
        for index in range(size):
            left = row[index - step] if index >= step else 0
            up = above[index]
            corner = above[index - step] if index >= step else 0
            row[index] = (row[index] + _predicted(kind, left, up, corner)) & 255
        above = row
        yield bytes(row)


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    match kind:
        case 0:
            return 0
        case 1:
            return left
        case 2:
            return up
        case 3:
            return (left + up) // 2
        case _:
            guess = left + up - corner
            return min((left, up, corner), key=lambda one: abs(guess - one))
