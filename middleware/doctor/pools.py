"""How many servers Pointsman may open on a node: its pools, and what bounds them together.

A pool is for a node, a database, a user, and a rule with pools of its own; sizes and limits are over all workers, so
workers do not multiply. Which pools there will be depends on which clients come: counted are all that can be, so the
sum is what it comes to when all of them are busy at once. Each node is counted as if all of it led there: a standby
may become the primary.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import msgspec

from middleware.config import PoolPolicy, RoutePolicy
from middleware.doctor.facts import Case
from middleware.supervisor.catalogs import LOADS_AT_ONCE_MAX

OWN_OF_A_NODE: Final = 2
"""The supervisor's connections to each node: the probe's, and the WAL sampler's."""
MAINTENANCE: Final = "postgres"


class Pool(msgspec.Struct, frozen=True):
    """One that may be on each node."""

    database: str
    user: str
    policy: PoolPolicy
    beyond: int = 0
    """What clients that are admin_users may have beyond its size, and beyond the limits of its database and user."""

    @property
    def servers(self) -> int:
        """At most."""
        return self.policy.size + self.policy.reserve_size + self.beyond

    def __str__(self) -> str:
        return f"{self.user}@{self.database}" + (f" ({self.policy.name})" if self.policy.name else "")


class Servers(msgspec.Struct, frozen=True):
    """What one instance may have on a node."""

    pools: tuple[Pool, ...]
    most: int
    """With max_db_connections and max_user_connections."""
    own: int
    """The supervisor's."""

    @property
    def all(self) -> int:
        """Connections."""
        return self.most + self.own

    def of_user(self, user: str) -> int:
        """The most that are a user's."""
        return _most([pool for pool in self.pools if pool.user == user])

    def of_database(self, database: str) -> int:
        """The most that are a database's."""
        return _most([pool for pool in self.pools if pool.database == database])


def servers(case: Case) -> Servers:
    """For one instance and any one node."""
    found: dict[tuple[str, str, str], Pool] = {}
    for pool in _pools(case):
        key = pool.database, pool.user, pool.policy.name
        if key not in found or found[key].beyond < pool.beyond:
            found[key] = pool
    pools = tuple(found[key] for key in sorted(found))
    own = OWN_OF_A_NODE + LOADS_AT_ONCE_MAX + bool(case.settings.auth_user)
    return Servers(pools, _most(list(pools)), own)


def assumption(case: Case) -> str:
    """What was taken for granted, in a sentence."""
    return (
        f"Counted is what all pools come to when all are full: users {_some(case.may_log_in())}; databases "
        f"{_some(client_databases(case))}"
        + ("" if case.databases else " (--database names those in use)")
        + f"; instances {case.instances} (--instances). Any node may become the primary, so each is to have room for "
        "all. Workers share their limits and do not multiply."
    )


def client_databases(case: Case) -> tuple[str, ...]:
    """What clients may ask for, as the nodes have it; rules with a server_database come on top."""
    if case.databases:
        return case.databases
    node = case.catalog
    if node is None:
        return ()
    names = [one.name for one in node.databases if one.allows_connections]
    return tuple(name for name in names if name != MAINTENANCE) or tuple(names)


def _pools(case: Case) -> Iterator[Pool]:
    databases, users = client_databases(case), case.may_log_in()
    # A user without CONNECT has no pool there.
    refused = {one.name: one.refused for one in case.catalog.databases} if case.catalog else {}
    policies = case.settings.policies()
    for user in users:
        for policy in policies:
            # Its clients may call a database that it names anything.
            if policy.server_database and _matches(policy.user, user) and not case.databases:
                yield _pool(case, policy, policy.server_database, user)
        for database in databases:
            if user in refused.get(database, ()):
                continue
            for policy in policies:
                if _matches(policy.database, database) and _matches(policy.user, user):
                    if not policy.refuse:
                        yield _pool(case, policy, policy.server_database or database, user)
                    if policy.application_name is None and not policy.client_addr:
                        break


def _pool(case: Case, policy: RoutePolicy, database: str, user: str) -> Pool:
    beyond = case.settings.admin_reserved_conn if user in case.settings.admin_users else 0
    return Pool(database, policy.server_user or user, policy.pool, beyond)


def _matches(pattern: str | None, name: str) -> bool:
    return pattern is None or re.fullmatch(pattern, name) is not None


def _most(pools: list[Pool]) -> int:
    """The sum, as far as the limits of databases and of users let it come."""
    return min(
        _bounded(pools, "database", "max_db_connections"),
        _bounded(pools, "user", "max_user_connections"),
    )


def _bounded(pools: list[Pool], of: str, limit: str) -> int:
    free = 0
    limited: dict[str, int] = defaultdict(int)
    limits: dict[str, int] = defaultdict(int)
    for pool in pools:
        bound = getattr(pool.policy, limit)
        if bound:
            name = getattr(pool, of)
            limited[name] += pool.servers
            limits[name] = max(limits[name], bound + pool.beyond)
        else:
            # It counts for the limit, and is not held to it: those that are may have come first.
            free += pool.servers
    return free + sum(min(limited[name], limits[name]) for name in limited)


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return shown + f" and {len(names) - 5} others" if len(names) > 5 else shown or "none known"
