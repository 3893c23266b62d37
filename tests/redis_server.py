"""A real Redis on loopback, for tests to ask and to break."""

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self

import pytest
from redis import Redis
from redis.exceptions import RedisError

from middleware.sandbox.ports import free_port

START_TIMEOUT_S = 20.0
PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
NEEDED = "Redis is not installed here: apt-get install redis-server"
PASSWORD: Final = "hunter2-of-redis"


def needs_redis() -> None:
    """Skip without one: .ci/run installs it."""
    if PROGRAM is None:
        pytest.skip(NEEDED)


class RedisServer:
    """Runs while the block does. `url` stays the same over restarts; what is stored does not."""

    def __init__(self, *options: str) -> None:
        """`options` of its command line, as `--maxmemory 2mb`."""
        needs_redis()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="pointsman-redis-"))
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._directory)

    def start(self) -> None:
        command = [str(PROGRAM), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", str(self._directory), "--requirepass", PASSWORD, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, "redis-server has ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:
            return False

    def client(self) -> Redis:
        """To look at what is there, and to change it."""
        client: Redis = Redis.from_url(self.url)
        return client

    def kill(self) -> None:
        """With SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """It keeps its connections, and takes new ones, and answers on none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
