"""A sandbox: a primary with streaming standbys, made in a few seconds and removed without a trace.

All of it lies in one temporary directory. The directory bears a mark with the process that owns it; what an owner
killed with SIGKILL leaves behind, the next sandbox removes.

Start it in a thread that lives as long as the sandbox does: the kernel ties the servers to the thread that started
them, so that they end when we are killed.
"""

import atexit
import contextlib
import csv
import io
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from middleware.sandbox.binaries import SandboxError, find_binaries, usable_by
from middleware.sandbox.node import HOST, SandboxNode, free_port
from middleware.sandbox.privileges import User, server_user

PREFIX: Final = "pointsman-sandbox-"
MARK: Final = "owner"
STARTS_MAX: Final = 3
"""Attempts to start a server: another process may take a port between our finding it free and the server's bind."""

PARAMETERS: Final = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "wal_log_hints": "on",
    "wal_keep_size": "128MB",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "hot_standby": "on",
    "hot_standby_feedback": "on",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
    "jit": "off",
    "log_line_prefix": "%m [%p] %q%a ",
}
"""What all servers run with. wal_log_hints lets pg_rewind bring a failed primary back."""

DATABASE: Final = "app"
SUPERUSER: Final = "postgres"
USER: Final = "app"
MONITOR: Final = "pointsman"


class Sandbox:
    """A primary `db1` and standbys `db2` .. on loopback ports. A context manager."""

    def __init__(
        self,
        *,
        standbys: int = 2,
        version: int = 18,
        parameters: Mapping[str, str] | None = None,
        fsync: bool = False,
    ) -> None:
        self._standbys: Final = standbys
        self._version: Final = version
        self._parameters: Final = {**PARAMETERS, "fsync": "on" if fsync else "off", **(parameters or {})}
        self._user: User | None = None
        self._directory: Path | None = None
        self._binaries = Path()
        self._programs = Path()
        self._primary = ""
        self.nodes: tuple[SandboxNode, ...] = ()
        self.database: Final = DATABASE
        self.user: Final = USER
        self.passwords: Final = {name: secrets.token_urlsafe(12) for name in (SUPERUSER, USER, MONITOR)}
        """Of the superuser, of the owner of the database, and of the role for health checks (in pg_monitor)."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def primary(self) -> SandboxNode:
        """The node that was made or promoted to primary last."""
        return self.node(self._primary)

    @property
    def standbys(self) -> tuple[SandboxNode, ...]:
        return tuple(node for node in self.nodes if node.name != self._primary)

    def node(self, name: str) -> SandboxNode:
        return next(node for node in self.nodes if node.name == name)

    # Start and stop

    def start(self) -> None:
        """Make and start all servers. Raises SandboxError, and leaves nothing behind then."""
        remove_abandoned()
        self._user = server_user()
        self._programs = find_binaries(self._version)
        self._directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        atexit.register(self.stop)
        try:
            _leave_mark(self._directory)
            self._binaries = usable_by(self._user, self._programs, self._directory)
            if self._user is not None:
                self._directory.chmod(0o711)
            self._make_primary()
            with ThreadPoolExecutor(max(1, self._standbys)) as cloners:
                clones = list(cloners.map(self._clone, range(2, self._standbys + 2)))
            # Started here and not in the pool: see the head of this module.
            for clone in clones:
                self._start(clone)
                self.nodes += (clone,)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all servers and remove all there is of them. Safe to call again."""
        atexit.unregister(self.stop)
        for node in self.nodes:
            node.resume()
            node.stop("immediate")
        self.nodes = ()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _new_node(self, number: int) -> SandboxNode:
        assert self._directory is not None
        home = self._directory / f"db{number}"
        home.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(home, self._user.uid, self._user.gid)
        return SandboxNode(f"db{number}", self._binaries, home, free_port(), self._user)

    def _make_primary(self) -> None:
        node = self._new_node(1)
        assert self._directory is not None
        password_file = node.data_directory.parent / "password"
        password_file.write_text(self.passwords[SUPERUSER])
        if self._user is not None:
            os.chown(password_file, self._user.uid, self._user.gid)
        node.run(
            "initdb",
            f"--pgdata={node.data_directory}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        )
        password_file.unlink()
        with (node.data_directory / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self._parameters.items())
        self._name_cluster(node)
        self._start(node)
        self.nodes = (node,)
        self._primary = node.name
        for statement in (
            f"CREATE ROLE {USER} LOGIN PASSWORD '{self.passwords[USER]}'",
            f"CREATE ROLE {MONITOR} LOGIN PASSWORD '{self.passwords[MONITOR]}' IN ROLE pg_monitor",
            f"CREATE DATABASE {DATABASE} OWNER {USER}",
        ):
            self.query(statement, database="postgres")

    def _clone(self, number: int) -> SandboxNode:
        """A copy of the primary that follows it through a replication slot of its own."""
        node = self._new_node(number)
        node.run(
            "pg_basebackup",
            f"--pgdata={node.data_directory}",
            f"--dbname={self.conninfo(self.primary, SUPERUSER, 'postgres')} application_name={node.name}",
            "--write-recovery-conf",
            "--create-slot",
            f"--slot={node.name}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--no-sync",
        )
        self._name_cluster(node)
        return node

    def _name_cluster(self, node: SandboxNode) -> None:
        with (node.data_directory / "postgresql.conf").open("a") as file:
            file.write(f"cluster_name = '{node.name}'\n")

    def _start(self, node: SandboxNode) -> None:
        for attempt in range(1, STARTS_MAX + 1):
            try:
                node.start()
            except SandboxError:
                if attempt == STARTS_MAX or "could not bind" not in node.log_tail():
                    raise
                node.port = free_port()
            else:
                return

    # Use

    def conninfo(self, node: SandboxNode, user: str, database: str) -> str:
        """A libpq connection string, password and all."""
        return f"host={node.host} port={node.port} user={user} password={self.passwords[user]} dbname={database}"

    def url(self, node: SandboxNode | None = None, *, user: str = USER, database: str = DATABASE) -> str:
        """The URL of a node, of the primary by default."""
        node = node or self.primary
        return f"postgresql://{user}:{self.passwords[user]}@{node.host}:{node.port}/{database}"

    def program(self, name: str) -> Path:
        """One of PostgreSQL's programs (psql, pgbench ..), for the current user to run."""
        return self._programs / name

    def query(
        self, sql: str, node: SandboxNode | None = None, *, user: str = SUPERUSER, database: str = DATABASE
    ) -> list[list[str]]:
        """Run SQL on a node, on the primary by default; rows as text. Raises SandboxError with psql's words."""
        answer = subprocess.run(
            [self.program("psql"), "-X", "--csv", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql],
            env={
                **os.environ,
                "PGPASSWORD": self.passwords[user],
                "PGCONNECT_TIMEOUT": "10",
                **self._where(node, user, database),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            raise SandboxError(answer.stderr.strip())
        return list(csv.reader(io.StringIO(answer.stdout)))

    def _where(self, node: SandboxNode | None, user: str, database: str) -> dict[str, str]:
        node = node or self.primary
        return {"PGHOST": node.host, "PGPORT": str(node.port), "PGUSER": user, "PGDATABASE": database}

    def wait_for_replay(self, timeout_s: float = 10.0) -> None:
        """Wait until every running standby has replayed what the primary has written by now."""
        written = self.query("SELECT pg_current_wal_insert_lsn()")[0][0]
        deadline = time.monotonic() + timeout_s
        for node in self.standbys:
            while node.running:
                replayed = self.query(f"SELECT pg_last_wal_replay_lsn() >= '{written}'", node)
                if replayed == [["t"]]:
                    break
                if time.monotonic() > deadline:
                    raise SandboxError(f"{node.name} has not replayed {written} within {timeout_s:g} s")
                time.sleep(0.02)

    def promote(self, name: str) -> None:
        """Make a standby the primary. The old one is left as it is: stop it first, or have two."""
        if self.query("SELECT pg_promote(true, 30)", self.node(name)) != [["t"]]:
            raise SandboxError(f"{name} was not promoted:\n{self.node(name).log_tail()}")
        self._primary = name


def _leave_mark(directory: Path) -> None:
    me = psutil.Process()
    (directory / MARK).write_text(f"{me.pid} {me.create_time()}\n")


def remove_abandoned() -> None:
    """Remove what sandboxes of ours left behind whose owner was killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
                continue
            pid, created = (directory / MARK).read_text().split()
            if not _is_alive(int(pid), float(created)):
                shutil.rmtree(directory, ignore_errors=True)


def _is_alive(pid: int, created: float) -> bool:
    """Whether the very process still runs: a number may have been given to another since."""
    try:
        return abs(psutil.Process(pid).create_time() - created) < 1.0
    except psutil.NoSuchProcess:
        return False
