"""What the log is told of connections to the nodes: that one is open, that one is closed and why."""

import time
from typing import TYPE_CHECKING, Final

import structlog

from middleware.errors import PointsmanError
from middleware.logs.wanted import WANTED

if TYPE_CHECKING:
    from middleware.pool.server_connection import ServerConnection

log: Final = structlog.get_logger("pool")

UNCERTAIN: Final = "uncertain"
"""What it has answered is not what was due."""
LEFT_BEHIND: Final = "left_behind"
"""Its client went in the middle of something."""
ELSEWHERE: Final = "wanted_elsewhere"
"""Another pool, or another worker, has its place."""
NODE: Final = "node"
"""Its node is not used any more, or not in this role."""
LIFETIME: Final = "lifetime"
RENEWED: Final = "reconnect"
"""RECONNECT; or the addresses of its node's name have changed."""
PAUSED: Final = "paused"
LIMIT: Final = "limit"
"""It was one of those that only administrators get."""
IDLE: Final = "idle_timeout"
LOST: Final = "lost"


def tell_opened(server: "ServerConnection") -> None:
    """It has logged in."""
    if WANTED.connections:
        pool = server.pool
        log.info(
            "server connection is open",
            node=pool.node,
            address=server.address or None,
            database=pool.database,
            user=pool.user,
            rule=pool.policy.name or None,
            backend=server.cancel_key[0],
            encrypted=server.encrypted(),
        )


def tell_closing(server: "ServerConnection") -> None:
    """We close it."""
    if WANTED.disconnections:
        _tell_closed(server, _reason(server), None)


def tell_lost(server: "ServerConnection", error: PointsmanError) -> None:
    """It was closed, or had to be given up."""
    if WANTED.disconnections:
        _tell_closed(server, LOST, error)


def _tell_closed(server: "ServerConnection", reason: str, error: PointsmanError | None) -> None:
    pool = server.pool
    log.info(
        "server connection is closed",
        reason=reason,
        sqlstate=None if error is None else error.sqlstate,
        why=None if error is None else error.logged,
        node=pool.node,
        address=server.address or None,
        database=pool.database,
        user=pool.user,
        rule=pool.policy.name or None,
        backend=server.cancel_key[0],
        connected_s=round(time.time() - server.connected_at, 6),
    )


def _reason(server: "ServerConnection") -> str:
    """Why it is closed, by what it is and what its pool is: the first of these that holds."""
    plan = server.pool.plan
    if server.abandoned:
        return LEFT_BEHIND
    if server.session.uncertain:
        return UNCERTAIN
    if server.yields:
        return ELSEWHERE
    if plan.closed:
        return NODE
    if plan.paused:
        return PAUSED
    if server.close_needed:
        return RENEWED
    if 0.0 < server.expires_at <= server.pool.clock.now:
        return LIFETIME
    return LIMIT if plan.over else IDLE
