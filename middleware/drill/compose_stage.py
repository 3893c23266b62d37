"""The cluster of compose.yaml as a stage: it is up already, and nodes are broken by Docker.

In: the current directory's Compose project, as COMPOSE_FILE and COMPOSE_PROJECT_NAME have it. Containers on the
machine's own network cannot be cut off from each other; all else goes with either network.
"""

import json
import os
import shutil
import subprocess
from functools import partial
from typing import Final, Self

import anyio.to_thread

from middleware.drill.acts import Act
from middleware.drill.errors import DrillError
from middleware.drill.ledger import Login
from middleware.drill.pointsman import Pointsman, by_command
from middleware.drill.replication import is_synchronous

SERVICE: Final = "pointsman"
CONFIG: Final = "/etc/pointsman/pointsman.toml"
COMMAND_TIMEOUT_S: Final = 90.0
STOP_S: Final = "30"
"""For a node's clean stop."""


class ComposeStage:
    """The project in the current directory."""

    disposable = False
    synchronous = False
    title = "compose"

    def __init__(self) -> None:
        self._compose: Final = compose_command()
        port = int(os.environ.get("POINTSMAN_PORT", "6432"))
        self.login = Login("127.0.0.1", port, "app", os.environ.get("APP_PASSWORD", "app-demo"), "app", "prefer")
        self.pointsman = Pointsman(by_command(()))
        self._containers: Final[dict[str, str]] = {}
        """By service."""
        self._cut: Final[dict[str, list[tuple[str, list[str]]]]] = {}
        """The networks that a node was taken from, and its names there."""

    async def __aenter__(self) -> Self:
        for service in (await self._run("config", "--services")).split():
            self._containers[service] = await self._run("ps", "-q", service)
        if not self._containers.get(SERVICE):
            raise DrillError(f"compose: no container of {SERVICE}: bring it up first, and be where compose.yaml is")
        # By the engine, not by Compose: a question takes it a tenth of the time.
        pipe = ["docker", "exec", "-i", self._containers[SERVICE], "python", "-m", "middleware.drill.pipe"]
        where = await _output([*pipe, "--where", CONFIG])
        self.pointsman = Pointsman(by_command([*pipe, where]))
        self.synchronous = await is_synchronous(self.login)
        self.title = f"compose, {'synchronous' if self.synchronous else 'asynchronous'} replication"
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def act(self, act: Act, node: str) -> None:
        match act:
            case Act.CRASH:
                await self._docker("kill", self._containers[node])
            case Act.HANG:
                await self._docker("pause", self._containers[node])
            case Act.PARTITION:
                await self._part(node)
            case Act.LAG:
                await self._sql(node, "SELECT pg_wal_replay_pause()")
            case Act.RESTART:
                await self._docker("restart", "-t", STOP_S, self._containers[node])
            case Act.WORKER_CRASH:
                await self._crash_worker(int(node))
            case Act.SWITCHOVER:
                await self.pointsman.switchover(node)

    async def heal(self, act: Act, node: str) -> None:
        match act:
            case Act.CRASH:
                await self._docker("start", self._containers[node])
            case Act.HANG:
                await self._docker("unpause", self._containers[node])
            case Act.PARTITION:
                await self._mend(node)
            case Act.LAG:
                await self._sql(node, "SELECT pg_wal_replay_resume()")
            case _:
                pass

    async def former_rows(self, node: str) -> dict[tuple[int, int], int] | None:
        # Its entrypoint gives way by itself, and asks nobody.
        return None

    def log(self) -> str:
        command = [*self._compose, "logs", "--no-color", "--tail", "300", SERVICE]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S).stdout

    async def _crash_worker(self, worker: int) -> None:
        pid = await self.pointsman.worker_pid(worker)
        # The image has no kill of its own.
        await self._docker("exec", self._containers[SERVICE], "python", "-c", f"import os; os.kill({pid}, 9)")
        await self.pointsman.until_gone(worker, pid)

    async def _part(self, node: str) -> None:
        container = self._containers[node]
        networks = json.loads(await self._docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", container))
        if "host" in networks or not networks:
            raise DrillError(f"{node} is on the machine's own network: there is nothing to cut")
        self._cut[node] = [(name, one.get("Aliases") or []) for name, one in networks.items()]
        for name, _ in self._cut[node]:
            await self._docker("network", "disconnect", name, container)

    async def _mend(self, node: str) -> None:
        container = self._containers[node]
        for name, aliases in self._cut.pop(node, []):
            words = [word for alias in {node, *aliases} for word in ("--alias", alias)]
            await self._docker("network", "connect", *words, name, container)

    async def _sql(self, node: str, sql: str) -> None:
        await self._docker("exec", self._containers[node], "psql", "-XAtq", "-U", "postgres", "-c", sql)

    async def _run(self, *words: str) -> str:
        return await _output([*self._compose, *words])

    async def _docker(self, *words: str) -> str:
        return await _output(["docker", *words])


def compose_command() -> list[str]:
    """How Compose is called here: the plugin of the docker CLI, or the program of its own. Raises DrillError."""
    docker = shutil.which("docker")
    if docker and not subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return [docker, "compose"]
    program = shutil.which("docker-compose")
    if program is None:
        raise DrillError("compose: neither `docker compose` nor docker-compose is here")
    return [program]


async def _output(command: list[str]) -> str:
    """What a command has written. Raises DrillError."""
    run = partial(
        subprocess.run,
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )
    try:
        done = await anyio.to_thread.run_sync(run)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DrillError(f"{' '.join(command)}: {error}") from None
    if done.returncode:
        raise DrillError(f"{' '.join(command)}: {done.stderr.strip() or f'status {done.returncode}'}")
    return str(done.stdout).strip()
