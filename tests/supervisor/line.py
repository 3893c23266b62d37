"""`pointsman serve` as processes that follow each other in one directory."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.supervisor.conftest import DEADLINE_S, SECRET

CONFIG: Final = """
listen_port = {port}
unix_socket_dir = "{directory}"
control_socket = "{directory}/control"
workers = {workers}
shutdown_timeout = 5
{more}
[log]
format = "json"
[health_check]
user = "monitor"
password = "{secret}"
[nodes.db1]
host = "127.0.0.1"
port = 1
[users.app]
password = "{secret}"
"""
SERVE: Final = (sys.executable, "-m", "middleware", "serve", "-c", "pointsman.toml")


class Line:
    """Processes that follow each other, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes]
        self.configure()

    def configure(self, *, workers: int = 1, port: int | None = None, more: str = "") -> None:
        """What the next one reads."""
        text = CONFIG.format(
            port=self.port if port is None else port,
            directory=self.directory,
            workers=workers,
            more=more,
            secret=SECRET,
        )
        (self.directory / "pointsman.toml").write_text(text)

    def start(
        self,
        *options: str,
        command: tuple[str, ...] = SERVE,
        close_fds: bool = True,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """One of them; the first is `process`."""
        with self.log_path.open("ab") as log:
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY_", "LISTEN_"))}
            return subprocess.Popen(
                [*command, *options],
                cwd=self.directory,
                stdout=log,
                stderr=log,
                env=kept | (environment or {}),
                close_fds=close_fds,
            )

    def serve(self, **environment: str) -> None:
        """The first one."""
        self.process = self.start(environment=environment)
        self.until(lambda: self.logged("ready"), "ready")

    @property
    def log_path(self) -> Path:
        return self.directory / "log"

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        lines = [json.loads(line) for line in self.log_path.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if line["event"] == event]

    def happened(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.logged("happened") if line["event_kind"] == kind]

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait, or fail with the log."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited for {what}:\n{self.log_path.read_text()}")
            time.sleep(0.02)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "middleware", *words, "-c", "pointsman.toml"],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def ask(self, what: str) -> dict[str, Any]:
        """The last word, by the control socket."""
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(DEADLINE_S * 2)
            one.connect(str(self.directory / "control"))
            one.sendall(json.dumps({"do": what}).encode() + b"\n")
            with one.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(list(lines)[-1])
                return answer

    def restart(self) -> int:
        """Have the next one take over; its pid."""
        answer = self.ask("restart")
        assert "done" in answer, (answer, self.log_path.read_text())
        return int(answer["done"]["pid"])

    def status(self) -> dict[str, Any]:
        known: dict[str, Any] = self.ask("status")["done"]
        return known

    def serving_pid(self) -> int:
        """Whose worker accepts what comes."""
        return psutil.Process(self.status()["workers"][0]["pid"]).ppid()

    def end(self) -> None:
        """Everything that was started here."""
        found = [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(self.directory)]
        for one in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(found, DEADLINE_S)
        self.process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        assert isinstance(port, int)
        return port


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def connect(line: Line) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", line.port), DEADLINE_S)
    one.settimeout(DEADLINE_S)
    return one


def ask_for_tls(one: socket.socket) -> bytes:
    """An SSLRequest's answer: somebody is there."""
    one.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
    return one.recv(1)
