"""Where a statement goes, and why: facts and catalog in, Decision out. When in doubt, the primary.

The control plane publishes a Catalog per database; a worker keeps one Router per database and search_path, and asks it
for each statement it has not asked for yet under that catalog.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from parser.facts import BEGIN, PRIMARY_HINT, STANDBY_HINT, TWO_PHASE, StatementFacts, TransactionFacts
from routing.cached import NO_CATALOG as NOT_CACHED
from routing.cached import Cached, cached, touched
from routing.catalog import ANYWHERE, ISOLATION_SETTING, PATH_SETTING, READ_ONLY_SETTING, Catalog, SearchPath, hazard_of


class Target(Enum):
    """The kind of node a statement needs."""

    PRIMARY = "primary"
    STANDBY = "standby"


PRIMARY: Final = Target.PRIMARY
STANDBY: Final = Target.STANDBY
"""Compiled, a constant is read at once, an Enum's member through its class."""


@dataclass(frozen=True)
class Decision:
    """The outcome of routing one statement: `reason` completes the sentence "it goes there because ..."."""

    target: Target
    reason: str
    writes: bool = True
    """It may have written something that its client must see in what it reads next."""


NO_CATALOG: Final = Decision(PRIMARY, "the catalog of its database is not loaded yet")
IN_TRANSACTION: Final = Decision(PRIMARY, "it is part of a transaction")
INCOMPLETE: Final = Decision(PRIMARY, "its batch goes on, and what follows is not known")
FUNCTION_CALL: Final = Decision(PRIMARY, "it is a FunctionCall message")
READ_ONLY: Final = Decision(STANDBY, "it begins a read-only transaction", writes=False)
HINTED: Final = {
    PRIMARY_HINT: Decision(PRIMARY, "a comment in it asks for the primary"),
    STANDBY_HINT: Decision(STANDBY, "a comment in it asks for a standby"),
}
READS: Final = Decision(STANDBY, "it only reads", writes=False)
TOO_STRICT: Final = Decision(
    PRIMARY, "its session's transactions are serializable, which no standby does", writes=False
)

ASKS: Final = Decision(PRIMARY, "it asks about routing", writes=False)

SERIALIZABLE: Final = "serializable"
"""The isolation level that hot standby lacks."""

FORGOTTEN: Final = "the catalog of its database has been forgotten, too many being in use, and is asked for again"
"""The hazard of the empty catalog that takes the place of one that was forgotten."""

CHANGING: Final = "the catalog of its database has just changed and is being read again"
"""The hazard of the empty catalog that stands in meanwhile."""


def decide(facts: StatementFacts, catalog: Catalog | None, path: SearchPath = ANYWHERE) -> Decision:
    """Route one string of SQL that stands outside a transaction."""
    if facts.asks:
        return ASKS
    if facts.hint in HINTED and not facts.effects:
        return HINTED[facts.hint]
    read_only = facts.transaction is not None and begins_read_only(facts.transaction)
    if facts.write_reason and not read_only:
        return Decision(PRIMARY, facts.write_reason, writes=_may_write(facts))
    if catalog is None:
        return NO_CATALOG
    hazard = hazard_of(facts, catalog, path)
    if hazard:
        return Decision(PRIMARY, hazard, writes=facts.kind != "VariableShowStmt")
    if facts.pattern:
        return Decision(PRIMARY, f"it matches {facts.pattern} of primary_queries", writes=False)
    return READ_ONLY if read_only else READS


def _may_write(facts: StatementFacts) -> bool:
    """Whether what no standby runs may change data: what only frames a transaction, or moves in it, does not."""
    if facts.transaction is not None:
        return facts.transaction.kind == TWO_PHASE
    return facts.kind not in FRAMES


FRAMES: Final = frozenset(
    {
        "VariableSetStmt",
        "ClosePortalStmt",
        "PrepareStmt",
        "DeallocateStmt",
        "ListenStmt",
        "UnlistenStmt",
        "LockStmt",
        "Empty",
    }
)


def begins_read_only(transaction: TransactionFacts) -> bool:
    """Whether a standby can run the transaction that this begins: hot standby has no SERIALIZABLE."""
    return transaction.kind == BEGIN and transaction.read_only is True and transaction.isolation != SERIALIZABLE


NO_NAMES: Final[frozenset[str]] = frozenset()


class Router:
    """decide() for one database, role and search_path, remembered per statement until the catalog changes."""

    def __init__(
        self,
        user: str = "",
        path: SearchPath | None = ANYWHERE,
        missing: Callable[[], None] | None = None,
    ) -> None:
        """`path` is the client's own search_path; None for what its role, the database or the server has.

        `missing` is called when there is something to decide, and no catalog to decide by."""
        self.catalog: Catalog | None = None
        self.changed_at = 0.0
        """A standby that was up to date at this time, or later, has the catalog that decisions are made by."""
        self._user: Final = user
        self._missing: Final = missing
        self._own_path: Final = path
        self._path = path
        self._decisions: dict[StatementFacts, Decision] = {}
        self._leaving_state: dict[StatementFacts, bool] = {}
        self._cached: dict[StatementFacts, Cached] = {}
        self._touched: dict[StatementFacts, tuple[int, ...] | None] = {}
        self._suspended_at = 0.0
        self.isolation = ""
        """That of its role's transactions, "" where nothing is set."""
        self.read_only = False
        """Whether its role's transactions are read-only, unless they say otherwise."""

    def set_catalog(self, catalog: Catalog, read_at: float, changed_at: float) -> None:
        """Use a new snapshot, and forget what was decided under the last. One from before a change is passed over."""
        if read_at >= self._suspended_at:
            if self._own_path is None and catalog.settings:
                default = default_path(catalog, self._user)
                # Connections that were opened before keep the path they have.
                self._path = default if self._path in (None, default) else ANYWHERE
            if catalog.settings:
                self._use_settings(catalog)
            self._use(catalog)
            self.changed_at = changed_at

    def _use_settings(self, catalog: Catalog) -> None:
        self.read_only = is_on(setting(catalog, READ_ONLY_SETTING, self._user) or "")
        isolation = setting(catalog, ISOLATION_SETTING, self._user)
        if isolation is None or (not self._user and SERIALIZABLE in catalog.settings[ISOLATION_SETTING].values()):
            isolation = SERIALIZABLE
        if self.isolation != SERIALIZABLE:
            # Connections that were opened before have what was set then.
            self.isolation = isolation.lower()

    def standbys_fit(self) -> bool:
        """Whether a standby may run anything that these decisions are about."""
        return self.catalog is not None and not self.catalog.hazard and self.isolation != SERIALIZABLE

    def lacks_catalog(self) -> bool:
        """There is none, or none any more."""
        return self.catalog is None or self.catalog.hazard == FORGOTTEN

    def suspend(self, now: float) -> None:
        """A change of the catalog was seen: go by no snapshot that was begun before now."""
        self._suspended_at = now
        self._use(None)

    @property
    def path(self) -> SearchPath:
        """The schemas that unqualified names may mean."""
        return self._path or ANYWHERE

    def retire(self) -> None:
        """There will be no more snapshots: whoever still asks is sent to the primary."""
        self._use(None)

    def _use(self, catalog: Catalog | None) -> None:
        self.catalog = catalog
        self._decisions = {}
        self._leaving_state = {}
        self._cached = {}
        self._touched = {}

    def leaves_state(self, facts: StatementFacts) -> bool:
        """Whether a function that it calls may leave something on its session, or is not known yet."""
        known = self._leaving_state.get(facts)
        if known is None:
            catalog = self.catalog
            known = catalog is None or any(
                name in catalog.leaving_state or name not in catalog.functions for _, name, _ in facts.calls
            )
            if len(self._leaving_state) >= DECISIONS_MAX:
                self._leaving_state = {}
            self._leaving_state[facts] = known
        return known

    def route(self, facts: StatementFacts) -> Decision:
        """The decision for `facts` under the present catalog."""
        decision = self._decisions.get(facts)
        if decision is None:
            if self._missing is not None and self.lacks_catalog():
                self._missing()
            decision = decide(facts, self.catalog, self.path)
            if decision.target is STANDBY and self.isolation == SERIALIZABLE:
                decision = TOO_STRICT
            if len(self._decisions) >= DECISIONS_MAX:
                self._decisions = {}
            self._decisions[facts] = decision
        return decision

    def renames(self, facts: StatementFacts) -> bool:
        """Whether names may mean something else behind it, or within it."""
        if facts.renames or not facts.calls:
            return facts.renames
        catalog = self.catalog
        return catalog is None or any(name in catalog.renaming for _, name, _ in facts.calls)

    def cached(self, facts: StatementFacts) -> Cached:
        """Whether the answer to `facts` may be cached under the present catalog, and what it depends on."""
        known = self._cached.get(facts)
        if known is None:
            catalog = self.catalog
            known = NOT_CACHED if catalog is None else cached(facts, catalog, self.path)
            if len(self._cached) >= DECISIONS_MAX:
                self._cached = {}
            self._cached[facts] = known
        return known

    def touched(self, facts: StatementFacts, own: frozenset[str] = NO_NAMES) -> tuple[int, ...] | None:
        """The relations that `facts` may change: see routing.cached.touched()."""
        if own:
            return touched(facts, self.catalog, self.path, own)
        known = self._touched.get(facts, UNASKED)
        if known is UNASKED:
            known = touched(facts, self.catalog, self.path)
            if len(self._touched) >= DECISIONS_MAX:
                self._touched = {}
            self._touched[facts] = known
        return known


UNASKED: Final[tuple[int, ...] | None] = (-1,)
DECISIONS_MAX: Final = 20_000
"""Decisions remembered per database; beyond it all are forgotten and made again, a few microseconds each."""


def setting(catalog: Catalog, name: str, user: str) -> str | None:
    """What the server, the database or the role has set `name` to; None where it cannot be known."""
    values = catalog.settings.get(name, {})
    return values.get(user, values.get(""))


def is_on(value: str) -> bool:
    """A boolean as PostgreSQL reads it: a word, or as much of it as tells it from others."""
    value = value.strip("\"' ").lower()
    return value in ("on", "1") or (value != "" and ("true".startswith(value) or "yes".startswith(value)))


def default_path(catalog: Catalog, user: str) -> SearchPath:
    """The search_path of a role that has said nothing at login; ANYWHERE where it is not known."""
    value = setting(catalog, PATH_SETTING, user)
    return ANYWHERE if value is None else search_path_of(value, user)


def search_path_of(value: str, user: str) -> SearchPath:
    """The schemas that a search_path names, pg_catalog first where it does not say otherwise.

    Settings come as text such as `"$user", public`; names in double quotes are taken as they are, others are folded.
    Raises nothing: what cannot be read is ANYWHERE.
    """
    schemas: list[str] = []
    for part in value.split(","):
        name = part.strip()
        name = name[1:-1] if name.startswith('"') and name.endswith('"') and len(name) > 1 else name.lower()
        if '"' in name:
            return ANYWHERE
        if name:
            schemas.append(user if name == "$user" else name)
    return tuple(schemas) if "pg_catalog" in schemas else ("pg_catalog", *schemas)
