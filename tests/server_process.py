"""A server that is no PostgreSQL, as a process on loopback: for tests to ask and to break."""

import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import pytest

START_TIMEOUT_S = 30.0


def needs(program: str | None, without: str) -> None:
    """Skip where it is not installed, and say so in these words: .ci/run installs it."""
    if program is None:
        pytest.skip(without)


class ServerProcess(ABC):
    """Runs while the block does, in a directory of its own."""

    NAME: ClassVar[str]

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self, directory: Path) -> list[str]:
        """What starts it, in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it does by now."""

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix=f"pointsman-{self.NAME}-"))
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._directory)

    def start(self) -> None:
        """Where it was killed, again."""
        said = self._directory / "log"
        with said.open("ab") as log:
            self._process = subprocess.Popen(self.command(self._directory), stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            assert self._process.poll() is None, f"{self.NAME} has ended: {said.read_text()}"
            assert time.monotonic() < deadline, f"{self.NAME} does not answer: {said.read_text()}"
            time.sleep(0.02)

    def kill(self) -> None:
        """As kill -9 does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
