"""Who gets which server: the decisions of a pool, without its connections.

A server is idle, lent, on its way (being opened, checked or reset), or closing. A client that finds none idle waits,
first come first served; a server is opened for it while the pool is below its size and no other opening will serve it.
Once the first has waited for long, the pool's reserve counts too. Administrators are served first, and for them servers
are opened beyond the size, which are closed when they are done. The last server given back is the first lent again,
so that in quiet times the others grow idle and can be closed.

Sizes hold over all workers: whether one more may be opened is also asked of the ledger, by the caller.
"""

from collections import deque
from typing import Final, Generic, TypeVar

S = TypeVar("S")
C = TypeVar("C")

BACK_OFF_MAX: Final = 15
"""Openings that go on failing are tried again after at most so many times the first delay."""


class Clock:
    """The time as of the last tick: fine enough for timeouts of seconds, and free to read for every message."""

    __slots__ = ("now",)

    def __init__(self, now: float) -> None:
        self.now = now


class Waiter(Generic[C]):
    """A client in the queue."""

    __slots__ = ("admin", "client", "deadline", "notify_at", "since")

    def __init__(self, client: C, since: float, deadline: float, notify_at: float, admin: bool = False) -> None:
        self.client: Final = client
        self.admin: Final = admin
        self.since: Final = since
        self.deadline: Final = deadline
        """When it gives up."""
        self.notify_at = notify_at
        """When it is told that it waits; 0 for never, or when it was told."""


class Plan(Generic[S, C]):
    """The state of one pool of servers S for clients C. Times are seconds of one clock, passed in."""

    __slots__ = (
        "_failures",
        "admin_size",
        "closed",
        "closing",
        "failing_until",
        "idle",
        "lent",
        "on_the_way",
        "over",
        "owed",
        "paused",
        "reserve_size",
        "reserve_timeout_s",
        "size_max",
        "waiting",
    )

    def __init__(
        self, size_max: int, reserve_size: int = 0, reserve_timeout_s: float = 0.0, admin_size: int = 0
    ) -> None:
        self.admin_size = admin_size
        """Servers beyond all others, for administrators."""
        self.size_max = size_max
        self.reserve_size = reserve_size
        self.reserve_timeout_s = reserve_timeout_s
        self.idle: list[tuple[S, float]] = []
        """Servers to lend, the one to lend next at the end, each with the time since when it is idle."""
        self.lent: set[S] = set()
        self.on_the_way = 0
        self.closing = 0
        """Servers that were told to go, and whose node has not closed them yet."""
        self.waiting: deque[Waiter[C]] = deque()
        """Clients in the order they came."""
        self.failing_until = 0.0
        """No opening before this time: the last one failed."""
        self.closed = False
        self.paused = False
        """None is opened, and none kept that comes back; who waits goes on waiting."""
        self.owed = 0
        """Servers that other workers are to have instead, as soon as they are given back."""
        self.over = False
        """There may be servers beyond what others than administrators may have."""
        self._failures = 0

    def use(self, size_max: int, reserve_size: int, reserve_timeout_s: float, admin_size: int) -> None:
        """By these from now on; what there is beyond them is for the pool to close."""
        self.size_max, self.reserve_size, self.admin_size = size_max, reserve_size, admin_size
        self.reserve_timeout_s = reserve_timeout_s

    def size(self) -> int:
        return len(self.idle) + len(self.lent) + self.on_the_way + self.closing

    def take(self) -> tuple[S, float] | None:
        """Take the server to lend now, with the time since when it was idle; None when the client must wait."""
        if not self.idle or self.waiting:
            return None
        return self.idle.pop()

    def limit(self, now: float) -> int:
        """How many servers there may be now."""
        if self.reserve_size and self.waiting and now - self.waiting[0].since >= self.reserve_timeout_s:
            return self.size_max + self.reserve_size
        return self.size_max

    def openings(self, now: float) -> int:
        """How many servers to begin opening now."""
        if self.closed or self.paused or now < self.failing_until:
            return 0
        size = self.size()
        count = min(len(self.waiting) - self.on_the_way, self.limit(now) - size)
        if self.waiting and self.waiting[0].admin:
            most = self.size_max + self.reserve_size + self.admin_size
            count = max(count, min(self._admins() - self.on_the_way, most - size))
        return max(0, count)

    def for_an_admin(self) -> bool:
        """Whether the next opening is for an administrator."""
        return bool(self.waiting) and self.waiting[0].admin and self._admins() > self.on_the_way

    def _admins(self) -> int:
        """How many of those who wait are administrators."""
        count = 0
        for waiter in self.waiting:
            if not waiter.admin:
                break
            count += 1
        return count

    def wait(self, waiter: Waiter[C]) -> None:
        """Put one into the queue: an administrator behind the others of its kind, everybody else at the end."""
        if waiter.admin:
            self.waiting.insert(self._admins(), waiter)
        else:
            self.waiting.append(waiter)

    def opening_failed(self, now: float, retry_s: float) -> None:
        """An opening has failed: none for a while, longer each time."""
        self._failures += 1
        self.failing_until = now + retry_s * min(2 ** min(self._failures - 1, 10), BACK_OFF_MAX)

    def opening_succeeded(self) -> None:
        """An opening has succeeded."""
        self._failures = 0
        self.failing_until = 0.0

    def may_open(self) -> None:
        """What kept the last opening from succeeding may be over."""
        self.failing_until = 0.0

    def next_client(self) -> C | None:
        """The client that has waited longest, no longer waiting."""
        return self.waiting.popleft().client if self.waiting else None

    def give_up(self, client: C) -> bool:
        """Take a client out of the queue; False if it was not in it."""
        for waiter in self.waiting:
            if waiter.client is client:
                self.waiting.remove(waiter)
                return True
        return False

    def overdue(self, now: float) -> list[C]:
        """The clients that have waited too long, no longer waiting."""
        late = [waiter for waiter in self.waiting if waiter.deadline <= now]
        for waiter in late:
            self.waiting.remove(waiter)
        return [waiter.client for waiter in late]

    def to_notify(self, now: float) -> list[C]:
        """The clients that are to be told that they wait: each once."""
        found: list[C] = []
        for waiter in self.waiting:
            if waiter.notify_at and waiter.notify_at <= now:
                waiter.notify_at = 0.0
                found.append(waiter.client)
        return found

    def stale(self, now: float, idle_timeout_s: float, count_max: int) -> list[S]:
        """The servers idle for too long, at most `count_max` of them, no longer in the pool."""
        keep: list[tuple[S, float]] = []
        found: list[S] = []
        for entry in self.idle:
            if len(found) < count_max and now - entry[1] >= idle_timeout_s:
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
