"""The backend that runs PostgreSQL in containers, through testcontainers.

For machines where a Docker engine is at hand and programs of PostgreSQL are not. Each node is a container that makes
its data directory when it first starts and keeps it over restarts; the nodes find each other by name in a network of
their own, and are published on loopback. The image's own entrypoint is left out: it knows no standbys. testcontainers'
reaper removes everything should this process be killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from middleware.sandbox.environment import SUPERUSER
from middleware.sandbox.errors import SandboxError
from middleware.sandbox.node import (
    HOST,
    LOG_LINES_SHOWN,
    POLL_S,
    START_TIMEOUT_S,
    STOP_SIGNALS,
    STOP_TIMEOUT_S,
    Address,
    Answer,
    SandboxNode,
    StopMode,
)
from middleware.sandbox.ports import BIND_ATTEMPTS_MAX, free_port

try:
    import docker
    import docker.errors
    import docker.models.containers
    import requests
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network
except ImportError as missing:
    raise SandboxError(f"containers need a package that is not here ({missing}): pip install testcontainers") from None

IMAGE_VARIABLE = "POINTSMAN_PG_IMAGE"
SERVER_PORT = 5432
#: Writable for the image's user postgres in every version; the image's own default moved with version 18.
DATA = "/var/lib/postgresql/sandbox"

PARAMETERS: Mapping[str, str] = {
    "listen_addresses": "*",
    "unix_socket_directories": "",
    # A container's /dev/shm is small.
    "dynamic_shared_memory_type": "mmap",
}

PRIMARY_SCRIPT = """
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --no-sync --no-instructions -U postgres --auth=scram-sha-256 --pwfile=<(printf '%s\\n' "$PGPASSWORD") \
        --encoding=UTF8 --locale=C
    printf 'host all all all scram-sha-256\\nhost replication all all scram-sha-256\\n' >> "$PGDATA/pg_hba.conf"
fi
exec postgres "$@"
"""
STANDBY_SCRIPT = """
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    pg_basebackup -h "$SANDBOX_PRIMARY" -U postgres -D "$PGDATA" -R -C -S "$SANDBOX_NODE" -X stream \
        --checkpoint=fast --no-sync
fi
exec postgres "$@"
"""
QUERY_SCRIPT = """printf '%s' "$SANDBOX_SQL" | timeout "$SANDBOX_TIMEOUT" psql -h 127.0.0.1 "$@" -f -"""
TIMED_OUT = 124  # coreutils' timeout
#: In the name of the image that testcontainers starts beside ours.
REAPER = "ryuk"


class ContainerNode(SandboxNode):
    """A container whose first process is the postmaster."""

    def __init__(self, name: str, image: str, network: Network, script: str, variables: Mapping[str, str]) -> None:
        super().__init__(name)
        self._image = image
        self._network = network
        self._script = script
        self._variables = variables
        self._container: DockerContainer | None = None
        self._arguments: list[str] = []

    @property
    def data_directory(self) -> Path:
        return Path(DATA)

    @property
    def pid(self) -> int | None:
        """The postmaster's pid on the engine's machine."""
        if self._container is None:
            return None
        state = self._docker_container().attrs["State"]
        return int(state["Pid"]) if state["Running"] else None

    @property
    def is_standby(self) -> bool:
        try:
            self._docker_container().get_archive(f"{DATA}/standby.signal")  # a stopped container answers this too
        except docker.errors.NotFound:
            return False
        return True

    def make(self, parameters: Mapping[str, str]) -> None:
        """Create the container and start it, on a free port, without waiting until it is ready."""
        settings = {**parameters, "cluster_name": self.name}
        self._arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        for attempt in range(1, BIND_ATTEMPTS_MAX + 1):
            self.port = free_port()
            self._container = self._new_container()
            try:
                self._container.start()
                return
            except docker.errors.APIError as error:
                taken = "port is already allocated" in str(error) or "address already in use" in str(error)
                if not taken or attempt == BIND_ATTEMPTS_MAX:
                    raise
                self._container.stop()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            container = self._docker_container()
            if container.status == "exited":
                raise SandboxError(f'node "{self.name}" did not start:\n{self.log_tail()}')
            with contextlib.suppress(docker.errors.APIError):  # it may exit at this moment: seen in the next round
                if container.exec_run(["pg_isready", "-q", "-h", HOST, "-t", "1"]).exit_code == 0:
                    return
            if time.monotonic() > deadline:
                raise SandboxError(f'node "{self.name}" not ready after {START_TIMEOUT_S:g} s:\n{self.log_tail()}')
            time.sleep(POLL_S)

    def start(self) -> None:
        if self.running:
            raise SandboxError(f'node "{self.name}" runs already')
        self._docker_container().start()
        self.wait_until_ready()

    def stop(self, mode: StopMode = "fast") -> None:
        if not self.running:
            return
        container = self._docker_container()
        container.kill(signal=STOP_SIGNALS[mode].name)
        try:
            container.wait(timeout=STOP_TIMEOUT_S)
        except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError):
            raise SandboxError(
                f'node "{self.name}" did not stop ({mode}) within {STOP_TIMEOUT_S:g} s:\n{self.log_tail()}'
            ) from None

    def kill(self, signum: int = signal.SIGKILL) -> None:
        if not self.running:
            return
        container = self._docker_container()
        if signum != signal.SIGKILL:
            # Reaches all but the first process, which the engine signals; SIGKILL takes the whole container anyway.
            container.exec_run(["bash", "-c", f"kill -{signum} -1"])
        container.kill(signal=signal.Signals(signum).name)
        if signum == signal.SIGKILL:
            container.wait(timeout=STOP_TIMEOUT_S)

    def pause(self) -> None:
        container = self._docker_container()
        if container.status == "running":
            container.pause()

    def resume(self) -> None:
        container = self._docker_container()
        if container.status == "paused":
            container.unpause()

    def log_tail(self) -> str:
        if self._container is None:
            return "(no container)"
        log: bytes = self._docker_container().logs(tail=LOG_LINES_SHOWN)
        return log.decode(errors="replace").rstrip()

    def psql(self, arguments: Sequence[str], password: str, sql: str, timeout_s: float) -> Answer:
        """psql in the node's own container: the host may have none."""
        variables = {"SANDBOX_SQL": sql, "SANDBOX_TIMEOUT": f"{timeout_s:g}", "PGPASSWORD": password}
        command = ["bash", "-c", QUERY_SCRIPT, "psql", *arguments]
        try:
            status, (output, error) = self._docker_container().exec_run(command, environment=variables, demux=True)
        except docker.errors.APIError as refused:  # stopped or paused
            return Answer(1, "", str(refused.explanation or refused))
        if status == TIMED_OUT:
            raise TimeoutError
        return Answer(status, (output or b"").decode(), (error or b"").decode(errors="replace"))

    def discard(self) -> None:
        """Remove the container, running or not, and its data."""
        if self._container is not None:
            self._container.stop()
            self._container = None

    def _new_container(self) -> DockerContainer:
        container = DockerContainer(self._image)
        container.with_network(self._network).with_network_aliases(self.name)
        container.with_envs(PGDATA=DATA, SANDBOX_NODE=self.name, **self._variables)
        container.with_kwargs(user=SUPERUSER, entrypoint=["bash", "-c", self._script, self.name])
        container.with_command(self._arguments)
        # with_bind_ports would publish it on every address of this machine.
        container.ports[f"{SERVER_PORT}/tcp"] = (HOST, self.port)  # type: ignore[assignment]  # the engine's client knows it
        return container

    def _docker_container(self) -> docker.models.containers.Container:
        """The container as the engine sees it now."""
        if self._container is None:
            raise SandboxError(f'node "{self.name}" was not made yet')
        container = self._container.get_wrapped_container()
        container.reload()
        return container


class Containers:
    """A network, and a container in it for each node."""

    def __init__(self, names: Sequence[str], version: int, password: str, parameters: Mapping[str, str]) -> None:
        self.nodes: tuple[SandboxNode, ...] = ()
        self.version = version
        self._names = names
        self._password = password
        self._parameters = {**PARAMETERS, **parameters}
        self._image = os.environ.get(IMAGE_VARIABLE, f"postgres:{version}")
        self._network: Network | None = None
        self._container_nodes: tuple[ContainerNode, ...] = ()

    def open(self) -> None:
        try:
            network = Network()
        except docker.errors.DockerException as error:
            raise SandboxError(
                f"no Docker engine answers ({error}): start one, or unset POINTSMAN_SANDBOX to run PostgreSQL without"
            ) from None
        with self._engine_errors():
            self._network = network.create()
        primary_name = self._names[0]
        variables = {"PGPASSWORD": self._password, "SANDBOX_PRIMARY": primary_name}
        self.nodes = self._container_nodes = tuple(
            ContainerNode(
                name, self._image, network, PRIMARY_SCRIPT if name == primary_name else STANDBY_SCRIPT, variables
            )
            for name in self._names
        )

    def start_primary(self) -> None:
        primary = self._container_nodes[0]
        with self._engine_errors():
            primary.make(self._parameters)
            primary.wait_until_ready()
        arguments = ["--no-psqlrc", "-At", "-U", SUPERUSER]
        answer = primary.psql(arguments, self._password, "SHOW server_version_num", START_TIMEOUT_S)
        if answer.status != 0:
            raise SandboxError(f'node "{primary.name}" does not answer: {answer.error.strip()}')
        self.version = int(answer.output) // 10000  # the image named may have another than the one asked for

    def start_standbys(self) -> None:
        standbys = self._container_nodes[1:]
        with self._engine_errors():
            for node in standbys:
                node.make(self._parameters)
            for node in standbys:
                node.wait_until_ready()

    def conninfo(self, primary: SandboxNode, through: Address | None = None) -> str:
        host, port = through or (primary.name, SERVER_PORT)
        return f"host={host} port={port} user={SUPERUSER} password={self._password}"

    def rejoin(self, node: SandboxNode, primary: SandboxNode, through: Address | None) -> str:
        # pg_rewind wants the server stopped, and a container ends with its server.
        raise SandboxError("a former primary rejoins only where the nodes are processes (POINTSMAN_SANDBOX=processes)")

    def psql(self, node: SandboxNode, arguments: Sequence[str], password: str, sql: str, timeout_s: float) -> Answer:
        assert isinstance(node, ContainerNode)
        return node.psql(arguments, password, sql, timeout_s)

    def close(self) -> None:
        for node in self._container_nodes:
            node.discard()
        if self._network is not None:
            self._network.remove()
            self._network = None

    @contextlib.contextmanager
    def _engine_errors(self) -> Iterator[None]:
        try:
            yield
        except docker.errors.DockerException as error:
            if REAPER in str(error):
                raise SandboxError(
                    "the Docker engine has no image of testcontainers' reaper and could not get it "
                    f"(TESTCONTAINERS_RYUK_DISABLED=true does without): {error}"
                ) from error
            raise SandboxError(
                f'the Docker engine could not run "{self._image}" ({IMAGE_VARIABLE}): {error}'
            ) from error
