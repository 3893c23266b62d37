"""Whose account clients are on: what they call their database and themselves at login, and the rule that holds for
them. All who are alike in that share one object.
"""

from typing import Final

from middleware.config import RoutePolicy

KNOWN_MAX: Final = 10_000
"""Accounts remembered. Clients make up names at will: at the bound all are forgotten, but by who is on them."""


class Account:
    """See above."""

    __slots__ = ("database", "policy", "user")

    def __init__(self, database: str, user: str, policy: RoutePolicy) -> None:
        self.database: Final = database
        self.user: Final = user
        self.policy: Final = policy


class Accounts:
    """Those of one worker."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, RoutePolicy], Account] = {}

    def of(self, database: bytes, user: bytes, policy: RoutePolicy) -> Account:
        """That of a client, by its own words."""
        known = self._known.get((database, user, policy))
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known = {}
            names = database.decode(errors="replace"), user.decode(errors="replace")
            known = self._known[database, user, policy] = Account(*names, policy)
        return known
