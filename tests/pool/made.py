"""Pools that open nothing: for tests of what looks at them."""

import asyncio
import tempfile

from healthcheck.topology import Node
from middleware.auth import Access, Authority
from middleware.config import PoolPolicy, WorkerSettings
from middleware.pool.dial import Dialer
from middleware.pool.ledger import Ledger, bytes_for
from middleware.pool.limits import ServerLimits
from middleware.pool.plan import Clock
from middleware.pool.pool import Pool
from middleware.pool.surroundings import NodeState, Surroundings


def ledger(workers: int = 1, mine: int = 0) -> Ledger:
    """One that no other process sees."""
    with tempfile.TemporaryFile() as file:
        file.truncate(bytes_for(workers))
        return Ledger(file.fileno(), 0, workers, mine)


def pool_of(
    node: str,
    settings: WorkerSettings,
    loop: asyncio.AbstractEventLoop,
    host: str = "127.0.0.1",
    port: int = 1,
    drawn: float = 0.0,
) -> Pool:
    """A pool of database "d" and user "u", at rest."""
    return Pool(Node(node, host, port), b"d", b"u", PoolPolicy(), NodeState(8), surroundings(settings, loop, drawn))


def surroundings(settings: WorkerSettings, loop: asyncio.AbstractEventLoop, drawn: float = 0.0) -> Surroundings:
    """Those of a worker's pools, at time 0; `drawn` is what they draw each time."""
    limits = ServerLimits(ledger(), settings, lambda _key: None, lambda: None)
    dialer = Dialer(loop, settings.network, lambda _host, _addresses: None)
    return Surroundings(
        settings, loop, Clock(0.0), limits, dialer, Authority(Access()), lambda _node, _text: None, lambda: drawn
    )
