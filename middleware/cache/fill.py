"""A read whose answer may be kept: what was true when it was sent, and the answer as it comes.

It is *planned* when the cache has no answer, *begun* when it is sent to a server, and *ended* by its ReadyForQuery, or
by whatever comes in between. Other clients that ask the same meanwhile may wait for it (single flight), and are told
when it has ended, however it has.
"""

from collections.abc import Callable
from typing import Final, Protocol

from middleware.cache.counts import DigestCounts
from middleware.cache.request import Key
from middleware.config import ClientPolicy

NOT_BEGUN: Final = -1


class Passenger(Protocol):
    """A client that waits for another's read."""

    limits: ClientPolicy

    def landed(self) -> None:
        """It has ended: there may be an answer now."""


class Fill:
    """One read."""

    __slots__ = (
        "asked_version",
        "bytes_max",
        "catalog",
        "digest",
        "ended",
        "fresh",
        "key",
        "leader",
        "leads",
        "pattern",
        "pieces",
        "sent",
        "serial",
        "shared_key",
        "size",
        "slots",
        "timeline",
        "ttl_s",
        "version",
        "waiting",
    )

    def __init__(
        self,
        key: Key,
        pattern: bytes,
        slots: tuple[int, ...],
        catalog: int,
        digest: DigestCounts,
        ttl_s: float,
        bytes_max: int,
        leads: bool,
        serial: int,
    ) -> None:
        self.key: Final = key
        self.pattern: Final = pattern
        self.slots: Final = slots
        self.catalog: Final = catalog
        self.digest: Final = digest
        self.ttl_s: Final = ttl_s
        self.bytes_max: Final = bytes_max
        self.leads: Final = leads
        """Others with the same question may wait for it."""
        self.serial: Final = serial
        """Of the cache's switches, when it was planned."""
        self.shared_key = b""
        """Under which key other instances may have the answer; b"" where it is not shared."""
        self.timeline = 0
        """The cluster's, that this is about."""
        self.asked_version = NOT_BEGUN
        """Of its slots, before others were asked for it."""
        self.leader: Passenger | None = None
        """The client that has planned it, and waits for what others have."""
        self.waiting: dict[Passenger, float] = {}
        """They, and since when."""
        self.version = NOT_BEGUN
        self.sent = 0.0
        self.fresh = 0.0
        """The server that was asked has all that was committed before."""
        self.pieces: list[bytes] = []
        self.size = 0
        self.ended = False

    def take(self, piece: bytes) -> None:
        """A part of the answer has been passed on."""
        self.size += len(piece)
        if self.size <= self.bytes_max:
            self.pieces.append(piece)
        elif self.pieces:
            self.pieces = []

    def too_large(self) -> bool:
        return self.size > self.bytes_max


CallSoon = Callable[[Callable[[], None]], object]
