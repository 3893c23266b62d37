"""What a statement's comments ask of us: where it is to run, and whether its answer may come from the query cache.

In: the comments of one text, as written. A comment that is not exactly a hint is a comment.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from parser.facts import CACHE_OFF, CACHE_ON, PRIMARY_HINT


class Hints(NamedTuple):
    """What all comments of one text say."""

    route: str = ""
    """StatementFacts.hint."""
    cache: str = ""
    """StatementFacts.cache_hint."""
    cache_ttl_s: float = 0.0


NO_HINTS: Final = Hints()

_OURS: Final = r"/\*\s*pointsman\s*:\s*"
_ROUTE: Final = re.compile(_OURS + r"(primary|standby|eventual|session|global)\s*\*/", re.IGNORECASE)
_PGPOOL_PRIMARY: Final = re.compile(r"/\*\s*NO\s+LOAD\s+BALANCE\s*\*/", re.IGNORECASE)
_NO_CACHE: Final = re.compile(rf"(?:{_OURS}no\s+cache|/\*\s*NO\s+QUERY\s+CACHE)\s*\*/", re.IGNORECASE)
_CACHE: Final = re.compile(
    _OURS + r"cache(?:\s+([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s|min|h))?\s*\*/", re.IGNORECASE | re.ASCII
)

UNITS_S: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
"""Units of time as settings have them (utils/misc/guc.c, time_unit_conversion_table)."""


def hints_in(comments: Sequence[str]) -> Hints:
    """Of several that say where to run, the last holds; one that forbids the cache holds against all others."""
    route, cache, ttl_s = "", "", 0.0
    for comment in comments:
        where = _ROUTE.fullmatch(comment)
        if where is not None:
            route = where[1].lower()
        elif _PGPOOL_PRIMARY.fullmatch(comment):
            route = PRIMARY_HINT
        elif _NO_CACHE.fullmatch(comment):
            cache = CACHE_OFF
        else:
            given_s = _cache_for(comment)
            if given_s is not None and cache != CACHE_OFF:
                cache, ttl_s = CACHE_ON, given_s
    return Hints(route, cache, ttl_s if cache == CACHE_ON else 0.0)


def _cache_for(comment: str) -> float | None:
    """For how long a comment lets the answer be kept: 0 where it does not say; None where it is no such comment."""
    asked = _CACHE.fullmatch(comment)
    if asked is None:
        return None
    if asked[1] is None:
        return 0.0
    # Kept for no time at all is a way to say nothing.
    return float(asked[1]) * UNITS_S[asked[2].lower()] or None
