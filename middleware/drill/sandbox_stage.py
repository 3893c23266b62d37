"""The sandbox as a stage: its own cluster, and `pointsman serve` in front of it as a process of its own.

Pointsman has quick probes here, so that a death is known in half a second: all is on one machine, and nothing else is.
For a partition each node has a forwarder in front of it, by which Pointsman and the standbys reach it alike.
"""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import anyio
import anyio.to_thread
import psutil

from middleware.drill.acts import Act
from middleware.drill.errors import DrillError
from middleware.drill.forwarder import Forwarder
from middleware.drill.ledger import ROWS, Login
from middleware.drill.pointsman import Pointsman, at_path
from middleware.sandbox import Sandbox, SandboxError, SandboxNode
from middleware.sandbox.door import Door
from middleware.sandbox.node import HOST, Address
from middleware.sandbox.ports import free_port
from middleware.sandbox.privileges import Account, start_as

WORKERS: Final = 2
POOL_SIZE: Final = 20
READY_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
LOG_LINES_SHOWN: Final = 20
FORMER_S: Final = 1.0
"""How long a former primary that is back is left as it is: time for Pointsman to make the mistake of using it."""

HEALTH_CHECK: Final[Mapping[str, Any]] = {
    "period": 0.2,
    "timeout": 0.5,
    "max_retries": 2,
    "retry_delay": 0.1,
}
FAILOVER: Final[Mapping[str, Any]] = {
    "failover": "promote",
    "failover_after": 0.3,
    "failover_user": "postgres",
    # Synchronous standbys are named by their nodes. With 256 MB of WAL kept there is no lag that could not be lost.
    "max_failover_lag": 0,
}


class SandboxStage:
    """A primary and standbys, made for one drill."""

    disposable = True

    def __init__(self, *, synchronous: bool, standbys: int, version: int, forwarded: bool) -> None:
        self.synchronous: Final = synchronous
        how = "synchronous" if synchronous else "asynchronous"
        self.title: Final = f"sandbox, {standbys} standbys, {how} replication"
        self._sandbox: Final = Sandbox(standbys=standbys, version=version)
        self._forwarded: Final = forwarded
        self._forwarders: Final[dict[str, Forwarder]] = {}
        self._former: Final[dict[str, dict[tuple[int, int], int]]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._door: Door | None = None
        self.login = Login("", 0, "", "", "")
        self.pointsman: Pointsman

    async def __aenter__(self) -> Self:
        try:
            await anyio.to_thread.run_sync(self._sandbox.start)
            await self._prepare_nodes()
            self._directory = tempfile.TemporaryDirectory(prefix="pointsman-drill-")
            self._door = Door(self._sandbox, self._path("door"))
            self._door.__enter__()
            await self._start_pointsman()
        except SandboxError as error:
            await self.__aexit__()
            raise DrillError(f"the sandbox: {error}") from None
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            if self._process is not None:
                self._process.terminate()
                with anyio.move_on_after(STOP_TIMEOUT_S):
                    while self._process.poll() is None:  # noqa: ASYNC110 - a process that ends tells nobody
                        await anyio.sleep(0.02)
                if self._process.poll() is None:
                    self._process.kill()
                    self._process.wait()
            if self._door is not None:
                await anyio.to_thread.run_sync(self._door.__exit__)
            for forwarder in self._forwarders.values():
                await forwarder.close()
            await anyio.to_thread.run_sync(self._sandbox.stop)
            if self._directory is not None:
                self._directory.cleanup()

    # Acts

    async def act(self, act: Act, node: str) -> None:
        if act is Act.SWITCHOVER:
            await self.pointsman.switchover(node)
        elif act is Act.WORKER_CRASH:
            await self._crash_worker(int(node))
        elif act is Act.PARTITION:
            self._forwarders[node].part()
        else:
            await self._on_node(act, self._sandbox.node(node), self._DO)

    async def heal(self, act: Act, node: str) -> None:
        if act is Act.PARTITION:
            await self._meet_again(node)
        else:
            await self._on_node(act, self._sandbox.node(node), self._HEAL)

    async def former_rows(self, node: str) -> dict[tuple[int, int], int] | None:
        return self._former.get(node)

    def log(self) -> str:
        try:
            return self._path("log").read_text(errors="replace") if self._directory else ""
        except OSError:
            return ""

    async def _on_node(self, act: Act, node: SandboxNode, ways: Mapping[Act, Any]) -> None:
        if act in ways:
            try:
                await anyio.to_thread.run_sync(partial(ways[act], self, node))
            except SandboxError as error:
                raise DrillError(f"{act.value} of {node.name}: {error}") from None

    def _crash(self, node: SandboxNode) -> None:
        node.kill()

    def _hang(self, node: SandboxNode) -> None:
        node.pause()

    def _lag(self, node: SandboxNode) -> None:
        self._sandbox.query("SELECT pg_wal_replay_pause()", node)

    def _restart(self, node: SandboxNode) -> None:
        assert self._door is not None
        with self._door.lock:
            node.restart()

    def _start(self, node: SandboxNode) -> None:
        assert self._door is not None
        with self._door.lock:
            node.start()
            self._look_at_former(node)

    def _go_on(self, node: SandboxNode) -> None:
        assert self._door is not None
        with self._door.lock:
            node.resume()
            self._look_at_former(node)

    def _catch_up(self, node: SandboxNode) -> None:
        self._sandbox.query("SELECT pg_wal_replay_resume()", node)

    _DO: Final = {Act.CRASH: _crash, Act.HANG: _hang, Act.LAG: _lag, Act.RESTART: _restart}
    _HEAL: Final = {Act.CRASH: _start, Act.HANG: _go_on, Act.LAG: _catch_up}

    async def _meet_again(self, node: str) -> None:
        assert self._door is not None
        await anyio.to_thread.run_sync(self._door.lock.acquire)
        try:
            self._forwarders[node].mend()
            await anyio.to_thread.run_sync(self._look_at_former, self._sandbox.node(node))
        finally:
            self._door.lock.release()

    def _look_at_former(self, node: SandboxNode) -> None:
        """Read its ledger if it is one that still takes itself for the primary. The door is kept shut meanwhile."""
        if self._sandbox.query("SELECT pg_is_in_recovery()", node) == [["t"]]:
            return
        time.sleep(FORMER_S)
        rows = self._sandbox.query(ROWS, node)
        self._former[node.name] = {(int(writer), int(number)): int(count) for writer, number, count in rows}

    async def _crash_worker(self, worker: int) -> None:
        pid = await self.pointsman.worker_pid(worker)
        psutil.Process(pid).send_signal(signal.SIGKILL)
        await self.pointsman.until_gone(worker, pid)

    # Preparations

    async def _prepare_nodes(self) -> None:
        if self._forwarded:
            for node in self._sandbox.nodes:
                self._forwarders[node.name] = forwarder = Forwarder(node.host, node.port)
                await forwarder.open()
        await anyio.to_thread.run_sync(self._configure_nodes)

    def _configure_nodes(self) -> None:
        sandbox = self._sandbox
        if self._forwarded:
            sandbox.find_primary_at(Address(HOST, self._forwarders[sandbox.primary.name].port))
        if self.synchronous:
            names = ", ".join(node.name for node in sandbox.nodes)
            for node in sandbox.nodes:
                # Each of them may come to be the primary.
                sandbox.configure({"synchronous_standby_names": f"ANY 1 ({names})"}, node)
        sandbox.wait_for_replay()

    async def _start_pointsman(self) -> None:
        port = free_port()
        sandbox = self._sandbox
        self.login = Login(HOST, port, sandbox.user, sandbox.passwords[sandbox.user], sandbox.database)
        self.pointsman = Pointsman(at_path(self._path("control")))
        config = self._path("pointsman.toml")
        config.touch(mode=0o600)
        config.write_text(toml(self._settings(port)))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
        with self._path("log").open("wb") as log:
            # Not in a thread: it dies with the thread that has started it.
            self._process = start_as(
                Account(os.geteuid(), os.getegid(), "", differs=False),
                [sys.executable, "-m", "middleware", "serve", "-c", str(config)],
                directory=self._path(""),
                environment=environment,
                output=log.fileno(),
            )
        await self._until_ready()

    def _settings(self, port: int) -> dict[str, Any]:
        sandbox = self._sandbox
        rejoin = [sys.executable, "-m", "middleware.sandbox", "rejoin", str(self._path("door"))]
        nodes = {
            node.name: {
                "data_directory": str(node.data_directory),
                "host": HOST if self._forwarded else node.host,
                "port": self._forwarders[node.name].port if self._forwarded else node.port,
            }
            for node in sandbox.nodes
        }
        return {
            "listen_addr": HOST,
            "listen_port": port,
            "control_socket": str(self._path("control")),
            "workers": WORKERS,
            "default_pool_size": POOL_SIZE,
            "shutdown_timeout": 2.0,
            **FAILOVER,
            "demote_command": _demote(str(sandbox.program("pg_controldata"))),
            "follow_primary_command": shlex.join(rejoin).replace("%", "%%") + " %n %o %H %r",
            "health_check": {"user": "pointsman", "password": sandbox.passwords["pointsman"], **HEALTH_CHECK},
            "nodes": nodes,
            "users": {name: {"password": password} for name, password in sandbox.passwords.items()},
        }

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise DrillError(f"pointsman serve has ended:\n{self._log_tail()}")
            try:
                if (await self.pointsman.view()).well():
                    return
            except DrillError:
                if time.monotonic() > deadline:
                    raise DrillError(f"pointsman serve is not ready:\n{self._log_tail()}") from None
            await asyncio.sleep(0.05)

    def _path(self, name: str) -> Path:
        assert self._directory is not None
        return Path(self._directory.name) / name

    def _log_tail(self) -> str:
        return "\n".join(self.log().splitlines()[-LOG_LINES_SHOWN:])


def _demote(pg_controldata: str) -> str:
    """What stops a node as `pg_ctl stop -m fast` does, which will not run as root, and tells where its WAL ends."""
    pid_file = "%D/postmaster.pid"
    stop = f"kill -INT $(head -n 1 {pid_file}) && while [ -e {pid_file} ]; do sleep 0.01; done"
    tell = f"{shlex.quote(pg_controldata.replace('%', '%%'))} %D | grep '^Latest checkpoint location'"
    return shlex.join(["sh", "-c", f"{stop}; {tell}"])


def toml(values: Mapping[str, Any]) -> str:
    """Settings as a file: tables, and tables of tables, behind all else."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items() if not isinstance(value, Mapping)]
    for name, table in values.items():
        if isinstance(table, Mapping):
            lines += _table(json.dumps(name), table)
    return "\n".join(lines) + "\n"


def _table(title: str, table: Mapping[str, Any]) -> list[str]:
    # Strings and numbers are written alike in JSON and TOML.
    plain = [
        f"{json.dumps(name)} = {json.dumps(value)}" for name, value in table.items() if not isinstance(value, Mapping)
    ]
    lines = [f"[{title}]", *plain] if plain else []
    for name, inner in table.items():
        if isinstance(inner, Mapping):
            lines += _table(f"{title}.{json.dumps(name)}", inner)
    return lines
