"""The listening sockets: bound here once, inherited by every worker, and kept open while workers are restarted.

In: listen_addr, listen_port, unix_socket_dir; and sockets that listen already, of a Pointsman before this one or of
systemd. Out: Listeners, with the sockets and the addresses they got; or ListenError, one line.
"""

import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from middleware.config import NetworkSettings
from middleware.pool.dial import set_again

BACKLOG: Final = 4096
UNIX_PATH_BYTES_MAX: Final = 107
"""What fits into sockaddr_un, less its closing zero."""

log = structlog.get_logger("service")


class StartError(Exception):
    """Pointsman cannot start."""


class ListenError(StartError):
    """An address cannot be listened on."""


class UnixSocket:
    """A unix socket that listens, and its file."""

    def __init__(self, listening: socket.socket, path: Path, *, ours: bool = True) -> None:
        """`ours`: the file is to be removed in the end."""
        self.socket: Final = listening
        self.path: Final = path
        self.ours = ours
        self._inode: Final = _inode(path)

    def remove(self) -> None:
        """Take its file away, if it is not another's: a successor may have bound the same path already."""
        if self.ours and _inode(self.path) == self._inode:
            self.path.unlink(missing_ok=True)


def bind_unix(path: Path, mode: int) -> UnixSocket:
    """Listen there. Raises ListenError; takes over the file of a process that is gone."""
    if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
        raise ListenError(f"could not listen on {path}: the path is longer than {UNIX_PATH_BYTES_MAX} bytes")
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        one.bind(os.fspath(path))
        # Before listen(): until then nobody can connect, whatever the umask left open.
        path.chmod(mode)
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        raise ListenError(f"could not listen on {path}: {_text(error)}") from None
    one.setblocking(False)
    return UnixSocket(one, path)


class Listeners:
    """Open listening sockets. `close` also takes the unix sockets' files away."""

    def __init__(self, spare: Sequence[socket.socket] = ()) -> None:
        """`spare`: sockets that listen already, to be used instead of binding the same address."""
        self.sockets: list[socket.socket] = []
        self.addresses: list[tuple[str, int]] = []
        """Address and port of each TCP socket, as bound."""
        self._unix: list[UnixSocket] = []
        self._spare: Final = list(spare)

    @property
    def unix_path(self) -> Path | None:
        """The unix socket's file."""
        return self._unix[0].path if self._unix else None

    def unix_sockets(self) -> list[UnixSocket]:
        """Those that have a file."""
        return list(self._unix)

    def filenos(self) -> tuple[int, ...]:
        """The file descriptors, which have the same numbers in the workers."""
        return tuple(one.fileno() for one in self.sockets)

    def use(self, network: NetworkSettings) -> None:
        """Have these options on what is accepted by TCP from now on."""
        for one in self.sockets:
            if one.family != socket.AF_UNIX and one.fileno() >= 0:
                set_again(one, network)

    def close(self) -> None:
        """Stop listening here; workers close their own copies when they drain. May be called again."""
        for one in self.sockets:
            one.close()
        self.sockets.clear()
        for unix in self._unix:
            unix.remove()
        self._unix.clear()

    def adopt(self, one: socket.socket, *, ours: bool) -> None:
        """Use a socket that listens already; `ours`: if it has a file, that is to be removed in the end."""
        one.setblocking(False)
        self.sockets.append(one)
        if one.family == socket.AF_UNIX:
            self._unix.append(UnixSocket(one, path_of(one), ours=ours))
        else:
            self.addresses.append(one.getsockname()[:2])

    def open_tcp(self, names: Sequence[str], port: int, setting: str = "listen_addr") -> None:
        """Bind each of `names` ("*" is every address), which are of `setting`; port 0 takes a free one, the same for
        all."""
        for name in names:
            for family, address in _resolve(name, setting):
                bound = self._from_spare(family, address, port)
                if bound is None:
                    bound = _bind_tcp(family, address, port, optional=name == "*" and family == socket.AF_INET6)
                if bound is None:
                    continue
                self.sockets.append(bound)
                port = bound.getsockname()[1]
                self.addresses.append((address, port))

    def _from_spare(self, family: int, address: str, port: int) -> socket.socket | None:
        for one in self._spare:
            if one.family == socket.AF_UNIX or one.family != family:
                continue
            host, bound = one.getsockname()[:2]
            if host == address and port in (0, bound):
                self._spare.remove(one)
                one.setblocking(False)
                return one
        return None

    def open_unix(self, directory: Path, port: int, mode: int) -> None:
        """Bind `.s.PGSQL.<port>` in `directory`, where PostgreSQL's clients look for it."""
        path = directory / f".s.PGSQL.{port}"
        for one in self._spare:
            if one.family == socket.AF_UNIX and path_of(one) == path.absolute():
                self._spare.remove(one)
                # Until it has been handed over for good, its file is another's.
                self.adopt(one, ours=False)
                return
        bound = bind_unix(path, mode)
        self._unix.append(bound)
        self.sockets.append(bound.socket)


def path_of(one: socket.socket) -> Path:
    """Where a unix socket's file is, as seen from the root."""
    return Path(os.fsdecode(one.getsockname())).absolute()


def open_listeners(
    names: Sequence[str],
    port: int,
    unix_directory: Path | None,
    unix_mode: int,
    *,
    spare: Sequence[socket.socket] = (),
) -> Listeners:
    """All the sockets, or none of them and ListenError. `spare`: some that listen already."""
    listeners = Listeners(spare)
    try:
        listeners.open_tcp(names, port)
        if unix_directory is not None:
            bound_port = listeners.addresses[0][1] if listeners.addresses else port
            listeners.open_unix(unix_directory, bound_port, unix_mode)
    except BaseException:
        listeners.close()
        raise
    return listeners


def open_http(names: Sequence[str], port: int, *, spare: Sequence[socket.socket] = ()) -> Listeners:
    """All those of HTTP, or none of them and ListenError."""
    listeners = Listeners(spare)
    try:
        listeners.open_tcp(names, port, "http_listen_addr")
    except ListenError as error:
        listeners.close()
        raise ListenError(f"http_port: {error}") from None
    return listeners


def _resolve(name: str, setting: str) -> list[tuple[socket.AddressFamily, str]]:
    if name == "*":
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]  # noqa: S104 - asked for with "*"
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f'could not resolve {setting} "{name}": {_text(error)}') from None
    # dict: a name may resolve to one address more than once.
    return list(dict.fromkeys((family, str(sockaddr[0])) for family, _, _, _, sockaddr in found))


def _bind_tcp(family: socket.AddressFamily, address: str, port: int, *, optional: bool) -> socket.socket | None:
    try:
        one = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if optional and error.errno == errno.EAFNOSUPPORT:
            return None
        raise ListenError(f"could not listen on {shown(address, port)}: {_text(error)}") from None
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has its own socket.
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, port))
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        if optional and error.errno == errno.EADDRNOTAVAIL:
            log.info("not listening on IPv6: this machine has no IPv6 address")
            return None
        raise ListenError(f"could not listen on {shown(address, port)}: {_text(error)}") from None
    one.setblocking(False)
    return one


def _remove_stale(path: Path) -> None:
    """Take away the socket file of a process that is gone. Raises OSError when one still listens there."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "a file that is not a socket is in the way")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.setblocking(False)
        # A full backlog answers EAGAIN: somebody is there all the same.
        answer = knock.connect_ex(os.fspath(path))
    if answer != errno.ECONNREFUSED:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    path.unlink(missing_ok=True)


def _inode(path: Path) -> int:
    try:
        return path.lstat().st_ino
    except OSError:
        return 0


def shown(address: str, port: int) -> str:
    """As people write it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _text(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
