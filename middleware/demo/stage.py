"""What demo and tour play on: settings for a proxy in front of a sandbox, and its endpoint."""

import shlex
import shutil
import socket
from typing import Final, NamedTuple

from middleware.config import Settings, build_settings
from middleware.sandbox import Sandbox
from middleware.supervisor import Supervisor

HOST: Final = "127.0.0.1"
PORT: Final = 6432
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


def proxy_settings(sandbox: Sandbox, *, port: int, workers: int) -> Settings:
    """Settings for a proxy in front of the sandbox. Raises ConfigError for what the environment makes of them."""
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
            "users": {sandbox.user: {"password": sandbox.passwords[sandbox.user]}},
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
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, PORT))
        except OSError:
            return 0
    return PORT
