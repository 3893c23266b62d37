"""What a body of code may do, by the words in it: which relations it may change or read, and what it may call.

In: the text of a function or of a DO block, and the names of a database. Out: nodes of the graphs of
routing/cache_catalog.py, or None where the text does not tell. In SQL and PL/pgSQL a relation can only be changed by
writing its name down, with a word such as INSERT, unless the code makes up SQL as it goes, by EXECUTE. What is said in
comments and strings counts as well: more than happens may be found, not less.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from parser.facts import DELETES, INSERTS, TRUNCATES, UPDATES
from routing.cache_catalog import EVERY_DATABASE, Callee, Place
from routing.cache_functions import RELOAD, RUN_SQL

READ_LANGUAGES: Final = frozenset({"sql", "plpgsql"})

_WORD: Final = re.compile(r"[a-z_\x80-\U0010ffff][a-z0-9_$\x80-\U0010ffff]*")

_WAYS: Final = {
    "insert": INSERTS,
    "copy": INSERTS,
    "update": UPDATES,
    "delete": DELETES,
    "merge": INSERTS + UPDATES + DELETES,
    "truncate": TRUNCATES,
}
_DEFINING: Final = frozenset({"create", "alter", "drop", "refresh", "grant", "revoke", "import", "reassign"})
"""With these it may change what names mean, who may see what, or a materialized view."""
_CLUSTER_WIDE: Final = frozenset({"role", "user", "group", "database", "system", "grant", "revoke"})
"""With one of those above, and one of these, it may do so for all databases."""
_TEMPORARY: Final = re.compile(r"\bcreate\s+(?:(?:local|global)\s+)?temp(?:orary)?\b")


IDENTIFIER_BYTES_MAX: Final = 63
"""NAMEDATALEN - 1."""
CLIPPED_CHARS: Final = IDENTIFIER_BYTES_MAX // 4
"""A word of fewer characters is not longer than that."""


def is_odd(name: str) -> bool:
    """Whether a name stands in no text as a word in lower case."""
    return _WORD.fullmatch(name) is None or name != name.lower()


def changed_by(
    body: str,
    language: str,
    places: Mapping[str, Sequence[Place]],
    callees: Mapping[str, Sequence[Callee]],
    odd: Iterable[str],
) -> tuple[str, ...] | None:
    """The nodes of `effects` that running a body leads to."""
    if language not in READ_LANGUAGES:
        return None
    body = _TEMPORARY.sub("", body.lower())
    words = _words(body)
    if not _DEFINING.isdisjoint(words):
        return (EVERY_DATABASE,) if not _CLUSTER_WIDE.isdisjoint(words) else None
    if "execute" in words or 'u&"' in body or not RUN_SQL.isdisjoint(words):
        return None
    if language == "sql" and "into" in words and "insert" not in words and "merge" not in words:
        return None
    ways = "s" + "".join(dict.fromkeys("".join(_WAYS[word] for word in _WAYS if word in words)))
    nodes = [EVERY_DATABASE] if not RELOAD.isdisjoint(words) else []
    for name in _named(body, words, places, odd):
        nodes += [f"{way}{place.oid}" for place in places[name] for way in ways]
    for name in _named(body, words, callees, odd):
        nodes += [f"f{callee.oid}" for callee in callees[name]]
    return tuple(dict.fromkeys(nodes))


def read_by(
    body: str, places: Mapping[str, Sequence[Place]], callees: Mapping[str, Sequence[Callee]], odd: Iterable[str]
) -> tuple[str, ...]:
    """The nodes of `reads` that running a body leads to."""
    body = body.lower()
    words = _words(body)
    nodes = [f"r{place.oid}" for name in _named(body, words, places, odd) for place in places[name]]
    nodes += [f"f{callee.oid}" for name in _named(body, words, callees, odd) for callee in callees[name]]
    return tuple(dict.fromkeys(nodes))


def _words(body: str) -> frozenset[str]:
    """As identifiers: PostgreSQL cuts off what is too long of one."""
    words = frozenset(_WORD.findall(body))
    long = {word.encode()[:IDENTIFIER_BYTES_MAX].decode(errors="ignore") for word in words if len(word) > CLIPPED_CHARS}
    return words | long


def _named(body: str, words: frozenset[str], things: Mapping[str, object], odd: Iterable[str]) -> list[str]:
    """Those of `things` that a body in lower case mentions."""
    found = [word for word in words if word in things]
    found += [name for name in odd if name in things and name.lower().replace('"', '""') in body]
    return found
