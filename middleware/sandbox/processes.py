"""The backend that runs PostgreSQL's own programs, as children of this process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from middleware.sandbox.binaries import find_installation, readable_installation
from middleware.sandbox.directory import SandboxDirectory, kill_tree, remove_leftovers
from middleware.sandbox.environment import SUPERUSER, environment
from middleware.sandbox.errors import SandboxError
from middleware.sandbox.node import Address, Answer, SandboxNode
from middleware.sandbox.privileges import server_account
from middleware.sandbox.process_node import ProcessNode, Surroundings

CLONE_TIMEOUT_S = 60.0

#: On loopback only, and without a trace outside the data directory.
PARAMETERS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Its files lie in the data directory, so that nothing is left in /dev/shm after a SIGKILL.
    "dynamic_shared_memory_type": "mmap",
}


class Processes:
    """Data directories in one temporary directory, a postmaster for each."""

    def __init__(self, names: Sequence[str], version: int, password: str, parameters: Mapping[str, str]) -> None:
        self.nodes: tuple[SandboxNode, ...] = ()
        self._names = names
        self._password = password
        self._parameters = {**PARAMETERS, **parameters}
        self._installation = find_installation(version)
        self.version = self._installation.version
        self._account = server_account()
        self._directory: SandboxDirectory | None = None
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="sandbox-spawner")
        self._programs: list[subprocess.Popen[bytes]] = []
        self._process_nodes: tuple[ProcessNode, ...] = ()

    def open(self) -> None:
        remove_leftovers(self._account)
        self._directory = SandboxDirectory(self._account)
        self._surroundings = Surroundings(
            installation=readable_installation(self._installation, self._account, self._directory.installation),
            account=self._account,
            nodes=self._directory.nodes,
            environment=environment(HOME=str(self._directory.nodes)),
            spawner=self._spawner,
        )
        self.nodes = self._process_nodes = tuple(ProcessNode(name, self._surroundings) for name in self._names)
        for node in self._process_nodes:
            node.home.mkdir(mode=0o700)
            os.chown(node.home, self._account.uid, self._account.gid)

    def start_primary(self) -> None:
        primary = self._process_nodes[0]
        password_file = self._surroundings.nodes / "superuser-password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        os.chown(password_file, self._account.uid, self._account.gid)
        command = ["-D", str(primary.data_directory), "--no-sync", "--no-instructions", "-U", SUPERUSER]
        command += ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C"]
        self._begin("initdb", command, primary)
        self._finish("initdb")
        password_file.unlink()
        with (primary.data_directory / "postgresql.conf").open("a") as settings:
            for name, value in self._parameters.items():
                quoted = value.replace("'", "''")
                settings.write(f"{name} = '{quoted}'\n")
        primary.start()

    def start_standbys(self) -> None:
        primary, *standbys = self._process_nodes
        for node in standbys:
            command = ["-h", primary.host, "-p", str(primary.port), "-U", SUPERUSER, "-D", str(node.data_directory)]
            command += ["-R", "-C", "-S", node.name, "-X", "stream", "--checkpoint=fast", "--no-sync"]
            self._begin("pg_basebackup", command, node)
        self._finish("pg_basebackup")
        for node in standbys:
            node.begin_start()
        for node in standbys:
            node.finish_start()

    def conninfo(self, primary: SandboxNode, through: Address | None = None) -> str:
        host, port = through or (primary.host, primary.port)
        return f"host={host} port={port} user={SUPERUSER} password={self._password} sslmode=disable"

    def rejoin(self, node: SandboxNode, primary: SandboxNode, through: Address | None) -> str:
        (own,) = [one for one in self._process_nodes if one.name == node.name]
        try:
            own.stop("fast")
        except SandboxError:
            # A fast shutdown waits for standbys that hang.
            own.kill()
        try:
            how = self._rewind(own, primary, through)
        except SandboxError:
            how = self._clone(own, primary, through)
        own.follow(self.conninfo(primary, through))
        own.start()
        return how

    def psql(self, node: SandboxNode, arguments: Sequence[str], password: str, sql: str, timeout_s: float) -> Answer:
        program = str(self._installation.program("psql"))
        try:
            done = subprocess.run(
                [program, *arguments, "-h", node.host, "-p", str(node.port), "-f", "-"],
                input=sql,
                env=environment(PGPASSWORD=password, PGCONNECT_TIMEOUT="10"),
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        return Answer(done.returncode, done.stdout, done.stderr)

    def close(self) -> None:
        self._spawner.shutdown(cancel_futures=True)  # what it is starting at this moment is known below
        for program in self._programs:
            if program.poll() is None:
                kill_tree(psutil.Process(program.pid))
                program.wait()
        for node in self._process_nodes:
            node.begin_discard()
        for node in self._process_nodes:
            node.discard()
        if self._directory is not None:
            self._directory.remove()

    def _rewind(self, node: ProcessNode, primary: SandboxNode, through: Address | None) -> str:
        host, port = through or (primary.host, primary.port)
        source = f"host={host} port={port} user={SUPERUSER} dbname=postgres"
        self._begin("pg_rewind", ["-D", str(node.data_directory), f"--source-server={source}", "--no-sync"], node)
        self._finish("pg_rewind")
        return "rewound"

    def _clone(self, node: ProcessNode, primary: SandboxNode, through: Address | None) -> str:
        node.empty()
        host, port = through or (primary.host, primary.port)
        command = ["-h", host, "-p", str(port), "-U", SUPERUSER, "-D", str(node.data_directory)]
        command += ["-S", node.name, "-X", "stream", "--checkpoint=fast", "--no-sync"]
        self._begin("pg_basebackup", command, node)
        self._finish("pg_basebackup")
        return "cloned"

    def _begin(self, name: str, arguments: list[str], node: ProcessNode) -> None:
        """Start one of PostgreSQL's programs; its output goes to the node's log."""
        command = [str(self._surroundings.installation.program(name)), *arguments]
        self._surroundings.start(command, node.log, self._programs.append, {"PGPASSWORD": self._password})

    def _finish(self, name: str) -> None:
        """Wait for all that was begun, instances of the program ``name``."""
        for program in self._programs:
            try:
                status = program.wait(CLONE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise SandboxError(f"{name} took more than {CLONE_TIMEOUT_S:g} s:\n{self._log_tails()}") from None
            if status != 0:
                self._programs = [program for program in self._programs if program.poll() is None]
                raise SandboxError(f"{name} failed with status {status}:\n{self._log_tails()}")
        self._programs = []

    def _log_tails(self) -> str:
        return "\n".join(f"{node.name}: {line}" for node in self.nodes for line in node.log_tail().splitlines())
