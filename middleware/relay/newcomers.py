"""Connections that have not logged in yet: who may stay when there are too many of them.

They cost nothing to make, and anybody can. So none is refused: where there are max_client_logins of them, the one that
has been silent for longest makes room, or where all have said something, the one that came first. Whoever means to log
in, or to cancel something, says so at once. Those that have proved who they are, and wait for what they must be told,
are clients, and count for max_client_conn.
"""

from typing import Final, Protocol

import structlog

log: Final = structlog.get_logger("client")

TELL_S: Final = 1.0
"""How often the log is told that there are too many, at most."""


class Newcomer(Protocol):
    """What is needed of one."""

    deadline: float

    def late(self) -> None:
        """Its deadline has passed."""

    def make_room(self) -> None:
        """Go: others want to come in."""

    def terminate(self) -> None:
        """Go now, and say why."""


class Newcomers:
    """Those of one worker."""

    __slots__ = ("_max", "_proved", "_silent", "_speaking", "_told_at", "_turned_away")

    def __init__(self, count_max: int) -> None:
        self._max = count_max
        self._silent: Final[dict[Newcomer, None]] = {}
        """Nothing has come from them. All of these are in the order they came."""
        self._speaking: Final[dict[Newcomer, None]] = {}
        self._proved: Final[dict[Newcomer, None]] = {}
        self._turned_away = 0
        self._told_at = float("-inf")

    def __len__(self) -> int:
        return len(self._silent) + len(self._speaking) + len(self._proved)

    def use(self, count_max: int) -> None:
        """So many may there be from now on; who has come may stay until others come."""
        self._max = count_max

    def come(self, one: Newcomer) -> None:
        """One has connected."""
        if len(self._silent) + len(self._speaking) >= self._max:
            first = next(iter(self._silent or self._speaking))
            self.leave(first)
            self._turned_away += 1
            first.make_room()
        self._silent[one] = None

    def spoke(self, one: Newcomer) -> None:
        """It has sent something."""
        if one in self._silent:
            del self._silent[one]
            self._speaking[one] = None

    def prove(self, one: Newcomer) -> None:
        """It is who it says."""
        self.leave(one)
        self._proved[one] = None

    def leave(self, one: Newcomer) -> None:
        """It is logged in, or gone. Safe to call again."""
        self._silent.pop(one, None)
        self._speaking.pop(one, None)
        self._proved.pop(one, None)

    def everybody(self) -> list[Newcomer]:
        """All of them."""
        return [*self._silent, *self._speaking, *self._proved]

    def tick(self, now: float) -> None:
        """Keep their deadlines; called a few times a second."""
        for one in self.everybody():
            if one.deadline <= now:
                one.late()
        if self._turned_away and now - self._told_at >= TELL_S:
            log.warning(
                "too many connections that have not logged in: those that were silent for longest were closed",
                max_client_logins=self._max,
                closed=self._turned_away,
            )
            self._turned_away = 0
            self._told_at = now
