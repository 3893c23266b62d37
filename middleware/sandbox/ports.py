"""Ports on loopback for the nodes to listen on."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

from middleware.sandbox.errors import SandboxError
from middleware.sandbox.node import HOST

#: Between finding a port and listening on it somebody else may take it: so often a node's first start tries another.
BIND_ATTEMPTS_MAX = 5


def free_port() -> int:
    """A port on loopback that is free now, outside the range the kernel takes client ports from.

    A client port could be the node's own while it is down, and keep it from coming back.
    """
    try:
        upper = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        upper = 32768
    ports = range(10000, upper) if upper > 12000 else range(10000, 65536)
    generator = random.SystemRandom()
    for _ in range(100):
        port = generator.choice(ports)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise SandboxError(f"no free port on {HOST} between {ports[0]} and {ports[-1]}")
