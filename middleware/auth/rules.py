"""Rules and maps, as plain values that travel to the workers, and whom they fit."""

import ipaddress
import re
from typing import Final

import msgspec

METHODS: Final = ("trust", "reject", "password", "md5", "scram-sha-256", "scram-sha-256-plus", "cert", "peer")
"""PostgreSQL's, of which `scram-sha-256` takes channel binding where the client offers it; and one that demands it."""


class HbaRule(msgspec.Struct, frozen=True, array_like=True):
    """A record of pg_hba.conf, or what stands for one."""

    kind: str
    """"local", "host", "hostssl", "hostnossl", or "any" for all of them."""
    databases: tuple[str, ...]
    """Names, expressions that begin with a slash; a keyword is written as "=all", "=sameuser", "=replication"."""
    users: tuple[str, ...]
    networks: tuple[str, ...]
    """None for any."""
    method: str
    map: str = ""
    """The map of names in certificates, or of the system's users; "" for the same name."""
    client_cert: str = ""
    """"verify-ca" or "verify-full": what a certificate beside the method must show; "" for nothing."""
    client_name: str = "CN"
    """Which name of a certificate counts: "CN" or "DN"."""
    where: str = ""
    """File and line, for the log."""


class UserMapping(msgspec.Struct, frozen=True, array_like=True):
    """A record of pg_ident.conf."""

    map: str
    system_user: str
    """A name, or a slash and an expression."""
    user: str
    """A name, "=all", or a slash and an expression; `\\1` is what the system user's expression has caught."""


class Visitor(msgspec.Struct, frozen=True):
    """What a rule looks at."""

    address: str
    """"unix" for a unix socket."""
    encrypted: bool
    database: str
    user: str
    replication: bool = False
    """By a physical replication connection."""

    def described(self) -> str:
        """As PostgreSQL names who it has no entry for."""
        where = "[local]" if self.address == "unix" else self.address
        encryption = "SSL encryption" if self.encrypted else "no encryption"
        if self.replication:
            return f'host "{where}", user "{self.user}", {encryption}'
        return f'host "{where}", user "{self.user}", database "{self.database}", {encryption}'


def first_match(rules: tuple[HbaRule, ...], visitor: Visitor) -> HbaRule | None:
    """The rule that holds for a visitor."""
    return next((rule for rule in rules if _matches(rule, visitor)), None)


def mapped(maps: tuple[UserMapping, ...], name: str, certified: str, user: str) -> bool:
    """Whether the map `name` lets who is certified as `certified` be `user`; without a map it is the same name."""
    if not name:
        return certified == user
    return any(mapping.map == name and _maps(mapping, certified, user) for mapping in maps)


def kind_of(secret: str) -> str:
    """As PostgreSQL tells kinds of rolpassword."""
    if secret.startswith("SCRAM-SHA-256$"):
        return "scram"
    return "md5" if re.fullmatch(r"md5[0-9a-f]{32}", secret) else "plain"


def _matches(rule: HbaRule, visitor: Visitor) -> bool:
    local = visitor.address == "unix"
    if rule.kind == "local":
        fits = local
    elif rule.kind == "any":
        fits = True
    else:
        fits = not local and (rule.kind == "host" or (rule.kind == "hostssl") == visitor.encrypted)
    return (
        fits
        and _matches_address(rule.networks, visitor.address)
        and any(_matches_database(word, visitor) for word in rule.databases)
        and any(_matches_name(word, visitor.user) for word in rule.users)
    )


def _matches_address(networks: tuple[str, ...], address: str) -> bool:
    if not networks or address == "unix":
        return True
    found = ipaddress.ip_address(address.partition("%")[0])
    v4 = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((v4 or found) in ipaddress.ip_network(network) for network in networks)


def _matches_database(word: str, visitor: Visitor) -> bool:
    if visitor.replication or word == "=replication":
        # It is in no database: names do not match it, not even "all".
        return visitor.replication and word == "=replication"
    if word == "=sameuser":
        return visitor.database == visitor.user
    return _matches_name(word, visitor.database)


def _matches_name(word: str, name: str) -> bool:
    if word == "=all":
        return True
    if word.startswith("/"):
        return re.search(word[1:], name) is not None
    return word.removeprefix("\\") == name


def _maps(mapping: UserMapping, certified: str, user: str) -> bool:
    caught = ""
    if mapping.system_user.startswith("/"):
        found = re.search(mapping.system_user[1:], certified)
        if found is None:
            return False
        caught = found[1] if found.re.groups else ""
    elif mapping.system_user != certified:
        return False
    if mapping.user.startswith("/") or mapping.user == "=all":
        return _matches_name(mapping.user, user)
    return mapping.user.replace("\\1", caught) == user
