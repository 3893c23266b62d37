"""What is compared: how each contender starts, where it listens, which process to charge, how it stops.

In: the sandbox's cluster and a directory for the contender's files. Out: a target for pgbench and a process id. This
file has PostgreSQL itself and Pointsman; those of others are in tests.bench.poolers.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Self

import psutil

from middleware.sandbox import Sandbox
from middleware.sandbox.ports import free_port
from middleware.sandbox.privileges import Account, start_as
from tests.bench.pgbench import Mode, Target
from tests.conftest import settings_for

HOST: Final = "127.0.0.1"
COMPILED: Final = "compiled"
POOL_SIZE: Final = 20
START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 15.0


class BenchError(Exception):
    """A contender cannot be run; the message is for people."""


class Contender:
    """PostgreSQL itself, and the base of what stands in front of it. A context manager."""

    key = "direct"
    title = "PostgreSQL"
    caches = 0
    """How many query caches it has: each must be filled."""
    told_after_s = 0.0
    """How long after a statement hits() knows of it."""

    def __init__(self, cluster: Sandbox, directory: Path) -> None:
        self.cluster: Final = cluster
        self.directory: Final = directory

    @property
    def missing(self) -> str:
        """Why it cannot run on this machine and what would help, or nothing."""
        return ""

    def version(self) -> str:
        return self.cluster.query("SHOW server_version")[0][0]

    def note(self, mode: Mode) -> str:
        """What a reader has to know about it in this mode, or nothing."""
        return "the primary alone, no proxy"

    def target(self, mode: Mode) -> Target:
        return self._target_at(self.cluster.primary.port)

    @property
    def pid(self) -> int | None:
        """The root of the processes whose CPU time is the contender's cost."""
        return None

    def filled_in(self, mode: Mode) -> Mode:
        """The mode in which its caches are filled for this one."""
        return mode

    def hits(self) -> int:
        """How many statements its query caches have answered since it was started, as it says itself."""
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def _target_at(self, port: int, database: str = "") -> Target:
        cluster = self.cluster
        return Target(HOST, port, cluster.user, cluster.passwords[cluster.user], database or cluster.database)


class Proxy(Contender, ABC):
    """A program in front of the cluster, listening on `port` with its files in `directory`."""

    stop_signal: int = signal.SIGTERM
    probe = "SELECT count(*) FROM pgbench_branches"
    """What it must answer to be counted as started."""

    def __init__(self, cluster: Sandbox, directory: Path) -> None:
        super().__init__(cluster, directory)
        self.port: Final = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def target(self, mode: Mode) -> Target:
        return self._target_at(self.port)

    @abstractmethod
    def start(self) -> subprocess.Popen[bytes]:
        """Write the configuration and start the program in the foreground."""

    def __enter__(self) -> Self:
        self.directory.mkdir(mode=0o700)
        self._process = self.start()
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        _gone, alive = psutil.wait_procs(family, 2.0)
        for member in alive:
            # psutil knows a process id that was given to another since.
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()

    def _spawn(
        self, command: list[str], account: Account, environment: Mapping[str, str], cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("wb") as log:
            return start_as(account, command, directory=cwd or self.directory, environment=environment, output=log)

    def _wait_until_it_answers(self) -> None:
        """Return when a read through it is answered. Raises BenchError with the end of its log."""
        assert self._process is not None
        environment = self.target("simple").environment()
        command = [str(self.cluster.program("psql")), "-X", "-q", "-t", "-c", self.probe]
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join((self.directory / "log").read_text(errors="replace").splitlines()[-10:])
                raise BenchError(f"{self.title} does not answer: {answer.stderr.strip()}\n{tail}")
            time.sleep(0.05)


class Pointsman(Proxy):
    """`pointsman serve` from this source tree, or from the tree `build` with what is compiled in it."""

    more_settings: Mapping[str, Any] = {}

    def __init__(self, cluster: Sandbox, directory: Path, *, workers: int, build: Path | None = None) -> None:
        super().__init__(cluster, directory)
        self.key = f"{COMPILED if build else 'pointsman'}-{workers}"
        self.title = f"Pointsman {workers}w" + ("" if build is None else " compiled")
        self._workers: Final = workers
        self.build: Final = build

    def version(self) -> str:
        return version("pointsman")

    def note(self, mode: Mode) -> str:
        processes = "1 worker" if self._workers == 1 else f"{self._workers} workers"
        where = "" if self.build is None else f", build from {self.build.name}/"
        return f"{processes}, transaction pooling, {POOL_SIZE} connections per node, reads on the standbys{where}"

    def settings_text(self) -> str:
        """Its settings file."""
        return settings_for(self.cluster, workers=self._workers, default_pool_size=POOL_SIZE, **self.more_settings)

    def environment(self) -> dict[str, str]:
        """That of its commands."""
        # Over the file: a port known beforehand, and the health check as often as by default.
        environment = {
            **os.environ,
            "POINTSMAN_LISTEN_PORT": str(self.port),
            "POINTSMAN_HEALTH_CHECK__PERIOD": "1.0",
        }
        if self.build is not None:
            environment["PYTHONPATH"] = str(self.build)
        return environment

    def start(self) -> subprocess.Popen[bytes]:
        config = self.directory / "pointsman.toml"
        config.write_text(self.settings_text())
        myself = Account(os.geteuid(), os.getegid(), "", differs=False)
        command = [sys.executable, "-m", "middleware", "serve", "-c", str(config)]
        return self._spawn(command, myself, self.environment(), self.build)
