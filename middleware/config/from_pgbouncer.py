"""pgbouncer.ini as settings of ours.

Most settings have the same name. What differs: defaults, which are written out where PgBouncer's are others than ours;
[databases] and [users], which become rules; and hosts, which become nodes, whose roles Pointsman finds out itself.
"""

import configparser
import re
from pathlib import Path
from typing import Final

from middleware.config.imported import Imported, Values, converted
from middleware.config.settings import Settings
from middleware.config.tables import RouteSettings

_DEFAULTS: Final = {
    "listen_addr": "",
    "unix_socket_dir": "/tmp",  # noqa: S108 - PgBouncer's default
    "auth_type": "md5",
    "pool_mode": "session",
    "max_client_conn": "100",
}
"""Where PgBouncer's are others than ours."""
_AUTH_TYPES: Final = {"plain": "password"}
_DATABASE: Final = {
    "dbname": "server_database",
    "user": "server_user",
    "reserve_pool": "reserve_pool_size",
    "reserve_pool_size": "reserve_pool_size",
    **{name: name for name in ("pool_size", "min_pool_size", "pool_mode", "max_db_connections")},
    "max_db_client_connections": "max_db_client_connections",
}
_USER: Final = (
    "pool_mode",
    "pool_size",
    "reserve_pool_size",
    "max_user_connections",
    "max_user_client_connections",
    "query_timeout",
    "transaction_timeout",
    "idle_transaction_timeout",
    "client_idle_timeout",
)
_WHY: Final = {
    "so_reuseport": "set workers: one Pointsman uses many cores, and its limits are over all of them",
    "logfile": "logs go to standard error",
    "pidfile": "run it under a service manager",
    "ignore_startup_parameters": "startup parameters take effect for their client alone",
    "track_extra_parameters": "all settings follow their client",
    "application_name_add_host": "the client's application_name is passed on as it is",
    "server_check_query": "an empty query is used",
    "user": "start it as that user",
    "stats_users": "there is no admin console yet",
    "peer_id": "cancel requests find their worker by themselves",
}


def from_pgbouncer(path: Path, text: str) -> Imported:
    """Raises ValueError for a file that is none."""
    found = Imported()
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=(";", "#"), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    lines = text.splitlines()
    for line in lines:
        if line.startswith("%include"):
            found.note(line.strip(), "not followed: import that file as well")
    try:
        parser.read_string("\n".join(line for line in lines if not line.startswith("%include")))
    except configparser.Error as error:
        raise ValueError(str(error).replace("\n", " ")) from None
    if not parser.has_section("databases") and not parser.has_section("pgbouncer"):
        raise ValueError("neither [databases] nor [pgbouncer] is in it")
    settings = {**_DEFAULTS, **dict(parser.items("pgbouncer"))} if parser.has_section("pgbouncer") else _DEFAULTS
    for name, value in settings.items():
        _take(found, path, name, value.strip())
    for name, value in parser.items("users") if parser.has_section("users") else ():
        try:
            _user(found, name, _pairs(value))
        except ValueError as error:
            raise ValueError(f"[users] {name}: {error}") from None
    last: list[Values] = []
    for name, value in parser.items("databases") if parser.has_section("databases") else ():
        try:
            rule = _database(found, name, _pairs(value))
        except ValueError as error:
            raise ValueError(f"[databases] {name}: {error}") from None
        if name == "*":
            last.append(rule)
        elif rule:
            found.routes.append({"database": re.escape(name), **rule})
    found.routes.extend(rule for rule in last if rule)
    found.health_check = {"user": "pointsman"}
    found.note("[health_check]", "PgBouncer has none: create its role with pg_monitor, and give its password")
    if len(found.nodes) > 1:
        found.note(
            "[databases]", "their hosts are taken for one primary and its standbys; other clusters need another file"
        )
    return found


def _take(found: Imported, path: Path, name: str, value: str) -> None:
    if name == "auth_type":
        value = _AUTH_TYPES.get(value, value)
    elif name in ("client_tls_protocols", "server_tls_protocols"):
        oldest = "TLSv1.3" if re.fullmatch(r"\s*tlsv1\.3\s*", value) else "TLSv1.2"
        found.values[name.replace("tls_protocols", "tls_min_protocol")] = oldest
        return
    elif name == "verbose":
        found.log["level"] = "info" if value == "0" else "debug"
        return
    elif name in ("auth_file", "auth_hba_file", "auth_ident_file") and value:
        value = str(path.parent / value)
    if name in _WHY or name not in Settings.model_fields or name == "workers":
        found.note(name, _WHY.get(name, "has no equivalent"))
        return
    found.take(name, value, name, unit_s=1e-3 if name == "tcp_user_timeout" else 1.0)


def _database(found: Imported, name: str, pairs: dict[str, str]) -> Values:
    rule: Values = {}
    port = pairs.pop("port", "5432")
    for host in pairs.pop("host", "127.0.0.1").split(","):
        place = {"host": host, "port": int(port)}
        if place not in found.nodes.values():
            found.nodes[f"db{len(found.nodes) + 1}"] = place
    password = pairs.pop("password", None)
    if password is not None and "user" in pairs:
        found.users[pairs["user"]] = {"password": password}
    if pairs.get("dbname") == name:
        del pairs["dbname"]
    for key, value in pairs.items():
        if key not in _DATABASE:
            found.note(f"[databases] {name}: {key}", "has no equivalent")
            continue
        rule[_DATABASE[key]] = converted(RouteSettings.model_fields[_DATABASE[key]], value)
    return rule


def _user(found: Imported, name: str, pairs: dict[str, str]) -> None:
    rule: Values = {}
    for key, value in pairs.items():
        if key in _USER:
            rule[key] = converted(RouteSettings.model_fields[key], value)
        else:
            found.note(f"[users] {name}: {key}", "has no equivalent")
    if rule:
        found.routes.append({"user": re.escape(name), **rule})
        found.note(f"[users] {name}", "its rule is before those of databases: the first that matches holds alone")


def _pairs(text: str) -> dict[str, str]:
    """A connection string: `key=value key='with spaces'`."""
    found = re.findall(r"(\w+)\s*=\s*('(?:[^']|'')*'|\S*)", text)
    return {key: value[1:-1].replace("''", "'") if value.startswith("'") else value for key, value in found}
