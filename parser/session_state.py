"""Which statements leave something on the session that runs them, and what it is called."""

from typing import Final

STATEMENTS: Final = {
    "VariableSetStmt": "SET",
    "ListenStmt": "LISTEN",
    "UnlistenStmt": "UNLISTEN",
    "PrepareStmt": "PREPARE",
    "DeallocateStmt": "DEALLOCATE",
    "DiscardStmt": "DISCARD",
    "LoadStmt": "LOAD",
    "DoStmt": "DO",
    "CallStmt": "CALL",
}
"""Statements after which a session differs, or may: what a DO block or a procedure does cannot be seen."""

FUNCTIONS: Final = frozenset(
    {
        "set_config",
        "setseed",
        "pg_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
        "pg_advisory_unlock",
        "pg_advisory_unlock_shared",
        "pg_advisory_unlock_all",
        "lo_open",
        "lo_creat",
        "lo_create",
        "dblink_connect",
    }
)
"""Built-in and contributed functions that leave something on the session: a GUC, a lock, a seed, a descriptor.

nextval() and setval() are not among them: they only move what currval() and lastval() answer, which is not worth a
reset of the session.
"""

FALSE: Final = frozenset({"false", "off", "0", "no"})
"""How a boolean option says no (commands/define.c, defGetBoolean)."""

CURSOR_OPT_HOLD: Final = 0x0020  # nodes/parsenodes.h
