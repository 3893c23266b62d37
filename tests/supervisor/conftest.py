"""A supervisor over echo workers: real processes, a real channel, and a node that refuses connections."""

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from middleware.config import Settings, build_settings
from middleware.supervisor import Supervisor

ECHO_WORKER: Final = (sys.executable, str(Path(__file__).with_name("echo_worker.py")))
DEADLINE_S: Final = 20.0
SECRET: Final = "never-in-a-log"


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg needs asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("POINTSMAN_"):
            monkeypatch.delenv(name)


def settings(**changes: Any) -> Settings:
    """Settings with a free port and a node that refuses connections."""
    return build_settings(
        {
            "listen_port": 0,
            "shutdown_timeout": 1.0,
            "health_check": {"user": "monitor", "password": SECRET, "period": 0.2, "timeout": 2.0},
            # Port 1 is reserved and refuses at once.
            "nodes": {"db1": {"host": "127.0.0.1", "port": 1}},
            "users": {"app": {"password": SECRET}},
            **changes,
        }
    )


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """The condition's first true value. Fails after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if value := await condition():
            return value
        await anyio.sleep(0.02)
    pytest.fail(f"waited {DEADLINE_S} s for {what}")


async def ask(supervisor: Supervisor, worker: int = 0, order: str = "") -> dict[str, Any]:
    """Give worker `worker` an order and have its answer; the kernel chooses who gets a connection, so try again."""

    async def answer() -> dict[str, Any] | None:
        try:
            async with await anyio.connect_tcp(*supervisor.addresses[0]) as stream:
                await stream.send(f"{worker} {order}\n".encode())
                line = b""
                while not line.endswith(b"\n"):
                    line += await stream.receive()
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            # Died over the order, or a moment before.
            return {} if order.startswith("exit") else None
        known: dict[str, Any] = json.loads(line)
        return known if known["worker"] == worker else None

    found: dict[str, Any] | None = None
    with anyio.fail_after(DEADLINE_S):
        while found is None:
            found = await answer()
    return found
