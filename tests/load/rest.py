"""What must be so again once all clients have gone."""

import time
from typing import Final

import psutil

from middleware.relay.admission import EVERYBODY
from middleware.sandbox import Sandbox
from tests.load.footprint import counted
from tests.load.witness import states

KEYS_OF_A_SERVER: Final = 3
"""A server counts for its pool, its database and its user."""
REST_S: Final = 20.0
POLL_S: Final = 0.2


def faults(cluster: Sandbox, workers: list[psutil.Process], descriptors: int) -> list[str]:
    """What is not at rest, after some time to come there. `descriptors`: those the workers need without any server."""
    deadline = time.monotonic() + REST_S
    while True:
        found = _faults(cluster, workers, descriptors)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)


def _faults(cluster: Sandbox, workers: list[psutil.Process], descriptors: int) -> list[str]:
    found = []
    doing = states(cluster)
    servers = doing.total()
    if doing.keys() - {"idle"}:
        found.append(f"servers are not idle: {dict(doing)}")
    counts = counted(workers)
    clients = counts.pop(EVERYBODY, 0)
    if clients:
        found.append(f"{clients} clients are counted")
    if sum(counts.values()) != KEYS_OF_A_SERVER * servers:
        found.append(f"{servers} servers are there, and counted for {list(counts.values())}")
    left = sum(worker.num_fds() for worker in workers) - descriptors - servers
    if left:
        found.append(f"{left} descriptors are left open")
    return found
