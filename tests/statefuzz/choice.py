"""What a client does next. A transaction is ended sooner or later, and what pins is given back."""

import re
from typing import Final

from tests.statefuzz import operation, phrases_pins, phrases_prepared, phrases_settings, phrases_transactions
from tests.statefuzz.operation import Operation, Part
from tests.statefuzz.phrase import CURSORS, NAMED, Phrase, Speaker, Weighted, speak

IDLE: Final = b"I"
FAILED: Final = b"E"

TRIES: Final = 40
PREPARED_KINDS: Final = ("PREPARE", "EXECUTE", "DEALLOCATE", "own statements")
HARMLESS: Final = Phrase("SHOW", "SHOW work_mem")

END_CHANCE: Final = 0.15
WITHIN_CHANCE: Final = 0.12
RECOVERY_CHANCE: Final = 0.7
BEGIN_CHANCE: Final = 0.05
UNDO_CHANCE: Final = 0.22
"""For a client that is pinned; others do it rarely."""
UNDO_ANYWAY_CHANCE: Final = 0.02
TOGETHER_MAX: Final = 4

SUBJECTS: Final[tuple[tuple[Weighted, int], ...]] = (
    (phrases_settings.READS, 8),
    (phrases_settings.CHANGES, 10),
    (phrases_transactions.ROWS, 3),
    (phrases_transactions.ERRORS, 1),
    (phrases_pins.HOLDS, 3),
    (phrases_pins.USES, 6),
    (phrases_prepared.STATEMENTS, 5),
)
TABLES: Final = tuple(table for table, _ in SUBJECTS)
WEIGHTS: Final = tuple(weight for _, weight in SUBJECTS)

FORMS: Final = ("query", "extended", "named", "script", "queries", "pipeline")
FORM_WEIGHTS: Final = (52, 14, 10, 7, 8, 9)


def choose(by: Speaker, status: bytes, *, pinned: bool, may_occupy: bool, plant: Weighted = ()) -> Operation:
    """The next operation of a client whose transaction status this is."""
    for _ in range(TRIES):
        chosen = _any(by, status, pinned, plant)
        if may_occupy or not chosen.occupies:
            return chosen
    return operation.queries([operation.simple(HARMLESS)])


def _any(by: Speaker, status: bytes, pinned: bool, plant: Weighted) -> Operation:
    form = by.rng.choices(FORMS, FORM_WEIGHTS)[0]
    count = by.rng.randint(2, TOGETHER_MAX)
    if form == "query":
        phrase = _phrase(by, status, pinned, plant)
        part = operation.extended(phrase) if phrase.arguments else operation.simple(phrase)
        return operation.pipeline([part]) if phrase.arguments else operation.queries([part])
    if form == "extended":
        return operation.pipeline([operation.extended(_phrase(by, status, pinned, plant), by.rng.random() < 0.8)])
    if form == "named":
        return operation.pipeline([_of_protocol(by)])
    if form == "script":
        return operation.script([_joinable(by, status, pinned) for _ in range(count)])
    if form == "queries":
        return operation.queries([operation.simple(_plain(by, status, pinned)) for _ in range(count)])
    # A RESET of a startup parameter in front of a read of it, before their Sync, is a known limit: none of these here.
    return operation.pipeline(
        [
            _of_protocol(by) if by.rng.random() < 0.3 else operation.extended(_together(by, status, pinned))
            for _ in range(count)
        ]
    )


def _phrase(by: Speaker, status: bytes, pinned: bool, plant: Weighted = ()) -> Phrase:
    draw = by.rng.random()
    if plant and draw < 0.05:
        return speak(by, plant)
    if status == FAILED and draw < RECOVERY_CHANCE:
        return speak(by, phrases_transactions.RECOVERY)
    if status != IDLE:
        if draw < END_CHANCE:
            return speak(by, phrases_transactions.ENDS)
        if draw < END_CHANCE + WITHIN_CHANCE:
            return speak(by, phrases_transactions.WITHIN)
    elif draw > 1 - BEGIN_CHANCE:
        return speak(by, phrases_transactions.BEGINNINGS)
    if by.rng.random() < (UNDO_CHANCE if pinned else UNDO_ANYWAY_CHANCE):
        return speak(by, phrases_pins.UNDOES)
    return speak(by, by.rng.choices(TABLES, WEIGHTS)[0])


def _plain(by: Speaker, status: bytes, pinned: bool) -> Phrase:
    """One without arguments."""
    while (phrase := _phrase(by, status, pinned)).arguments:
        pass
    return phrase


def _together(by: Speaker, status: bytes, pinned: bool) -> Phrase:
    """One that may stand in a pipeline."""
    while (phrase := _phrase(by, status, pinned)).resets or _needs_order(phrase, status) or _is_named(phrase):
        pass
    return phrase


def _needs_order(phrase: Phrase, status: bytes) -> bool:
    """What it needs is put in place in front of the whole, which cannot be before a ROLLBACK in it."""
    return status == FAILED and phrase.kind in PREPARED_KINDS


def _is_named(phrase: Phrase) -> bool:
    """It is about a statement of the protocol, which may be parsed or closed beside it."""
    return phrase.kind in PREPARED_KINDS and re.search(r"\bs\d\b", phrase.sql) is not None


def _joinable(by: Speaker, status: bytes, pinned: bool) -> Phrase:
    """One that may stand in a string of several."""
    while (phrase := _phrase(by, status, pinned)).resets or phrase.arguments or _needs_order(phrase, status):
        pass
    return phrase


def _of_protocol(by: Speaker) -> Part:
    name, portal = by.rng.choice(NAMED), by.rng.choice(CURSORS)
    number = str(by.rng.randint(1, 9))
    draw = by.rng.random()
    if draw < 0.35:
        return operation.parse_named(name, phrases_prepared.text(by))
    if draw < 0.75:
        return operation.run_named(name, by.rng.choice((None, number)))
    if draw < 0.88:
        return operation.close_named(name)
    if draw < 0.93:
        return operation.open_portal(portal, "SELECT generate_series(1, 5)")
    return operation.go_on(portal) if draw < 0.97 else operation.close_portal(portal)
