"""What is said of session state: to the client, to the log, and as counts.

A session is told once for each class of it; the log too; every use is counted.
"""

from typing import Final

import structlog

from middleware.config import RoutePolicy
from middleware.control import StateUse
from middleware.errors import PointsmanError
from middleware.sqlstate import FEATURE_NOT_SUPPORTED
from middleware.wire.build import warning
from parser.facts import StatementFacts
from parser.session_state import (
    CURSORS,
    LIBRARIES,
    LISTEN,
    LOCKS,
    PREPARED,
    ROLES,
    SEED,
    SEQUENCES,
    SETTINGS,
    TEMPORARY,
    UNKNOWN,
    USES,
    StateEffect,
)

log: Final = structlog.get_logger("session_state")

TRACK: Final = "track"
PIN: Final = "pin"
REJECT: Final = "reject"
ALLOW: Final = "allow"

SQLSTATES: Final = {
    SETTINGS: "01PS1",
    ROLES: "01PS2",
    PREPARED: "01PS3",
    LISTEN: "01PS4",
    LOCKS: "01PS5",
    TEMPORARY: "01PS6",
    CURSORS: "01PS7",
    LIBRARIES: "01PS8",
    SEED: "01PS9",
    SEQUENCES: "01PSA",
    UNKNOWN: "01PSB",
}
"""Class 01, warning; of its subclasses those that begin with I to Z are left to implementations (ISO 9075)."""

_UNTIL: Final = {
    SETTINGS: "all it has SET is RESET",
    ROLES: "its role is RESET",
    PREPARED: "all it has prepared is deallocated",
    LISTEN: "UNLISTEN *",
    LOCKS: "the last session-level advisory lock is released",
    TEMPORARY: "the last temporary object is dropped",
    CURSORS: "the last cursor WITH HOLD is closed",
    LIBRARIES: "it ends",
    SEED: "it ends",
    SEQUENCES: "DISCARD SEQUENCES",
    UNKNOWN: "DISCARD ALL",
}
"""When a session that is pinned for it gets free again."""

_HINTS: Final = {
    SETTINGS: "Use SET LOCAL in a transaction, a startup parameter, or ALTER ROLE .. SET.",
    ROLES: "Use SET LOCAL ROLE in a transaction, or connect as that role.",
    PREPARED: "Use the prepared statements of the protocol, as drivers do.",
    LISTEN: "LISTEN on a connection of its own, which does nothing else.",
    LOCKS: "Use pg_advisory_xact_lock() or its like in a transaction.",
    TEMPORARY: "Create it in a transaction with ON COMMIT DROP, or use WITH queries.",
    CURSORS: "Use a cursor without HOLD in a transaction.",
    LIBRARIES: "Use session_preload_libraries.",
    SEED: "Call setseed() in the transaction that calls random().",
    SEQUENCES: "Use INSERT .. RETURNING, or call it in the transaction that has called nextval().",
    UNKNOWN: "Set what it needs with SET LOCAL.",
}

APPLICATIONS_MAX: Final = 500
"""Entries counted apart; clients make up their application_names. Beyond, all count as of OTHERS."""
OTHERS: Final = "(others)"

Who = tuple[str, str, str]
"""application_name, user, database."""
Counted = tuple[str, str, str, str, str]
"""The same, class and action."""


class StateRejected(PointsmanError):
    """The settings forbid this class of session state."""

    def __init__(self, effect: StateEffect) -> None:
        super().__init__(
            f"{effect.statement} is not allowed in transaction pooling mode",
            detail=f'It {_verb(effect)} session state, and session_state.{effect.state} is "reject".',
            hint=_HINTS[effect.state],
            sqlstate=FEATURE_NOT_SUPPORTED,
        )


def _verb(effect: StateEffect) -> str:
    return "depends on" if effect.action == USES else "leaves"


def warning_of(effect: StateEffect, action: str) -> bytes:
    """The NoticeResponse for a session's first use of a class."""
    if action == TRACK:
        detail = "Pointsman does the same on each server connection that serves this session."
    elif action == PIN:
        detail = f"This session keeps its server connection until {_UNTIL[effect.state]}."
    elif effect.state == SEQUENCES:
        detail = "It knows only what its own transaction has done."
    else:
        detail = "It is undone at the end of the transaction."
    return warning(
        SQLSTATES[effect.state],
        f"{effect.statement} {_verb(effect)} session state in transaction pooling mode",
        detail,
        _HINTS[effect.state],
    )


class StateCounts:
    """One worker's."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: Final[dict[Counted, int]] = {}

    def count(self, who: Who, state: str, action: str) -> None:
        key = (*who, state, action)
        have = self.counts.get(key, 0)
        if not have and len(self.counts) >= APPLICATIONS_MAX:
            key = (OTHERS, "", "", state, action)
            have = self.counts.get(key, 0)
        self.counts[key] = have + 1

    def uses(self) -> tuple[StateUse, ...]:
        """What the control plane adds up."""
        return tuple(StateUse(*key, statements=count) for key, count in self.counts.items())


class StateWarnings:
    """One session's."""

    __slots__ = ("_counts", "_policy", "_quiet", "_told", "_who", "pending")

    def __init__(self, policy: RoutePolicy, quiet: frozenset[str], who: Who, counts: StateCounts) -> None:
        self._policy = policy
        self._quiet = quiet
        self._counts: Final = counts
        self._who: Final = who
        self._told: Final[set[str]] = set()
        """The classes the client was told of, and in capitals those the log was."""
        self.pending: list[bytes] = []
        """Messages for the client, to be written where one may stand."""

    def use(self, policy: RoutePolicy, quiet: frozenset[str]) -> None:
        """By these from now on; what was told was told."""
        self._policy, self._quiet = policy, quiet

    def note(self, effect: StateEffect, action: str, facts: StatementFacts | None) -> None:
        """A class of state is used. `facts` are the statement's, where it is one that tells by its text."""
        self._counts.count(self._who, effect.state, action)
        state = effect.state
        if self._policy.state_warnings == "off" or state in self._told:
            return
        logged = state.upper()
        if logged not in self._told:
            self._told.add(logged)
            application_name, user, database = self._who
            log.warning(
                "session state",
                state=state,
                action=action,
                statement=effect.statement if facts is None else facts.shape,
                application_name=application_name,
                user=user,
                database=database,
            )
        if self._policy.state_warnings == "client" and not self._is_quiet(effect, action):
            self._told.add(state)
            self.pending.append(warning_of(effect, action))

    def has_told(self, state: str) -> bool:
        """Whether the client was told of a class, or need not be."""
        return state in self._told or state.upper() in self._told

    def _is_quiet(self, effect: StateEffect, action: str) -> bool:
        if effect.state == UNKNOWN and action == TRACK:
            # What it has really left is told of.
            return True
        if effect.state != SETTINGS or effect.any_name:
            return False
        for name in effect.names:
            if name not in self._quiet and f"{name}={effect.value}" not in self._quiet and not _ours(name):
                return False
        return True


def _ours(name: str) -> bool:
    return name.startswith("pointsman.")
