"""One thing to ask in SQL, and the names that clients ask about.

Clients share the names of what belongs to a session, with different things behind them: a server that is handed on with
something left on it shows.
"""

import random
from collections.abc import Callable
from typing import Final, NamedTuple

TEMPORARY: Final = ("t1", "t2")
CURSORS: Final = ("c1", "c2")
PREPARED: Final = ("p1", "p2", "p3")
NAMED: Final = ("s1", "s2", "s3")
"""Statements of the protocol."""
CHANNELS: Final = ("ch1", "ch2", "ch3")
SAVEPOINTS: Final = ("a", "b")
LOCKS_MAX: Final = 4
ROLES: Final = ("statefuzz_reader", "statefuzz_writer")


class Phrase(NamedTuple):
    """A statement."""

    kind: str
    """Of what sort it is, for the report."""
    sql: str
    arguments: tuple[str, ...] = ()
    """For $1 and so on: such a statement is sent with a Bind."""
    occupies: bool = False
    """Its client may keep its server from then on: in a transaction, or for what the session has."""
    notifies: bool = False
    resets: bool = False
    """It may give a setting the value of the startup message back."""


class Speaker(NamedTuple):
    """Who asks."""

    rng: random.Random
    table: str
    """A table that no other client uses. There is one of that name in each of two schemas."""


Speak = Callable[[Speaker], Phrase]
Weighted = tuple[tuple[Speak, int], ...]
"""What may be said, and how often in relation to each other."""


def speak(by: Speaker, choices: Weighted) -> Phrase:
    """One of them."""
    functions, weights = zip(*choices, strict=True)
    chosen: Speak = by.rng.choices(functions, weights)[0]
    return chosen(by)


def fixed(kind: str, *texts: str, occupies: bool = False, resets: bool = False) -> Speak:
    """Any of these texts."""
    return lambda by: Phrase(kind, by.rng.choice(texts), occupies=occupies, resets=resets)
