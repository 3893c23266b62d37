"""An answer as several instances share it: under which key it is kept, and what its value looks like.

The key is a hash over all that the answer depends on, and shows none of it. The value is a header of a fixed layout,
the pattern of the batch that was answered, and the answer. Whoever reads it takes nothing on trust: a value of another
layout, one that was cut or damaged, or one that was put under another key, is none.
"""

import hashlib
import struct
import zlib
from typing import Final, NamedTuple

from middleware.cache.entry import well_formed
from middleware.cache.request import MESSAGES_MAX, Key, Scope

PREFIX: Final = b"pointsman:1:"
"""Another number with each change of what follows."""
MAGIC: Final = b"PMQC"
DIGEST_BYTES: Final = 32

_HEADER: Final = struct.Struct(">4sIQQdBI")
"""Magic, checksum of key and rest, two WAL positions, seconds that it took, bytes of the pattern and of the answer."""
_CHECKED_FROM: Final = 8


class Shared(NamedTuple):
    """An answer that another instance has stored."""

    lsn: int
    """It has all changes of its tables that were committed up to there."""
    upper_lsn: int
    """And nothing that was committed behind here."""
    cost_s: float
    """What it took to get it."""
    pattern: bytes
    whole: bytes


def shared_key(system_identifier: int, timeline: int, fingerprint: str, scope: Scope, key: Key) -> bytes:
    """Where the answer to a question is; `key` is that of the worker's own table, whose scope is its own number."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    parts = [b"%d %d" % (system_identifier, timeline), fingerprint.encode(), scope.database, scope.user]
    for name, value in scope.settings:
        parts += (name, value)
    # Each with its length: no two lists of parts are one string of bytes.
    digest.update(b"%d:" % len(parts))
    for part in parts:
        digest.update(b"%d:" % len(part) + part)
    digest.update(scope.question(key))
    return PREFIX + digest.hexdigest().encode()


def pack(key: bytes, lsn: int, upper_lsn: int, cost_s: float, pattern: bytes, whole: bytes) -> bytes:
    """The value to be kept under a key."""
    header = _HEADER.pack(MAGIC, 0, lsn, upper_lsn, cost_s, len(pattern), len(whole))
    checked = b"".join((header[_CHECKED_FROM:], pattern, whole))
    return b"".join((MAGIC, _checksum(key, checked).to_bytes(4, "big"), checked))


def unpack(key: bytes, value: bytes) -> Shared | None:
    """What was kept under a key; None if that is nothing of ours, or not whole."""
    if len(value) < _HEADER.size:
        return None
    magic, checksum, lsn, upper_lsn, cost_s, pattern_bytes, whole_bytes = _HEADER.unpack_from(value)
    start = _HEADER.size + pattern_bytes
    if magic != MAGIC or pattern_bytes > MESSAGES_MAX + 1 or len(value) != start + whole_bytes:
        return None
    if checksum != _checksum(key, value[_CHECKED_FROM:]):
        return None
    pattern, whole = value[_HEADER.size : start], value[start:]
    if not (0 <= cost_s < float("inf")) or not _readable(whole, pattern):
        return None
    return Shared(lsn, upper_lsn, cost_s, pattern, whole)


def _checksum(key: bytes, checked: bytes) -> int:
    return zlib.crc32(checked, zlib.crc32(key))


def _readable(whole: bytes, pattern: bytes) -> bool:
    try:
        return well_formed(whole, pattern)
    except KeyError:
        # No message is called so.
        return False
