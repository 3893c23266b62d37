"""A temporary directory of its own for every test here, and a look at what is left in it and beside it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

DEADLINE_S = 10.0


class Traces:
    """What a sandbox below ``directory`` has on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def processes(self) -> list[str]:
        """Processes that work in the directory, or are told of it."""
        found = []
        for process in psutil.process_iter():
            try:
                words = [process.cwd(), *process.cmdline()]
            except psutil.Error:
                continue
            if any(str(self.directory) in word for word in words):
                found.append(f"{process.pid} {' '.join(words)}")
        return found

    def directories(self) -> list[Path]:
        return list(self.directory.iterdir())

    def segments(self) -> set[str]:
        """The System V shared memory of the servers that run in the directory."""
        files = self.directory.glob("*/nodes/*/data/postmaster.pid")
        return {file.read_text().splitlines()[6].split()[1] for file in files}

    def none(self) -> bool:
        return not self.processes() and not self.directories()


def existing_segments() -> set[str]:
    return {row.split()[1] for row in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]}


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    """Sandboxes of this test, and of programs it starts, live in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="pointsman-test-") as name:
        directory = Path(name)
        directory.chmod(0o1777)
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Traces(directory)


def eventually(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> bool:
    """Whether ``condition`` holds before the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
