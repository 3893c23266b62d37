"""What one client does at one time, as a value that can be done again."""

import random
from typing import Final, NamedTuple

from middleware.wire.frontend import Query
from tests.statefuzz.choice import choose
from tests.statefuzz.operation import Operation
from tests.statefuzz.pair import STARTUPS, Pair
from tests.statefuzz.phrase import CHANNELS, LOCKS_MAX, TEMPORARY, Weighted
from tests.statefuzz.session import Startup

RECONNECT_CHANCE: Final = 0.01
PROBE_CHANCE: Final = 0.02
LAST_WORDS_CHANCE: Final = 0.3


class Reconnect(NamedTuple):
    """The session ends, whatever it is in the middle of, and a new one begins."""

    startup: Startup
    politely: bool
    """With a Terminate."""
    last_words: str
    """Something that nobody waits for: who knows whether it ran."""


class Probe(NamedTuple):
    """Everything that can be asked of a session is asked."""


class Step(NamedTuple):
    """Of a client, by its number."""

    client: int
    act: Operation | Reconnect | Probe

    @property
    def shown(self) -> str:
        if isinstance(self.act, Operation):
            return self.act.shown
        if isinstance(self.act, Reconnect):
            words = f"{self.act.last_words}; " if self.act.last_words else ""
            end = "Terminate" if self.act.politely else "close"
            return f"[connection] {words}{end}, connect {dict(self.act.startup)}"
        return "[probe]"


def next_step(rng: random.Random, pair: Pair, *, may_occupy: bool, plant: Weighted) -> Step:
    """What a client does next; one that may not occupy a server does what is done in an instant."""
    draw = rng.random()
    if draw < RECONNECT_CHANCE:
        return Step(pair.number, reconnect(rng, may_occupy=may_occupy))
    if draw < RECONNECT_CHANCE + PROBE_CHANCE:
        return Step(pair.number, Probe())
    return Step(
        pair.number,
        choose(pair.speaker(rng), pair.status, pinned=pair.pinned, may_occupy=may_occupy, plant=plant),
    )


def reconnect(rng: random.Random, *, may_occupy: bool) -> Reconnect:
    last_words = ""
    if may_occupy and rng.random() < LAST_WORDS_CHANCE:
        last_words = rng.choice(
            (
                f"SELECT pg_try_advisory_lock({rng.randint(1, LOCKS_MAX)})",
                "SET fuzz.a = 'last'",
                f"CREATE TEMP TABLE {TEMPORARY[0]} ()",
                f"LISTEN {CHANNELS[0]}",
            )
        )
    return Reconnect(rng.choice(STARTUPS), rng.random() < 0.5, last_words)


def last_message(act: Reconnect) -> bytes:
    return Query(act.last_words.encode()).encode() if act.last_words else b""
