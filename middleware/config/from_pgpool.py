"""pgpool.conf as settings of ours."""

import re
from typing import Final

from middleware.config.imported import Imported, converted
from middleware.config.tables import HealthCheckSettings

_LINE: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*=?\s*('(?:[^']|'')*'|[^#\s]*)")
_SAME: Final = {
    "listen_addresses": ("listen_addr", 1.0),
    "port": ("listen_port", 1.0),
    "unix_socket_directories": ("unix_socket_dir", 1.0),
    "unix_socket_permissions": ("unix_socket_mode", 1.0),
    "num_init_children": ("max_client_conn", 1.0),
    "reserved_connections": ("admin_reserved_conn", 1.0),
    "authentication_timeout": ("client_login_timeout", 1.0),
    "client_idle_limit": ("client_idle_timeout", 1.0),
    "connect_timeout": ("server_connect_timeout", 1e-3),
    "connection_life_time": ("server_idle_timeout", 1.0),
    "ssl_cert": ("client_tls_cert_file", 1.0),
    "ssl_key": ("client_tls_key_file", 1.0),
    "ssl_ca_cert": ("client_tls_ca_file", 1.0),
    "delay_threshold": ("max_replica_lag_bytes", 1.0),
    "write_function_list": ("primary_functions", 1.0),
    "read_only_function_list": ("safe_functions", 1.0),
}
"""Of the same meaning: ours, and the unit of a duration without one."""
_CHECKS: Final = {
    "health_check_user": "user",
    "sr_check_user": "user",
    "health_check_password": "password",
    "sr_check_password": "password",
    "health_check_database": "database",
    "sr_check_database": "database",
    "health_check_period": "period",
    "sr_check_period": "period",
    "health_check_timeout": "timeout",
    "health_check_max_retries": "max_retries",
    "health_check_retry_delay": "retry_delay",
    "relcache_expire": "catalog_refresh",
}
_NODE: Final = re.compile(r"backend_(hostname|port|weight)(\d+)")
_WHY: Final = {
    "child_life_time": "it is the life of a process; server_lifetime is that of a connection",
    "max_pool": "default_pool_size is for all clients of a database and user",
    "load_balance_mode": "reads go to standbys by default; read_from_primary says whether to the primary, too",
    "disable_load_balance_on_write": 'see consistency; "session" is the default: a client sees what it has written',
    "delay_threshold_by_time": "set max_replica_lag",
    "reset_query_list": "DISCARD ALL is used behind a client that has left something behind",
    "master_slave_mode": "nodes' roles are found out",
    "backend_clustering_mode": "streaming replication; nodes' roles are found out",
    "pool_passwd": "give passwords in [users] or auth_file: pgpool's encrypted ones cannot be read",
    "enable_pool_hba": 'copy pool_hba.conf and set auth_type = "hba" and auth_hba_file',
    "failover_command": "there is no promotion yet; who else promotes is followed",
    "memory_cache_enabled": "there is no query cache yet",
    "use_watchdog": "run several, behind an address of your choice",
}


def from_pgpool(text: str) -> Imported:
    """Raises ValueError for a file that is none."""
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is not None:
            value = found[2]
            pairs[found[1]] = value[1:-1].replace("''", "'") if value.startswith("'") else value
    if not any(name.startswith("backend_hostname") for name in pairs):
        raise ValueError("no backend_hostname0 is in it")
    imported = Imported()
    imported.values["pool_mode"] = "session"
    imported.note("pool_mode", 'pgpool-II pools sessions; "transaction" serves more clients with fewer servers')
    for name, value in pairs.items():
        try:
            _take(imported, name, value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    imported.health_check.setdefault("user", "pointsman")
    if "password" not in imported.health_check:
        imported.note("[health_check]", "give the password of its user, which needs pg_monitor")
    return imported


def _take(found: Imported, name: str, value: str) -> None:
    node = _NODE.fullmatch(name)
    if node is not None:
        _node(found, node[1], int(node[2]), value)
    elif name in _SAME:
        setting, unit_s = _SAME[name]
        # 0 is "never" there.
        if value != "0" or setting != "server_idle_timeout":
            found.take(name, value, setting, unit_s=unit_s)
    elif name in _CHECKS:
        _check(found, name, value)
    elif name == "ssl":
        found.values["client_tls_sslmode"] = "prefer" if value.lower() in ("on", "true", "yes", "1") else "disable"
    elif name == "primary_routing_query_pattern_list":
        found.values["primary_queries"] = [part for part in re.split(r"(?<!\\);", value) if part]
    elif name == "statement_level_load_balance":
        found.values["session_affinity"] = "off" if value.lower() in ("on", "true", "yes", "1") else "on"
    else:
        found.note(name, _WHY.get(name, "has no equivalent"))


def _node(found: Imported, key: str, number: int, value: str) -> None:
    node = found.nodes.setdefault(f"db{number}", {})
    if key == "hostname":
        node["host"] = value
    elif key == "port":
        node["port"] = int(value)
    else:
        weight = float(value)
        node["weight"] = max(1, round(weight)) if weight else 0
        if weight != int(weight):
            found.note(f"backend_weight{number}", "weights are whole numbers here: look at their proportions")


def _check(found: Imported, name: str, value: str) -> None:
    key = _CHECKS[name]
    if key in found.health_check or not value:
        return
    try:
        taken = (
            value
            if key in ("user", "password", "database")
            else converted(HealthCheckSettings.model_fields[key], value)
        )
    except ValueError as error:
        found.note(name, f"not taken: {error}")
        return
    if key in ("period", "timeout", "catalog_refresh") and not taken:
        found.note(name, "not taken: 0 means never there; here nodes are always looked at")
        return
    found.health_check[key] = taken
