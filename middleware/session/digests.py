"""What statements of one shape have done: a *digest* is a database and a shape, a statement's text without constants.

In: what was sent and what came back, as it passes. Out: reports. Bounded: at the bound those go that were used least,
the use of late weighing most; what was counted of them goes with them.

A call is counted when it is sent, for each Execute, or once for a string of a Query; rows, time and errors when it is
answered. Where a batch holds several statements, how long each of them took cannot be seen: they share its time evenly,
but for BEGIN, COMMIT and the like, and its rows and its error are the last one's.
"""

from typing import Final

from middleware.reports import DigestReport
from parser.facts import StatementFacts
from parser.shapes import FactsTable

SHAPE_CHARS_MAX: Final = 500
"""Of a shape's text, as it is told."""
SHARING_MAX: Final = 100
"""Statements of a batch that share its time."""
EVICTED_PART: Final = 20
"""At the bound, one of so many goes."""


class Digest:
    """One of them."""

    __slots__ = (
        "_used",
        "_used_until",
        "aside",
        "calls",
        "database",
        "errors",
        "hits",
        "max_s",
        "on_primary",
        "on_standbys",
        "reason",
        "rows",
        "shape",
        "total_s",
    )

    def __init__(self, database: str, shape: str, aside: bool = False) -> None:
        self.database: Final = database
        self.shape: Final = shape
        self.aside: Final = aside
        """It begins or ends a transaction, or the like: beside others it takes no time."""
        self.calls = 0
        self.errors = 0
        self.rows = 0
        self.total_s = 0.0
        self.max_s = 0.0
        self.on_primary = 0
        self.on_standbys = 0
        self.hits = 0
        self.reason = ""
        """Why it stayed on the primary the last time it did."""
        self._used = 0.0
        """How much, at the last look."""
        self._used_until = 0
        """Which of its calls that takes account of."""

    def sent(self, calls: int, on_primary: bool) -> None:
        """It is about to be sent to a server."""
        self.calls += calls
        if on_primary:
            self.on_primary += calls
        else:
            self.on_standbys += calls

    def hit(self) -> None:
        """It was answered from the query cache."""
        self.calls += 1
        self.hits += 1

    def answered(self, took_s: float, rows: int, failed: bool) -> None:
        """A server has answered it."""
        self.rows += rows
        self.total_s += took_s
        if took_s > self.max_s:
            self.max_s = took_s
        if failed:
            self.errors += 1

    def refused(self, sqlstate: bytes) -> None:
        """It ended in an error. Told before its answer is."""

    def lost(self, took_s: float, goes_on: bool) -> None:
        """Its server has gone, or its client, before it was answered. `goes_on`: it is sent again, as another."""

    def look(self) -> float:
        """How much it is used: what was counted at the last look weighs half."""
        self._used = self._used / 2 + (self.calls - self._used_until)
        self._used_until = self.calls
        return self._used

    def report(self) -> DigestReport:
        """As it is now."""
        return DigestReport(
            self.database,
            self.shape,
            self.calls,
            self.errors,
            self.rows,
            self.total_s,
            self.max_s,
            self.on_primary,
            self.on_standbys,
            self.hits,
            self.reason,
        )


class Several(Digest):
    """Those of the statements of one batch."""

    __slots__ = ("sharing",)

    def __init__(self, sharing: list[Digest]) -> None:
        super().__init__("", "")
        self.sharing: Final = sharing
        """Who share the time; the last one has the rest."""

    def answered(self, took_s: float, rows: int, failed: bool) -> None:
        part_s = took_s / len(self.sharing)
        for digest in self.sharing[:-1]:
            digest.answered(part_s, 0, False)
        self.sharing[-1].answered(part_s, rows, failed)


def together(digest: Digest, another: Digest) -> Digest:
    """That of a batch with both, `another` behind what `digest` stands for."""
    if digest is UNTOLD or digest.aside:
        return another
    if another.aside or another is digest:
        return digest
    if not isinstance(digest, Several):
        return Several([digest, another])
    if len(digest.sharing) < SHARING_MAX:
        digest.sharing.append(another)
    else:
        digest.sharing[-1] = another
    return digest


UNTOLD: Final = Digest("", "")
"""Of what has none."""


class Digests:
    """Those of one worker."""

    def __init__(self, count_max: int, facts_table: FactsTable) -> None:
        """`count_max`: 0 for none at all."""
        self.count_max = count_max
        self._facts_table = facts_table
        self._known: dict[tuple[str, str], Digest] = {}
        self.generation = 0
        """Grows when some of them go."""

    def __len__(self) -> int:
        return len(self._known)

    def resize(self, count_max: int) -> None:
        """There may be so many from now on."""
        self.count_max = count_max
        if len(self._known) > count_max:
            self._evict(len(self._known) - count_max)

    def use(self, facts_table: FactsTable) -> None:
        """What is read from now on is read by this one."""
        self._facts_table = facts_table

    def find(self, database: str, facts: StatementFacts) -> Digest:
        """That of a statement; a new one where there is none."""
        # A text that was not read, or whose shape was forgotten, is called by its kind.
        shape = self._facts_table.shape_with(facts, SHAPE_CHARS_MAX) or facts.kind
        digest = self._known.get((database, shape))
        if digest is None:
            if len(self._known) >= self.count_max:
                self._evict(max(1, self.count_max // EVICTED_PART))
            digest = self._known[database, shape] = Digest(database, shape, facts.transaction is not None)
        return digest

    def _evict(self, count: int) -> None:
        """Forget those that are used least; of those that are used alike, the oldest."""
        used = sorted(self._known.items(), key=lambda one: one[1].look())
        gone = {key for key, _ in used[:count]}
        self._known = {key: digest for key, digest in self._known.items() if key not in gone}
        self.generation += 1

    def all(self) -> list[Digest]:
        """Those that there are."""
        return list(self._known.values())


class DatabaseDigests:
    """Those of one database, by what was read of a statement: at hand for each."""

    __slots__ = ("_all", "_database", "_generation", "_known")

    def __init__(self, database: str, digests: Digests) -> None:
        self._database: Final = database
        self._all: Final = digests
        self._known: dict[StatementFacts, Digest] = {}
        self._generation = 0

    def of(self, facts: StatementFacts) -> Digest:
        """That of a statement."""
        if self._generation != self._all.generation:
            # Some of them are nobody's any more.
            self._generation = self._all.generation
            self._known = {}
        digest = self._known.get(facts)
        if digest is None:
            if not self._all.count_max:
                return UNTOLD
            digest = self._all.find(self._database, facts)
            if len(self._known) > 2 * self._all.count_max:
                # Facts may be of one text alone.
                self._known = {}
            self._known[facts] = digest
        return digest
