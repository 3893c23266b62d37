"""[databases] and [users] of a pgbouncer.ini, as nodes, passwords and rules of ours.

There a connection takes each value from its user, else from its database, else from the top; here the first rule that
matches holds alone. So a rule is written for each pair of a user and a database that both say something, and what a
database does not say is kept from the rules behind it by an empty rule.
"""

import re
from itertools import zip_longest
from typing import Any, Final

from middleware.config.contradictions import may_be_host
from middleware.config.fields import DURATION_S_MAX
from middleware.config.imported import Imported, Values, converted
from middleware.config.pgbouncer_ini import Sections, parameters
from middleware.config.tables import RouteSettings

PORT: Final = 5432
_DATABASE: Final = {
    "dbname": "server_database",
    "user": "server_user",
    "reserve_pool": "reserve_pool_size",
    **{
        name: name
        for name in (
            "pool_size",
            "min_pool_size",
            "reserve_pool_size",
            "pool_mode",
            "max_db_connections",
            "max_db_client_connections",
            "query_wait_timeout",
        )
    },
}
_OF_POOLS: Final = ("pool_mode", "pool_size", "reserve_pool_size", "max_user_connections")
"""Of the user on the servers, who may be another than the client's."""
_OF_CLIENTS: Final = (
    "max_user_client_connections",
    "query_timeout",
    "query_wait_timeout",
    "transaction_timeout",
    "idle_transaction_timeout",
    "client_idle_timeout",
)
_ON_THE_NODE: Final = "say it on the node: ALTER DATABASE .. SET, or ALTER ROLE .. SET"
_WHY: Final = {
    "connect_query": "is not sent; " + _ON_THE_NODE,
    "client_encoding": _ON_THE_NODE,
    "datestyle": _ON_THE_NODE,
    "timezone": _ON_THE_NODE,
    "application_name": _ON_THE_NODE,
    "auth_user": "the top level's auth_user is asked for all databases",
    "auth_query": "the top level's auth_query is asked for all databases",
    "auth_dbname": "the top level's auth_dbname is asked for all databases",
    "load_balance_hosts": "see balance: reads are spread over the standbys, and writes go to the primary",
    "server_lifetime": "set it at the top level: it is for all databases",
}

Rule = tuple[Values, Values]
"""Whom it is for, and what it says."""


def databases_and_users(found: Imported, file: Sections, top: dict[str, str], clients_max: int) -> None:
    """Raises ValueError."""
    reading = _Reading(found, top.get("unix_socket_dir") or "/tmp", clients_max)  # noqa: S108 - PgBouncer's default
    users = {name: reading.user(name, text) for name, text in file.get("users", {}).items()}
    databases = {name: reading.database(name, text) for name, text in file.get("databases", {}).items()}
    for name, rule in databases.items():
        for key in _OF_POOLS:
            # Pools are the user's who is forced upon them.
            if key in users.get(rule.get("server_user", ""), {}):
                rule[key] = users[rule["server_user"]][key]
        nodes = reading.hosts[name]
        if len(nodes) < len(found.nodes):
            rule["prefer"] = nodes
    found.routes = [{**whom, **rule} for whom, rule in _needed(_rules(databases, users))]
    if databases and "*" not in databases:
        found.note("[databases]", 'without a "*" other databases do not exist there: the last rule refuses them')
    if len(found.nodes) > 1:
        found.note(
            "[databases]",
            "their hosts are taken for ONE primary and its standbys: writes go to the primary, reads to the standbys, "
            "to a database's own hosts first (prefer); other clusters need another file",
        )


class _Reading:
    """Entries, one after another."""

    def __init__(self, found: Imported, socket_dir: str, clients_max: int) -> None:
        self.hosts: Final[dict[str, list[str]]] = {}
        """The names of each database's nodes."""
        self._found: Final = found
        self._socket_dir: Final = socket_dir
        self._clients_max: Final = clients_max

    def user(self, name: str, text: str) -> Values:
        """What it says of its clients and pools."""
        where = f"[users] {name}"
        rule: Values = {}
        for key, value in _parameters(where, text).items():
            if key in _OF_POOLS or key in _OF_CLIENTS:
                self._take(rule, where, key, key, value)
            else:
                self._found.note(f"{where}: {key}", "has no equivalent")
        return rule

    def database(self, name: str, text: str) -> Values:
        """What it says of its clients and pools; its nodes, and its user's password."""
        found = self._found
        where = f"[databases] {name}"
        pairs = _parameters(where, text)
        self.hosts[name] = self._nodes(where, pairs.pop("host", None), pairs.pop("port", str(PORT)))
        user, password = pairs.get("user"), pairs.pop("password", None)
        if user is not None and password is not None:
            self._password(user, password)
        if pairs.get("dbname") == name:
            del pairs["dbname"]
        rule: Values = {}
        for key, value in pairs.items():
            if key in _DATABASE:
                self._take(rule, where, key, _DATABASE[key], value)
            else:
                found.note(f"{where}: {key}", _WHY.get(key, "has no equivalent"))
        return rule

    def _take(self, rule: Values, where: str, name: str, key: str, text: str) -> None:
        """Nothing for what is there as the top level has it."""
        field = RouteSettings.model_fields[key]
        try:
            value: Any = converted(field, text)
        except ValueError as error:
            raise ValueError(f"{where}: {name}: {error}") from None
        if isinstance(value, int | float):
            if value == 0 and key == "pool_size":
                value = self._clients_max
                self._found.note(f"{where}: {name}", "0 is no limit there: as many as there may be clients")
            elif value == 0 and key == "query_wait_timeout":
                value = DURATION_S_MAX
                self._found.note(f"{where}: {name}", "0 is for ever there: the longest time that is allowed is written")
            elif value < 0 or (value == 0 and key not in ("min_pool_size", "reserve_pool_size")):
                return
        fits = self._found.fitting(f"{where}: {name}", field, value)
        if fits is not None:
            rule[key] = fits

    def _password(self, user: str, password: str) -> None:
        found = self._found
        known = found.users.get(user)
        if known is not None and known["password"] != password:
            found.note(f"[users.{user}]", "has several passwords in [databases]: the last one is written")
        if found.user(user, password) and known is None:
            found.note(
                f"[users.{user}]",
                "a password for the nodes is a CLIENT'S LOGIN here, too: who knows it may come in as that user",
            )

    def _nodes(self, where: str, host: str | None, port: str) -> list[str]:
        """Their names, new ones included. Raises ValueError."""
        hosts = [one.strip() for one in (host or "").split(",") if one.strip()]
        if not hosts:
            self._found.note(where, f"no host is the unix socket in {self._socket_dir} there")
            hosts = [self._socket_dir]
        ports = port.split(",")
        if len(ports) > 1:
            if len(ports) != len(hosts):
                raise ValueError(f"{where}: {len(hosts)} hosts and {len(ports)} ports")
            self._found.note(where, "each host has its own port, as libpq has it; PgBouncer takes the first for all")
        return [self._node(where, one, at or ports[0]) for one, at in zip_longest(hosts, ports)]

    def _node(self, where: str, host: str, port: str) -> str:
        if not re.fullmatch(r"\s*0*[1-9][0-9]{0,4}\s*", port, re.ASCII) or int(port) > 65535:
            raise ValueError(f'{where}: port "{port}"')
        if host.startswith("@"):
            self._found.note(where, f"{host}: there are no abstract sockets here")
        elif not may_be_host(host):
            self._found.note(where, f"{host}: can be no host's name; put it right")
        place = {"host": host, "port": int(port)}
        nodes = self._found.nodes
        for name, known in nodes.items():
            if known == place:
                return name
        name = f"db{len(nodes) + 1}"
        nodes[name] = place
        return name


def _rules(databases: dict[str, Values], users: dict[str, Values]) -> list[Rule]:
    """In their order: of users, of databases, of all others."""
    others: Values = databases.get("*", {"refuse": "on"}) if databases else {}
    named = [({"database": re.escape(name)}, rule) for name, rule in databases.items() if name != "*"]
    rules = [
        ({"user": re.escape(user), **whom}, _together(rule, own))
        for user, own in users.items()
        for whom, rule in (*named, ({}, others))
        if "refuse" not in rule
    ]
    return [*rules, *named, ({}, others)]


def _together(database: Values, user: Values) -> Values:
    counts = _OF_CLIENTS if "server_user" in database else (*_OF_CLIENTS, *_OF_POOLS)
    return {**database, **{key: value for key, value in user.items() if key in counts}}


def _needed(rules: list[Rule]) -> list[Rule]:
    """Those that say something else than what would hold without them."""
    kept: list[Rule] = []
    for whom, rule in reversed(rules):
        # Of those behind it the first that is for its clients is for all of them: none is for some of a pair's.
        behind = next((one for others, one in reversed(kept) if others.items() <= whom.items()), {})
        if rule != behind:
            kept.append((whom, rule))
    return kept[::-1]


def _parameters(where: str, text: str) -> dict[str, str]:
    try:
        return parameters(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
