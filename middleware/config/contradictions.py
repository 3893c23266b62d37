"""Mistakes in the settings that no field shows on its own."""

import re
from collections.abc import Iterator

from middleware.config.fields import plain
from middleware.config.settings import Settings
from middleware.config.tls import mistakes

# A node's name is an operator's word for it, in logs, in SHOW and in variables' names.
_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


Mistake = tuple[tuple[int | str, ...], str]
"""A key path, and what is wrong with what stands there."""


def contradictions(settings: Settings) -> list[Mistake]:
    """What no field shows on its own, in the order of the file."""
    found: list[Mistake] = []
    if not settings.listen_addresses() and settings.unix_socket_path() is None:
        found.append((("listen_addr",), '"" is not allowed without a unix_socket_dir: nothing would listen'))
    found.extend(
        (("nodes", name), "the name is not allowed: letters, digits, _ and -, at most 63")
        for name in settings.nodes
        if not _NODE_NAME.fullmatch(name)
    )
    for key in ("primary_functions", "safe_functions", "primary_queries"):
        for pattern in getattr(settings, key):
            found.extend(_pattern_mistakes((key,), pattern))
    for name, user in settings.users.items():
        if not 1 <= len(name.encode()) <= 63 or "\0" in name:
            found.append((("users", name), "the name is not allowed: 1 to 63 bytes"))
        if settings.auth_type == "scram-sha-256" and not plain(user.password):
            found.append((("users", name, "password"), 'missing: auth_type "scram-sha-256" needs one'))
    if settings.auth_type == "scram-sha-256" and not settings.users:
        found.append((("users",), 'missing: auth_type "scram-sha-256" needs at least one table [users.NAME]'))
    found.extend(_rule_mistakes(settings))
    for side, tls in (("client", settings.client_tls()), ("server", settings.server_tls())):
        found.extend(((f"{side}_tls_{key}",), why) for key, why in mistakes(tls, server_side=side == "client"))
    return found


def _rule_mistakes(settings: Settings) -> Iterator[Mistake]:
    for index, rule in enumerate(settings.routes):
        patterns = rule.patterns()
        for key, pattern in patterns.items():
            if pattern is not None:
                yield from _pattern_mistakes(("routes", index, key), pattern)
        for name in rule.prefer:
            if name not in settings.nodes:
                known = ", ".join(settings.nodes)
                yield ("routes", index, "prefer"), f'"{name}" is not allowed: a list of names of nodes ({known})'
        try:
            rule.networks()
        except ValueError as error:
            yield ("routes", index, "client_addr"), f"not allowed: a list of addresses or networks ({error})"
        if index + 1 < len(settings.routes) and rule.for_all():
            yield ("routes", index), "is for all clients: the rules behind it would never be reached"


def _pattern_mistakes(at: tuple[int | str, ...], pattern: str) -> Iterator[Mistake]:
    try:
        re.compile(pattern)
    except re.error as error:
        yield at, f'"{pattern}" is not allowed: a regular expression ({error})'
