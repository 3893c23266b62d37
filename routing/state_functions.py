"""Functions that may leave something on the session that calls them: what a statement's text cannot show.

In: the functions of a database, with their bodies. Out: the names of those whose bodies say so, and of those that
mention one of these. A body is searched for words, not read: one that makes its SQL up as it goes is not found.
"""

import re
from collections.abc import Sequence
from typing import Final

from parser.session_state import ADVISORY_LOCKS
from routing.rows import Function

_says_so: Final = re.compile(
    r"\bset_config\b|\bsetseed\b|\bwith\s+hold\b|\bpg_temp\b"
    r"|\b(?:create|into)\s+(?:local\s+|global\s+)?temp(?:orary)?\b"
    rf"|\b(?:{'|'.join(sorted(ADVISORY_LOCKS))})\b"
    # As a statement, not as the SET of an UPDATE.
    r"|(?:^|;|\bbegin|\bthen|\belse|\bloop|')\s*"
    r"(?:(?:set|reset)\s+(?!local\b|transaction\b|constraints\b)|listen\s|unlisten\b|discard\s|deallocate\s|load\s)"
)
_WORD: Final = re.compile(r"[a-z_\x80-\U0010ffff][a-z0-9_$\x80-\U0010ffff]*")


# The same of SET LOCAL, whose effect ends with its transaction and not before.
_renames: Final = re.compile(
    r"\bsearch_path\b|\bset_config\s*\(\s*(?!')|'(?:role|session_authorization)'"
    r"|\bset\s+(?:local\s+|session\s+)?(?:role|session\s+authorization|schema)\b"
)


def leaving_state(functions: Sequence[Function]) -> frozenset[str]:
    """Their names."""
    return _saying(_says_so, functions)


def renaming(functions: Sequence[Function]) -> frozenset[str]:
    """Those behind which names may mean something else, until the transaction ends or longer."""
    return _saying(_renames, functions)


def _saying(words_of_interest: re.Pattern[str], functions: Sequence[Function]) -> frozenset[str]:
    bodies = [(one.name, one.body.lower()) for one in functions if one.body and not one.builtin]
    found = {name for name, body in bodies if words_of_interest.search(body) is not None}
    words = [(name, frozenset(_WORD.findall(body))) for name, body in bodies]
    more = bool(found)
    while more:
        lower = {name.lower() for name in found}
        new = {name for name, said in words if name not in found and not lower.isdisjoint(said)}
        found |= new
        more = bool(new)
    return frozenset(found)
