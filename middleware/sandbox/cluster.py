"""A primary with streaming standbys on loopback, made for the moment and gone without a trace.

``Sandbox`` is what the demo, the tests and the benchmarks start. In flows the number of standbys, a version and
settings; out come nodes to connect to, to query, and to break. All of it is synchronous and meant for one thread.
"""

from __future__ import annotations

import atexit
import csv
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from middleware.sandbox.binaries import Installation, find_installation, readable_installation
from middleware.sandbox.directory import SandboxDirectory, remove_leftovers
from middleware.sandbox.errors import SandboxError
from middleware.sandbox.node import POLL_S, SandboxNode, Surroundings
from middleware.sandbox.privileges import server_account

SUPERUSER = "postgres"
APP_USER = "app"
APP_DATABASE = "app"
HEALTH_USER = "pointsman"
DEFAULT_VERSION = 18
CLONE_TIMEOUT_S = 60.0
STREAMING_TIMEOUT_S = 30.0
QUERY_TIMEOUT_S = 30.0

#: Enough for tests and benchmarks, and for pg_rewind to take a former primary back.
PARAMETERS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Its files lie in the data directory, so that nothing is left in /dev/shm after a SIGKILL.
    "dynamic_shared_memory_type": "mmap",
    "hot_standby_feedback": "on",
    "jit": "off",
    "max_connections": "300",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
    "wal_keep_size": "256MB",
    "wal_log_hints": "on",
    "wal_retrieve_retry_interval": "200ms",
}


class Sandbox:
    """A running cluster between ``start`` and ``stop``, or for the length of a ``with`` block.

    ``passwords`` holds one per user: the superuser ``postgres``, ``app`` (owner of database ``app``) and ``pointsman``
    (member of ``pg_monitor``). ``parameters`` are settings of every node, over ``PARAMETERS``.
    """

    def __init__(
        self,
        *,
        standbys: int = 2,
        version: int = DEFAULT_VERSION,
        parameters: Mapping[str, str] | None = None,
        fsync: bool = False,
    ) -> None:
        if standbys < 0:
            raise ValueError(f"standbys must be 0 or more, not {standbys}")
        self.user = APP_USER
        self.database = APP_DATABASE
        self.passwords = {name: secrets.token_hex(12) for name in (SUPERUSER, APP_USER, HEALTH_USER)}
        self.nodes: tuple[SandboxNode, ...] = ()
        self.version = version
        self._standby_count = standbys
        self._parameters = {**PARAMETERS, "fsync": "on" if fsync else "off", **(parameters or {})}
        self._fsync = fsync
        self._installation: Installation | None = None
        self._primary_name = "db1"
        self._directory: SandboxDirectory | None = None
        self._spawner: ThreadPoolExecutor | None = None
        self._programs: list[subprocess.Popen[bytes]] = []
        self._owner_pid = os.getpid()

    # Life

    def start(self) -> None:
        """Bring up the primary, clone and start the standbys, and wait until all of them stream."""
        if self._directory is not None:
            raise SandboxError("this sandbox runs already")
        self._owner_pid = os.getpid()
        self._installation = find_installation(self.version)
        self.version = self._installation.version
        account = server_account()
        remove_leftovers(account)
        atexit.register(self.stop)
        try:
            self._directory = SandboxDirectory(account)
            self._spawner = ThreadPoolExecutor(1, thread_name_prefix="sandbox-spawner")
            surroundings = Surroundings(
                installation=readable_installation(self._installation, account, self._directory.installation),
                account=account,
                nodes=self._directory.nodes,
                environment=self._environment(HOME=str(self._directory.nodes)),
                spawner=self._spawner,
            )
            names = [f"db{number}" for number in range(1, self._standby_count + 2)]
            self.nodes = tuple(SandboxNode(name, surroundings) for name in names)
            self._primary_name = names[0]
            self._make_primary(surroundings)
            self._make_standbys(surroundings)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process at once and remove the directory. Twice is once."""
        if self._directory is None or os.getpid() != self._owner_pid:
            return
        atexit.unregister(self.stop)
        if self._spawner is not None:
            self._spawner.shutdown(cancel_futures=True)  # what it is starting now is known below
        for program in self._programs:
            program.kill()
            program.wait()
        for node in self.nodes:
            node.begin_discard()
        for node in self.nodes:
            node.discard()
        self._directory.remove()
        self._directory = self._spawner = None
        self._programs = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # Nodes

    @property
    def primary(self) -> SandboxNode:
        """The primary: ``db1``, or who was promoted last."""
        return self.node(self._primary_name)

    @property
    def standbys(self) -> tuple[SandboxNode, ...]:
        """The nodes that follow the primary. One that was primary before a promotion is not among them."""
        return tuple(node for node in self.nodes if node.is_standby and node.name != self._primary_name)

    def node(self, name: str) -> SandboxNode:
        """The node called ``name``."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f'no node "{name}" in this sandbox')

    def promote(self, name: str) -> None:
        """Make a standby the primary and let the other running standbys follow it.

        The former primary is left as it is, running or not: what becomes of it is the caller's experiment.
        """
        chosen = self.node(name)
        if chosen not in self.standbys:
            raise SandboxError(f'node "{name}" is no standby')
        self.query("SELECT pg_promote(wait => true, wait_seconds => 30)", chosen, database="postgres")
        self._primary_name = name
        for node in self.standbys:
            if node.running:
                self._follow(node, chosen)

    def wait_for_replay(self, timeout_s: float = 10.0) -> None:
        """Until all running standbys have replayed what the primary has written by now."""
        # A commit that does not wait for the disk may not have been written out yet; the insert position counts it.
        # pg_switch_wal and the like are not needed: the WAL writer flushes within wal_writer_delay.
        [[target]] = self.query("SELECT pg_current_wal_insert_lsn()", database="postgres")
        replayed = f"SELECT coalesce(pg_last_wal_replay_lsn() >= '{target}'::pg_lsn, false)"
        for node in self.standbys:
            if node.running:
                self._wait(
                    lambda node=node: self.query(replayed, node, database="postgres") == [["t"]],  # type: ignore[misc]
                    timeout_s,
                    f'node "{node.name}" did not replay up to {target}',
                )

    # Connections

    def url(self, node: SandboxNode | None = None, user: str = APP_USER, database: str = APP_DATABASE) -> str:
        """A URL for libpq and drivers, password included; of the primary unless a node is given."""
        node = node or self.primary
        return f"postgresql://{user}:{self.passwords[user]}@{node.host}:{node.port}/{database}"

    def program(self, name: str) -> Path:
        """One of PostgreSQL's programs, to be run by the current user."""
        if self._installation is None:
            self._installation = find_installation(self.version)
        return self._installation.program(name)

    def query(
        self,
        sql: str,
        node: SandboxNode | None = None,
        user: str = SUPERUSER,
        database: str = APP_DATABASE,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> list[list[str]]:
        """Run ``sql`` through psql and return its rows as text; NULL is an empty string. psql sees it on stdin."""
        node = node or self.primary
        # Values may hold line ends and separators: CSV is the one format of psql that keeps them apart.
        command = [
            str(self.program("psql")),
            "--no-psqlrc",
            "--quiet",
            "--csv",
            "--tuples-only",
            "-v",
            "ON_ERROR_STOP=1",
        ]
        command += ["-h", node.host, "-p", str(node.port), "-U", user, "-d", database, "-f", "-"]
        try:
            done = subprocess.run(
                command,
                input=sql,
                env=self._environment(PGPASSWORD=self.passwords[user], PGCONNECT_TIMEOUT="10"),
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SandboxError(f'node "{node.name}" did not answer within {timeout_s:g} s') from None
        if done.returncode != 0:
            raise SandboxError(f'query failed on node "{node.name}": {done.stderr.strip()}')
        return list(csv.reader(done.stdout.splitlines(keepends=True)))

    # Making

    def _make_primary(self, surroundings: Surroundings) -> None:
        primary = self.nodes[0]
        password_file = surroundings.nodes / "superuser-password"
        password_file.write_text(self.passwords[SUPERUSER])
        os.chown(password_file, surroundings.account.uid, surroundings.account.gid)
        self._make_home(primary, surroundings)
        program = str(surroundings.installation.program("initdb"))
        command = [program, "-D", str(primary.data), "--no-sync", "--no-instructions", "-U", SUPERUSER]
        command += ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C"]
        self._begin(command, primary, surroundings)
        self._finish_programs("initdb")
        password_file.unlink()
        with (primary.data / "postgresql.conf").open("a") as settings:
            for name, value in self._parameters.items():
                quoted = value.replace("'", "''")
                settings.write(f"{name} = '{quoted}'\n")
        primary.start()
        self.query(
            f"CREATE ROLE {APP_USER} LOGIN PASSWORD '{self.passwords[APP_USER]}';\n"
            f"CREATE ROLE {HEALTH_USER} LOGIN PASSWORD '{self.passwords[HEALTH_USER]}' IN ROLE pg_monitor;\n"
            f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER};\n",
            database="postgres",
        )

    def _make_standbys(self, surroundings: Surroundings) -> None:
        primary, *standbys = self.nodes
        program = str(surroundings.installation.program("pg_basebackup"))
        for node in standbys:
            self._make_home(node, surroundings)
            command = [program, "-d", self.url(primary, SUPERUSER, "postgres"), "-D", str(node.data)]
            command += ["-R", "-C", "-S", node.name, "-X", "stream", "--checkpoint=fast", "--no-sync"]
            self._begin(command, node, surroundings)
        self._finish_programs("pg_basebackup")
        for node in standbys:
            node.begin_start()
        for node in standbys:
            node.finish_start()
        streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        self._wait(
            lambda: self.query(streaming, database="postgres") == [[str(len(standbys))]],
            STREAMING_TIMEOUT_S,
            f"not all standbys stream from {primary.name}",
        )

    def _follow(self, node: SandboxNode, primary: SandboxNode) -> None:
        """Point a running standby at another primary; a reload is enough for its WAL receiver to change over."""
        slot = f"SELECT pg_create_physical_replication_slot('{node.name}')"
        self.query(slot, primary, database="postgres")
        connection = self.url(primary, SUPERUSER, "postgres")
        self.query(
            f"ALTER SYSTEM SET primary_conninfo = '{connection}';\nSELECT pg_reload_conf();\n",
            node,
            database="postgres",
        )
        streaming = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{node.name}'"  # noqa: S608  (our name)
        self._wait(
            lambda: self.query(streaming, primary, database="postgres") == [["t"]],
            STREAMING_TIMEOUT_S,
            f'node "{node.name}" does not stream from "{primary.name}"',
        )

    def _make_home(self, node: SandboxNode, surroundings: Surroundings) -> None:
        node.home.mkdir(mode=0o700)
        os.chown(node.home, surroundings.account.uid, surroundings.account.gid)

    def _begin(self, command: list[str], node: SandboxNode, surroundings: Surroundings) -> None:
        surroundings.start(command, node.log, self._programs.append)

    def _finish_programs(self, name: str) -> None:
        """Wait for what ``_begin`` started, all of it instances of the program ``name``."""
        for program in self._programs:
            try:
                status = program.wait(CLONE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise SandboxError(f"{name} took more than {CLONE_TIMEOUT_S:g} s:\n{self._log_tails()}") from None
            if status != 0:
                raise SandboxError(f"{name} failed with status {status}:\n{self._log_tails()}")
        self._programs = []

    def _wait(self, condition: Callable[[], bool], timeout_s: float, failure: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise SandboxError(f"{failure} within {timeout_s:g} s:\n{self._log_tails()}")
            time.sleep(POLL_S)

    def _log_tails(self) -> str:
        return "\n".join(f"{node.name}: {line}" for node in self.nodes for line in node.log_tail().splitlines())

    def _environment(self, **variables: str) -> dict[str, str]:
        """Ours without what would steer libpq or the server elsewhere."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        return {**inherited, "LC_ALL": "C", "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", **variables}
