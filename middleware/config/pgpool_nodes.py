"""The backends of a pgpool.conf, and its health checks, as [nodes] and [health_check]."""

import re
from typing import Final

from middleware.config.imported import Imported
from middleware.config.tables import HealthCheckSettings, NodeSettings

_BACKEND: Final = re.compile(r"backend_(hostname|port|weight)(\d+)")
_OF_ONE_NODE: Final = re.compile(r"((?:health_check_\w*[a-z]|connect_timeout))(\d+)")
_WEIGHT_MAX: Final = 1000
_WHO: Final = ("health_check", "sr_check")
"""Two who ask there; one here."""
_TIMES: Final = {
    "health_check_period": "period",
    "sr_check_period": "period",
    "health_check_timeout": "timeout",
    "health_check_max_retries": "max_retries",
    "health_check_retry_delay": "retry_delay",
    "relcache_expire": "catalog_refresh",
}


def nodes(found: Imported, pairs: dict[str, str]) -> None:
    """Take the backends out of `pairs`. Raises ValueError."""
    weights: dict[str, float] = {}
    numbers = {int(match[2]) for name in pairs if (match := _BACKEND.fullmatch(name))}
    for number in sorted(numbers):
        host, port, weight = (pairs.pop(f"backend_{key}{number}", None) for key in ("hostname", "port", "weight"))
        if host is None:
            found.note(f"backend_hostname{number}", "missing: its port and weight are not taken")
            continue
        node = found.nodes[f"db{number}"] = {"host": host or "/tmp"}  # noqa: S108 - pgpool-II's default
        if port is None:
            found.note(f"backend_port{number}", "missing: without one the backend is not used there; 5432 is here")
        else:
            found.put(node, "port", NodeSettings.model_fields["port"], f"backend_port{number}", port)
        if weight is not None:
            if not re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", weight):
                raise ValueError(f'backend_weight{number}: "{weight}" is not a weight')
            weights[f"db{number}"] = float(weight)
    _weigh(found, weights)


def _weigh(found: Imported, weights: dict[str, float]) -> None:
    """Whole numbers of about the same proportions."""
    factor = next(
        (one for one in (1, 10, 100) if all(_fits(weight * one) for weight in weights.values())),
        _WEIGHT_MAX / max([*weights.values(), 1e-9]),
    )
    for name, weight in weights.items():
        found.nodes[name]["weight"] = max(1, min(_WEIGHT_MAX, round(weight * factor))) if weight else 0
    if factor != 1:
        found.note("backend_weight", "weights are whole numbers here, up to 1000: look at their proportions")


def _fits(weight: float) -> bool:
    return weight <= _WEIGHT_MAX and abs(weight - round(weight)) < 1e-6


def health_check(found: Imported, pairs: dict[str, str]) -> None:
    """Take the health checks out of `pairs`."""
    _for_all_nodes(found, pairs)
    table, fields = found.health_check, HealthCheckSettings.model_fields
    asking = {who: {key: pairs.pop(f"{who}_{key}", "") for key in ("user", "password", "database")} for who in _WHO}
    # A password is that of its own user.
    users = [(who, keys) for who, keys in asking.items() if keys["user"]]
    who, keys = next(((who, keys) for who, keys in users if keys["password"]), users[0] if users else ("", {}))
    for key, value in keys.items():
        if key == "password" and value:
            value = _password(found, f"{who}_{key}", value)
        if value:
            found.put(table, key, fields[key], f"{who}_{key}", value)
    for name, key in _TIMES.items():
        value = pairs.pop(name, "")
        if re.fullmatch(r"0+\s*[a-z]*", value) and key in ("period", "catalog_refresh"):
            found.note(name, "not taken: 0 means never there; here nodes are always looked at")
        elif value and key not in table:
            found.put(table, key, fields[key], name, value)
    table.setdefault("user", "pointsman")
    if "password" not in table:
        found.note("[health_check]", "give the password of its user, which needs pg_monitor")


def _for_all_nodes(found: Imported, pairs: dict[str, str]) -> None:
    """There each backend may have its own."""
    for name in sorted(pairs):
        match = _OF_ONE_NODE.fullmatch(name)
        if match is None:
            continue
        value = pairs.pop(name)
        if match[1] not in pairs and value:
            pairs[match[1]] = value
            found.note(name, "is taken for all nodes: they are looked at alike here")
        elif pairs.get(match[1], value) != value:
            found.note(name, f"not taken: {match[1]} is for all nodes here")


def _password(found: Imported, name: str, value: str) -> str:
    """The password itself; "" where it is not to be had."""
    if value.startswith(("AES", "md5", "MD5")):
        found.note(name, "not taken: it is encrypted, or a hash; the password itself is needed")
        return ""
    return value.removeprefix("TEXT")
