"""All that a Pointsman listens on, for three uses: clients, HTTP, and its control socket.

In: the settings, and sockets that listen already: of the Pointsman that this one takes over from, which are used where
the settings have the same address, and of systemd, which are used whatever the settings say. Out: Listeners; and for
who takes over in turn, all of it.
"""

import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from middleware.config import Settings
from middleware.pool.dial import set_options
from middleware.supervisor.link import HandedSocket, Use
from middleware.supervisor.listeners import (
    ListenError,
    Listeners,
    UnixSocket,
    bind_unix,
    open_http,
    open_listeners,
    path_of,
    shown,
)

CONTROL_MODE: Final = 0o600

log = structlog.get_logger("service")

Open = tuple[HandedSocket, socket.socket]
"""A socket that listens already."""


class Doors:
    """One Pointsman's."""

    def __init__(self, given: Sequence[Open] = ()) -> None:
        """`given`: what listens already. Those of them that `open` does not use are left alone."""
        self._given: Final = tuple(given)
        self.clients = Listeners()
        self.web = Listeners()
        self.control: UnixSocket | None = None

    def open(self, settings: Settings) -> None:
        """Listen. Raises ListenError."""
        try:
            self.clients = self._clients(settings)
            self.web = self._web(settings)
            self.control = self._control(settings.control_socket_path())
        except ListenError:
            self.close()
            self.web.close()
            raise
        for one in self.clients.sockets:
            if one.family != socket.AF_UNIX:
                # What is accepted there has the same.
                set_options(one, settings.network())
        for host, port in self.clients.addresses:
            log.info("listening", host=host, port=port)
        for host, port in self.web.addresses:
            log.info("listening for HTTP", host=host, port=port)
        for unix in self.clients.unix_sockets():
            log.info("listening", path=str(unix.path))

    def listening(self) -> dict[int, tuple[str, int]]:
        """The address and port of each socket of clients and of HTTP, by its descriptor."""
        return {one.fileno(): _address_of(one) for one in (*self.clients.sockets, *self.web.sockets)}

    def close(self) -> None:
        """Listen no more, but for HTTP: whoever serves there ends it. May be called again."""
        self.clients.close()
        if self.control is not None:
            self.control.remove()
            self.control.socket.close()
            self.control = None

    def sockets(self) -> list[tuple[HandedSocket, int]]:
        """For a successor: all of it, with descriptors."""
        activated = {_identity(one) for said, one in self._given if said.activated}
        found: list[tuple[Use, socket.socket]] = [("clients", one) for one in self.clients.sockets]
        found.extend(("http", one) for one in self.web.sockets)
        if self.control is not None:
            found.append(("control", self.control.socket))
        return [(HandedSocket(use, activated=_identity(one) in activated), one.fileno()) for use, one in found]

    def used(self) -> tuple[int, ...]:
        """The places of what was given among what is used."""
        ours = [*self.clients.sockets, *self.web.sockets]
        if self.control is not None:
            ours.append(self.control.socket)
        return tuple(place for place, (_, one) in enumerate(self._given) if one in ours)

    def own(self) -> None:
        """What was given by a predecessor is ours alone now, and so are the files."""
        systemd = {_identity(one) for said, one in self._given if said.activated}
        for unix in self._unix():
            unix.ours = _identity(unix.socket) not in systemd
        used = self.used()
        for place, (_, one) in enumerate(self._given):
            if place not in used:
                # Nobody would accept what comes there.
                one.close()

    def give_away(self, used: Sequence[int]) -> None:
        """Listen no more; a successor does on those in the places `used`, of what `sockets` has said."""
        said = [one for _, one in self.sockets()]
        kept = {said[place] for place in used if 0 <= place < len(said)}
        for unix in self._unix():
            unix.ours = unix.ours and unix.socket.fileno() not in kept
        left = [one for one in self.clients.sockets if one.fileno() not in kept]
        for one in left:
            where = path_of(one) if one.family == socket.AF_UNIX else shown(*one.getsockname()[:2])
            log.warning("nobody listens any more where this Pointsman did", address_bound=str(where))
        self.close()

    def _unix(self) -> list[UnixSocket]:
        return self.clients.unix_sockets() + ([self.control] if self.control is not None else [])

    def _clients(self, settings: Settings) -> Listeners:
        if activated := self._activated("clients"):
            return activated
        return open_listeners(
            settings.listen_addresses(),
            settings.listen_port,
            settings.unix_socket_path(),
            int(settings.unix_socket_mode, 8),
            spare=self._spare("clients"),
        )

    def _web(self, settings: Settings) -> Listeners:
        if activated := self._activated("http"):
            return activated
        if not settings.http_port:
            return Listeners()
        return open_http(settings.http_addresses(), settings.http_port, spare=self._spare("http"))

    def _control(self, path: Path | None) -> UnixSocket | None:
        for said, one in self._given:
            if said.use == "control" and (said.activated or (path is not None and path_of(one) == path.absolute())):
                one.setblocking(False)
                return UnixSocket(one, path_of(one), ours=False)
        if path is None:
            return None
        try:
            return bind_unix(path, CONTROL_MODE)
        except ListenError as error:
            raise ListenError(f"control_socket: {error}") from None

    def _activated(self, use: str) -> Listeners | None:
        """Those of systemd, if there are any: then they are all."""
        found = [one for said, one in self._given if said.activated and said.use == use]
        if not found:
            return None
        listeners = Listeners()
        for one in found:
            listeners.adopt(one, ours=False)
        return listeners

    def _spare(self, use: str) -> list[socket.socket]:
        return [one for said, one in self._given if said.use == use and not said.activated]


def _identity(one: socket.socket) -> tuple[int, int]:
    """The same for every descriptor of a socket."""
    known = os.fstat(one.fileno())
    assert stat.S_ISSOCK(known.st_mode)
    return known.st_dev, known.st_ino


def _address_of(one: socket.socket) -> tuple[str, int]:
    """Where it is bound; "unix" and the port in its file's name."""
    address = one.getsockname()
    if one.family == socket.AF_UNIX:
        return "unix", int(str(address).rpartition(".")[2])
    return str(address[0]), int(address[1])
