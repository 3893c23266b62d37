"""The limit on open files, which is one on connections: most systems start a process with 1024.

The soft one is raised as far as the hard one allows, for this process and the workers it starts: what is not needed
costs nothing.
"""

import resource
from typing import Final

import structlog

from middleware.config import Settings

ENOUGH: Final = 1 << 20
"""More connections than any worker can serve; some systems have no hard limit."""
BESIDE: Final = 100
"""Descriptors of a worker that are neither clients' nor servers': the interpreter's, listeners', the log's."""

log = structlog.get_logger("service")


def needed(settings: Settings) -> int:
    """What a worker has open when it has all clients, and for each rule with pools of its own one that is full."""
    clients = settings.max_client_conn + settings.admin_reserved_conn + settings.max_client_logins
    sizes = {policy.pool.name: policy.pool.size + policy.pool.reserve_size for policy in settings.policies()}
    return clients + sum(sizes.values()) * len(settings.nodes) + BESIDE


def raise_limit(settings: Settings) -> None:
    """Take as many as there may be; the log has it where that may be too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    need = needed(settings)
    if most < need:
        log.warning(
            "the limit on open files may be too low: clients would not be accepted, or servers not be opened",
            limit=most,
            needed=need,
        )
