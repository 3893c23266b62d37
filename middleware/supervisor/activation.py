"""Sockets that systemd has opened for us: sd_listen_fds(3), without its library.

They listen while no Pointsman runs: who connects waits for the next one instead of being refused. Their names, by
FileDescriptorName=, say what for: "http", "control", and with any other name clients.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from middleware.supervisor.doors import Open
from middleware.supervisor.link import HandedSocket, Use
from middleware.supervisor.listeners import StartError

FIRST: Final = 3
"""SD_LISTEN_FDS_START"""
USES: Final[dict[str, Use]] = {"http": "http", "control": "control"}


def activated(environment: MutableMapping[str, str], pid: int) -> list[Open]:
    """Those there are, by the environment, out of which they are taken. Raises StartError for one that is of no use."""
    whose, count, names = (environment.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if whose != str(pid):
        # Nobody's, or meant for a process before this one.
        return []
    try:
        descriptors = range(FIRST, FIRST + int(count))
    except ValueError:
        raise StartError(f'LISTEN_FDS: a number is allowed, not "{count}"') from None
    called = names.split(":") if names else []
    found: list[Open] = []
    for place, descriptor in enumerate(descriptors):
        name = called[place] if place < len(called) else ""
        found.append((HandedSocket(USES.get(name, "clients"), activated=True), _opened(descriptor, name)))
    controls = [said for said, _ in found if said.use == "control"]
    if len(controls) > 1:
        raise StartError('LISTEN_FDS: one socket with the name "control" is allowed')
    return found


def _opened(descriptor: int, name: str) -> socket.socket:
    what = f'LISTEN_FDS: descriptor {descriptor} ("{name}")'
    try:
        os.set_inheritable(descriptor, False)
        one = socket.socket(fileno=descriptor)
    except OSError as error:
        raise StartError(f"{what} is not a socket: {(error.strerror or str(error)).lower()}") from None
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    listens = one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if one.family not in families or not listens:
        raise StartError(f"{what} does not listen for connections: ListenStream= and Accept=no are needed")
    if USES.get(name) == "control" and one.family != socket.AF_UNIX:
        raise StartError(f"{what} is not a unix socket: anybody could give orders")
    return one
