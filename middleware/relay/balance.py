"""Which node serves the next read: tiers, weights and turns. Runs for every read.

In: the pools of one database and user under one topology, the policy of its clients, the nodes' weights and zones; and
for each read, as of when it needs a node to be fresh. Out: a pool, or None where no standby may serve. What None means,
the primary or waiting, is the caller's.

*Readers* are the standbys, and the primary too where the policy has it read always; none of weight 0. They stand in
tiers: those the policy prefers, those in our own zone, the rest. The first tier that has an eligible reader serves.

*Turns* within a tier are smooth weighted round robin: at each choice the weight of every candidate is added to its
credit, the highest credit wins and pays the sum of what was added. Credits change among candidates alone, so a reader
that was away comes back with the credit it left with: it gets its share, not what it missed.

The primary is fresh as of any moment. Yet a client that reads in one go is not moved to it: it would have seen what no
standby has shown to have, could not go back while it reads on, and one by one all busy clients would end up there.
"""

from collections.abc import Callable
from typing import Final

from middleware.config import RoutePolicy, WorkerSettings
from middleware.pool.pool import Pool
from middleware.relay.freshness import NEVER, Marks


class Tier:
    """Readers that are equally welcome."""

    __slots__ = ("_alike", "_balance", "_credits", "_draw", "_pools", "_primary", "_turn", "_weights")

    def __init__(
        self, pools: list[Pool], weights: list[int], primary: Pool | None, balance: str, draw: Callable[[], float]
    ) -> None:
        self._pools: Final = pools
        self._weights: Final = weights
        self._primary: Final = primary
        self._balance: Final = balance
        self._draw: Final = draw
        self._credits: Final = [0] * len(pools)
        self._alike: Final = balance == "least_outstanding" and len(set(weights)) == 1 and primary not in pools
        self._turn = 0

    def choose(self, need: float, seen: float, last: Pool | None) -> Pool | None:
        """The reader for a read that needs one fresh as of `need`, and as of `seen` unless it is `last`."""
        if self._alike:
            return self._least_outstanding(need, seen, last)
        found = self._eligible(need, seen, last)
        if not found:
            return None
        if self._balance == "random":
            return self._pools[self._drawn(found)]
        if self._balance == "least_outstanding":
            found = self._least_busy(found)
        return self._pools[found[0] if len(found) == 1 else self._next_turn(found)]

    def _least_outstanding(self, need: float, seen: float, last: Pool | None) -> Pool | None:
        """The commonest case, without a list or a product: equal weights; who has as few to do takes turns."""
        best: Pool | None = None
        fewest = 0
        count = len(self._pools)
        index = turn = self._turn
        for _ in range(count):
            pool = self._pools[index]
            index = index + 1 if index + 1 < count else 0
            fresh = pool.state.fresh_as_of
            if fresh < need or (fresh < seen and pool is not last):
                continue
            plan = pool.plan
            if plan.failing_until and pool.failing():
                continue
            outstanding = len(plan.lent) + len(plan.waiting)
            if best is None or outstanding < fewest:
                best = pool
                fewest = outstanding
                turn = index
        self._turn = turn
        return best

    def _eligible(self, need: float, seen: float, last: Pool | None) -> list[int]:
        found: list[int] = []
        for index, pool in enumerate(self._pools):
            if pool is not self._primary:
                may = may_serve(pool, need, seen, last)
            else:
                may = not pool.failing() and (last is None or last.state.fresh_as_of >= seen)
            if may:
                found.append(index)
        return found

    def _least_busy(self, candidates: list[int]) -> list[int]:
        """Those with the fewest servers lent or waited for, in proportion to their weights."""
        least: list[int] = []
        fewest = weight = 0
        for index in candidates:
            plan = self._pools[index].plan
            outstanding = len(plan.lent) + len(plan.waiting)
            here, there = outstanding * weight, fewest * self._weights[index]
            if not least or here < there:
                least = [index]
                fewest, weight = outstanding, self._weights[index]
            elif here == there:
                least.append(index)
        return least

    def _next_turn(self, candidates: list[int]) -> int:
        total = 0
        best = -1
        for index in candidates:
            total += self._weights[index]
            self._credits[index] += self._weights[index]
            if best < 0 or self._credits[index] > self._credits[best]:
                best = index
        self._credits[best] -= total
        return best

    def _drawn(self, candidates: list[int]) -> int:
        total = 0
        for index in candidates:
            total += self._weights[index]
        point = self._draw() * total
        for index in candidates:
            point -= self._weights[index]
            if point < 0:
                return index
        return candidates[-1]


class Route:
    """Where the clients of one database, user and policy go, under one topology."""

    __slots__ = (
        "_affinity",
        "_all",
        "_readers",
        "_standby_tiers",
        "_tiers",
        "paused",
        "primary",
        "standbys",
        "version",
    )

    def __init__(
        self,
        version: int,
        primary: Pool | None,
        standbys: tuple[Pool, ...],
        policy: RoutePolicy,
        settings: WorkerSettings,
        draw: Callable[[], float],
    ) -> None:
        """`draw()` gives a random number from 0 to 1, 1 excluded."""
        self.version = version
        self.paused = False
        """It leads nowhere as long as its clients' database is paused."""
        self.primary: Final = primary
        self._all: Final = standbys if primary is None else (primary, *standbys)
        self.standbys: Final = _reading(standbys, settings)
        """Those that take reads."""
        self._affinity: Final = policy.session_affinity
        with_primary = (
            (primary, *standbys) if primary is not None and policy.read_from_primary == "always" else standbys
        )
        self._readers: Final = _reading(with_primary, settings)
        self._tiers: Final = _tiers(self._readers, primary, policy, settings, draw)
        self._standby_tiers: Final = _tiers(self.standbys, primary, policy, settings, draw)

    def pools(self) -> tuple[Pool, ...]:
        """All pools it leads to, or would."""
        return self._all

    def reader(self, need: float, seen: float, marks: Marks) -> Pool | None:
        """Who serves a read that needs a node fresh as of `need`, and as of `seen` unless it served the read before.

        None where no standby may, even if the primary is a reader.
        """
        last = marks.last
        if self._affinity:
            kept = marks.kept
            if kept is not None and self._may_keep(kept, need, seen, last):
                return kept
        chosen: Pool | None = None
        for tier in self._tiers:
            chosen = tier.choose(need, seen, last)
            if chosen is not None:
                break
        if chosen is not None and chosen is self.primary and not self._standby_may(need, seen, last):
            return None
        if self._affinity and chosen is not None:
            marks.kept = chosen
        return chosen

    def standby(self, marks: Marks) -> Pool | None:
        """A standby for a client that has asked for one, however far behind it is."""
        kept = marks.kept
        if self._affinity and kept is not None and kept in self.standbys and not kept.failing():
            return kept
        for tier in self._standby_tiers:
            chosen = tier.choose(NEVER, NEVER, None)
            if chosen is not None:
                if self._affinity:
                    marks.kept = chosen
                return chosen
        return None

    def _may_keep(self, kept: Pool, need: float, seen: float, last: Pool | None) -> bool:
        return kept in self._readers and (kept is self.primary or may_serve(kept, need, seen, last))

    def _standby_may(self, need: float, seen: float, last: Pool | None) -> bool:
        for pool in self.standbys:  # noqa: SIM110 - mypyc makes a plain loop of it
            if may_serve(pool, need, seen, last):
                return True
        return False


def may_serve(pool: Pool, need: float, seen: float, last: Pool | None) -> bool:
    """Whether a standby is fresh as of `need`, and of `seen` unless it is `last`; and can be connected to."""
    fresh = pool.state.fresh_as_of
    return fresh >= need and (fresh >= seen or pool is last) and not pool.failing()


def _reading(pools: tuple[Pool, ...], settings: WorkerSettings) -> tuple[Pool, ...]:
    return tuple([pool for pool in pools if settings.share_of(pool.node).weight > 0])


def _tiers(
    readers: tuple[Pool, ...],
    primary: Pool | None,
    policy: RoutePolicy,
    settings: WorkerSettings,
    draw: Callable[[], float],
) -> list[Tier]:
    ranks: list[list[Pool]] = [[], [], []]
    for pool in readers:
        if pool.node in policy.prefer:
            rank = 0
        elif settings.zone and settings.share_of(pool.node).zone == settings.zone:
            rank = 1
        else:
            rank = 2
        ranks[rank].append(pool)
    return [
        Tier(pools, [settings.share_of(pool.node).weight for pool in pools], primary, policy.balance, draw)
        for pools in ranks
        if pools
    ]
