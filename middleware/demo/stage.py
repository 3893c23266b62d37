"""What demo and tour play on: settings for a proxy in front of a sandbox, and its endpoint."""

import secrets
import shlex
import shutil
import socket
import sys
from pathlib import Path
from typing import Final, NamedTuple

from middleware.config import Settings, build_settings
from middleware.sandbox import Sandbox
from middleware.sandbox.ports import free_port
from middleware.supervisor import Supervisor

HOST: Final = "127.0.0.1"
PORT: Final = 6432
HTTP_PORT: Final = 6480
POOL_SIZE: Final = 20


class Endpoint(NamedTuple):
    """Where the proxy is, for whom."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"


def proxy_settings(
    sandbox: Sandbox, *, port: int, workers: int, http_port: int = 0, door: Path | None = None
) -> Settings:
    """Settings for a proxy in front of the sandbox. Raises ConfigError for what the environment makes of them.

    With `door`, at which the sandbox can be asked to have a node rejoin, roles may change: by failover, and by hand.
    """
    roles: dict[str, object] = {}
    users = {sandbox.user}
    if door is not None:
        words = (sys.executable, "-m", "middleware.sandbox", "rejoin", str(door))
        follow = shlex.join(words).replace("%", "%%")
        roles = {"failover": "promote", "failover_user": "postgres", "follow_primary_command": f"{follow} %n %o"}
        users.add("postgres")
    return build_settings(
        {
            "listen_addr": HOST,
            "listen_port": port,
            "workers": workers,
            "default_pool_size": POOL_SIZE * workers,
            "shutdown_timeout": 2.0,
            "log": {"level": "warning"},
            "health_check": {"user": "pointsman", "password": sandbox.passwords["pointsman"], "period": 0.5},
            "nodes": {node.name: {"host": node.host, "port": node.port} for node in sandbox.nodes},
            "users": {user: {"password": sandbox.passwords[user]} for user in users},
            "http_listen_addr": HOST,
            "http_port": http_port,
            "dashboard_password": secrets.token_urlsafe(9),
            **roles,
        },
        origin="demo",
    )


def endpoint_of(sandbox: Sandbox, supervisor: Supervisor) -> Endpoint:
    host, port = supervisor.addresses[0]
    return Endpoint(host, port, sandbox.user, sandbox.passwords[sandbox.user], sandbox.database)


def psql_command(sandbox: Sandbox, endpoint: Endpoint) -> str:
    """A command line to paste: the psql on the PATH, or the sandbox's own."""
    program = "psql" if shutil.which("psql") else str(sandbox.program("psql"))
    return shlex.join([program, endpoint.url])


def port_or_free(wanted: int | None) -> int:
    """The port asked for; without one, PgBouncer's 6432 where nobody has it, else 0: any."""
    if wanted is not None:
        return wanted
    return PORT if _is_free(PORT) else 0


def http_port_or_free(wanted: int | None) -> int:
    """The port asked for, 0 for none; without one, the documents' 6480 where nobody has it, else any."""
    if wanted is not None:
        return wanted
    return HTTP_PORT if _is_free(HTTP_PORT) else free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
