"""An answer that is kept, and the answers that can be made of it.

It is kept as the server has sent it, up to and with its ReadyForQuery. A batch with the same key and another pattern
(without its Parse, say) gets the parts of it that are its own; where one is missing, a Describe that was not asked
before, it gets none.
"""

from typing import Final

from middleware.cache.counts import DigestCounts
from middleware.cache.request import DESCRIBE_STATEMENT, QUERY_PATTERN
from middleware.wire.codes import (
    BIND,
    BIND_COMPLETE,
    CLOSE,
    CLOSE_COMPLETE,
    COMMAND_COMPLETE,
    DATA_ROW,
    DESCRIBE,
    EXECUTE,
    NO_DATA,
    PARAMETER_DESCRIPTION,
    PARSE,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    READY_FOR_QUERY,
    ROW_DESCRIPTION,
)

READY_BYTES: Final = 6
COMPLETE_BYTES: Final = 5
PARSED: Final = b"1\0\0\0\x04"
BOUND: Final = b"2\0\0\0\x04"
CLOSED: Final = b"3\0\0\0\x04"
OVERHEAD_BYTES: Final = 700
"""What an entry takes beside its answer and its question: objects, and its place in the tables."""


class Entry:
    """A kept answer."""

    __slots__ = (
        "catalog",
        "cost_s",
        "digest",
        "expires",
        "fresh",
        "pattern",
        "shown",
        "size",
        "slots",
        "used",
        "verified",
        "version",
        "whole",
    )

    def __init__(
        self,
        whole: bytes,
        pattern: bytes,
        slots: tuple[int, ...],
        version: int,
        catalog: int,
        fresh: float,
        shown: float,
        expires: float,
        cost_s: float,
        digest: DigestCounts,
        key_bytes: int,
    ) -> None:
        self.whole: Final = whole
        self.pattern: Final = pattern
        self.slots: Final = slots
        """What it depends on."""
        self.version: Final = version
        """Of those, when it was asked for."""
        self.catalog: Final = catalog
        """The version of the catalog by which it is known what it depends on."""
        self.fresh: Final = fresh
        """It has all that was committed before (time.monotonic())."""
        self.shown: Final = shown
        """And nothing that was committed after."""
        self.expires: Final = expires
        """Of the worker's clock; 0 for never."""
        self.cost_s: Final = cost_s
        """What it took to get it."""
        self.digest: Final = digest
        """Where it is counted."""
        self.verified = -1
        """Versions.events() when it was last found valid."""
        self.used = 0.0
        """When it was last said to be used, by the worker's clock."""
        self.size: Final = len(whole) + key_bytes + OVERHEAD_BYTES

    def answer(self, pattern: bytes) -> bytes:
        """The answer to a batch of this pattern; b"" where a part of it is not there."""
        if pattern == self.pattern:
            return self.whole
        if self.pattern[0] == PARSE and pattern == self.pattern[1:]:
            # The commonest: what is a Parse the first time is a prepared statement from then on.
            return self.whole[COMPLETE_BYTES:]
        parts = self._parts()
        out: list[bytes] = []
        for code in pattern:
            part = CLOSED if code == CLOSE else parts.get(code, b"")
            if not part:
                return b""
            out.append(part)
        out.append(self.whole[-READY_BYTES:])
        return b"".join(out)

    def _parts(self) -> dict[int, bytes]:
        """Its parts, by the messages of its pattern that they answer."""
        whole = self.whole
        parts = {PARSE: PARSED, BIND: BOUND}
        end = len(whole) - READY_BYTES - COMPLETE_BYTES * self.pattern.count(CLOSE)
        position = 0
        for code in self.pattern:
            if code == EXECUTE:
                parts[EXECUTE] = whole[position:end]
                break
            start = position
            position = _behind(whole, position)
            if code == DESCRIBE_STATEMENT:
                position = _behind(whole, position)
                parts[DESCRIBE_STATEMENT] = whole[start:position]
            elif code == DESCRIBE:
                parts[DESCRIBE] = whole[start:position]
        return parts


def _behind(data: bytes, position: int) -> int:
    """Where the message that begins here ends."""
    return position + 1 + int.from_bytes(data[position + 1 : position + 5], "big")


def well_formed(whole: bytes, pattern: bytes) -> bool:
    """Whether it is the answer to a batch of this pattern, without a notice, an error, or anything else beside it."""
    position, size = 0, len(whole)
    for code in pattern:
        if code == EXECUTE or pattern == QUERY_PATTERN:
            if code != EXECUTE:
                position = _expected(whole, position, size, ROW_DESCRIPTION)
            while 0 <= position < size and whole[position] == DATA_ROW:
                position = _behind(whole, position)
            if code == EXECUTE and 0 <= position < size and whole[position] == PORTAL_SUSPENDED:
                position = _expected(whole, position, size, PORTAL_SUSPENDED)
            else:
                position = _expected(whole, position, size, COMMAND_COMPLETE)
        elif code == DESCRIBE_STATEMENT:
            position = _expected(whole, position, size, PARAMETER_DESCRIPTION)
            position = _description(whole, position, size)
        elif code == DESCRIBE:
            position = _description(whole, position, size)
        else:
            position = _expected(whole, position, size, COMPLETED[code])
        if position < 0:
            return False
    return position == size - READY_BYTES and whole[position] == READY_FOR_QUERY


COMPLETED: Final = {PARSE: PARSE_COMPLETE, BIND: BIND_COMPLETE, CLOSE: CLOSE_COMPLETE}


def _expected(whole: bytes, position: int, size: int, code: int) -> int:
    """Where the message ends that is to begin here; -1 where it is another."""
    if position < 0 or position + COMPLETE_BYTES > size or whole[position] != code:
        return -1
    return _behind(whole, position)


def _description(whole: bytes, position: int, size: int) -> int:
    described = _expected(whole, position, size, ROW_DESCRIPTION)
    return described if described >= 0 else _expected(whole, position, size, NO_DATA)
