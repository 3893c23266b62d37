"""One PostgreSQL server of a sandbox: a child process on a loopback port.

It runs in a session of its own, so that Ctrl-C at a terminal reaches us and not it, and is told by the kernel to stop
when we die without a word (PR_SET_PDEATHSIG).
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from middleware.sandbox.binaries import SandboxError
from middleware.sandbox.privileges import User

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.02

STOP_SIGNALS: Final = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
"""pg_ctl's stop modes ("Shutting Down the Server")."""

PR_SET_PDEATHSIG: Final = 1
_prctl: Final = getattr(ctypes.CDLL(None), "prctl", None)


def _die_with_parent() -> None:
    """In the child, before its exec: be told to stop at once when the thread that started us ends.

    subprocess changes the uid first, which matters: the kernel forgets this wish when the uid changes.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, int(signal.SIGQUIT))


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class SandboxNode:
    """A server: `name` is also its cluster_name, so that a query can ask who serves it."""

    def __init__(self, name: str, binaries: Path, directory: Path, port: int, user: User | None) -> None:
        self.name: Final = name
        self.host: Final = HOST
        self.port = port
        self.data_directory: Final = directory / "data"
        self.log_path: Final = directory / "log"
        self._binaries: Final = binaries
        self._user: Final = user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def run(self, program: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        """Run one of PostgreSQL's programs as the server's user. Raises SandboxError with what it said."""
        answer = subprocess.run(
            [self._binaries / program, *arguments],
            env={**_clean_environment(), **(environment or {})},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
            **_as_user(self._user),
        )
        if answer.returncode != 0:
            raise SandboxError(f"{program} for {self.name} failed:\n{answer.stdout.decode(errors='replace').strip()}")

    def start(self) -> None:
        """Start the server and wait until it takes connections. Raises SandboxError with the end of its log."""
        if self.running:
            return
        self._process = self._spawn(
            [str(self._binaries / "postgres"), "-D", str(self.data_directory), "-p", str(self.port)]
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise SandboxError(f"PostgreSQL {self.name} did not start on port {self.port}:\n{self.log_tail()}")
            time.sleep(POLL_S)

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                env=_clean_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                **_as_user(self._user),
            )

    def _accepts(self) -> bool:
        """Whether the server says it is ready, in the last line of postmaster.pid ("ready" or "standby")."""
        try:
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() in ("ready", "standby")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server in one of pg_ctl's modes: smart, fast, immediate."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(STOP_SIGNALS[mode])
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal to the server and all its processes; after SIGKILL, wait until all are gone."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        family = self._family()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signum)
        if signum == signal.SIGKILL:
            process.wait(STOP_TIMEOUT_S)
            psutil.wait_procs(family, STOP_TIMEOUT_S)

    def pause(self) -> None:
        """Stop time for the server (SIGSTOP): it keeps its connections and answers nothing."""
        self.kill(signal.SIGSTOP)

    def resume(self) -> None:
        self.kill(signal.SIGCONT)

    def _family(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        try:
            postmaster = psutil.Process(self._process.pid)
            return [postmaster, *postmaster.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def log_tail(self, lines: int = 20) -> str:
        """The end of the server's log."""
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def _as_user(user: User | None) -> dict[str, Any]:
    """The arguments with which subprocess starts a program as another user."""
    return {"user": user.uid, "group": user.gid, "extra_groups": []} if user is not None else {}


def _clean_environment() -> dict[str, str]:
    """Ours without what libpq and the server would take from it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {
        "LC_ALL": "C",
        "TZ": "UTC",
    }
