"""What a client's transaction may have changed, and what all workers are told of that, and when.

    sent: a statement that may write        its tables are noted
    sent: what may commit                   a commit of what is noted begins
    answered: ReadyForQuery, no transaction what has begun has changed, and ends; what has not was rolled back
    lost                                    what has begun has changed, and is in doubt for a while if no answer came

What a statement may change is known by the catalog that its worker has when it is sent. If the catalog changes before
the commit, by whomever, the statement may have run under another one, and have changed anything of its database.

See docs/decisions/0013. Kept only while answers are cached somewhere.
"""

from collections.abc import Iterable
from typing import Final

from middleware.cache.versions import DOUBT_S, Versions


class Writes:
    """One client's, since it has its server."""

    __slots__ = ("_begun", "_database", "_slots", "_versions", "_was")

    def __init__(self, versions: Versions, database: int) -> None:
        """`database` is the slot of all that its database holds, which changes with the catalog."""
        self._versions: Final = versions
        self._database: Final = database
        self._was: Final = versions.version((database,))
        self._slots: Final[set[int]] = set()
        self._begun: Final[set[int]] = set()

    def note(self, slots: Iterable[int]) -> None:
        """It is about to be sent what may change these."""
        self._slots.update(slots)

    def commit(self) -> None:
        """It is about to be sent what may commit all that."""
        versions, database = self._versions, self._database
        if versions.version((database,)) != self._was or versions.busy(database):
            self._slots.add(database)
        new = self._slots - self._begun
        if new:
            self._versions.begin(new)
            self._begun.update(new)

    def answered(self, now: float, due: bool) -> bool:
        """No transaction is open, and the client is about to hear of it; whether anything is left to be told.

        `due`: more answers are.
        """
        if self._begun:
            self._versions.change(self._begun, now)
        if due:
            return True
        if self._begun:
            self._versions.end(self._begun)
        return False

    def lost(self, now: float, busy: bool) -> None:
        """Its server is gone: what had begun may have happened, or, if that was `busy`, may still."""
        if self._begun:
            if busy:
                self._versions.doubt(self._begun, now + DOUBT_S)
            self._versions.change(self._begun, now)
            self._versions.end(self._begun)
