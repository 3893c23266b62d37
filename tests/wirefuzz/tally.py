"""What was played, and what was wrong."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.wirefuzz.mutate import Input


class Finding(NamedTuple):
    """A fault, and the fewest inputs that lead to it."""

    fault: str
    """Its kind, a colon, and what was seen."""
    seed: int
    part: int
    number: int
    """Of the input in its part, from 0."""
    inputs: tuple[Input, ...]
    """The last of them shows it; just that one, as it was, where it could not be made to come up again."""
    again: bool
    """It came up again on a stage of its own."""


@dataclass
class Tally:
    """Counts of a run, or of a part of one."""

    inputs: Counter[str] = field(default_factory=Counter)
    """By sort: session, login, servers."""
    mutations: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    """What became of the clients: welcomed or not, closed by us or not."""
    servers_opened: int = 0
    compared: int = 0
    """With the same on a connection of its own."""
    delay_s: float = 0.0
    """The longest that a neighbour waited, by the stage's own clock."""
    wall_s: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.inputs += other.inputs
        self.mutations += other.mutations
        self.endings += other.endings
        self.servers_opened += other.servers_opened
        self.compared += other.compared
        self.delay_s = max(self.delay_s, other.delay_s)
        self.findings += other.findings
