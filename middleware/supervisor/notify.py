"""What systemd, or whoever else has started us with a NOTIFY_SOCKET, is told: sd_notify(3), without its library.

A datagram of lines each time. What cannot be sent is no reason to fail.
"""

import contextlib
import socket
import time
from collections.abc import MutableMapping
from typing import Final

import structlog

PATIENCE_S: Final = 1.0
"""Who does not read has so long to take what it must know. For what is said again and again there is none."""

log = structlog.get_logger("service")


class Notifier:
    """The way there; without an address, to nobody."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self.address: Final = address
        self.watchdog_s: Final = watchdog_s
        """It wants to hear of us within that time; 0 for never."""
        self._silent = False
        self._status = ""

    def ready(self, status: str) -> None:
        """We serve, or do again after a reload."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def alive(self, status: str) -> None:
        """We run, and how it goes; said by the loop itself, which would not if it stood still."""
        lines = ["WATCHDOG=1"] if self.watchdog_s else []
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if lines:
            self._send(*lines, patience_s=0.0)

    def reloading(self) -> None:
        """The files are read again; `ready` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """No new clients are taken."""
        self._send("STOPPING=1")

    def succeeded_by(self, pid: int) -> None:
        """That process speaks from now on, and this one no more: it would be taken for a stranger's word."""
        self._send(f"MAINPID={pid}")
        self._silent = True

    def _send(self, *lines: str, patience_s: float = PATIENCE_S) -> None:
        if not self.address or self._silent:
            return
        # An address with @ in front is in the abstract namespace.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one:
                one.settimeout(patience_s)
                one.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("NOTIFY_SOCKET could not be told", said=lines[0], why=str(error))


def notifier_of(environment: MutableMapping[str, str], pid: int) -> Notifier:
    """By the environment, out of which it is taken: no process that we start is to speak for us."""
    address = environment.pop("NOTIFY_SOCKET", "")
    usec, whose = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    watchdog_s = 0.0
    if not whose or whose == str(pid):
        with contextlib.suppress(ValueError):
            watchdog_s = int(usec) / 1e6
    return Notifier(address, watchdog_s)


def environment_for_successor(notifier: Notifier, environment: MutableMapping[str, str]) -> dict[str, str]:
    """That of a process which is to speak in our place."""
    told = dict(environment)
    if notifier.address:
        told["NOTIFY_SOCKET"] = notifier.address
    if notifier.watchdog_s:
        told["WATCHDOG_USEC"] = str(round(notifier.watchdog_s * 1e6))
    return told
