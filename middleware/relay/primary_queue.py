"""Clients that hold work for a primary while there is none, or none that takes connections.

So it is from the moment that a primary dies until another one, or the same, is there. Work that has not been sent
loses nothing by waiting: whoever holds some stands here, in the order they came, for query_wait_timeout at most, and is
called when there are other nodes, and a few times a second where what it saw of one may be over.

As long as no primary was ever seen there is nothing to wait for but an operator: that is said at once.

Clients of a database that is paused stand here, too: for the operator who resumes it.
"""

from typing import Final, Protocol

from healthcheck.topology import Topology
from middleware.config import ClientPolicy
from middleware.errors import NoNode, PointsmanError
from middleware.pool.plan import Clock
from middleware.session.server import LAST_WORDS
from middleware.sqlstate import CONNECTION_FAILURE

AWAY: Final = frozenset({CONNECTION_FAILURE, *(code.decode() for code in LAST_WORDS)})
"""The SQLSTATEs that say that a node is not there, or not yet, or no longer."""


def passes(error: PointsmanError) -> bool:
    """Whether what has kept a server from being opened may pass by itself; a wrong password does not."""
    return error.sqlstate in AWAY


class Seeker(Protocol):
    """Who holds work for a primary."""

    limits: ClientPolicy
    waiting_since: float

    def still_waiting(self, what: str) -> None:
        """It has waited for long: for what, in words."""

    def may_find(self) -> bool:
        """Whether it would not be here again at once."""

    def seek(self) -> None:
        """Try again. It no longer stands here."""

    def found_none(self, error: PointsmanError) -> None:
        """Its time is over. It no longer stands here."""


class _Place:
    """A seeker's."""

    __slots__ = ("paused", "told", "why")

    def __init__(self) -> None:
        self.paused = False
        """It waits for its database to be resumed."""
        self.told = False
        """It was told that it waits."""
        self.why = ""


class PrimaryQueue:
    """Those of one worker."""

    __slots__ = ("_clock", "_had_one", "_seekers")

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self._had_one = False
        """There has been a primary."""
        self._seekers: Final[dict[Seeker, _Place]] = {}

    def __len__(self) -> int:
        return len(self._seekers)

    def join(self, seeker: Seeker, error: PointsmanError | None) -> bool:
        """It waits for a primary, from now on or on and on; False where that is no use.

        `error`: why there was no server of the primary that there is.
        """
        if not self._had_one:
            return False
        place = self._place(seeker)
        place.paused = False
        place.why = "" if error is None else f"{error.message}. {error.detail}".rstrip()
        return True

    def pause(self, seeker: Seeker) -> None:
        """It waits for its database to be resumed."""
        place = self._place(seeker)
        place.paused = True
        place.why = ""

    def _place(self, seeker: Seeker) -> _Place:
        if not seeker.waiting_since:
            seeker.waiting_since = self._clock.now
        place = self._seekers.get(seeker)
        if place is None:
            place = self._seekers[seeker] = _Place()
        return place

    def leave(self, seeker: Seeker) -> bool:
        """It waits no more; False if it did not."""
        return self._seekers.pop(seeker, None) is not None

    def topology_changed(self, topology: Topology) -> None:
        """There are other nodes."""
        self._had_one = self._had_one or topology.timeline is not None
        self.look()

    def look(self) -> None:
        """Call those who would not be here again at once."""
        for seeker in list(self._seekers):
            if seeker.may_find() and self.leave(seeker):
                seeker.seek()

    def tick(self, now: float) -> None:
        """Keep their deadlines; called a few times a second."""
        for seeker, place in list(self._seekers.items()):
            waited_s = now - seeker.waiting_since
            limits = seeker.limits
            if waited_s >= limits.query_wait_s:
                if self.leave(seeker):
                    late = paused_too_long if place.paused else too_late
                    seeker.found_none(late(limits.query_wait_s, place.why))
            elif seeker.may_find():
                if self.leave(seeker):
                    seeker.seek()
            elif limits.query_wait_notify_s and waited_s >= limits.query_wait_notify_s and not place.told:
                place.told = True
                what = "the database to be resumed" if place.paused else "a primary"
                seeker.still_waiting(f"{what}: {place.why}" if place.why else what)


def too_late(waited_s: float, why: str) -> NoNode:
    """What a client hears whose time is over."""
    return NoNode(
        "no primary is available",
        detail=f"There was none that takes connections within {waited_s:g} s (query_wait_timeout). {why}".rstrip(),
        hint="Pointsman sees no node, or more than one, that takes writes; try again later.",
    )


def paused_too_long(waited_s: float, why: str) -> NoNode:
    """What a client hears whose database was paused for too long."""
    return NoNode(
        "the database is paused",
        detail=f"It was not resumed within {waited_s:g} s (query_wait_timeout). {why}".rstrip(),
        hint="An operator has paused it, and will resume it.",
    )
