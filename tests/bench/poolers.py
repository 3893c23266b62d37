"""PgBouncer and pgpool-II as contenders: where found, their configuration, their quirks.

Both run from a temporary directory, in the foreground, as an unprivileged user when we are root: both refuse root or
warn of it.
"""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

from middleware.sandbox.privileges import server_account
from tests.bench.contenders import HOST, POOL_SIZE, Proxy
from tests.bench.pgbench import Mode, Target

CLIENTS_MAX: Final = 120
SBIN: Final = "/usr/sbin:/usr/local/sbin:/sbin"
"""Where packages put daemons, often not on a user's PATH."""


class Installed(Proxy):
    """A program that the machine may have or not."""

    program = ""
    package = ""

    @property
    def missing(self) -> str:
        if self._found() is not None:
            return ""
        return f"{self.title} is not installed: apt-get install {self.package} (or your system's package)"

    def _found(self) -> str | None:
        return shutil.which(self.program, path=f"{os.environ.get('PATH', '')}:{SBIN}")

    def version(self) -> str:
        answer = subprocess.run(
            [self._found() or self.program, "--version"], capture_output=True, text=True, check=False
        )
        numbers = re.search(r"\d+(\.\d+)+", answer.stdout + answer.stderr)
        return numbers[0] if numbers is not None else "unknown"

    def write(self, name: str, text: str) -> Path:
        """A file of its configuration, for nobody else to read."""
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it as a user who may own nothing but this directory."""
        account = server_account()
        if account.differs:
            for path in (self.directory, *self.directory.iterdir()):
                os.chown(path, account.uid, account.gid)
        return self._spawn([self._found() or self.program, *arguments], account, os.environ)


class PgBouncer(Installed):
    """Transaction pooling in front of the primary.

    Before 1.21 it has no prepared statements there: mode `prepared` then uses session pooling, by a second database
    entry, with a server connection for every client, since a client without one would only wait.
    """

    key = "pgbouncer"
    title = "PgBouncer"
    program = "pgbouncer"
    package = "pgbouncer"
    stop_signal = signal.SIGTERM
    session_database: Final = "session"
    auth_type = "scram-sha-256"
    secret = ""
    """What its file has for the user, where that is not the password itself."""
    more_settings = ""
    """Lines of its own."""

    def _prepares(self) -> bool:
        """Whether prepared statements work in transaction pooling."""
        numbers = [int(part) for part in re.findall(r"\d+", self.version())]
        return numbers[:2] >= [1, 21]

    def note(self, mode: Mode) -> str:
        if mode == "prepared" and not self._prepares():
            return (
                f"session pooling with {CLIENTS_MAX} connections: before 1.21 it has no prepared statements in "
                "transaction pooling; the primary only"
            )
        return f"transaction pooling, {POOL_SIZE} connections, the primary only"

    def target(self, mode: Mode) -> Target:
        return self._target_at(self.port, self.session_database if mode == "prepared" and not self._prepares() else "")

    def start(self) -> subprocess.Popen[bytes]:
        cluster = self.cluster
        users = self.write("users", f'"{cluster.user}" "{self.secret or cluster.passwords[cluster.user]}"\n')
        server = f"host={HOST} port={cluster.primary.port} dbname={cluster.database}"
        prepares = "max_prepared_statements = 200\n" if self._prepares() else ""
        config = self.write(
            "pgbouncer.ini",
            f"[databases]\n"
            f"{cluster.database} = {server} pool_mode=transaction pool_size={POOL_SIZE}\n"
            f"{self.session_database} = {server} pool_mode=session pool_size={CLIENTS_MAX}\n"
            f"[pgbouncer]\n"
            f"listen_addr = {HOST}\n"
            f"listen_port = {self.port}\n"
            f"unix_socket_dir =\n"
            f"auth_type = {self.auth_type}\n"
            f"auth_file = {users}\n"
            f"max_client_conn = 1000\n"
            f"{prepares}"
            f"{self.more_settings}"
            f"log_connections = 0\n"
            f"log_disconnections = 0\n",
        )
        return self.launch(str(config))


class PgpoolII(Installed):
    """Streaming replication mode with the sandbox's three nodes, reads balanced over all of them (its default)."""

    key = "pgpool"
    title = "pgpool-II"
    program = "pgpool"
    package = "pgpool2"
    stop_signal = signal.SIGINT  # fast: does not wait for clients, and removes its shared memory

    def more_settings(self) -> dict[str, object]:
        """Settings of its own."""
        return {}

    def note(self, mode: Mode) -> str:
        return f"{CLIENTS_MAX} processes, a connection to each of the three nodes per client, reads on all nodes"

    def start(self) -> subprocess.Popen[bytes]:
        cluster = self.cluster
        self.write("pool_passwd", f"{cluster.user}:TEXT{cluster.passwords[cluster.user]}\n")
        hba = self.write("pool_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n")
        pcp = self.write("pcp.conf", "")
        monitor = cluster.passwords["pointsman"]
        settings: dict[str, object] = {
            "backend_clustering_mode": "streaming_replication",
            "listen_addresses": HOST,
            "port": self.port,
            "pcp_listen_addresses": "",
            "socket_dir": self.directory,
            "pcp_socket_dir": self.directory,
            "wd_ipc_socket_dir": self.directory,
            "pid_file_name": self.directory / "pid",
            "logdir": self.directory,
            "num_init_children": CLIENTS_MAX,
            "max_pool": 1,
            "load_balance_mode": "on",
            "enable_pool_hba": "on",
            "pool_passwd": "pool_passwd",
            "sr_check_user": "pointsman",
            "sr_check_password": monitor,
            "health_check_period": 1,
            "health_check_user": "pointsman",
            "health_check_password": monitor,
            **self.more_settings(),
        }
        for number, node in enumerate(cluster.nodes):
            settings |= {
                f"backend_hostname{number}": node.host,
                f"backend_port{number}": node.port,
                f"backend_weight{number}": 1,
                f"backend_flag{number}": "DISALLOW_TO_FAILOVER",
            }
        config = self.write("pgpool.conf", "".join(f"{name} = '{value}'\n" for name, value in settings.items()))
        return self.launch("-n", "-D", "-f", str(config), "-a", str(hba), "-F", str(pcp))
