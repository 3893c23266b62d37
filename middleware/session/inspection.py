"""What PostgreSQL is asked about the state of a session, and what it answers.

In: which classes of state (parser/session_state.py) may have changed, and the names of settings as far as they are
known. Out: one string of SQL, and what its rows say. All of it works under any search_path, and on a standby.
"""

from collections.abc import Iterable
from typing import Final

from middleware.errors import ProtocolViolation
from middleware.session.parameters import literal
from middleware.wire.fields import Reader
from parser.session_state import CURSORS, LISTEN, LOCKS, PREPARED, SETTINGS, TEMPORARY

ASKED: Final = (LISTEN, LOCKS, TEMPORARY, CURSORS)
"""The classes that can be asked for: whether there is anything of them."""

OF_THE_TRANSACTION: Final = "{transaction_isolation,transaction_read_only,transaction_deferrable}"
"""Settings that PostgreSQL makes anew for each transaction."""

# Measured on PostgreSQL 18, whole exchanges: 40 µs for settings by name, 390 for all of them, 200 for the locks, 40 to
# 90 for each of the others.
_QUESTIONS: Final = {
    LISTEN: "SELECT 'listen', NULL, NULL FROM pg_catalog.pg_listening_channels() LIMIT 1",
    LOCKS: "SELECT 'advisory_locks', NULL, NULL FROM pg_catalog.pg_locks"
    " WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"
    " LIMIT 1",
    # All that is in a schema depends on it. 2615 is pg_namespace.
    TEMPORARY: "SELECT 'temporary_tables', NULL, NULL FROM pg_catalog.pg_depend"
    " WHERE refclassid OPERATOR(pg_catalog.=) 2615"
    " AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 1",
    CURSORS: "SELECT 'hold_cursors', NULL, NULL FROM pg_catalog.pg_cursors WHERE is_holdable LIMIT 1",
    PREPARED: "SELECT CASE WHEN from_sql THEN 'prepared_statements' ELSE 'parsed' END, name, statement"
    " FROM pg_catalog.pg_prepared_statements"
    " WHERE from_sql OR pg_catalog.left(name, 11) OPERATOR(pg_catalog.<>) '_pointsman_'",
}

_ALL_SETTINGS: Final = (
    "SELECT 'settings', name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings"  # noqa: S608
    " WHERE source OPERATOR(pg_catalog.=) 'session'"
    f" AND name OPERATOR(pg_catalog.<>) ALL ('{OF_THE_TRANSACTION}'::pg_catalog.text[])"
)


class Findings:
    """What PostgreSQL has answered."""

    __slots__ = ("found", "parsed", "prepared", "settings")

    def __init__(self) -> None:
        self.found: Final[set[str]] = set()
        """The classes of ASKED that there is something of."""
        self.settings: Final[dict[bytes, bytes]] = {}
        """The values of settings, by their names in lower case."""
        self.prepared: Final[dict[bytes, bytes]] = {}
        """What PREPARE has made, by name: its text from PREPARE on."""
        self.parsed: Final[dict[bytes, bytes]] = {}
        """The texts of the protocol's statements under their clients' own names."""


def question(classes: Iterable[str], names: Iterable[bytes], all_settings: bool) -> bytes:
    """The SQL that asks for these classes, for these settings, and for all that were SET in the session."""
    parts = [_QUESTIONS[one].encode() for one in classes]
    if all_settings:
        parts.append(_ALL_SETTINGS.encode())
    values = b",".join(b"(" + literal(name) + b")" for name in names)
    if values:
        parts.append(
            b"SELECT 'settings', name, pg_catalog.current_setting(name, true) FROM (VALUES " + values + b") AS v(name)"
        )
    return b";".join(parts)


def findings(rows: Iterable[bytes]) -> Findings | None:
    """What the rows of the answer say, each the body of a DataRow; None where they are no such rows."""
    result = Findings()
    for row in rows:
        try:
            what, name, value = Reader(row).values()
        except (ProtocolViolation, ValueError):
            return None
        one = (what or b"").decode(errors="replace")
        if one == SETTINGS:
            if value is not None:
                result.settings[(name or b"").lower()] = value
        elif one == PREPARED:
            result.prepared[name or b""] = value or b""
        elif one == "parsed":
            result.parsed[name or b""] = value or b""
        else:
            result.found.add(one)
    return result
