"""Where a statement goes, and why: facts and catalog in, Decision out. When in doubt, the primary.

The control plane publishes a Catalog per database; a worker keeps one Router per database and asks it for each
statement it has not asked for yet under that catalog.
"""

from enum import Enum
from typing import Final

import msgspec

from parser.facts import StatementFacts
from routing.catalog import Catalog
from routing.functions import PRIMARY_ONLY


class Target(Enum):
    """The kind of node a statement needs."""

    PRIMARY = "primary"
    STANDBY = "standby"


class Decision(msgspec.Struct, frozen=True):
    """The outcome of routing one statement: `reason` completes the sentence "it goes there because ..."."""

    target: Target
    reason: str


NO_CATALOG: Final = Decision(Target.PRIMARY, "the catalog of its database is not loaded yet")
IN_TRANSACTION: Final = Decision(Target.PRIMARY, "it is part of a transaction")
INCOMPLETE: Final = Decision(Target.PRIMARY, "its batch goes on, and what follows is not known")
FUNCTION_CALL: Final = Decision(Target.PRIMARY, "it is a FunctionCall message")


def decide(facts: StatementFacts, catalog: Catalog | None) -> Decision:
    """Route one string of SQL that stands outside a transaction."""
    if facts.write_reason:
        return Decision(Target.PRIMARY, facts.write_reason)
    if catalog is None:
        return NO_CATALOG
    for function in sorted(facts.functions):
        if function in PRIMARY_ONLY:
            return Decision(Target.PRIMARY, f"it calls {function}(), which {PRIMARY_ONLY[function]}")
        if function not in catalog.readable_functions:
            return Decision(Target.PRIMARY, f"it calls {function}(), which is volatile or not known")
    return Decision(Target.STANDBY, "it only reads")


class Router:
    """decide() for one database, remembered per statement until the catalog changes."""

    def __init__(self) -> None:
        self.catalog: Catalog | None = None
        self._decisions: dict[StatementFacts, Decision] = {}

    def set_catalog(self, catalog: Catalog) -> None:
        """Use a new snapshot, and forget what was decided under the last."""
        self.catalog = catalog
        self._decisions = {}

    def retire(self) -> None:
        """There will be no more snapshots: whoever still asks is sent to the primary."""
        self.catalog = None
        self._decisions = {}

    def route(self, facts: StatementFacts) -> Decision:
        """The decision for `facts` under the present catalog."""
        decision = self._decisions.get(facts)
        if decision is None:
            decision = decide(facts, self.catalog)
            if len(self._decisions) >= DECISIONS_MAX:
                self._decisions = {}
            self._decisions[facts] = decision
        return decision


DECISIONS_MAX: Final = 20_000
"""Decisions remembered per database; beyond it all are forgotten and made again, a microsecond each."""
