"""What an operator has a pool do with the servers that it has: see relay/pauses.py.

A pool that is *paused* opens no server and keeps none; its clients wait in it, or elsewhere. One that was told to
*renew* its servers lends none again that was there then, and opens others as they are needed.
"""

from middleware.pool.pool import Pool


def pause(pool: Pool) -> None:
    """Close what is idle now, and what is lent when it comes back; nobody is turned away."""
    pool.plan.paused = True
    pool.close_idle()


def go_on(pool: Pool) -> None:
    """It is no longer paused. What kept servers from being opened may be over."""
    pool.plan.paused = False
    pool.plan.opening_succeeded()
    pool.open_what_is_needed(pool.clock.now)


def renew(pool: Pool) -> int:
    """Have no server serve again that is there now; returns how many there are."""
    servers = pool.servers()
    for server in servers:
        server.close_needed = True
    pool.close_idle()
    return len(servers)


def to_close(pool: Pool) -> int:
    """How many servers it has that are not to serve again, and are not closed yet."""
    closing = pool.plan.closing
    for server in pool.servers():
        if server.close_needed:
            closing += 1
    return closing


def under_way(pool: Pool) -> tuple[int, int]:
    """How many servers are lent on which something is under way, and how many to clients that rest on them."""
    resting = 0
    for server in pool.plan.lent:
        if server.session.at_rest():
            resting += 1
    return len(pool.plan.lent) - resting, resting
