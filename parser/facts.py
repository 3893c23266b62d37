"""What a statement's text says about it: the facts that routing and the session act on.

A StatementFacts describes one *string* as a client sends it in a Query or a Parse message, so it may stand for no
statement or for several. Facts say what the text does, never what should be done about it.
"""

from typing import Final

import msgspec


class StatementFacts(msgspec.Struct, frozen=True, eq=False):
    """Facts about one string of SQL. Compared and hashed by identity: one object per shape of statement."""

    kind: str
    """The statement's node in PostgreSQL's grammar ("SelectStmt"), "Empty", "Several" or "Unread"."""
    write_reason: str = ""
    """Why a standby cannot run it, by its structure alone, in words for people; empty for a plain query."""
    functions: frozenset[str] = frozenset()
    """The functions it calls by name, without their schemas, folded as PostgreSQL folds identifiers."""
    session_state: str = ""
    """What it may leave behind on its session, in words for people; empty when nothing."""
    copy_in: bool = False
    """It may put the connection into copy-in mode."""
    deallocates_all: bool = False
    """It drops every prepared statement of its session."""
    changes_catalog: bool = False
    """It may create, alter or drop a function or another thing of the catalog."""


UNREAD: Final = StatementFacts(
    kind="Unread",
    write_reason="its text could not be read",
    session_state="unread text",
    copy_in=True,
    deallocates_all=True,
    changes_catalog=True,
)
"""Text beyond PostgreSQL's grammar as we know it, or too long to read: it may do anything. The server will judge."""

EMPTY: Final = StatementFacts(kind="Empty", write_reason="it is empty")
