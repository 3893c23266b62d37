"""compose.yaml in a project of its own: up, down, and what a person would do with it in between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from middleware.sandbox.ports import free_port
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
#: The names of local images, which deploy/local-images.sh leaves.
LOCAL = ROOT / "build" / "compose.env"
NODES = ("db1", "db2", "db3")
OVERLAYS = {"bridge": "compose.override.yaml", "host": "compose.host.yaml"}

COMMAND_TIMEOUT_S = 180.0
HEALTHY_TIMEOUT_S = 120.0


def compose_command() -> list[str] | None:
    """How Compose is called here: the plugin of the docker CLI, or the program of its own."""
    docker = shutil.which("docker")
    if docker and not subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return [docker, "compose"]
    program = shutil.which("docker-compose")
    return [program] if program else None


def images() -> dict[str, str]:
    """The images that would be used, by their variables."""
    named = {"POSTGRES_IMAGE": "postgres:18", "POINTSMAN_IMAGE": "pointsman"}
    if LOCAL.exists():
        named |= dict(line.split("=", 1) for line in LOCAL.read_text().split())
    return named | {name: os.environ[name] for name in named if name in os.environ}


def obstacle(network: str) -> str | None:
    """Why the stack cannot run here, or None."""
    docker = shutil.which("docker")
    if docker is None or compose_command() is None:
        return "no docker and compose here"

    def answers(*words: str) -> bool:
        return not subprocess.run([docker, *words], capture_output=True, check=False).returncode

    if not answers("version"):
        return "no Docker engine answers"
    if not answers("network", "inspect", network):
        return f"the engine has no network {network}"
    missing = [
        name
        for name in (images()["POSTGRES_IMAGE"], images()["POINTSMAN_IMAGE"])
        if not answers("image", "inspect", name)
    ]
    return f"the engine has no image {missing[0]}" if missing else None


class Stack:
    """A project on free ports. A context manager: it is up and healthy inside, and nothing is left behind."""

    def __init__(self, network: str) -> None:
        command = compose_command()
        assert command is not None
        self.port = free_port()
        self._project = f"pointsman-test-{os.getpid()}-{network}"
        self._command = [*command, "-p", self._project, "-f", "compose.yaml", "-f", OVERLAYS[network]]
        self._environment = {**os.environ, **images(), "POINTSMAN_PORT": str(self.port)}
        self._environment["POINTSMAN_HTTP_PORT"] = str(free_port())
        self._environment |= {f"{node.upper()}_PORT": str(free_port()) for node in NODES}

    def __enter__(self) -> Self:
        try:
            self.compose("up", "-d", "--no-build")
            eventually(lambda: all(self.healthy(service) for service in (*NODES, "pointsman")), HEALTHY_TIMEOUT_S)
        except BaseException as error:
            self.__exit__(error)
            raise
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is not None:
            print(self.compose("logs", "--no-color", "--tail", "100"))
        self.compose("down", "-v", "-t", "5")

    def environment(self) -> dict[str, str]:
        """What makes this project that of a command without words of its own."""
        files = self._command[self._command.index("-f") + 1 :: 2]
        project = {"COMPOSE_PROJECT_NAME": self._project, "COMPOSE_FILE": os.pathsep.join(files)}
        return {**self._environment, **project}

    def compose(self, *words: str) -> str:
        return _output([*self._command, *words], self._environment)

    def docker(self, *words: str) -> str:
        return _output(["docker", *words], self._environment)

    def container(self, service: str) -> str:
        """Its container's id, running or not."""
        label = f"label=com.docker.compose.project={self._project}"
        return self.docker(
            "ps", "-aq", "--filter", label, "--filter", f"label=com.docker.compose.service={service}"
        ).strip()

    def healthy(self, service: str) -> bool:
        return bool(self.state(service).get("Health", {}).get("Status") == "healthy")

    def state(self, service: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.docker("inspect", "-f", "{{json .State}}", self.container(service)))
        return state

    def sql(self, node: str, sql: str) -> str:
        """psql in the node's container, as a person would. Raises CalledProcessError."""
        return self.docker("exec", self.container(node), "psql", "-XAtq", "-U", "postgres", "-c", sql).strip()

    def in_recovery(self, node: str) -> bool | None:
        """What the node says of itself; None while it says nothing."""
        try:
            return self.sql(node, "SELECT pg_is_in_recovery()") == "t"
        except subprocess.CalledProcessError:
            return None

    def status(self) -> dict[str, Any]:
        """What Pointsman says of the nodes; nothing while it does not run."""
        try:
            said = self.docker("exec", self.container("pointsman"), "pointsman", "status", "--json")
        except subprocess.CalledProcessError:
            return {}
        known: dict[str, Any] = json.loads(said)
        return known

    def primary(self) -> str:
        """The one node that says it is."""
        (found,) = [node for node in NODES if self.in_recovery(node) is False]
        return found

    def followers(self, node: str) -> list[str]:
        """The standbys that stream its timeline from it.

        One that has replayed more than the primary had when it was promoted streams too, its old timeline, in vain.
        """
        timeline = self.sql(node, "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)")
        streaming = self.sql(node, "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'").split()
        received = "SELECT lpad(to_hex(received_tli), 8, '0') FROM pg_stat_wal_receiver WHERE status = 'streaming'"
        return sorted(name for name in streaming if self.sql(name, received).upper() == timeline)

    def comes_back_as_standby(self, node: str, primary: str, timeout_s: float = 60.0) -> float:
        """Wait until it streams from the primary, and never says that it is one itself. How long that took, in s."""
        began = time.monotonic()

        def streams() -> bool:
            assert self.in_recovery(node) is not False, f"{node} is primary beside {primary}"
            return node in self.followers(primary)

        eventually(streams, timeout_s)
        return time.monotonic() - began


def _output(command: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout
