"""A node that is a process of ours: start, stop, and the ways a server can fail.

The server is a direct child in a session of its own. It is started by the ``spawner``, a thread that lives as long as
the sandbox, because the parent-death signal follows the thread that forked, not the process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import psutil

from middleware.sandbox.binaries import Installation
from middleware.sandbox.directory import forget_shared_memory, kill_tree
from middleware.sandbox.errors import SandboxError
from middleware.sandbox.node import (
    LOG_LINES_SHOWN,
    POLL_S,
    START_TIMEOUT_S,
    STOP_SIGNALS,
    STOP_TIMEOUT_S,
    SandboxNode,
    StopMode,
)
from middleware.sandbox.ports import BIND_ATTEMPTS_MAX, free_port
from middleware.sandbox.privileges import Account, start_as


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the nodes of a sandbox share."""

    installation: Installation
    account: Account
    nodes: Path
    environment: Mapping[str, str]
    spawner: Executor

    def start(
        self,
        command: list[str],
        log: Path,
        started: Callable[[subprocess.Popen[bytes]], None],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Start a program as the server's user; ``started`` hears of it even if the caller is interrupted here."""

        environment = {**self.environment, **(variables or {})}

        def spawn() -> None:
            with log.open("ab") as output:
                process = start_as(self.account, command, directory=self.nodes, environment=environment, output=output)
                started(process)

        self.spawner.submit(spawn).result()


class ProcessNode(SandboxNode):
    """A postmaster and its children, with a data directory and a log."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        super().__init__(name)
        self.home = surroundings.nodes / name
        self.log = self.home / "log"
        self._surroundings = surroundings
        self._log_offset = 0
        self._started_before = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data_directory(self) -> Path:
        return self.home / "data"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def is_standby(self) -> bool:
        return (self.data_directory / "standby.signal").exists()

    def start(self) -> None:
        """Start, and wait until it accepts connections. The first start chooses the port."""
        self.begin_start()
        self.finish_start()

    def begin_start(self) -> None:
        """Start without waiting, for nodes that start side by side."""
        if self.running:
            raise SandboxError(f'node "{self.name}" runs already')
        if self.port == 0:
            self.port = free_port()
        self._log_offset = self.log.stat().st_size if self.log.exists() else 0
        program = str(self._surroundings.installation.program("postgres"))
        command = [program, "-D", str(self.data_directory), "-p", str(self.port), "-c", f"cluster_name={self.name}"]
        self._surroundings.start(command, self.log, self._started)

    def finish_start(self) -> None:
        """Wait for a start begun before. A port that somebody took in between is replaced on the first start."""
        deadline = time.monotonic() + START_TIMEOUT_S
        attempts = 1
        while not self._accepts_connections():
            if not self.running:
                # Said when bind fails and when listen does: of two that bind at one moment the second fails to listen.
                taken = "could not create any TCP/IP sockets" in self.log_tail() and not self._started_before
                if not taken or attempts == BIND_ATTEMPTS_MAX:
                    raise SandboxError(f'node "{self.name}" did not start:\n{self.log_tail()}')
                attempts += 1
                self.port = free_port()
                self.begin_start()
            elif time.monotonic() > deadline:
                raise SandboxError(f'node "{self.name}" not ready after {START_TIMEOUT_S:g} s:\n{self.log_tail()}')
            time.sleep(POLL_S)
        self._started_before = True

    def stop(self, mode: StopMode = "fast") -> None:
        if self._process is None or not self.running:
            return
        self._process.send_signal(STOP_SIGNALS[mode])
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise SandboxError(
                f'node "{self.name}" did not stop ({mode}) within {STOP_TIMEOUT_S:g} s:\n{self.log_tail()}'
            ) from None

    def kill(self, signum: int = signal.SIGKILL) -> None:
        if self._process is None or not self.running:
            return
        if signum == signal.SIGKILL:
            kill_tree(psutil.Process(self._process.pid))
            self._process.wait()
            return
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signum)

    def pause(self) -> None:
        if self.pid is not None:
            os.kill(self.pid, signal.SIGSTOP)  # first, so that it forks no more while its children are listed
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        for process in reversed(self._family()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def follow(self, conninfo: str) -> None:
        """Let it start as a standby of who is at ``conninfo``, with a slot of its own name there."""
        quoted = conninfo.replace("'", "''")
        with (self.data_directory / "postgresql.auto.conf").open("a") as settings:
            # The last line wins: a rewind has brought the primary's own.
            settings.write(f"primary_conninfo = '{quoted}'\nprimary_slot_name = '{self.name}'\n")
        signal_file = self.data_directory / "standby.signal"
        signal_file.touch(mode=0o600)
        account = self._surroundings.account
        os.chown(signal_file, account.uid, account.gid)

    def empty(self) -> None:
        """Remove its data."""
        forget_shared_memory(self.data_directory)
        shutil.rmtree(self.data_directory)

    def log_tail(self) -> str:
        try:
            with self.log.open("rb") as log:
                log.seek(self._log_offset)
                text = log.read().decode(errors="replace")
        except OSError as error:
            return f"(no server log: {error})"
        return "\n".join(text.splitlines()[-LOG_LINES_SHOWN:])

    def discard(self) -> None:
        """End it at once, in whatever state it is, and its shared memory with it."""
        if self._process is not None:
            self.resume()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self.kill()
        forget_shared_memory(self.data_directory)

    def begin_discard(self) -> None:
        """Ask for an immediate shutdown without waiting, for nodes that end side by side."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGQUIT)

    def _started(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def _family(self) -> list[psutil.Process]:
        """The postmaster first, stopped or not, then its children."""
        if self.pid is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self.pid)
            return [postmaster, *postmaster.children(recursive=True)]
        return []

    def _accepts_connections(self) -> bool:
        """What the postmaster writes into its pid file, as pg_ctl reads it."""
        try:
            lines = (self.data_directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # Line 1 is the pid: the file of a killed server stays behind. Line 8 is the state.
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"
