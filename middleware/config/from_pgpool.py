"""pgpool.conf as settings of ours.

What differs most: pgpool-II pools sessions, with a server for each; the primary is one of the readers; a session keeps
its node; and its passwords are kept where they cannot be read. Its defaults are written out where they are others than
ours.
"""

import re
from pathlib import Path
from typing import Final

from middleware.config.imported import Imported, is_on, mode_of, seconds_of
from middleware.config.pgpool_cache import query_cache
from middleware.config.pgpool_conf import assignments
from middleware.config.pgpool_nodes import health_check, nodes
from middleware.config.pgpool_reads import reads

_DEFAULTS: Final = {
    "listen_addresses": "localhost",
    "port": "9999",
    "unix_socket_directories": "/tmp",  # noqa: S108 - pgpool-II's default
    "num_init_children": "32",
    "connect_timeout": "10000",
    "connection_life_time": "0",
    "load_balance_mode": "on",
    "statement_level_load_balance": "off",
    "health_check_timeout": "20",
    "health_check_max_retries": "0",
}
"""Where pgpool-II's are others than ours."""
_SAME: Final = {
    "listen_addresses": ("listen_addr", 1.0),
    "port": ("listen_port", 1.0),
    "authentication_timeout": ("client_login_timeout", 1.0),
    "client_idle_limit": ("client_idle_timeout", 1.0),
    "connect_timeout": ("server_connect_timeout", 1e-3),
    "connection_life_time": ("server_idle_timeout", 1.0),
}
"""Of the same meaning: ours, and the unit of a duration without one."""
_ENDS: Final = ("authentication_timeout", "connect_timeout")
"""Where 0 is for ever there."""
_PROMOTION: Final = 'with failover = "promote": the placeholders are the same, but no shell runs it; see failover.md'
_WHY: Final = {
    "child_life_time": "it is the life of a process; server_lifetime is that of a connection",
    "max_pool": "default_pool_size is for all clients of a database and user",
    "disable_load_balance_on_write": 'see consistency; "session" is the default: a client sees what it has written. '
    'Reads of a transaction stay on the primary; transaction_reads = "until_write" has them balanced until it writes',
    "prefer_lower_delay_standby": "a standby that lags too far serves no reads, the others do",
    "master_slave_mode": "nodes' roles are found out",
    "failover_command": _PROMOTION,
    "follow_primary_command": _PROMOTION,
    "failback_command": "a node that is back is used again, and no command is run",
    "auto_failback": "a standby that is back is used again",
    "recovery_1st_stage_command": "standbys are not made here",
    "use_watchdog": "run several, behind an address of your choice; one promotes, by etcd: see instances",
    "allow_clear_text_frontend_auth": 'auth_type = "password" is that',
    "relcache_query_target": "the catalog is read from the primary",
}
_OFF: Final = ("", "off", "false", "no", "0", "none")
"""What is not done there need not be told of."""
_CLUSTERING: Final = "only streaming replication is known here: writes go to ONE node, and are not sent to the others"


def from_pgpool(path: Path, text: str) -> Imported:
    """Raises ValueError for a file that is none."""
    found = Imported()
    given = assignments(path, text, found.note)
    if not any(name.startswith("backend_hostname") for name in given):
        raise ValueError("no backend_hostname0 is in it")
    pairs = {**_DEFAULTS, **given}
    found.values["pool_mode"] = "session"
    found.note("pool_mode", 'pgpool-II pools sessions; "transaction" serves more clients with fewer servers')
    nodes(found, pairs)
    health_check(found, pairs)
    reads(found, pairs)
    query_cache(found, pairs)
    _clients(found, pairs)
    _unix_socket(found, pairs)
    _tls(found, path, pairs)
    _authentication(found, path, pairs)
    _clustering(found, pairs)
    for name, value in pairs.items():
        _take(found, name, value)
    return found


def _clients(found: Imported, pairs: dict[str, str]) -> None:
    """A process for each there, with servers of its own."""
    found.take("num_init_children", pairs.pop("num_init_children"), "max_client_conn")
    clients = found.values.setdefault("max_client_conn", 32)
    # Who is refused early here leaves as many processes unused there.
    refused = pairs.pop("reserved_connections", "0")
    if refused.isdecimal() and 0 < int(refused) < clients:
        clients = found.values["max_client_conn"] = clients - int(refused)
    else:
        found.note("num_init_children", "one client more waits there, unanswered; here it is told FATAL 53300")
    found.values["default_pool_size"] = clients
    found.note("default_pool_size", "each client has a server of its own there, and finds one here: num_init_children")


def _unix_socket(found: Imported, pairs: dict[str, str]) -> None:
    directories = [one.strip() for one in pairs.pop("unix_socket_directories").split(",")]
    found.values["unix_socket_dir"] = directories[0]
    if len(directories) > 1:
        found.note("unix_socket_directories", f"there is one here: {directories[0]}")
    if not found.values["unix_socket_dir"] and not pairs["listen_addresses"].strip(" ,"):
        del pairs["listen_addresses"]
        found.note("listen_addresses", "nothing would listen: 127.0.0.1, which is the default, does")
    permissions = pairs.pop("unix_socket_permissions", None)
    if permissions is not None:
        try:
            found.values["unix_socket_mode"] = mode_of(permissions)
        except ValueError as error:
            found.note("unix_socket_permissions", f"not taken: {error}")


def _tls(found: Imported, path: Path, pairs: dict[str, str]) -> None:
    on = is_on(pairs.pop("ssl", "off"))
    files = {name: pairs.pop(name, "") for name in ("ssl_cert", "ssl_key", "ssl_ca_cert")}
    cert, key, ca = (str(path.parent / file) if file else "" for file in files.values())
    values = found.values
    values["client_tls_sslmode"] = "disable"
    if not on:
        return
    if cert and key:
        values.update(client_tls_sslmode="prefer", client_tls_cert_file=cert, client_tls_key_file=key)
    else:
        found.note("ssl", "without ssl_cert and ssl_key clients have no TLS, as there")
    if ca:
        values.update(server_tls_sslmode="verify-ca", server_tls_ca_file=ca)
        found.note(
            "ssl_ca_cert",
            "the nodes must have TLS, with certificates it has signed; for clients' certificates "
            "set client_tls_ca_file",
        )


def _authentication(found: Imported, path: Path, pairs: dict[str, str]) -> None:
    pairs.pop("pool_passwd", None)
    if is_on(pairs.pop("enable_pool_hba", "off")):
        found.values.update(auth_type="hba", auth_hba_file=str(path.parent / "pool_hba.conf"))
    found.note(
        "pool_passwd",
        "not read, its secrets are encrypted: give the users and their passwords in [users] or auth_file, or set "
        "auth_user, who asks the primary for them",
    )


def _clustering(found: Imported, pairs: dict[str, str]) -> None:
    mode = pairs.pop("backend_clustering_mode", "streaming_replication")
    if mode != "streaming_replication":
        found.note("backend_clustering_mode", f'"{mode}": {_CLUSTERING}')
    if is_on(pairs.pop("replication_mode", "off")):
        found.note("replication_mode", _CLUSTERING)
    if not is_on(pairs.pop("connection_cache", "on")):
        found.values["server_lifetime"] = 0.001
        found.note("connection_cache", "off: a server that is used once has a server_lifetime that short")
    reset = pairs.pop("reset_query_list", "")
    if reset and not re.fullmatch(r"\s*(abort\s*;)?\s*discard\s+all\s*;?\s*", reset, re.IGNORECASE):
        found.note("reset_query_list", "not taken: DISCARD ALL is sent behind a client that has left something behind")


def _take(found: Imported, name: str, value: str) -> None:
    if name in _SAME:
        setting, unit_s = _SAME[name]
        if name in _ENDS and _is_zero(value):
            found.note(name, "0 is for ever there; here it always ends, and the default holds")
        else:
            found.take(name, value, setting, unit_s=unit_s)
    elif value.lower() not in _OFF:
        found.note(name, _WHY.get(name, "has no equivalent"))


def _is_zero(value: str) -> bool:
    try:
        return seconds_of(value, 1.0) == 0
    except ValueError:
        return False
