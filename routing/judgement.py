"""What makes a name hazardous: the questions that routing/assemble.py asks of each thing in a catalog.

One set of answers is about running on a standby, which is Judgement's own; another about keeping an answer in the query
cache, routing/cache_judgement.py. How hazards spread from one thing to those that use it is the same for both.
"""

import re
from typing import Final

from parser.facts import StatementFacts
from routing.catalog import Catalog, SearchPath, hazard_of
from routing.functions import (
    HARMLESS_SETTINGS,
    PRIMARY_ONLY,
    PRIMARY_ONLY_OVERLOADS,
    PRIMARY_ONLY_PREFIXES,
    SAFE_VOLATILE,
)
from routing.rows import Function, Overrides, Relation, Type

VOLATILE: Final = "is volatile"
_SETTING: Final = re.compile(r"current_setting\s*\(\s*'([^']*)'")


class Judgement:
    """May it run on a standby?"""

    def __init__(self, overrides: Overrides) -> None:
        self._overrides = overrides

    def listed(self, function: Function) -> str | None:
        """The hazard of a function that the operator has listed; None of one that is not."""
        return self._overrides.of(function)

    def declared(self, function: Function) -> str:
        """What its declaration and our lists say of it."""
        if function.kind == "p":
            return "is a procedure"
        if function.schema == "pg_catalog" and function.builtin:
            name = function.name
            if name in SAFE_VOLATILE:
                return ""
            listed = PRIMARY_ONLY.get(name) or PRIMARY_ONLY_OVERLOADS.get((name, function.arguments), "")
            for prefix, reason in PRIMARY_ONLY_PREFIXES.items():
                if name.startswith(prefix):
                    listed = reason
            if listed:
                return listed
        return VOLATILE if function.volatility == "v" else ""

    def body(self, body: str) -> str:
        """What a function's body, in lower case, says that is no name."""
        settings = _SETTING.findall(body)
        if len(settings) != body.count("current_setting") or not HARMLESS_SETTINGS.issuperset(settings):
            return "asks for a setting that may differ between nodes"
        return ""

    def text(self, facts: StatementFacts, text: str, catalog: Catalog, path: SearchPath) -> str:
        """What is wrong with a text of the catalog's own: a view's, a policy's, a CHECK's."""
        return facts.write_reason or hazard_of(facts, catalog, path)

    def relation(self, relation: Relation) -> str:
        """What is wrong with a relation, apart from what all relations of its kind have."""
        return ""

    def by_name(self, relation: Relation) -> bool:
        """Whether its name in a function's body is enough to mean it."""
        return True

    def type(self, one: Type) -> str:
        """What is wrong with a cast to a type, apart from what it calls."""
        return ""
