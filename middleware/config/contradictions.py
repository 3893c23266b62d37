"""Mistakes in the settings that no field shows on its own."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from healthcheck.commands import Place, placeholders, words
from middleware.auth import Access, FileMistake
from middleware.config.access import access_of
from middleware.config.caching import cache_mistakes
from middleware.config.fields import plain
from middleware.config.instances import instances_mistakes
from middleware.config.operating import tracing_mistakes
from middleware.config.patroni import patroni_mistakes
from middleware.config.settings import Settings
from middleware.config.tls import mistakes

# A node's name is an operator's word for it, in logs, in SHOW and in variables' names.
_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


PATTERNS = (
    "primary_functions",
    "safe_functions",
    "primary_queries",
    "cache_safe_functions",
    "cache_safe_relations",
    "cache_unsafe_relations",
)
COMMANDS = ("fence_command", "failover_command", "follow_primary_command", "demote_command")
DRILL_COMMANDS = ("break_command", "heal_command")
PLACEHOLDERS = tuple(placeholders(Place("", 0, "", 0), None, Place("", 0, "", 0)))

BY_PASSWORD = ("scram-sha-256", "scram-sha-256-plus", "md5", "password")

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
    found.extend(
        (("nodes", name, "host"), f"{json.dumps(node.host)} is not allowed: a host name or an address")
        for name, node in settings.nodes.items()
        if not may_be_host(node.host)
    )
    for key in PATTERNS:
        for pattern in getattr(settings, key):
            found.extend(_pattern_mistakes((key,), pattern))
    for key in COMMANDS:
        try:
            words(getattr(settings, key), dict.fromkeys(PLACEHOLDERS, ""))
        except ValueError as error:
            found.append(((key,), f"cannot be used: {error}"))
    if settings.state_file and not os.access(Path(settings.state_file).parent, os.W_OK | os.X_OK):
        found.append(
            (("state_file",), f"cannot be made: {Path(settings.state_file).parent} is not a directory to write to")
        )
    found.extend(instances_mistakes(settings, promotes=settings.failover == "promote"))
    found.extend(patroni_mistakes(settings, settings.failover))
    for key in DRILL_COMMANDS:
        try:
            words(getattr(settings.drill, key), dict.fromkeys((*PLACEHOLDERS, "b"), ""))
        except ValueError as error:
            found.append((("drill", key), f"cannot be used: {error}"))
    for name, user in settings.users.items():
        if not 1 <= len(name.encode()) <= 63 or "\0" in name:
            found.append((("users", name), "the name is not allowed: 1 to 63 bytes"))
        if settings.auth_type in BY_PASSWORD and not plain(user.password):
            found.append((("users", name, "password"), f'missing: auth_type "{settings.auth_type}" needs one'))
    if settings.dashboard == "login" and not plain(settings.dashboard_password):
        found.append((("dashboard_password",), 'missing: dashboard "login" needs one'))
    found.extend(_access_mistakes(settings))
    found.extend(_rule_mistakes(settings))
    found.extend(cache_mistakes(settings))
    found.extend(tracing_mistakes(settings))
    for side, tls in (("client", settings.client_tls()), ("server", settings.server_tls())):
        found.extend(((f"{side}_tls_{key}",), why) for key, why in mistakes(tls, server_side=side == "client"))
    return found


def may_be_host(host: str) -> bool:
    """Whether it can be asked for at all: a name of labels, an address, or the directory of a unix socket."""
    if "\0" in host or host.startswith("/"):
        return "\0" not in host
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _access_mistakes(settings: Settings) -> Iterator[Mistake]:
    if settings.auth_type == "hba" and not settings.auth_hba_file:
        yield ("auth_hba_file",), 'missing: auth_type "hba" needs one'
        return
    if settings.auth_type == "cert" and not settings.client_tls_ca_file:
        yield ("client_tls_ca_file",), 'missing: auth_type "cert" needs one'
    if settings.auth_type == "scram-sha-256-plus" and settings.client_tls_sslmode == "disable":
        yield ("client_tls_sslmode",), '"disable" is not allowed with auth_type "scram-sha-256-plus"'
    if settings.auth_type in BY_PASSWORD and not (settings.users or settings.auth_file or settings.auth_user):
        yield ("users",), f'missing: auth_type "{settings.auth_type}" needs tables [users.NAME], auth_file or auth_user'
    try:
        access = access_of(settings, b"")
    except FileMistake as mistake:
        keys = ("auth_file", "auth_ident_file", "auth_hba_file")
        # It may be in a file that one of them includes.
        named = [key for key in keys if getattr(settings, key) and str(mistake).startswith(getattr(settings, key))]
        yield (named[0] if named else "auth_hba_file",), f"cannot be used: {mistake}"
        return
    yield from access_mistakes(settings, access)


def access_mistakes(settings: Settings, access: Access) -> Iterator[Mistake]:
    """Where the files of rules and users contradict the settings: to be looked at whenever they are read."""
    for key in ("auth_user", "failover_user"):
        user = getattr(settings, key)
        if user and not access.secrets.get(user):
            yield (key,), f'"{user}" is not allowed: a user whose password is in [users] or auth_file'
    for rule in access.rules:
        if (rule.method == "cert" or rule.client_cert) and not settings.client_tls_ca_file:
            if settings.auth_type == "hba":
                yield ("client_tls_ca_file",), f"missing: {rule.where} wants certificates"
            return


def _rule_mistakes(settings: Settings) -> Iterator[Mistake]:
    with_pools: set[str] = set()
    for index, rule in enumerate(settings.routes):
        if rule.own_pools():
            # Pools are told apart by it.
            name = rule.called(index)
            if name in with_pools:
                yield ("routes", index, "name"), f'"{name}" is not allowed: a name that no other rule with pools has'
            with_pools.add(name)
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
        if at[0] == "primary_queries":
            # Statements are bytes.
            re.compile(pattern.encode())
    except re.error as error:
        why = str(error)
        if pattern == "*":
            why = '".*" means all' + (", and so does leaving the key out" if at[0] == "routes" else "")
        yield at, f'"{pattern}" is not allowed: a regular expression ({why})'
