"""What the clients of a drill's load were told: each commit they asked for, each failure, each read that looked old.

Times are a Clock's: seconds since the epoch that never go back.
"""

from enum import Enum
from typing import Final

import msgspec

from middleware.sqlstate import STATEMENT_COMPLETION_UNKNOWN, TRANSACTION_RESOLUTION_UNKNOWN

RECORDS_MAX: Final = 2_000_000
"""Attempts and reads that are kept. A drill of an hour stays below."""


class Outcome(Enum):
    """What a client knows of a commit that it asked for."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    """It was told that it did not happen."""
    UNKNOWN = "unknown"
    """It was told that nobody knows, or was told nothing."""


class Attempt(msgspec.Struct, frozen=True):
    """A row that a client meant to commit. Its number is never used again."""

    writer: int
    number: int
    way: str
    begun_at: float
    ended_at: float
    outcome: Outcome
    sqlstate: str = ""
    step: str = ""
    """The statement that failed."""
    message: str = ""

    @property
    def key(self) -> tuple[int, int]:
        return self.writer, self.number


class Failure(msgspec.Struct, frozen=True):
    """A statement that did not succeed, or a connection that could not be had."""

    at: float
    client: str
    doing: str
    """`write`, `read` or `connect`."""
    sqlstate: str
    """`` where the connection broke without a word."""
    message: str
    unknown: bool = False
    """Whether it was carried out is not known."""
    disconnected: bool = False
    """The connection was lost with it."""


class Suspect(msgspec.Struct, frozen=True):
    """A read that did not find a row which its session had written or seen. It was stale if that row was not lost."""

    at: float
    client: str
    node: str
    kind: str
    """`own`: the session had the row's commit acknowledged; `seen`: it had read it before."""
    writer: int
    number: int
    found: int
    """The highest number of that writer that it found; 0 for none."""


class Served(msgspec.Struct, frozen=True):
    """A statement that succeeded."""

    at: float
    took_s: float


class Books:
    """What all clients of one load were told."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.reads: list[Served] = []
        self.failures: list[Failure] = []
        self.suspects: list[Suspect] = []
        self.by_node: dict[str, int] = {}
        """Reads by who served them."""
        self.retries = 0
        """Statements that were tried again behind a failure."""
        self.full = False
        """RECORDS_MAX is reached: the load has stopped."""

    def attempted(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self.full = self.full or len(self.attempts) >= RECORDS_MAX

    def read(self, served: Served, node: str) -> None:
        self.reads.append(served)
        self.by_node[node] = self.by_node.get(node, 0) + 1
        self.full = self.full or len(self.reads) >= RECORDS_MAX

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)

    def acknowledged(self) -> list[Attempt]:
        """In the order in which they were."""
        told = [attempt for attempt in self.attempts if attempt.outcome is Outcome.ACKNOWLEDGED]
        return sorted(told, key=lambda attempt: attempt.ended_at)


_UNSURE: Final = (TRANSACTION_RESOLUTION_UNKNOWN, STATEMENT_COMPLETION_UNKNOWN)
"""transaction_resolution_unknown and statement_completion_unknown: what says by its name that nobody knows."""


def outcome_of(sqlstate: str, commits: bool) -> Outcome:
    """What is known of a commit after an error: `commits` if the statement was one that commits, and not one before it.

    `sqlstate` is "" where the connection broke, or the answer did not come in time. All others are taken at their word,
    08006 and 57P01 too: Pointsman promises that nothing was committed then (docs/failover.md).
    """
    return Outcome.UNKNOWN if commits and (not sqlstate or sqlstate in _UNSURE) else Outcome.FAILED
