"""Checks: do the users, the databases and the role that asks exist on the nodes, and may they what they must?"""

import re
from collections.abc import Iterator
from typing import Final

from middleware.doctor.facts import Case
from middleware.doctor.finding import Finding, advice, error, warning
from middleware.doctor.pools import client_databases, servers

EXPIRES_SOON_S: Final = 14 * 86_400.0
_WORDS: Final = re.compile(r"[A-Za-z0-9_-]+(\|[A-Za-z0-9_-]+)*")
"""A regular expression that means names, and nothing else."""


def health_role(case: Case) -> Iterator[Finding]:
    """The role of [health_check]: not in pg_monitor, or a superuser."""
    user = case.settings.health_check.user
    for node in case.asked:
        if not node.monitors:
            yield warning(
                f'role "{user}" is not in pg_monitor',
                "It cannot see a standby's timeline and the state of replication; some of these checks are blind.",
                f'GRANT pg_monitor TO "{user}"',
                node.name,
            )
        elif node.superuser:
            yield advice(
                f'role "{user}" is a superuser',
                "Its password is in the settings; it needs no more than pg_monitor.",
                "a role of its own for [health_check], with LOGIN and pg_monitor",
                node.name,
            )


def reserved_connections(case: Case) -> Iterator[Finding]:
    """No connection is kept free for the role of [health_check] (PostgreSQL 16: `reserved_connections` and
    pg_use_reserved_connections)."""
    user = case.settings.health_check.user
    for node in case.asked:
        kept = node.number("reserved_connections")
        if kept is not None and not node.superuser and not (kept and node.reserved):
            yield advice(
                f'reserved_connections is {kept:g}, and role "{user}" is {"" if node.reserved else "not "}in '
                "pg_use_reserved_connections",
                "When others have taken all connections, a health check finds none, and a node that works counts as "
                "down.",
                f'reserved_connections = 5 (a restart), and GRANT pg_use_reserved_connections TO "{user}"',
                node.name,
            )


def users(case: Case) -> Iterator[Finding]:
    """Users of [users], auth_file and `server_user` that the nodes do not have, that may not log in there, whose
    password expires, or that may CONNECT to none of the databases."""
    node = case.catalog
    if node is None:
        return
    known = {role.name: role for role in node.roles}
    looked_at = [found for name in client_databases(case) if (found := node.database(name)) is not None]
    # Whom rules always give another name, the nodes need not know.
    themselves = {user for user in case.users if not _renamed(case, user)}
    for name in sorted(themselves | {pool.user for pool in servers(case).pools}):
        role = known.get(name)
        if role is None or not role.login:
            yield error(
                f'role "{name}" {"does not exist" if role is None else "may not log in (NOLOGIN)"}',
                "Its clients log in to Pointsman, and then no server can be opened for them.",
                f'CREATE ROLE "{name}" LOGIN, or no [users."{name}"]' if role is None else f'ALTER ROLE "{name}" LOGIN',
            )
        elif role.expires_at is not None and role.expires_at < case.machine.now + EXPIRES_SOON_S:
            over = role.expires_at < case.machine.now
            days = abs(role.expires_at - case.machine.now) / 86_400
            yield (error if over else warning)(
                f'the password of role "{name}" {"expired" if over else "expires in"} {days:.1f} days'
                + (" ago" if over else ""),
                "From then on no server can be opened for it; those that are open go on until server_lifetime.",
                f"ALTER ROLE \"{name}\" VALID UNTIL 'infinity'",
            )
        elif looked_at and all(name in database.refused for database in looked_at):
            yield advice(
                f'role "{name}" may CONNECT to none of the databases that are looked at',
                "No server can be opened for its clients there.",
                f'GRANT CONNECT ON DATABASE .. TO "{name}"',
            )


def _renamed(case: Case, user: str) -> bool:
    """All pools of a user are another's."""
    for _, policy in case.rules():
        if policy.user is None or re.fullmatch(policy.user, user):
            if not policy.server_user:
                return False
            if policy.database is None and policy.application_name is None and not policy.client_addr:
                return policy.server_user != user
    return False


def databases(case: Case) -> Iterator[Finding]:
    """Databases that rules name and the nodes do not have, or that allow no connections."""
    node = case.catalog
    if node is None:
        return
    for where, policy in case.rules():
        named = [policy.server_database] if policy.server_database else []
        if not named and policy.database is not None and _WORDS.fullmatch(policy.database):
            named = policy.database.split("|")
        for name in named:
            found = node.database(name)
            if found is None or not found.allows_connections:
                yield error(
                    f'{where}database "{name}" '
                    + ("does not exist" if found is None else "allows no connections (ALLOW_CONNECTIONS false)"),
                    "Its clients log in to Pointsman, and then no server can be opened for them.",
                    f'CREATE DATABASE "{name}", or another name in the rule'
                    if found is None
                    else f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true',
                )


def health_database(case: Case) -> Iterator[Finding]:
    """The role of [health_check] may not CONNECT to a database in use: its catalog cannot be read."""
    user = case.settings.health_check.user
    node = case.catalog
    for name in sorted({pool.database for pool in servers(case).pools}):
        found = node.database(name) if node else None
        if found is not None and user in found.refused and node is not None and not node.superuser:
            yield warning(
                f'role "{user}" has no CONNECT to database "{name}"',
                "Its catalog cannot be read, so that every statement with a name in it goes to the primary.",
                f'GRANT CONNECT ON DATABASE "{name}" TO "{user}"',
            )


def password_encryption(case: Case) -> Iterator[Finding]:
    """`password_encryption = md5` on a node, with SCRAM here."""
    scram = case.settings.auth_type.startswith("scram") or any(
        user.password is not None and user.password.get_secret_value().startswith("SCRAM-SHA-256$")
        for user in case.settings.users.values()
    )
    for node in case.asked:
        if scram and node.word("password_encryption") == "md5":
            yield warning(
                "password_encryption is md5, and SCRAM is used here",
                "A password that is set now becomes an md5 hash: SCRAM pass-through and auth_query cannot use it, and "
                "PostgreSQL is to give md5 up.",
                "password_encryption = scram-sha-256, and every password set anew",
                node.name,
            )


def encryption(case: Case) -> Iterator[Finding]:
    """A node on another machine that is asked without TLS."""
    for node in case.asked:
        if not node.local and not node.encrypted:
            yield advice(
                f'the connection is not encrypted (server_tls_sslmode = "{case.settings.server_tls_sslmode}")',
                "Statements and rows cross the network for everybody on it to read.",
                'ssl = on on the node, and server_tls_sslmode = "verify-full"',
                node.name,
            )


CHECKS: Final = (
    health_role,
    reserved_connections,
    users,
    databases,
    health_database,
    password_encryption,
    encryption,
)
