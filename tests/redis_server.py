"""A real Redis on loopback, for tests to ask and to break."""

import shutil
import signal
from pathlib import Path
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

from middleware.sandbox.ports import free_port
from tests.server_process import ServerProcess, needs

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
NEEDED = "Redis is not installed here: apt-get install redis-server"
PASSWORD: Final = "hunter2-of-redis"


def needs_redis() -> None:
    """Skip without one."""
    needs(PROGRAM, NEEDED)


class RedisServer(ServerProcess):
    """Runs while the block does. `url` stays the same over restarts; what is stored does not."""

    NAME = "redis"

    def __init__(self, *options: str) -> None:
        """`options` of its command line, as `--maxmemory 2mb`."""
        needs_redis()
        super().__init__()
        self._options = options
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def command(self, directory: Path) -> list[str]:
        command = [str(PROGRAM), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        return [*command, "--dir", str(directory), "--requirepass", PASSWORD, *self._options]

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:
            return False

    def client(self) -> Redis:
        """To look at what is there, and to change it."""
        client: Redis = Redis.from_url(self.url)
        return client

    def pause(self) -> None:
        """It keeps its connections, and takes new ones, and answers on none."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)
