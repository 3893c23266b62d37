"""How many servers a pool may open: its own size, and the limits of its database and its user on its node.

All are over all workers (see ledger.py). A pool that may not open one for a client that waits *starves*: idle servers
that stand in its way are closed, here and by the other workers, who are told; one that has none idle gives up the next
that comes back, if it has more than its share. So does, here, the pool under the same limit that has the most. When a
server has gone, those who starve are the first to try again, and those with the fewest servers the first of them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from middleware.config import PoolPolicy, WorkerSettings
from middleware.pool.ledger import Ledger, Limit, key_of

if TYPE_CHECKING:
    from middleware.pool.pool import Pool

WantedReport = Callable[[bytes], None]
"""Told the key of a limit that keeps a pool of this worker from opening a server."""

FreedReport = Callable[[], None]
"""Told that a server was closed for another worker's sake."""

KEPT: Final = -1.0
"""A promise whose place is not free yet."""
PROMISE_S: Final = 0.5
"""How long another worker has to take a place that was given up for it; ticks are a quarter of a second."""
ASK_AGAIN_S: Final = 0.05
"""How often one pool asks the other workers for servers."""
PATIENCE_S: Final = 0.25
"""A pool without a server that has waited for so long gets another's last one: where a limit is less than the number of
pools, they take turns, and turns cost logins."""


class ServerLimits:
    """Those of one worker's pools."""

    __slots__ = ("_by_key", "_freed", "_ledger", "_promised", "_settings", "_starving", "_wanted")

    def __init__(self, ledger: Ledger, settings: WorkerSettings, wanted: WantedReport, freed: FreedReport) -> None:
        self._ledger: Final = ledger
        self._settings = settings
        self._wanted: Final = wanted
        self._freed: Final = freed
        self._by_key: Final[dict[bytes, list[Pool]]] = {}
        self._starving: dict[Pool, float] = {}
        """Pools that may not open a server they need, and when they last asked the other workers for one."""
        self._promised: Final[dict[bytes, float]] = {}
        """Limits under which another worker is to have the next place: until when that is kept free, once it is."""

    def use(self, settings: WorkerSettings) -> None:
        """By these from now on."""
        self._settings = settings

    def of(self, node: str, database: bytes, user: bytes, policy: PoolPolicy, size: int) -> list[Limit]:
        """The limits of a pool that may have `size` servers."""
        name = node.encode()
        limits = [(key_of(b"pool", name, database, user, policy.name.encode()), size)]
        for kind, part, limit in (
            (b"database", database, policy.max_db_connections),
            (b"user", user, policy.max_user_connections),
        ):
            limits.append((key_of(kind, name, part), limit))
        return limits

    def for_admins(self, limits: list[Limit]) -> list[Limit]:
        """The same for a client that is one of admin_users: it may have some beyond each of them."""
        more = self._settings.admin_reserved_conn
        return [(key, limit + more if limit else 0) for key, limit in limits]

    def exceeded(self, limits: list[Limit]) -> bool:
        """Whether there are more than others than administrators may have, but for those of ours that are closing."""
        for key, limit in limits:
            if limit:
                left = self._ledger.total(key)
                for pool in self._by_key.get(key, []):
                    left -= pool.plan.closing
                if left > limit:
                    return True
        return False

    def join(self, pool: "Pool") -> None:
        """There is a new pool."""
        for key, _ in pool.limits:
            self._by_key.setdefault(key, []).append(pool)

    def leave(self, pool: "Pool") -> None:
        """It will open no more."""
        self._starving.pop(pool, None)
        for key, _ in pool.limits:
            others = self._by_key.get(key, [])
            if pool in others:
                others.remove(pool)
            if not others:
                self._by_key.pop(key, None)

    def total(self, pool: "Pool") -> int:
        """How many servers the pool has, over all workers."""
        return self._ledger.total(pool.limits[0][0])

    def take(self, pool: "Pool", limits: list[Limit], now: float) -> bool:
        """Count one more server of a pool; False where a limit forbids it."""
        in_the_way = self._promised_to_others(limits, now) if self._promised else -1
        if in_the_way < 0:
            in_the_way = self._ledger.take(limits)
        if in_the_way < 0:
            self._starving.pop(pool, None)
            return True
        key = limits[in_the_way][0]
        asked = self._starving.setdefault(pool, 0.0)
        # Not of its own: if it had one idle it would need none.
        if in_the_way > 0 and (self._close_an_idle_one(key) or self._share_out(pool, key, now)):
            return False
        if self._ledger.columns() > 1 and now - asked >= ASK_AGAIN_S:
            self._starving[pool] = now
            self._wanted(key)
        return False

    def give(self, pool: "Pool", limits: list[Limit], now: float) -> None:
        """A server that take() has counted is gone: its place is free for who starves."""
        self._ledger.give(limits)
        self.try_again(now)

    def try_again(self, now: float) -> None:
        """There may be room: those with the fewest servers first, and of them those who have starved longest."""
        for pool in sorted(self._starving, key=_size):
            if not pool.plan.openings(now):
                del self._starving[pool]
            else:
                pool.open_what_is_needed(now)

    def freed_elsewhere(self, now: float) -> None:
        """Another worker has given a server up: it has had what was promised to it, or does not want it any more."""
        self._promised.clear()
        self.try_again(now)

    def give_way(self, key: bytes) -> None:
        """Another worker wants a server, and the limit of this key is reached."""
        if self._close_an_idle_one(key):
            self._promised[key] = KEPT
            return
        pool = self._richest(key)
        if pool is None:
            return
        limit = next(limit for own, limit in pool.limits if own == key)
        if self._ledger.mine(key) - self._owed(key) > limit // self._ledger.columns():
            pool.plan.owed += 1
            self._promised[key] = KEPT

    def yielded(self, pool: "Pool", now: float) -> None:
        """A server that another worker, or another pool, wants is gone."""
        for key, _ in pool.limits:
            if key in self._promised:
                # Whoever gave it up has clients that wait, and would be the first to take it.
                self._promised[key] = now + PROMISE_S
        self._freed()

    def _promised_to_others(self, limits: list[Limit], now: float) -> int:
        """The limit under which the next place is another worker's, or -1."""
        for index, (key, _) in enumerate(limits):
            until = self._promised.get(key, KEPT)
            if until <= now and until != KEPT:
                del self._promised[key]
            elif until != KEPT:
                return index
        return -1

    def _share_out(self, pool: "Pool", key: bytes, now: float) -> bool:
        """Have the pool with the most servers under a limit give one up for `pool`; whether one will be given up."""
        richest = self._richest(key)
        waiting = pool.plan.waiting
        if richest is None or richest is pool or not waiting:
            return False
        if self._owed(key):
            return True
        servers = pool.plan.size()
        may_last = not servers and now - waiting[0].since >= PATIENCE_S
        if richest.plan.size() > servers + 1 or may_last:
            richest.plan.owed += 1
            return True
        return False

    def _richest(self, key: bytes) -> "Pool | None":
        """Of the pools that a limit is over, the one with the most servers that is bound to get one back."""
        found: Pool | None = None
        for pool in self._by_key.get(key, []):
            if len(pool.plan.lent) > pool.plan.owed and (found is None or pool.plan.size() > found.plan.size()):
                found = pool
        return found

    def _owed(self, key: bytes) -> int:
        """How many servers are to be given up under a limit."""
        return sum([pool.plan.owed for pool in self._by_key.get(key, [])])

    def _close_an_idle_one(self, key: bytes) -> bool:
        """Close the server that has been idle for longest, of the pools that a limit is over."""
        oldest: Pool | None = None
        for pool in self._by_key.get(key, []):
            idle = pool.plan.idle
            if idle and (oldest is None or idle[0][1] < oldest.plan.idle[0][1]):
                oldest = pool
        if oldest is None:
            return False
        oldest.close_oldest()
        return True


def _size(pool: "Pool") -> int:
    return pool.plan.size()
