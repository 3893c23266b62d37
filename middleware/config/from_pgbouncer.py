"""pgbouncer.ini as settings of ours.

Most settings have the same name. What differs: defaults, which are written out where PgBouncer's are others than ours;
what 0 means; [databases] and [users], which become rules; and hosts, which become nodes, whose roles Pointsman finds
out itself.
"""

import re
from pathlib import Path
from typing import Final

from middleware.config.fields import DURATION_S_MAX
from middleware.config.imported import Imported, mode_of, whole_of
from middleware.config.pgbouncer_databases import databases_and_users
from middleware.config.pgbouncer_ini import parameters, sections
from middleware.config.settings import Settings

_DEFAULTS: Final = {
    "listen_addr": "",
    "unix_socket_dir": "/tmp",  # noqa: S108 - PgBouncer's default
    "auth_type": "md5",
    "pool_mode": "session",
    "max_client_conn": "100",
}
"""Where PgBouncer's are others than ours."""
_ENDS: Final = "0 is for ever there; here it always ends, and the default holds"
_ZERO: Final[dict[str, tuple[float | None, str]]] = {
    "query_wait_timeout": (DURATION_S_MAX, "0 is for ever there: the longest time that is allowed is written"),
    # A server that is given back is older than that.
    "server_lifetime": (0.001, "0 is a server that is used once there: a time that short is written"),
    "client_login_timeout": (None, _ENDS),
    "server_connect_timeout": (None, _ENDS),
    "cancel_wait_timeout": (None, _ENDS),
    "max_prepared_statements": (
        None,
        "0 leaves clients' named statements alone there; here they always follow their client",
    ),
    "reserve_pool_timeout": (None, "0 is no reserve there: no reserve_pool_size is written"),
}
"""What stands for a 0 that has another meaning there; None for nothing."""
_FILE: Final = re.compile(r"auth_(hba_|ident_)?file|(client|server)_tls_(key|cert|ca)_file")
_SWITCHES: Final = ("tcp_keepalive", "log_connections", "log_disconnections", "log_pooler_errors", "log_stats")
"""Written as 0 and 1 there."""
_WHY: Final = {
    "so_reuseport": "set workers: one Pointsman uses many cores, and its limits are over all of them",
    "logfile": "logs go to standard error",
    "pidfile": "run it under a service manager",
    "ignore_startup_parameters": "startup parameters are not ignored here: they take effect for their client alone",
    "track_extra_parameters": "all settings follow their client",
    "application_name_add_host": "the client's application_name is passed on as it is",
    "server_check_query": "an empty query is used; server_check_delay says when",
    "server_round_robin": "the server that was used last is used next",
    "server_reset_query_always": "a client that has left something behind has its server reset in every pool_mode",
    "disable_pqexec": "simple queries are taken HERE: there they were refused",
    "user": "start it as that user",
    "peer_id": "cancel requests find their worker by themselves",
    "auth_ldap_options": "there is no LDAP here",
}


def from_pgbouncer(path: Path, text: str) -> Imported:
    """Raises ValueError for a file that is none."""
    found = Imported()
    file = sections(path, text, found.note)
    if "databases" not in file and "pgbouncer" not in file:
        raise ValueError("neither [databases] nor [pgbouncer] is in it")
    for section in file:
        if section not in ("pgbouncer", "databases", "users"):
            found.note(f"[{section}]", _WHY["peer_id"] if section == "peers" else "has no equivalent")
    top = {**_DEFAULTS, **file.get("pgbouncer", {})}
    for name, value in top.items():
        _take(found, path, name, value)
    clients_max = found.values.get("max_client_conn", Settings.model_fields["max_client_conn"].default)
    if found.values.get("default_pool_size") == 0:
        # Nobody has more than one.
        found.values["default_pool_size"] = clients_max
        found.note("default_pool_size", "0 is no limit there: as many as there may be clients")
    databases_and_users(found, file, top, clients_max)
    if "reserve_pool_timeout" in top and "reserve_pool_timeout" not in found.values:
        for table in (found.values, *found.routes):
            table.pop("reserve_pool_size", None)
    _listening(found)
    _auth_query(found, file.get("databases", {}))
    found.health_check = {"user": "pointsman"}
    found.note("[health_check]", "PgBouncer has none: create its role with pg_monitor, and give its password")
    return found


def _take(found: Imported, path: Path, name: str, value: str) -> None:
    if name in ("client_tls_protocols", "server_tls_protocols"):
        _tls_protocols(found, name, value)
    elif name == "verbose":
        found.log["level"] = "info" if value == "0" else "debug"
    elif name in _WHY or not _is_ours(name):
        found.note(name, _WHY.get(name, "has no equivalent"))
    elif name == "auth_type":
        _auth_type(found, value)
    elif name == "unix_socket_mode":
        _unix_socket_mode(found, value)
    elif name == "server_reset_query":
        _server_reset_query(found, value)
    elif name in _SWITCHES:
        found.values[name] = "off" if re.fullmatch("0+", value) else "on"
    elif name in _ZERO and re.fullmatch(r"0+\.?0*|\.0+", value):
        instead, why = _ZERO[name]
        found.note(name, why)
        if instead is not None:
            found.values[name] = instead
    elif name == "default_pool_size" and re.fullmatch("0+", value):
        found.values[name] = 0
    elif _FILE.fullmatch(name):
        found.values[name] = str(path.parent / value) if value else ""
    elif value or name in ("listen_addr", "unix_socket_dir"):
        found.take(name, value, name, unit_s=1e-3 if name == "tcp_user_timeout" else 1.0)


def _is_ours(name: str) -> bool:
    """A setting of the same name and meaning."""
    field = Settings.model_fields.get(name)
    extra = field.json_schema_extra if field is not None else None
    peers = str(extra["peers"]) if isinstance(extra, dict) else ""
    return f"pgbouncer: {name}" in peers.split("; ")


def _tls_protocols(found: Imported, name: str, value: str) -> None:
    words = re.split(r"[\s,:]+", value.lower())
    found.values[name.replace("tls_protocols", "tls_min_protocol")] = "TLSv1.3" if words == ["tlsv1.3"] else "TLSv1.2"
    if {"all", "legacy", "tlsv1.0", "tlsv1.1"} & set(words):
        found.note(name, "TLS before 1.2 is not spoken")


def _auth_type(found: Imported, value: str) -> None:
    value = {"plain": "password"}.get(value.lower(), value.lower())
    if value in ("any", "pam", "ldap", "peer"):
        found.note(
            "auth_type",
            f'there is no "{value}" here, and scram-sha-256 holds: CLIENTS WILL BE REFUSED unless [users], auth_file '
            "or auth_query has a secret of theirs; see docs/authentication.md for what else there is",
        )
        return
    found.take("auth_type", value, "auth_type")


def _unix_socket_mode(found: Imported, value: str) -> None:
    try:
        mode = found.values["unix_socket_mode"] = mode_of(value)
        if whole_of(value) > 0o777 or whole_of(value) < 0:
            found.note("unix_socket_mode", f"{value} is not octal there, it begins with no 0; {mode} is written")
    except ValueError as error:
        found.note("unix_socket_mode", f"not taken: {error}")


def _server_reset_query(found: Imported, value: str) -> None:
    if re.fullmatch(r"discard\s+all\s*;*", value, re.IGNORECASE):
        found.values["server_reset_query"] = "DISCARD ALL"
        return
    # Ours is a connection that is closed by "".
    found.note(
        "server_reset_query",
        f'"{value}" is not taken: DISCARD ALL is sent, and only behind a client that has left something behind',
    )


def _listening(found: Imported) -> None:
    values = found.values
    directory = str(values.get("unix_socket_dir", ""))
    if directory and not directory.startswith("/"):
        why = "there are no abstract sockets here" if directory.startswith("@") else "it is no absolute path"
        found.note("unix_socket_dir", f"not taken: {why}")
        values["unix_socket_dir"] = ""
    if not values.get("listen_addr", "").strip(" ,") and not values.get("unix_socket_dir"):
        values.pop("listen_addr", None)
        found.note("listen_addr", "nothing would listen: 127.0.0.1, which is the default, does")


def _auth_query(found: Imported, databases: dict[str, str]) -> None:
    asked = found.values.get("auth_dbname")
    if asked in databases:
        found.values["auth_dbname"] = parameters(databases[asked]).get("dbname", asked)
    elif found.values.get("auth_user") and asked is None:
        found.note(
            "auth_dbname",
            "auth_query is run in the client's own database there, and in postgres here: what it calls must be there",
        )
