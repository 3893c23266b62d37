"""What statements leave on the session that runs them: the classes of it, and the functions that do.

A pooler lends one session to many clients, so each of these is either to be kept for its client or to be undone. What a
statement's text says of it is worked out in parser/state_effects.py; what is done about it is not this package's.
"""

from dataclasses import dataclass
from typing import Final

SETTINGS: Final = "settings"
"""GUCs: SET, RESET, set_config()."""
ROLES: Final = "roles"
"""SET ROLE, SET SESSION AUTHORIZATION."""
PREPARED: Final = "prepared_statements"
"""PREPARE and its like in SQL."""
LISTEN: Final = "listen"
LOCKS: Final = "advisory_locks"
"""Those of the session, not those of a transaction."""
TEMPORARY: Final = "temporary_tables"
"""Anything in the session's temporary schema."""
CURSORS: Final = "hold_cursors"
"""Cursors WITH HOLD: the others end with their transaction."""
LIBRARIES: Final = "libraries"
"""LOAD."""
SEED: Final = "random_seed"
"""setseed() and SET seed: what random() answers next."""
SEQUENCES: Final = "sequences"
"""What currval() and lastval() answer."""
UNKNOWN: Final = "unknown"
"""DO, CALL, and text that could not be read."""

STATES: Final = (
    SETTINGS,
    ROLES,
    PREPARED,
    LISTEN,
    LOCKS,
    TEMPORARY,
    CURSORS,
    LIBRARIES,
    SEED,
    SEQUENCES,
    UNKNOWN,
)
"""All classes, by the names that settings know them by."""

LEAVES: Final = "leaves"
"""The session has it afterwards, or may."""
UNDOES: Final = "undoes"
"""The session may have less of it afterwards."""
USES: Final = "uses"
"""It works only where the session has it."""


@dataclass(frozen=True)
class StateEffect:
    """One thing that a statement does to the state of its session."""

    state: str
    """One of STATES."""
    action: str
    """LEAVES, UNDOES or USES."""
    statement: str
    """What does it, in words for people, without literals: "SET", "set_config()", "CREATE TEMPORARY TABLE"."""
    names: tuple[str, ...] = ()
    """Which settings (in lower case) or prepared statements it is about, as far as its text tells."""
    any_name: bool = False
    """It may be about others too: RESET ALL, a name that is computed, a block of code."""
    value: str | None = None
    """For a setting: the constant it is set to, where the text tells and it is one."""
    local: bool = False
    """It holds for the transaction alone: nothing is left of it."""


FALSE: Final = frozenset({"false", "off", "0", "no"})
"""How a boolean option says no (commands/define.c, defGetBoolean)."""

CURSOR_OPT_HOLD: Final = 0x0020  # nodes/parsenodes.h

OWN_TO_TRANSACTION: Final = frozenset({"transaction_isolation", "transaction_read_only", "transaction_deferrable"})
"""Settings in name: they are the transaction's, and end with it."""

CHARACTERISTICS: Final = "session characteristics"
"""What the grammar calls SET SESSION CHARACTERISTICS AS TRANSACTION."""

OLD_NAMES: Final = {"sort_mem": "work_mem", "vacuum_mem": "maintenance_work_mem"}
"""Names of settings that PostgreSQL still takes, but does not list (utils/misc/guc.c, map_old_guc_names)."""

ROLE_NAMES: Final = {"role": ("role",), "session_authorization": ("session_authorization", "role")}
"""Settings that are roles, and what each of them changes: another session user has no SET ROLE."""

FUNCTIONS: Final = {
    "set_config": (SETTINGS, LEAVES),
    "setseed": (SEED, LEAVES),
    "pg_advisory_lock": (LOCKS, LEAVES),
    "pg_advisory_lock_shared": (LOCKS, LEAVES),
    "pg_try_advisory_lock": (LOCKS, LEAVES),
    "pg_try_advisory_lock_shared": (LOCKS, LEAVES),
    "pg_advisory_unlock": (LOCKS, UNDOES),
    "pg_advisory_unlock_shared": (LOCKS, UNDOES),
    "pg_advisory_unlock_all": (LOCKS, UNDOES),
    "lastval": (SEQUENCES, USES),
    "currval": (SEQUENCES, USES),
}
"""Built-in functions that do something to the state of their session, or need it.

nextval() and setval() are not among them: they only move what currval() and lastval() answer. Nor are the functions of
large objects and pg_export_snapshot(): descriptors and snapshots end with their transaction.
"""

ADVISORY_LOCKS: Final = frozenset(name for name, does in FUNCTIONS.items() if does == (LOCKS, LEAVES))

CONTRIBUTED: Final = {"dblink_connect": (UNKNOWN, LEAVES), "dblink_connect_u": (UNKNOWN, LEAVES)}
"""Functions of extensions that do so. They may be in any schema."""

DISCARDED: Final = {
    "DISCARD_ALL": (SETTINGS, ROLES, PREPARED, LISTEN, LOCKS, TEMPORARY, CURSORS, SEQUENCES, UNKNOWN),
    "DISCARD_TEMP": (TEMPORARY,),
    "DISCARD_SEQUENCES": (SEQUENCES,),
}
"""What DISCARD throws away, by the grammar's name for its target. Plans are made anew, nobody misses them."""
