"""A primary with streaming standbys on loopback, made for the moment and gone without a trace.

``Sandbox`` is what the demo, the tests and the benchmarks start. In flows the number of standbys, a version and
settings; out come nodes to connect to, to query, and to break. All of it is synchronous and meant for one thread.
"""

from __future__ import annotations

import atexit
import csv
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from middleware.sandbox.binaries import find_installation
from middleware.sandbox.environment import SUPERUSER
from middleware.sandbox.errors import SandboxError
from middleware.sandbox.node import POLL_S, Address, Backend, SandboxNode
from middleware.sandbox.processes import Processes

BACKEND_VARIABLE = "POINTSMAN_SANDBOX"
APP_USER = "app"
APP_DATABASE = "app"
HEALTH_USER = "pointsman"
MAINTENANCE_DATABASE = "postgres"
DEFAULT_VERSION = 18
STREAMING_TIMEOUT_S = 30.0
QUERY_TIMEOUT_S = 30.0

#: Enough for tests and benchmarks, and for pg_rewind to take a former primary back.
PARAMETERS: Mapping[str, str] = {
    "hot_standby_feedback": "on",
    "jit": "off",
    "max_connections": "300",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
    "wal_keep_size": "256MB",
    "wal_log_hints": "on",
    # How old pg_stat_replication.replay_lsn may be.
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
}


class Sandbox:
    """A running cluster between ``start`` and ``stop``, or for the length of a ``with`` block.

    ``passwords`` holds one per user: the superuser ``postgres``, ``app`` (owner of database ``app``) and ``pointsman``
    (member of ``pg_monitor``). ``parameters`` are settings of every node, over ``PARAMETERS``. ``version`` is the major
    version asked for; ``POINTSMAN_PG_BIN`` overrules it, and once started the attribute tells the truth.
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
        self._names = [f"db{number}" for number in range(1, standbys + 2)]
        self._parameters = {**PARAMETERS, "fsync": "on" if fsync else "off", **(parameters or {})}
        self._primary_name = self._names[0]
        self._backend: Backend | None = None
        self._owner_pid = os.getpid()

    # Life

    def start(self) -> None:
        """Bring up the primary, clone and start the standbys, and wait until all of them stream."""
        if self._backend is not None:
            raise SandboxError("this sandbox runs already")
        self._owner_pid = os.getpid()
        self._primary_name = self._names[0]
        self._backend = self._new_backend()
        atexit.register(self.stop)
        try:
            self._backend.open()
            self.nodes = self._backend.nodes
            self._backend.start_primary()
            self.version = self._backend.version
            self._make_roles()
            self._backend.start_standbys()
            streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            self._wait(
                lambda: self.query(streaming, database=MAINTENANCE_DATABASE) == [[str(len(self.standbys))]],
                STREAMING_TIMEOUT_S,
                f'not all standbys stream from node "{self.primary.name}"',
            )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process at once and remove the directory. Twice is once, and a forked child does nothing."""
        if self._backend is None or os.getpid() != self._owner_pid:
            return
        self._backend.close()
        self._backend = None
        atexit.unregister(self.stop)

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
        promote = "SELECT pg_promote(wait => true, wait_seconds => 30)"
        if self.query(promote, chosen, database=MAINTENANCE_DATABASE) != [["t"]]:
            raise SandboxError(f'node "{name}" was not promoted within 30 s:\n{chosen.log_tail()}')
        self._primary_name = name
        for node in self.standbys:
            if node.running:
                self._follow(node, chosen)

    def rejoin(self, name: str, primary: str, through: Address | None = None) -> str:
        """Make a node a standby of ``primary``, whatever it was, and wait until it streams from there.

        By pg_rewind, or by a new clone where that fails; returns "rewound" or "cloned". What it alone had is gone.
        ``through`` is where it is to find the primary, if not at the primary's own address.
        """
        if self._backend is None:
            raise SandboxError("this sandbox does not run")
        node, leader = self.node(name), self.node(primary)
        if node is leader:
            raise SandboxError(f'node "{name}" cannot follow itself')
        self._make_slot(node, leader)
        # Up to version 15 pg_rewind takes a primary's timeline from its last checkpoint.
        self.query("CHECKPOINT", leader, database=MAINTENANCE_DATABASE)
        how = self._backend.rejoin(node, leader, through)
        self._primary_name = primary
        self._wait_until_followed(node, leader)
        return how

    def find_primary_at(self, through: Address) -> None:
        """Let the standbys find their primary at another address than its own: that of a forwarder, say."""
        assert self._backend is not None
        for node in self.standbys:
            self.configure({"primary_conninfo": self._backend.conninfo(self.primary, through)}, node)
            self._wait_until_followed(node, self.primary)

    def configure(self, parameters: Mapping[str, str], node: SandboxNode | None = None) -> None:
        """Change settings of one node, by default the primary, and reload: what connects afterwards finds them.

        A setting that needs a restart waits for it.
        """
        node = node or self.primary
        changes = "".join(f"ALTER SYSTEM SET {name} = {_literal(value)};\n" for name, value in parameters.items())
        before = "SELECT pg_conf_load_time();\n"
        answer = self.query(changes + before + "SELECT pg_reload_conf();\n", node, database=MAINTENANCE_DATABASE)
        # pg_reload_conf only sends a signal.
        loaded = f"SELECT pg_conf_load_time() > {_literal(answer[0][0])}"
        failure = f'node "{node.name}" did not reload its configuration'
        self._wait(partial(self._holds, loaded, node), QUERY_TIMEOUT_S, failure)

    def wait_for_replay(self, timeout_s: float = 10.0) -> None:
        """Until all running standbys have replayed what the primary has written by now."""
        # WAL of open transactions and asynchronous commits lies unflushed for a while, and is sent only once flushed.
        # A commit of our own flushes all that came before it. Asking for the flushed position, not the insert position,
        # matters at the end of a page: there the insert position is already behind the next page's header.
        answer = self.query(
            "SET synchronous_commit = local;\n"
            "SELECT pg_logical_emit_message(true, 'sandbox', 'flush');\n"
            "SELECT pg_current_wal_flush_lsn();\n",
            database=MAINTENANCE_DATABASE,
        )
        target = answer[-1][0]
        replayed = f"SELECT coalesce(pg_last_wal_replay_lsn() >= '{target}'::pg_lsn, false)"
        for node in self.standbys:
            if node.running:
                failure = f'node "{node.name}" did not replay up to {target}'
                self._wait(partial(self._holds, replayed, node), timeout_s, failure)

    @contextmanager
    def replay_paused(self) -> Iterator[None]:
        """The standbys go on receiving WAL, and show nothing new; on leaving they catch up."""
        try:
            for node in self.standbys:
                self.query("SELECT pg_wal_replay_pause()", node)
            yield
        finally:
            for node in self.standbys:
                self.query("SELECT pg_wal_replay_resume()", node)
            self.wait_for_replay()

    # Connections

    def url(self, node: SandboxNode | None = None, user: str = APP_USER, database: str = APP_DATABASE) -> str:
        """A URL for libpq and drivers, password included; of the primary unless a node is given."""
        node = node or self.primary
        return f"postgresql://{user}:{self.passwords[user]}@{node.host}:{node.port}/{database}"

    def program(self, name: str) -> Path:
        """One of PostgreSQL's programs, to be run by the current user."""
        return find_installation(self.version).program(name)

    def query(
        self,
        sql: str,
        node: SandboxNode | None = None,
        user: str = SUPERUSER,
        database: str = APP_DATABASE,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> list[list[str]]:
        """Run ``sql`` through psql and return its rows as text; NULL is an empty string.

        psql reads it from stdin: each statement is a transaction of its own, and nothing shows in the process list.
        """
        if self._backend is None:
            raise SandboxError("this sandbox does not run")
        node = node or self.primary
        # Values may hold line ends and separators: CSV is the one format of psql that keeps them apart.
        arguments = ["--no-psqlrc", "--quiet", "--csv", "--tuples-only", "-v", "ON_ERROR_STOP=1"]
        arguments += ["-U", user, "-d", database]
        try:
            answer = self._backend.psql(node, arguments, self.passwords[user], sql, timeout_s)
        except TimeoutError:
            raise SandboxError(f'node "{node.name}" did not answer within {timeout_s:g} s') from None
        if answer.status != 0:
            raise SandboxError(f'query failed on node "{node.name}": {answer.error.strip()}')
        return list(csv.reader(answer.output.splitlines(keepends=True)))

    # Parts

    def _new_backend(self) -> Backend:
        chosen = os.environ.get(BACKEND_VARIABLE, "processes")
        settings = (self._names, self.version, self.passwords[SUPERUSER], self._parameters)
        if chosen == "processes":
            return Processes(*settings)
        if chosen == "docker":
            # Imported here: it needs a package that processes do not.
            from middleware.sandbox.containers import Containers

            return Containers(*settings)
        raise SandboxError(f'{BACKEND_VARIABLE} is "{chosen}": allowed are "processes" and "docker"')

    def _make_roles(self) -> None:
        self.query(
            f"CREATE ROLE {APP_USER} LOGIN PASSWORD '{self.passwords[APP_USER]}';\n"
            f"CREATE ROLE {HEALTH_USER} LOGIN PASSWORD '{self.passwords[HEALTH_USER]}' IN ROLE pg_monitor;\n"
            f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER};\n",
            database=MAINTENANCE_DATABASE,
        )

    def _follow(self, node: SandboxNode, primary: SandboxNode) -> None:
        """Point a running standby at another primary; a reload is enough for its WAL receiver to change over."""
        assert self._backend is not None
        self._make_slot(node, primary)
        self.configure({"primary_conninfo": self._backend.conninfo(primary)}, node)
        self._wait_until_followed(node, primary)

    def _make_slot(self, node: SandboxNode, primary: SandboxNode) -> None:
        # A node that was primary before still has it.
        slot = (
            f"SELECT pg_create_physical_replication_slot('{node.name}')"  # noqa: S608  (our name)
            f" WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{node.name}')"
        )
        self.query(slot, primary, database=MAINTENANCE_DATABASE)

    def _wait_until_followed(self, node: SandboxNode, primary: SandboxNode) -> None:
        follows = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{node.name}'"  # noqa: S608  (our name)
        failure = f'node "{node.name}" does not stream from node "{primary.name}"'
        self._wait(partial(self._holds, follows, primary), STREAMING_TIMEOUT_S, failure)

    def _holds(self, condition: str, node: SandboxNode) -> bool:
        return self.query(condition, node, database=MAINTENANCE_DATABASE)[-1] == ["t"]

    def _wait(self, condition: Callable[[], bool], timeout_s: float, failure: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"{node.name}: {line}" for node in self.nodes for line in node.log_tail().splitlines())
                raise SandboxError(f"{failure} within {timeout_s:g} s:\n{logs}")
            time.sleep(POLL_S)


def _literal(value: str) -> str:
    """``value`` as a string literal of SQL."""
    quoted = value.replace("'", "''")
    return f"'{quoted}'"
