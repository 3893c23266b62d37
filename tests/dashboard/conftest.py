"""A Pointsman that serves the dashboard, and clients of it: httpx, and Debian's chromium where it is installed."""

import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from middleware.sandbox import Sandbox
from middleware.sandbox.ports import free_port
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.conftest import Endpoint, pointsman
from tests.supervisor.conftest import ECHO_WORKER, settings

PASSWORD: Final = "correct horse"
WAIT_MS: Final = 20_000
"""For what is seen in the page: on two busy cores all takes its time."""


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg and aiohttp need asyncio."""
    return "asyncio"


@asynccontextmanager
async def serving(
    *, worker_command: Sequence[str] = ECHO_WORKER, **changes: Any
) -> AsyncIterator[tuple[Supervisor, httpx.AsyncClient]]:
    """One over a node that refuses connections, with a password; and a client with its address. A stream needs workers
    that answer: WORKER_COMMAND."""
    port = free_port()
    chosen = settings(http_port=port, **{"dashboard_password": PASSWORD, **changes})
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/dashboard/", timeout=20, trust_env=False)
    async with running(chosen, worker_command=worker_command) as supervisor, client:
        yield supervisor, client


@contextmanager
def shown(cluster: Sandbox, directory: Path, **changes: Any) -> Iterator[tuple[Endpoint, str]]:
    """`pointsman serve` in front of a real cluster, and the address of its dashboard."""
    port = changes.pop("http_port", None) or free_port()
    chosen = {"dashboard_password": PASSWORD, "workers": 2, "default_pool_size": 10, **changes}
    with pointsman(cluster, directory, http_port=port, **chosen) as endpoint:
        yield endpoint, f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A module's: Playwright keeps an event loop in this thread, so a module that uses it can have no other."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=WAIT_MS)
    # As root it has no sandbox of its own.
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as launched,
    ):
        yield launched


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens a page, by its address and what a browser's context may be told; waits until it is live.

    At the end nothing may have been wrong in any: no error of a script, nothing that the page's policy forbids, nothing
    asked for elsewhere.
    """
    contexts = []
    wrong: list[str] = []

    def open_one(url: str, *, live: bool = True, **context: Any) -> Page:
        own = browser.new_context(**context)
        own.set_default_timeout(WAIT_MS)
        contexts.append(own)
        page = own.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type in ("error", "warning") else None)
        page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith(url) else None)
        page.goto(url)
        if live:
            expect(page.locator("body")).to_have_attribute("data-link", "live")
            expect(page.locator("#nodes-table tbody tr").first).to_be_visible()
        return page

    yield open_one
    for own in contexts:
        own.close()
    # A status that a test has provoked is in the console, too; and what cannot be reached while nobody is there.
    ours = [line for line in wrong if not line.startswith("Failed to load resource: ")]
    assert ours == []


def log_in(page: Page, password: str = PASSWORD) -> None:
    """As a person does."""
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Password").fill(password)
    page.locator("#login").get_by_role("button", name="Log in").click()


def row(page: Page, node: str) -> Any:
    """A node's row."""
    return (
        page.get_by_role("table", name="Nodes")
        .get_by_role("row")
        .filter(has=page.get_by_role("rowheader").filter(has_text=node))
    )


@contextmanager
def traffic(endpoint: Endpoint, *statements: str, application_name: str = "load") -> Iterator[None]:
    """A client that runs these statements in turn, until the block ends."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def go_on() -> None:
        try:
            with psycopg.connect(
                host=endpoint.host,
                port=endpoint.port,
                user=endpoint.user,
                password=endpoint.password,
                dbname=endpoint.database,
                application_name=application_name,
                autocommit=True,
                prepare_threshold=None,
            ) as client:
                while not stop.is_set():
                    for statement in statements:
                        client.execute(statement.encode())
                    stop.wait(0.005)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert failures == []
