"""Processes of a Pointsman that follow each other in front of real nodes, for tests of what clients see of it."""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any, Final, Self

import psutil
import psycopg

from middleware.sandbox import Sandbox, SandboxError
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually


class Running:
    """An endpoint whose process is followed by others."""

    def __init__(self, cluster: Sandbox, directory: Path, **settings: Any) -> None:
        self.cluster: Final = cluster
        self.directory: Final = directory
        self._started: Final = pointsman(
            cluster, directory, **{"control_socket": str(directory / "control"), "shutdown_timeout": 5, **settings}
        )
        self.endpoint: Endpoint

    def __enter__(self) -> Self:
        self.endpoint = self._started.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._started.__exit__()
        finally:
            # Where the first was killed, nobody tells those behind it; and their servers are others' to count.
            for one in psutil.process_iter(["cwd"]):
                if one.info["cwd"] == str(self.directory):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()
            with contextlib.suppress(SandboxError):
                # Unless the primary was stopped, and with it all.
                eventually(lambda: servers(self.cluster) == 0, 30)

    def ask(self, what: str, **more: object) -> list[dict[str, Any]]:
        """All that the control socket answers."""
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(60)
            one.connect(str(self.directory / "control"))
            one.sendall(json.dumps({"do": what, **more}).encode() + b"\n")
            with one.makefile("rb") as lines:
                return [json.loads(line) for line in lines]

    def restart(self) -> int:
        """The pid of the next."""
        answer = self.ask("restart")[-1]
        assert "done" in answer, (answer, self.log())
        return int(answer["done"]["pid"])

    def status(self) -> dict[str, Any]:
        known: dict[str, Any] = self.ask("status")[-1]["done"]
        return known

    def change(self, name: str, value: object) -> None:
        """A setting, for the next."""
        path = self.directory / "pointsman.toml"
        lines = [
            f"{name} = {value}" if line.startswith(f"{name} =") else line for line in path.read_text().splitlines()
        ]
        path.write_text("\n".join(lines) + "\n")

    def happened(self) -> list[str]:
        """Kinds of events, of the process that serves."""
        return [one["event"]["what"] for one in self.ask("events")[:-1]]

    def log(self) -> str:
        return self._started.log()

    def connect(self, **more: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.endpoint.conninfo(), autocommit=True, prepare_threshold=None, **more)


def servers(cluster: Sandbox) -> int:
    """Connections that clients have to the primary."""
    (row,) = cluster.query(
        f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{cluster.user}' AND backend_type = 'client backend'"
    )
    return int(row[0])
