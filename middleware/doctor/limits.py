"""Checks: limits of ours that keep each other from ever counting."""

from collections.abc import Iterator
from typing import Final

from middleware.config import PoolPolicy
from middleware.doctor.facts import Case
from middleware.doctor.finding import Finding, advice, warning


def _pools(case: Case) -> Iterator[tuple[str, PoolPolicy]]:
    """The top level's pools, and those of rules that have others."""
    *some, (_, everybody) = case.rules()
    yield "", everybody.pool
    for where, policy in some:
        if policy.pool != everybody.pool:
            yield where, policy.pool


def min_pool_size(case: Case) -> Iterator[Finding]:
    """`min_pool_size` above a pool's size, or above what its database or user may have."""
    for where, pool in _pools(case):
        bounds = {
            "default_pool_size" if not pool.name else "the pool's size": pool.size,
            "max_db_connections": pool.max_db_connections or pool.min_size,
            "max_user_connections": pool.max_user_connections or pool.min_size,
        }
        least = min(bounds, key=lambda name: bounds[name])
        if pool.min_size > bounds[least]:
            yield warning(
                f"{where}min_pool_size {pool.min_size}, {least} {bounds[least]}",
                "So many are never reached; the pool keeps all it may have open for ever.",
                f"min_pool_size = {bounds[least]} or less",
            )


def pool_beyond_limits(case: Case) -> Iterator[Finding]:
    """A pool that alone is larger than what its database or its user may have."""
    for where, pool in _pools(case):
        bounds = {"max_db_connections": pool.max_db_connections, "max_user_connections": pool.max_user_connections}
        for name, bound in bounds.items():
            if 0 < bound < pool.size:
                yield advice(
                    f"{where}the pool's size is {pool.size}, {name} {bound}",
                    "The pool never gets there: the limit is its size.",
                    f"a pool size of {bound} or less, or {name} = {pool.size} or more",
                )


def client_limits(case: Case) -> Iterator[Finding]:
    """Limits for the clients of a database or a user above `max_client_conn`."""
    most = case.settings.max_client_conn
    for name in ("max_db_client_connections", "max_user_client_connections"):
        values = {getattr(case.settings, name), *(getattr(rule, name) or 0 for rule in case.settings.routes)}
        if max(values) > most:
            yield advice(
                f"{name} {max(values)}, max_client_conn {most}",
                "max_client_conn is reached first.",
                f"max_client_conn above it, or {name} below {most}",
            )


def more_servers_than_clients(case: Case) -> Iterator[Finding]:
    """A pool that is larger than `max_client_conn`."""
    most = case.settings.max_client_conn
    largest = max(policy.pool.size for policy in case.settings.policies())
    if largest > most:
        yield advice(
            f"a pool of {largest} servers, max_client_conn {most}",
            "There are never clients for all of them.",
            f"a pool size of {most} at most; a pool is to be far smaller than the number of clients",
        )


def session_pooling(case: Case) -> Iterator[Finding]:
    """`pool_mode = "session"` with room for more clients than servers."""
    for where, policy in case.rules():
        clients = policy.client.max_user_connections or policy.client.max_db_connections
        clients = min(clients or case.settings.max_client_conn, case.settings.max_client_conn)
        room = policy.pool.size + policy.pool.reserve_size
        if policy.mode == "session" and clients > room:
            yield advice(
                f'{where}pool_mode "session", {clients} clients may come to a pool of {room} servers',
                f"Each client keeps its server to its end: the others wait {policy.client.query_wait_s:g} s and get "
                "ERROR 53300.",
                'pool_mode = "transaction", or limits for clients near the pool\'s size',
            )


CHECKS: Final = (min_pool_size, pool_beyond_limits, client_limits, more_servers_than_clients, session_pooling)
