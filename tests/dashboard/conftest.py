"""A Pointsman that serves the dashboard, and clients of it: httpx, and Debian's chromium where it is installed."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from middleware.sandbox.ports import free_port
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.supervisor.conftest import settings

PASSWORD: Final = "correct horse"


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg and aiohttp need asyncio."""
    return "asyncio"


@asynccontextmanager
async def serving(**changes: Any) -> AsyncIterator[tuple[Supervisor, httpx.AsyncClient]]:
    """One over a node that refuses connections, with a password; and a client with its address."""
    port = free_port()
    chosen = settings(http_port=port, **{"dashboard_password": PASSWORD, **changes})
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/dashboard/", timeout=20, trust_env=False)
    async with running(chosen) as supervisor, client:
        yield supervisor, client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A module's: Playwright keeps an event loop in this thread, so a module that uses it can have no other."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        # As root it has no sandbox of its own.
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
