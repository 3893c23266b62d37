"""A real Patroni with three members over a real etcd and the sandbox's PostgreSQL, all on loopback.

Patroni lies in an environment of its own (`make patroni-test` makes it): its dependencies are not ours. As root it runs
as the servers' user, who must be able to run that environment's Python.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from middleware.sandbox.binaries import find_installation, readable_installation
from middleware.sandbox.directory import SandboxDirectory, kill_tree
from middleware.sandbox.environment import environment
from middleware.sandbox.ports import free_port
from middleware.sandbox.privileges import can_read_tree, server_account, start_as
from tests.etcd import Etcd

HOME = Path(__file__).parents[2] / "build" / "patroni"
SCOPE = "pointsman-test"
NAMES = ("pg1", "pg2", "pg3")
START_TIMEOUT_S = 90.0
TTL_S = 20
"""Patroni allows no less."""


class Member:
    """One of Patroni's, with its PostgreSQL."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.host = "127.0.0.1"
        self.port, self.rest_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.directory = Path()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.rest_port}"

    def postmaster(self) -> psutil.Process | None:
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            return psutil.Process(int((self.directory / "data" / "postmaster.pid").read_text().split()[0]))
        return None

    def kill_patroni(self) -> None:
        """As kill -9 does; PostgreSQL goes on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def kill(self) -> None:
        """Both."""
        self.kill_patroni()
        postmaster = self.postmaster()
        if postmaster is not None and "postgres" in postmaster.name():
            kill_tree(postmaster)


class PatroniCluster:
    """Runs while the block does, with a leader and two replicas that stream."""

    def __init__(self, version: int) -> None:
        self.members = [Member(name) for name in NAMES]
        self.passwords = {name: secrets.token_hex(12) for name in ("postgres", "replicator", "app", "pointsman")}
        self._version = version
        self._account = server_account()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.etcd = stack.enter_context(Etcd())
            self._directory = SandboxDirectory(self._account)
            stack.callback(self._remove)
            self._installation = readable_installation(
                find_installation(self._version), self._account, self._directory.installation
            )
            self._home = HOME
            if self._account.differs and not can_read_tree(HOME, self._account):
                self._home = self._directory.root / "patroni"
                shutil.copytree(HOME, self._home, symlinks=True)
            for member in self.members:
                self._lay_out(member)
            self.heal()
            self._make_roles()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, member: Member) -> None:
        with (member.directory / "log").open("ab") as log:
            member.process = start_as(
                self._account,
                [*self._program("patroni"), str(member.directory / "patroni.yml")],
                directory=member.directory,
                environment=environment(HOME=str(member.directory)),
                output=log,
            )

    def switch_over(self, candidate: str) -> None:
        """patronictl switchover."""
        command = [*self._program("patronictl"), "-c", str(self.members[0].directory / "patroni.yml")]
        command += ["switchover", SCOPE, "--leader", self.leader(), "--candidate", candidate, "--force"]
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if "Successfully switched over" in done.stdout:
                return
            # It asks the candidate, which has 2 s to answer, and a loaded machine may take longer.
            assert "no good candidates" in done.stdout, done.stdout + done.stderr
            assert time.monotonic() < deadline, done.stdout
            time.sleep(0.5)

    def cluster(self) -> list[dict[str, Any]]:
        """Patroni's own view."""
        for member in self.members:
            with contextlib.suppress(httpx.HTTPError, OSError, ValueError, KeyError):
                answer = httpx.get(f"{member.url}/cluster", trust_env=False, timeout=5).json()
                members: list[dict[str, Any]] = answer["members"]
                return members
        return []

    def leader(self) -> str:
        """Whom Patroni calls so; "" for nobody."""
        return next((str(one["name"]) for one in self.cluster() if one["role"] == "leader"), "")

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    def query(self, sql: str, member: Member, database: str = "postgres") -> str:
        """What psql says as the superuser."""
        command = [str(self._installation.program("psql")), "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", member.host]
        command += ["-p", str(member.port), "-U", "postgres", "-d", database, "-c", sql]
        done = subprocess.run(
            command, env=environment(PGPASSWORD=self.passwords["postgres"]), capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def heal(self) -> None:
        """Have all members again, and two replicas that stream from the third."""
        for member in self.members:
            if member.process is None:
                self.start(member)
        self._wait(self._whole, "two replicas that stream")

    def _whole(self) -> bool:
        """By Patroni's word, which may be of a while ago, and by the leader's own."""
        leader = self.leader()
        if not leader or sum(one["state"] == "streaming" for one in self.cluster()) != 2:
            return False
        with contextlib.suppress(AssertionError):
            streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            return self.query(streams, self.member(leader)) == "2"
        return False

    def _make_roles(self) -> None:
        leader = self.member(self.leader())
        for name, more in (("app", ""), ("pointsman", " IN ROLE pg_monitor")):
            self.query(f"CREATE ROLE {name} LOGIN PASSWORD '{self.passwords[name]}'{more}", leader)
        self.query("CREATE DATABASE app OWNER app", leader)

    def _program(self, name: str) -> list[str]:
        # A script names the Python of where it was installed, which may not be where it lies now.
        return [str(self._home / "bin" / "python"), str(self._home / "bin" / name)]

    def _lay_out(self, member: Member) -> None:
        member.directory = self._directory.nodes / member.name
        member.directory.mkdir(mode=0o700)
        file = member.directory / "patroni.yml"
        # JSON is YAML.
        file.write_text(json.dumps(self._settings(member)))
        file.chmod(0o600)
        for path in (member.directory, file):
            os.chown(path, self._account.uid, self._account.gid)

    def _settings(self, member: Member) -> dict[str, Any]:
        everybody = ["local all all trust", "host replication replicator 127.0.0.1/32 scram-sha-256"]
        everybody.append("host all all 127.0.0.1/32 scram-sha-256")
        return {
            "scope": SCOPE,
            "name": member.name,
            "restapi": {"listen": f"127.0.0.1:{member.rest_port}", "connect_address": f"127.0.0.1:{member.rest_port}"},
            "etcd3": {"hosts": [f"127.0.0.1:{self.etcd.port}"]},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_S,
                    "loop_wait": 1,
                    "retry_timeout": 3,
                    "maximum_lag_on_failover": 1 << 20,
                    "postgresql": {"use_pg_rewind": True, "use_slots": True},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{member.port}",
                "connect_address": f"127.0.0.1:{member.port}",
                "data_dir": str(member.directory / "data"),
                "bin_dir": str(self._installation.bin),
                "pgpass": str(member.directory / "pgpass"),
                "pg_hba": everybody,
                "parameters": {
                    "unix_socket_directories": str(member.directory),
                    "dynamic_shared_memory_type": "mmap",
                    "fsync": "off",
                    "jit": "off",
                    "password_encryption": "scram-sha-256",
                    "wal_log_hints": "on",
                },
                "authentication": {
                    "superuser": {"username": "postgres", "password": self.passwords["postgres"]},
                    "replication": {"username": "replicator", "password": self.passwords["replicator"]},
                },
            },
        }

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                logs = [f"{member.name}: {line}" for member in self.members for line in self._log_tail(member)]
                raise AssertionError("\n".join([f"waited for {what}", *logs]))
            time.sleep(0.1)

    def _log_tail(self, member: Member) -> list[str]:
        return (member.directory / "log").read_text(errors="replace").splitlines()[-20:]

    def _remove(self) -> None:
        for member in self.members:
            member.kill()
        self._directory.remove()
