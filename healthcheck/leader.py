"""Who may act on the nodes, where several Pointsmans might: what a guard asks, and the answers of one that is alone.

leadership.py has those of one among several.
"""

import math
from typing import Protocol

import msgspec


class Begun(msgspec.Struct, frozen=True):
    """A failover that has come as far as its promotion."""

    failed: str
    """The primary that was."""
    timeline: int
    """Its timeline: with a primary on a higher one it is over; 0 where that is not known."""
    node: str
    """Who is told to be the primary, or was, or is about to be."""


class Leader(Protocol):
    """Says whether this Pointsman may act, and keeps what has begun for whoever may act next."""

    def hindered(self) -> str:
        """Why it may not act, for people; "" if it may."""

    def left_s(self) -> float:
        """For how long from now it may at least; 0 if it may not."""

    def begun(self) -> Begun | None:
        """What has begun and not ended."""

    async def begin(self, begun: Begun) -> None:
        """Put it down. Raises ProbeError where this one may not act."""

    async def finish(self) -> None:
        """It has ended. Raises ProbeError."""


class Alone:
    """The Leader of a Pointsman beside which there is no other."""

    def __init__(self) -> None:
        self._begun: Begun | None = None

    def hindered(self) -> str:
        return ""

    def left_s(self) -> float:
        return math.inf

    def begun(self) -> Begun | None:
        return self._begun

    async def begin(self, begun: Begun) -> None:
        self._begun = begun

    async def finish(self) -> None:
        self._begun = None
