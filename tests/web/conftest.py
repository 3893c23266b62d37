"""A Pointsman over echo workers that serves HTTP, and a real client of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from middleware.sandbox.ports import free_port
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.supervisor.conftest import ECHO_WORKER, settings


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg and aiohttp need asyncio."""
    return "asyncio"


@asynccontextmanager
async def serving(
    *, worker_command: Sequence[str] = ECHO_WORKER, **changes: Any
) -> AsyncIterator[tuple[Supervisor, httpx.AsyncClient]]:
    """It, and a client with its address."""
    port = free_port()
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)
    async with running(settings(http_port=port, **changes), worker_command=worker_command) as supervisor, client:
        yield supervisor, client
