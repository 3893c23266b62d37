"""What the log has been told of connections to one node that could not be opened: each failure once, until it is over.

Per database, user and error: that one database does not exist says nothing of another, and must not hide that a
password is wrong there.
"""

from typing import Final

WHO_MAX: Final = 1000
"""Databases and users. Clients make up names at will: at the bound the one that has failed for longest is forgotten."""
ERRORS_MAX: Final = 10
"""Errors of each; more are not told."""


class Failures:
    """One node's, in one worker."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: Final[dict[tuple[bytes, bytes], set[str]]] = {}

    def failed(self, database: bytes, user: bytes, error: str) -> bool:
        """None could be opened, for this reason; whether the log is to have it."""
        who = database, user
        told = self._told.get(who)
        if told is None:
            if len(self._told) >= WHO_MAX:
                del self._told[next(iter(self._told))]
            told = self._told[who] = set()
        if error in told or len(told) >= ERRORS_MAX:
            return False
        told.add(error)
        return True

    def succeeded(self, database: bytes, user: bytes) -> bool:
        """One could be opened; whether the log has it otherwise."""
        return self._told.pop((database, user), None) is not None
