"""The transaction a client has begun, and whether it may go on at another node.

As long as nothing has run in a transaction nobody can tell where it was begun: it may be rolled back there and begun
again elsewhere. So a client may say BEGIN READ ONLY, and go on with what only the primary does; or BEGIN, and then SET
TRANSACTION READ ONLY. Under `transaction_reads = until_write` the same is done as long as only plain reads have run:
READ COMMITTED gives each of them a snapshot of its own, and the primary is never behind a standby.

    NONE --BEGIN--> FRESH --a plain read--> READ
    FRESH, READ --anything that must be kept: a savepoint, a cursor, SET LOCAL, a write--> FIXED
    any --COMMIT, ROLLBACK--> ENDED     outside of it, unless it turns out that it was not carried out
    any --its server is given back--> NONE

It is told what is about to be sent, not what came of that: who pipelines is taken at his word, and what he may have got
wrong by an error ends in FIXED.
"""

from collections.abc import Sequence
from typing import Final

from middleware.session.batch import Batch
from parser.facts import BEGIN, END, SET_TRANSACTION, SNAPSHOT, UNREAD, StatementFacts, TransactionFacts
from parser.session_state import LEAVES, PREPARED, ROLES, SETTINGS
from routing.router import SERIALIZABLE, STANDBY, Router

NONE: Final = 0
FRESH: Final = 1
READ: Final = 2
FIXED: Final = 3
ENDED: Final = 4

ELSEWHERE: Final = frozenset({"ListenStmt", "UnlistenStmt", "NotifyStmt", "LockStmt"})
"""What a read-only transaction may do on a primary, and no transaction on a standby."""


class Transaction:
    """One client's."""

    __slots__ = ("commits", "isolation", "phase", "read_only", "until_write")

    def __init__(self) -> None:
        self.phase = NONE
        self.commits = False
        """Something was sent in it, or behind it, that commits: if no answer comes, nobody knows what came of it."""
        self.read_only: bool | None = None
        """What it says of itself, None where nothing."""
        self.isolation = ""
        self.until_write = False
        """It was begun on a standby for its reads, and its first write takes it to the primary."""

    def open(self) -> bool:
        """What is sent now is part of it."""
        return FRESH <= self.phase <= FIXED

    def fresh(self) -> bool:
        """Nothing has run in it."""
        return self.phase == FRESH

    def note(self, facts: StatementFacts, reads: bool) -> None:
        """A statement is about to be carried out; whether it is a plain read."""
        control = facts.transaction
        if control is None:
            if self.phase == FRESH or self.phase == READ:
                self.phase = READ if reads and not facts.special else FIXED
            if ends(facts) or (self.phase == ENDED and not reads):
                self.commits = True
        elif control.kind == BEGIN and self.phase == NONE:
            self.phase = FRESH
            self.read_only, self.isolation, self.until_write = control.read_only, control.isolation, False
        elif control.kind == SET_TRANSACTION and self.phase == FRESH:
            self._merge(control)
        elif control.kind == END:
            self.phase = ENDED
        elif self.phase != NONE:
            self.phase = FIXED
        if control is not None and control.commits:
            self.commits = True

    def _merge(self, control: TransactionFacts) -> None:
        if control.read_only is not None:
            self.read_only = control.read_only
        self.isolation = control.isolation or self.isolation

    def stay(self) -> None:
        """It is not to go elsewhere; or its end was not carried out."""
        self.phase = FIXED

    def begun_again(self) -> None:
        """It is about to begin at another node."""
        self.phase = FRESH

    def begin(self) -> bytes:
        """The statement that begins it again."""
        modes = f" ISOLATION LEVEL {self.isolation.upper()}" if self.isolation else ""
        if self.read_only is not None:
            modes += " READ ONLY" if self.read_only else " READ WRITE"
        return f"BEGIN{modes}".encode()

    def to_primary(self, batch: Batch, router: Router) -> bytes | None:
        """Whether a batch must not run in it on a standby: None to stay, else what begins it on the primary.

        Where the batch itself ends the transaction, what follows the end in the same string or pipeline is not part of
        it, and the whole goes to where that belongs.
        """
        if _goes_beyond(batch.facts):
            return self.begin()
        if self.phase == FRESH or (self.phase == READ and self.until_write and self.read_only is None):
            for facts in batch.facts:
                if self._needs_primary(facts, router):
                    return self.begin()
            if self.until_write and batch.named_portal:
                # It may be asked for more rows after the first write.
                return self.begin()
        return None

    def to_standby(self, batch: Batch) -> bytes | None:
        """Whether a batch makes one that was begun on the primary fit for a standby: what begins it there, or None."""
        if self.phase != FRESH or self.isolation == SERIALIZABLE or len(batch.facts) != 1:
            return None
        control = batch.facts[0].transaction
        if control is None or control.kind != SET_TRANSACTION or control.isolation == SERIALIZABLE:
            return None
        return self.begin() if control.read_only else None

    def _needs_primary(self, facts: StatementFacts, router: Router) -> bool:
        control = facts.transaction
        if control is not None:
            if control.kind == SET_TRANSACTION:
                read_only = self.read_only if control.read_only is None else control.read_only
                return not read_only or control.isolation == SERIALIZABLE
            if control.kind == SNAPSHOT:
                # Exported on the primary, as all are: pg_export_snapshot() runs nowhere else.
                return True
            return control.kind != END and not self.read_only
        if self.read_only and facts.write_reason:
            # It fails in a read-only transaction anywhere, or is one of those a standby can do (a cursor, SET LOCAL).
            return facts.kind in ELSEWHERE or keeps_server(facts)
        return (not self.read_only and facts.special) or router.route(facts).target is not STANDBY


def ends(facts: StatementFacts) -> bool:
    """Whether it may end a transaction, or commit something."""
    control = facts.transaction
    if control is None:
        return facts.ends_within or facts.commits_within or facts is UNREAD
    return control.kind == END or control.commits


def keeps_server(facts: StatementFacts) -> bool:
    """Whether its client may have to keep its server afterwards, for reads and writes alike."""
    return any(effect.action == LEAVES and effect.state not in (SETTINGS, ROLES, PREPARED) for effect in facts.effects)


def _goes_beyond(facts: Sequence[StatementFacts]) -> bool:
    """Whether it ends a transaction and goes on."""
    ended = False
    for one in facts:
        if one.ends_within or (ended and one.transaction is None):
            return True
        ended = ended or (one.transaction is not None and one.transaction.kind == END)
    return False
