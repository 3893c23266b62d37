"""Who gets which server: the decisions of a pool, without its connections.

A server is idle, lent, or on its way (being opened, checked or reset). A client that finds none idle waits, first
come first served; a server is opened for it while the pool is below its size and no other opening will serve it. The
last server given back is the first lent again, so that in quiet times the others grow idle and can be closed.
"""

from collections import deque
from typing import Final, Generic, TypeVar

S = TypeVar("S")
C = TypeVar("C")


class Clock:
    """The time as of the last tick: fine enough for timeouts of seconds, and free to read for every message."""

    __slots__ = ("now",)

    def __init__(self, now: float) -> None:
        self.now = now


class Plan(Generic[S, C]):
    """The state of one pool of servers S for clients C. Times are seconds of one clock, passed in."""

    __slots__ = ("closed", "failing_until", "idle", "lent", "on_the_way", "size_max", "waiting")

    def __init__(self, size_max: int) -> None:
        self.size_max: Final = size_max
        self.idle: list[tuple[S, float]] = []
        """Servers to lend, the one to lend next at the end, each with the time since when it is idle."""
        self.lent: set[S] = set()
        self.on_the_way = 0
        self.waiting: deque[tuple[C, float]] = deque()
        """Clients in the order they came, each with the time at which it gives up."""
        self.failing_until = 0.0
        """No opening before this time: the last one failed."""
        self.closed = False

    def size(self) -> int:
        return len(self.idle) + len(self.lent) + self.on_the_way

    def take(self) -> tuple[S, float] | None:
        """Take the server to lend now, with the time since when it was idle; None when the client must wait."""
        if not self.idle or self.waiting:
            return None
        return self.idle.pop()

    def openings(self, now: float) -> int:
        """How many servers to begin opening now."""
        if self.closed or now < self.failing_until:
            return 0
        return max(0, min(len(self.waiting) - self.on_the_way, self.size_max - self.size()))

    def next_client(self) -> C | None:
        """The client that has waited longest, no longer waiting."""
        return self.waiting.popleft()[0] if self.waiting else None

    def give_up(self, client: C) -> bool:
        """Take a client out of the queue; False if it was not in it."""
        for entry in self.waiting:
            if entry[0] is client:
                self.waiting.remove(entry)
                return True
        return False

    def overdue(self, now: float) -> list[C]:
        """The clients that have waited too long, no longer waiting. All wait equally long: the first is the oldest."""
        found: list[C] = []
        while self.waiting and self.waiting[0][1] <= now:
            found.append(self.waiting.popleft()[0])
        return found

    def stale(self, now: float, idle_timeout_s: float) -> list[S]:
        """The servers idle for too long, no longer in the pool."""
        keep: list[tuple[S, float]] = []
        found: list[S] = []
        for entry in self.idle:
            if now - entry[1] >= idle_timeout_s:
                found.append(entry[0])
            else:
                keep.append(entry)
        if found:
            self.idle = keep
        return found

    def forget(self, server: S) -> None:
        """A server has gone, whatever it was: idle or lent."""
        self.lent.discard(server)
        self.idle = [entry for entry in self.idle if entry[0] is not server]
