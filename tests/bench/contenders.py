"""Who is measured: each started in front of the same cluster, on a port of its own, and stopped by pid.

All pool POOL_SIZE servers per node in transaction mode and check passwords by SCRAM. PgBouncer knows one server and
uses the primary; pgpool-II and Pointsman send reads to the standbys.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from middleware.sandbox import Sandbox
from middleware.sandbox.privileges import server_account, start_as
from tests.conftest import settings_for

POOL_SIZE: Final = 20
START_TIMEOUT_S: Final = 30.0
PATHS: Final = "/usr/sbin:/usr/local/sbin:/usr/lib/postgresql/common"


class NotInstalled(Exception):
    """A contender that is not there; says what to install."""


class Contender:
    """One way to the cluster: `port` for pgbench, and the processes whose CPU time counts."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[bytes] | None, version: str) -> None:
        self.name: Final = name
        self.port: Final = port
        self.version: Final = version
        self._process: Final = process

    def cpu_s(self) -> float:
        """User and system time so far of all its processes, also of children that have ended and been waited for."""
        if self._process is None:
            return 0.0
        root = psutil.Process(self._process.pid)
        total = 0.0
        for process in (root, *root.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def direct(cluster: Sandbox, _directory: Path) -> Contender:
    """PostgreSQL alone: what pgbench and the server take without anyone between them."""
    version = cluster.query("SHOW server_version")[0][0]
    return Contender("PostgreSQL", cluster.primary.port, None, version)


def pointsman(workers: int, build: Path | None = None) -> Callable[[Sandbox, Path], Contender]:
    """`pointsman serve`; `build` is a directory with a compiled build of it."""

    def start(cluster: Sandbox, directory: Path) -> Contender:
        config = directory / "pointsman.toml"
        config.write_text(settings_for(cluster, workers=workers, default_pool_size=POOL_SIZE))
        log = directory / "log"
        process = subprocess.Popen(
            [sys.executable, "-m", "middleware", "serve", "-c", str(config)],
            cwd=build or Path.cwd(),
            env={**os.environ, **({"PYTHONPATH": str(build)} if build else {})},
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        _wait(lambda: " ready " in log.read_text(), process, log)
        match = re.search(r"listening .*port=(\d+)", log.read_text())
        assert match is not None
        name = f"Pointsman {workers}w{'' if build else ' plain'}"
        return Contender(name, int(match[1]), process, "compiled" if build else "interpreted")

    return start


def pgbouncer(cluster: Sandbox, directory: Path) -> Contender:
    return _pgbouncer(cluster, directory, "transaction")


def pgbouncer_session(cluster: Sandbox, directory: Path) -> Contender:
    """For prepared statements, which PgBouncer knows in transaction mode from 1.21 on."""
    return _pgbouncer(cluster, directory, "session")


def _pgbouncer(cluster: Sandbox, directory: Path, mode: str) -> Contender:
    program = _find("pgbouncer", "pgbouncer")
    version = _version(program, r"PgBouncer (\S+)")
    port = _free_port()
    user, password = cluster.user, cluster.passwords[cluster.user]
    (directory / "users.txt").write_text(f'"{user}" "{password}"\n')
    modern = tuple(map(int, version.split(".")[:2])) >= (1, 21)
    pool_size = 120 if mode == "session" and not modern else POOL_SIZE
    (directory / "pgbouncer.ini").write_text(
        f"""[databases]
{cluster.database} = host=127.0.0.1 port={cluster.primary.port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory}/users.txt
pool_mode = {"transaction" if modern else mode}
default_pool_size = {pool_size}
max_client_conn = 500
{"max_prepared_statements = 200" if modern else ""}
"""
    )
    process = _spawn([program, str(directory / "pgbouncer.ini")], directory)
    _wait(lambda: _listens(process, port), process, directory / "log")
    suffix = " session" if mode == "session" and not modern else ""
    return Contender(f"PgBouncer{suffix}", port, process, version)


def pgpool(cluster: Sandbox, directory: Path) -> Contender:
    program = _find("pgpool", "pgpool2")
    version = _version(program, r"version (\S+)")
    port = _free_port()
    user, password = cluster.user, cluster.passwords[cluster.user]
    monitor = cluster.passwords["pointsman"]
    (directory / "pool_passwd").write_text(f"{user}:TEXT{password}\npointsman:TEXT{monitor}\n")
    (directory / "pool_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    (directory / "pcp.conf").write_text("")
    backends = "".join(
        f"backend_hostname{number} = '127.0.0.1'\nbackend_port{number} = {node.port}\nbackend_weight{number} = 1\n"
        f"backend_flag{number} = 'DISALLOW_TO_FAILOVER'\n"
        for number, node in enumerate(cluster.nodes)
    )
    (directory / "pgpool.conf").write_text(
        f"""backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = {port}
pcp_listen_addresses = '127.0.0.1'
pcp_port = {_free_port()}
unix_socket_directories = '{directory}'
socket_dir = '{directory}'
pcp_socket_dir = '{directory}'
wd_ipc_socket_dir = '{directory}'
{backends}
enable_pool_hba = on
pool_passwd = 'pool_passwd'
num_init_children = 120
max_pool = 1
load_balance_mode = on
statement_level_load_balance = on
sr_check_user = 'pointsman'
sr_check_password = '{monitor}'
sr_check_database = 'postgres'
health_check_period = 0
pid_file_name = '{directory}/pgpool.pid'
logdir = '{directory}'
work_dir = '{directory}'
"""
    )
    files = {"-f": "pgpool.conf", "-a": "pool_hba.conf", "-F": "pcp.conf"}
    arguments = [word for flag, name in files.items() for word in (flag, str(directory / name))]
    process = _spawn([program, "-n", *arguments], directory)
    _wait(lambda: _listens(process, port), process, directory / "log")
    return Contender("pgpool-II", port, process, version)


def _spawn(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """Start it as an unprivileged user: both of them refuse root."""
    account = server_account()
    if account.differs:
        for path in (directory, *directory.iterdir()):
            os.chown(path, account.uid, account.gid)
    with (directory / "log").open("wb") as log:
        return start_as(account, command, directory=Path("/"), environment=os.environ, output=log)


def _find(program: str, package: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:{PATHS}")
    if found is None:
        raise NotInstalled(f"{program} is not installed (apt-get install {package})")
    return found


def _version(program: str, pattern: str) -> str:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(pattern, answer.stdout + answer.stderr)
    return match[1] if match else "?"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    with socket.socket() as probe:
        return process.poll() is None and probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)
