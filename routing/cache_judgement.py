"""The judgements that say whether an answer may be kept: nothing in it may depend on more than what is in its key, and
on the tables that it was read from.

In the key are the statement, its parameters, the database, the user and the role, and the settings of the session. A
hazard follows the name of a thing, as in routing/catalog.py: "it calls now(), which tells the time".
"""

import re
from collections.abc import Callable
from typing import Final

from parser.dates import time_words
from parser.facts import ANYTHING, Cast, StatementFacts
from routing.cache_functions import BY_CATALOG, LASTING, NOT_LASTING, TIME_WITH_ZONE, WITH_DATES
from routing.catalog import Catalog, SearchPath, hazard_of, written
from routing.judgement import VOLATILE, Judgement
from routing.rows import Function, Overrides, Relation, Rows, Type, matches

SYSTEM_SCHEMAS: Final = frozenset({"pg_catalog", "information_schema"})
UNSEEN_MOMENT: Final = "a text may say 'today'"

_ASKS_THE_TIME: Final = re.compile(r"\b(?:current_(?:date|time|timestamp|setting)|local(?:time|timestamp)|age\s*\()")


class CacheJudgement(Judgement):
    """May an answer be kept?"""

    def __init__(self, rows: Rows, overrides: Overrides) -> None:
        super().__init__(overrides)
        self._zoned = closed_over(rows, TIME_WITH_ZONE)
        self.dates = Dates(rows)

    def listed(self, function: Function) -> str | None:
        """Only what is stable can be talked into lasting."""
        if function.volatility != "v" and matches(self._overrides.cache_safe, function.schema, function.name):
            return ""
        return None

    def declared(self, function: Function) -> str:
        """What its declaration and our lists say of it."""
        builtin = function.schema == "pg_catalog" and function.builtin
        if function.volatility == "s":
            return "" if builtin and function.name in LASTING else "is only stable"
        if builtin and function.name in NOT_LASTING:
            return NOT_LASTING[function.name]
        return VOLATILE if function.volatility == "v" else ""

    def body(self, body: str) -> str:
        """What a function's body, in lower case, says that is no name."""
        if time_words(body.encode()):
            return "mentions now, today or the like"
        asks = _ASKS_THE_TIME.search(body)
        if asks is not None:
            return f"asks for {asks[0].rstrip(' (')}"
        return "mentions information_schema" if "information_schema" in body else ""

    def text(self, facts: StatementFacts, text: str, catalog: Catalog, path: SearchPath) -> str:
        """What is wrong with a text of the catalog's own."""
        if time_words(text.encode()):
            return "it mentions now, today or the like"
        return facts.write_reason or facts.varies or self.dates.unseen(facts) or hazard_of(facts, catalog, path)

    def relation(self, relation: Relation) -> str:
        """What is wrong with a relation, apart from what all relations of its kind have."""
        if relation.schema in SYSTEM_SCHEMAS:
            return "belongs to the system catalogs"
        if matches(self._overrides.cache_unsafe_relations, relation.schema, relation.name):
            return "is on the list cache_unsafe_relations"
        if not self._zoned.isdisjoint(relation.columns):
            return "has a column of time with time zone, which depends on the day"
        return ""

    def by_name(self, relation: Relation) -> bool:
        """The views of information_schema have names that any text may hold, and need their schema."""
        return relation.schema != "information_schema"

    def type(self, one: Type) -> str:
        """What is wrong with a cast to a type, apart from what it calls."""
        if one.oid in self._zoned:
            return "depends on the day"
        return "depends on the system catalogs" if one.builtin and one.name.lstrip("_") in BY_CATALOG else ""


class Dates:
    """What a database has of dates, and whether a statement takes for one what may be a text."""

    def __init__(self, rows: Rows) -> None:
        self.columns = rows.date_columns
        relations = {(one.schema, one.name) for one in rows.relations}
        with_dates = closed_over(rows, WITH_DATES)
        self.types = frozenset(
            one.name
            for one in rows.types
            if one.oid in with_dates
            and (one.schema, one.name) not in relations
            and (one.schema, one.name.removeprefix("_")) not in relations
        )
        self.rows = {name for _, name in relations}

    def unseen(self, facts: StatementFacts) -> str:
        """The cast of one of them, as the end of "it is not cached because ..."; or ""."""
        return unseen_moment(facts, self.columns, lambda name: name in self.types or name.lstrip("_") in self.rows)


def unseen_moment(facts: StatementFacts, date_columns: frozenset[str], with_dates: Callable[[str], bool]) -> str:
    """Whether a statement takes for a date or a time of day what may be something else, and how it is said."""
    for cast in sorted(facts.casts):
        if with_dates(cast[1]) and not _is_date(facts, cast[2], date_columns):
            return f"it casts {_what(cast)} to {written(*cast[:2])}, and {UNSEEN_MOMENT}"
    for column in sorted(facts.zoned):
        if not _is_date(facts, column, date_columns):
            return "it applies AT TIME ZONE to what may be a time of day, which depends on the day"
    return ""


def _what(cast: Cast) -> str:
    return "an expression" if cast[2] == ANYTHING else cast[2]


def _is_date(facts: StatementFacts, column: str, date_columns: frozenset[str]) -> bool:
    """Whether a name can only be that of a column of dates: not an alias, nor what PostgreSQL calls an unnamed one."""
    return (
        column in date_columns
        and column not in facts.given_names
        and not column.startswith("column")
        and all(column != name for _, name, _ in facts.calls)
        and all(column != name for _, name in facts.types)
        and all(column != name for _, name in facts.relations)
    )


def closed_over(rows: Rows, oids: frozenset[int]) -> frozenset[int]:
    """These types, and those made of them. The arrays of the built-in ones have no parts in the rows."""
    found = set(oids)
    more = True
    while more:
        new = {one.oid for one in rows.types if one.oid not in found and not found.isdisjoint(one.parts)}
        found |= new
        more = bool(new)
    return frozenset(found)
