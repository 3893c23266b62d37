"""A node of a sandbox as its users see it, whether it is a process or a container.

Every control returns when it has taken effect.
"""

from __future__ import annotations

import abc
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.01
LOG_LINES_SHOWN = 20

StopMode = Literal["smart", "fast", "immediate"]
STOP_SIGNALS: Mapping[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class SandboxNode(abc.ABC):
    """A PostgreSQL server by name, on ``host`` and ``port``. The port stays the same over restarts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.host = HOST
        self.port = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, port={self.port})"

    @property
    @abc.abstractmethod
    def data_directory(self) -> Path:
        """As the server sees it: of a container's node, in the container. It belongs to the server's user."""

    @property
    @abc.abstractmethod
    def pid(self) -> int | None:
        """The postmaster's pid while it runs."""

    @property
    def running(self) -> bool:
        """Whether the postmaster lives; a paused one does."""
        return self.pid is not None

    @property
    @abc.abstractmethod
    def is_standby(self) -> bool:
        """Whether it is set up to follow a primary; a promotion ends that."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start, and wait until it accepts connections."""

    @abc.abstractmethod
    def stop(self, mode: StopMode = "fast") -> None:
        """Shut down as ``pg_ctl stop -m mode`` does. Nothing happens to a node that does not run."""

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start on the same port."""
        self.stop(mode)
        self.start()

    @abc.abstractmethod
    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send ``signum`` to the postmaster and its children. SIGKILL waits until all are gone."""

    @abc.abstractmethod
    def pause(self) -> None:
        """Stop all its processes in their tracks: sockets stay open and nobody answers."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Let all its processes go on."""

    @abc.abstractmethod
    def log_tail(self) -> str:
        """The last lines of the server log since the last start."""


class Address(NamedTuple):
    """Where something listens."""

    host: str
    port: int


class Answer(NamedTuple):
    """What psql said."""

    status: int
    output: str
    error: str


class Backend(Protocol):
    """What makes the nodes: processes of ours, or containers."""

    nodes: tuple[SandboxNode, ...]
    version: int

    def open(self) -> None:
        """Find or make what all nodes need, and fill ``nodes``; none runs yet."""

    def start_primary(self) -> None:
        """Make and start the first node, with the superuser and nothing else."""

    def start_standbys(self) -> None:
        """Clone the other nodes from the first, with a slot each, and start them."""

    def conninfo(self, primary: SandboxNode, through: Address | None = None) -> str:
        """Where a standby finds ``primary``, at another address than its own if need be: for ``primary_conninfo``."""

    def rejoin(self, node: SandboxNode, primary: SandboxNode, through: Address | None) -> str:
        """Make ``node`` a standby, running or not before, that follows ``primary`` at ``through``, and start it.

        What it has and the primary has not is undone. Returns how that was done; SandboxError if it could not be.
        """

    def psql(self, node: SandboxNode, arguments: Sequence[str], password: str, sql: str, timeout_s: float) -> Answer:
        """Run ``sql`` on ``node`` through psql without showing it in the process list; TimeoutError if it hangs."""

    def close(self) -> None:
        """End everything at once and leave nothing, in whatever state it is."""
