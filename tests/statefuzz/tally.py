"""What was done, and what differed."""

from collections import Counter
from dataclasses import dataclass, field

from tests.statefuzz.operation import Operation
from tests.statefuzz.pair import Difference, Pair
from tests.statefuzz.step import Reconnect, Step


@dataclass
class Tally:
    """Counts of one run."""

    seed: int
    operations: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """Statements and messages, by sort; an operation may hold several."""
    forms: Counter[str] = field(default_factory=Counter)
    disconnects: Counter[str] = field(default_factory=Counter)
    """By what the client was in the middle of."""
    errors: int = 0
    """Operations that PostgreSQL answered with an error, as they were meant to or not."""
    notifications: int = 0
    pinned: int = 0
    """Of all clients before each operation: those with something that only one server has."""
    in_transaction: int = 0
    """Others in a transaction."""
    looked_at: int = 0
    servers: int = 0
    """Server connections to the primary at the end."""
    differences: list[Difference] = field(default_factory=list)
    wall_s: float = 0.0

    def look(self, clients: int, pinned: int, in_transaction: int) -> None:
        self.looked_at += clients
        self.pinned += pinned
        self.in_transaction += in_transaction

    def count(self, step: Step, pair: Pair) -> None:
        """A step that is about to be done."""
        self.operations += 1
        if isinstance(step.act, Operation):
            self.forms[step.act.form] += 1
            self.kinds.update(step.act.kinds)
        elif isinstance(step.act, Reconnect):
            self.kinds["disconnect"] += 1
            state = {b"T": "in a transaction", b"E": "in a failed one"}.get(pair.status)
            self.disconnects[state or ("pinned" if pair.pinned else "idle")] += 1
        else:
            self.kinds["probe"] += 1
