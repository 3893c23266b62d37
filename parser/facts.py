"""What a statement's text says about it: the facts that routing and the session act on.

A StatementFacts describes one *string* as a client sends it in a Query or a Parse message, so it may stand for no
statement or for several. Facts say what the text does, never what should be done about it. Names are given as written,
folded as PostgreSQL folds identifiers; what they mean only a catalog tells.
"""

from dataclasses import dataclass, field
from typing import Final

from parser.session_state import LEAVES, UNKNOWN, StateEffect

Name = tuple[str, str]
"""A schema, "" where none is written, and a name in it."""

Call = tuple[str, str, int]
"""A function's schema, "" where none is written, its name, and how many arguments it gets: ANY_NUMBER for VARIADIC."""

ANY_NUMBER: Final = -1

Change = tuple[str, str, str]
"""How a relation is changed (INSERTS, ..), its schema, "" where none is written, and its name."""

INSERTS: Final = "i"
UPDATES: Final = "u"
DELETES: Final = "d"
TRUNCATES: Final = "t"
REFRESHES: Final = "m"
"""REFRESH MATERIALIZED VIEW."""

Cast = tuple[str, str, str]
"""A type's schema, "" where none is written, its name, and the column that is cast to it, or ANYTHING."""

ANYTHING: Final = "*"

BEGIN: Final = "begin"
SET_TRANSACTION: Final = "set"
WITHIN: Final = "within"
"""SAVEPOINT, RELEASE, ROLLBACK TO, and COMMIT or ROLLBACK AND CHAIN."""
END: Final = "end"
"""COMMIT and ROLLBACK."""
TWO_PHASE: Final = "two-phase"
SNAPSHOT: Final = "snapshot"
"""SET TRANSACTION SNAPSHOT: one that was exported on the same node."""


OWN_PREFIX: Final = "pointsman."
"""Settings of this name are kept by us; to PostgreSQL they are custom ones."""

UNCHANGED: Final = 0
MAY_CHANGE: Final = 1
"""What it does cannot be seen."""
CHANGES: Final = 2


@dataclass(frozen=True)
class TransactionFacts:
    """Transaction control, with the modes it asks for; None and "" where it says nothing of one."""

    kind: str
    """BEGIN, SET_TRANSACTION, WITHIN, END, TWO_PHASE or SNAPSHOT."""
    read_only: bool | None = None
    isolation: str = ""
    """"serializable", "repeatable read", .."""
    commits: bool = False
    """What comes of it is there to stay: COMMIT, also one AND CHAIN, and both halves of a two-phase commit."""


@dataclass(frozen=True, eq=False)
class StatementFacts:
    """Facts about one string of SQL. Compared and hashed by identity: one object per shape of statement."""

    kind: str
    """The statement's node in PostgreSQL's grammar ("SelectStmt"), "Empty", "Several" or "Unread"."""
    write_reason: str = ""
    """Why a standby cannot run it, by its structure alone, in words for people; empty for what only reads."""
    calls: frozenset[Call] = frozenset()
    """The functions, aggregates and window functions it calls, at any depth."""
    relations: frozenset[Name] = frozenset()
    """The relations it reads, at any depth."""
    queries: frozenset[str] = frozenset()
    """The names of its WITH queries: a relation of such a name may be one of them."""
    writes: frozenset[Name] = frozenset()
    """The relations it writes with INSERT, UPDATE, DELETE, MERGE, COPY or TRUNCATE, at any depth."""
    operators: frozenset[Name] = frozenset()
    """The operators it applies, those included that its syntax implies (IN, BETWEEN, USING, CASE, NULLIF)."""
    types: frozenset[Name] = frozenset()
    """The types it casts to."""
    fields: frozenset[str] = frozenset()
    """The names behind a dot: columns, or functions in attribute notation."""
    shows: frozenset[str] = frozenset()
    """The settings it asks for, by SHOW or current_setting(); ANY_SETTING where it computes the name."""
    transaction: TransactionFacts | None = None
    """What it does to the transaction it stands in."""
    ends_within: bool = False
    """Of several statements: one ends a transaction."""
    commits_within: bool = False
    """Of several: one commits, and the transaction may go on, or be left to others."""
    own_setting: tuple[str, str] | None = None
    """The setting of ours, without "pointsman.", that it sets, and to what; "" by RESET; ALL_SETTINGS by RESET ALL."""
    asks: str = ""
    """It asks us rather than PostgreSQL: EXPLAIN_ROUTE, LAST_ROUTE, REASONS or SESSION_STATE."""
    explained: "StatementFacts | None" = None
    """The statement in EXPLAIN (ROUTE)."""
    as_json: bool = False
    """EXPLAIN (ROUTE, FORMAT JSON)."""
    depends_on_constants: bool = False
    """These facts hold for this very text, not for others of its shape."""
    changes: frozenset[Change] = frozenset()
    """The same, told apart by what is done to them."""
    procedures: frozenset[Call] = frozenset()
    """What it runs by CALL."""
    blocks: tuple[str, ...] = ()
    """The blocks of PL/pgSQL that it runs by DO; a block in another language is not here."""
    parts: "tuple[StatementFacts, ...]" = ()
    """Of several statements: each for itself."""
    changes_cluster: bool = False
    """It renames what all databases have in common: a role, or a database."""
    varies: str = ""
    """Why the same text may have another answer although no table has changed, by its structure alone."""
    casts: frozenset[Cast] = frozenset()
    """The casts of what is no constant, parameter or, certainly, a date."""
    zoned: frozenset[str] = frozenset()
    """The columns that stand before AT TIME ZONE; ANYTHING for what may be a time of day."""
    given_names: frozenset[str] = frozenset()
    """The names that it gives to columns and relations of its own: a column of such a name may be of any type."""
    cache_hint: str = ""
    """CACHE_ON or CACHE_OFF, from a comment."""
    cache_ttl_s: float = 0.0
    """For how long a comment lets its answer be kept; 0 where none says."""
    hint: str = ""
    """PRIMARY_HINT, STANDBY_HINT or one of LEVEL_HINTS, from a comment."""
    pattern: str = ""
    """The expression of primary_queries that its text matches."""
    temporary: frozenset[str] = frozenset()
    """The names of the temporary relations it creates."""
    effects: tuple[StateEffect, ...] = ()
    """What it does to the state of its session, in the order of its text."""
    shape: str = ""
    """Its text without its constants, where it has effects."""
    copy_in: bool = False
    """It may put the connection into copy-in mode."""
    renames: bool = False
    """It sets, for its transaction or longer, by what schemas or as whom names are looked up, or may do so."""
    deallocates_all: bool = False
    """It drops every prepared statement of its session."""
    changes_catalog: int = UNCHANGED
    """Whether it creates, alters or drops something that routing reads of the catalog."""
    special: bool = field(init=False, default=False)
    """It says anything of the above that is not about where to run it. Worked out, not given."""

    def __post_init__(self) -> None:
        special = bool(
            self.transaction
            or self.own_setting
            or self.asks
            or self.temporary
            or self.effects
            or self.copy_in
            or self.deallocates_all
            or self.changes_catalog
            or self.hint in LEVEL_HINTS
        )
        object.__setattr__(self, "special", special)


EXPLAIN_ROUTE: Final = "explain"
LAST_ROUTE: Final = "last_route"
REASONS: Final = "reasons"
SESSION_STATE: Final = "session_state"
ALL_SETTINGS: Final = " "
ANY_SETTING: Final = "*"
PRIMARY_HINT: Final = "primary"
STANDBY_HINT: Final = "standby"
CACHE_ON: Final = "on"
CACHE_OFF: Final = "off"
LEVEL_HINTS: Final = frozenset({"eventual", "session", "global"})
"""A level of consistency, for one statement."""

UNREAD: Final = StatementFacts(
    kind="Unread",
    write_reason="its text could not be read",
    effects=(StateEffect(UNKNOWN, LEAVES, "a statement that could not be read", any_name=True),),
    copy_in=True,
    renames=True,
    deallocates_all=True,
    changes_catalog=MAY_CHANGE,
)
"""Text beyond PostgreSQL's grammar as we know it, or too long to read: it may do anything. The server will judge."""

EMPTY: Final = StatementFacts(kind="Empty", write_reason="it is empty")
