"""What a load has done, as values: each write and each read, in the order in which its session did it.

A *register* is a number that only grows. It may stand in several tables, which are always written together, and be
read by way of a view, a join, a parent or a child: whichever way, what is read is the register's version. Each version
is asked for once, by the register's one writer, in order: so it is also the write's id. Version 0 is what was there at
the start. Times are time.monotonic(), of one machine.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec

DIRECT: Final = "direct"
"""The instance of who writes to the primary itself."""


class Outcome(Enum):
    """What a session knows of a write that it asked for."""

    ACKNOWLEDGED = "acknowledged"
    FAILED = "failed"
    """It was told that it did not happen, or has rolled it back."""
    UNKNOWN = "unknown"
    """Nobody knows, or its session has ended before it was told."""


class Register(msgspec.Struct, frozen=True):
    """Who writes it, and whether others' watchers can see that."""

    name: str
    instance: str
    """Through which Pointsman it is written, or DIRECT."""
    watchable: bool = True
    """Logical decoding shows what is written: rows of tables. It shows no DDL."""


class Write(msgspec.Struct, frozen=True):
    """A register was to have `version`."""

    session: str
    instance: str
    way: str
    """How it was written, for people."""
    register: str
    version: int
    begin: float
    """Its first statement is sent."""
    commit: float
    """What may commit it is sent. Before, nobody else may see it."""
    end: float
    outcome: Outcome


class Read(msgspec.Struct, frozen=True):
    """One statement, and which versions it has shown."""

    session: str
    instance: str
    way: str
    begin: float
    end: float
    seen: tuple[tuple[str, int], ...]
    """(register, version), one for each place where the statement found the register: so several of one register."""
    snapshot: int = 0
    """The transaction with a snapshot of its own that it belongs to; 0 if none does."""
    as_of: float = 0.0
    """Of a snapshot, since when what was told of is to be in it; else 0."""
    own: int = 0
    """The version that this transaction has written itself and not committed: it must see that."""
    wrong: str = ""
    """What contradicts itself in the answer, beyond versions: a sum that must be constant."""

    @property
    def since(self) -> float:
        """What was told to be committed before this moment is to be seen."""
        return self.as_of or self.begin


Operation = Write | Read


class Failover(msgspec.Struct, frozen=True):
    """The primary was killed, and another serves. What lies between is nobody's promise."""

    killed: float
    """Right before the kill."""
    settled: float
    """All Pointsmans use the new primary, and have written there."""
    base: Mapping[str, int]
    """Each register on the new primary when it was promoted: what is above it and was acknowledged before is lost."""


class History(msgspec.Struct):
    """All of a load."""

    registers: dict[str, Register]
    operations: list[Operation] = msgspec.field(default_factory=list)
    failovers: list[Failover] = msgspec.field(default_factory=list)
    """In the order of time."""
