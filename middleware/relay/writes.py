"""What a client's transaction may have changed, and what all workers are told of that, and when.

    sent: a statement that may write        its tables are noted
    sent: what may commit                   a commit of what is noted begins
    answered: ReadyForQuery, no transaction what has begun has changed, and ends; what has not was rolled back
    lost                                    what has begun has changed, and is in doubt for a while if no answer came,
                                            or one that says that nobody knows

What a statement may change is known by the catalog that its worker has when it is sent. If the catalog changes before
the commit, by whomever, the statement may have run under another one, and have changed anything of its database.

See docs/decisions/0013. Kept only while answers are cached somewhere.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from middleware.cache.versions import DOUBT_S, Versions
from middleware.session.server import UNSURE
from parser.facts import StatementFacts

IN_ONE_STEP: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CopyStmt"})
"""Statements that commit nothing on their way, as CALL may, DO, and some DDL."""


def in_one_step(facts: StatementFacts) -> bool:
    """Whether nothing is left of it where it ends with an error outside a transaction."""
    if facts.parts:
        return all(part.kind in IN_ONE_STEP for part in facts.parts)
    return facts.kind in IN_ONE_STEP


class Writes:
    """One client's, since it has its server."""

    __slots__ = ("_begun", "_database", "_sent", "_slots", "_versions", "_was", "errors", "one_step", "one_string")

    def __init__(self, versions: Versions, database: int) -> None:
        """`database` is the slot of all that its database holds, which changes with the catalog."""
        self._versions: Final = versions
        self._database: Final = database
        self._was: Final = versions.version((database,))
        self._slots: Final[set[int]] = set()
        self._begun: Final[set[int]] = set()
        self.one_string = True
        """No more than one statement, or string of some, was sent since there was something to note."""
        self.one_step = True
        """And no more than one batch, that is carried out as a whole or not at all, unless in a transaction."""
        self._sent = False
        self.errors = 0
        """What has been said of errors since: events of its server's session."""

    def note(self, slots: Iterable[int]) -> None:
        """It is about to be sent what may change these."""
        self._slots.update(slots)

    def sent(self, statements: Sequence[StatementFacts] | None) -> None:
        """A batch is about to be sent, or was that nobody knows (None)."""
        alone = not self._sent and statements is not None
        self.one_string = alone and statements is not None and len(statements) == 1
        self.one_step = alone and statements is not None and all(in_one_step(facts) for facts in statements)
        self._sent = True

    def commit(self) -> None:
        """It is about to be sent what may commit all that."""
        if self._catalog_changed():
            self._slots.add(self._database)
        new = self._slots - self._begun
        if new:
            self._versions.begin(new)
            self._begun.update(new)

    def _catalog_changed(self) -> bool:
        """Whether what was noted may have run, or may run, under another catalog."""
        versions, database = self._versions, self._database
        return database not in self._begun and (versions.version((database,)) != self._was or versions.busy(database))

    def answered(self, now: float, due: bool) -> bool:
        """The client is about to hear that something has ended; whether more may come of what was noted.

        `due`: more answers are, or a transaction is open.
        """
        if self._begun:
            self._change(now)
        if due:
            return True
        self.end()
        return False

    def _change(self, now: float) -> None:
        changed: Iterable[int] = self._begun
        if self._catalog_changed():
            # It has waited for a lock, perhaps, and found another table, or a trigger on it.
            changed = {self._database, *changed}
        self._versions.change(changed, now)

    def end(self) -> None:
        """Nothing of it is under way any more."""
        if self._begun:
            self._versions.end(self._begun)

    def lost(self, now: float, busy: bool) -> None:
        """Its server is gone, or does not know: what had begun may have happened, or, if that was `busy`, may still."""
        if self._begun:
            if busy or self.errors & UNSURE:
                doubtful = (self._database, *self._begun) if self._catalog_changed() else tuple(self._begun)
                self._versions.doubt(doubtful, now + DOUBT_S)
            self._change(now)
            self.end()
