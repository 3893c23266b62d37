"""Which of the settings' rules holds for a client: the first that matches its database, user, address and
application_name, as they were at its login. Rules are few and clients many, so answers are remembered.
"""

import ipaddress
import re
from typing import Final

from middleware.config import RoutePolicy

KNOWN_MAX: Final = 10_000
"""Answers remembered. Clients make up names at will: at the bound all are forgotten."""
UNIX: Final = "unix"
NAME_BYTES_MAX: Final = 63
"""What PostgreSQL keeps of an application_name (NAMEDATALEN), and so what an operator sees of it."""

KnownAs = tuple[bytes, bytes, bytes, str]
"""What a client is known by: database, user and application_name as it gave them at its login, and its address."""


class Rule:
    """A policy and whom it is for."""

    __slots__ = ("_application_name", "_database", "_networks", "_unix_sockets", "_user", "policy")

    def __init__(self, policy: RoutePolicy) -> None:
        self.policy: Final = policy
        self._database: Final = _compiled(policy.database)
        self._user: Final = _compiled(policy.user)
        self._application_name: Final = _compiled(policy.application_name)
        self._unix_sockets: Final = UNIX in policy.client_addr
        self._networks: Final = [ipaddress.ip_network(one) for one in policy.client_addr if one != UNIX]

    def names(self, database: str) -> bool:
        """Whether it may hold for clients of a database."""
        return _matches(self._database, database)

    def asks_for_more(self) -> bool:
        """Whether it holds for some of a database's clients only."""
        policy = self.policy
        return policy.user is not None or policy.application_name is not None or bool(policy.client_addr)

    def matches(self, database: str, user: str, application_name: str, address: str) -> bool:
        return (
            self._matches_address(address)
            and _matches(self._database, database)
            and _matches(self._user, user)
            and _matches(self._application_name, application_name)
        )

    def _matches_address(self, address: str) -> bool:
        if not self.policy.client_addr:
            return True
        if address == UNIX:
            return self._unix_sockets
        found = ipaddress.ip_address(address.partition("%")[0])
        # An IPv4 client of a socket that takes both.
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        return any((mapped or found) in network for network in self._networks)


class Policies:
    """The rules in their order, the last one for everybody."""

    __slots__ = ("_addresses", "_known", "_rules")

    def __init__(self, policies: tuple[RoutePolicy, ...]) -> None:
        self._rules: Final = [Rule(policy) for policy in policies]
        self._addresses: Final = any(policy.client_addr for policy in policies)
        self._known: dict[tuple[bytes, bytes, bytes, str], RoutePolicy] = {}

    def of(self, database: bytes, user: bytes, application_name: bytes, address: str) -> RoutePolicy:
        """What holds for a client; its address is "unix" where it has none."""
        key = database, user, application_name[:NAME_BYTES_MAX], address if self._addresses else ""
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known = {}
            database_name, user_name, name = [part.decode(errors="replace") for part in key[:3]]
            known = self._known[key] = self._first(database_name, user_name, name, address)
        return known

    def leading(self, database: str) -> list[RoutePolicy]:
        """All that may hold for clients who ask for this database; none where it does not exist."""
        found: list[RoutePolicy] = []
        for rule in self._rules:
            if rule.names(database):
                if not rule.policy.refuse:
                    found.append(rule.policy)
                if not rule.asks_for_more():
                    break
        return found

    def _first(self, database: str, user: str, application_name: str, address: str) -> RoutePolicy:
        for rule in self._rules:
            if rule.matches(database, user, application_name, address):
                return rule.policy
        raise AssertionError("the last rule matches everybody")


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    return None if pattern is None else re.compile(pattern)


def _matches(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is None or pattern.fullmatch(text) is not None
