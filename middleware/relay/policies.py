"""Which of the settings' rules holds for a client: the first whose expressions match its database, user and
application_name, as they were at its login. Rules are few and clients many, so answers are remembered.
"""

import re
from typing import Final

from middleware.config import RoutePolicy

KNOWN_MAX: Final = 10_000
"""Answers remembered. Clients make up names at will: at the bound all are forgotten."""
NAME_BYTES_MAX: Final = 63
"""What PostgreSQL keeps of an application_name (NAMEDATALEN), and so what an operator sees of it."""


class Rule:
    """A policy and whom it is for."""

    __slots__ = ("_application_name", "_database", "_user", "policy")

    def __init__(self, policy: RoutePolicy) -> None:
        self.policy: Final = policy
        self._database: Final = _compiled(policy.database)
        self._user: Final = _compiled(policy.user)
        self._application_name: Final = _compiled(policy.application_name)

    def matches(self, database: str, user: str, application_name: str) -> bool:
        return (
            _matches(self._database, database)
            and _matches(self._user, user)
            and _matches(self._application_name, application_name)
        )


class Policies:
    """The rules in their order, the last one for everybody."""

    __slots__ = ("_known", "_rules")

    def __init__(self, policies: tuple[RoutePolicy, ...]) -> None:
        self._rules: Final = [Rule(policy) for policy in policies]
        self._known: dict[tuple[bytes, bytes, bytes], RoutePolicy] = {}

    def of(self, database: bytes, user: bytes, application_name: bytes) -> RoutePolicy:
        """What holds for a client."""
        key = database, user, application_name[:NAME_BYTES_MAX]
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known = {}
            known = self._known[key] = self._first(*[part.decode(errors="replace") for part in key])
        return known

    def _first(self, database: str, user: str, application_name: str) -> RoutePolicy:
        for rule in self._rules:
            if rule.matches(database, user, application_name):
                return rule.policy
        raise AssertionError("the last rule matches everybody")


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    return None if pattern is None else re.compile(pattern)


def _matches(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is None or pattern.fullmatch(text) is not None
