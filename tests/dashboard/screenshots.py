"""`python -m tests.dashboard.screenshots`: the pictures of docs/dashboard.md, of a real cluster under a real load.

A primary and two standbys, Pointsman with two workers, some clients; then one standby is killed, and the primary handed
over by the button. Takes two minutes.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, expect, sync_playwright

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint
from tests.dashboard.conftest import WAIT_MS, log_in, row, shown, traffic
from tests.dashboard.png import shrink

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
LOAD_MS: Final = 75_000
"""Of traffic, so that there is something in the charts."""

SHOP: Final = (
    "SELECT * FROM item WHERE id = 17",
    "SELECT count(*) FROM item WHERE price < 30",
    "SELECT name FROM item ORDER BY price DESC LIMIT 10",
    "INSERT INTO sale (item) VALUES (17)",
    "SELECT * FROM item WHERE id = 18",
)
REPORT: Final = (
    "SELECT item, count(*) FROM sale GROUP BY item ORDER BY 2 DESC LIMIT 5",
    "SELECT avg(price) FROM item",
    "SELECT set_config('work_mem', '8MB', false)",
)
BILLING: Final = ("SELECT price FROM item WHERE id = 3 FOR UPDATE", "SET statement_timeout = '20s'")


def main() -> int:
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        Sandbox(standbys=2) as cluster,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"]) as browser,
    ):
        expect.set_options(timeout=WAIT_MS)
        cluster.query(
            "CREATE TABLE item (id int PRIMARY KEY, name text, price int); CREATE TABLE sale (item int);"
            "INSERT INTO item SELECT n, 'item ' || n, n % 100 FROM generate_series(1, 5000) n",
            user="app",
        )
        rules = [
            {"name": "shop", "application_name": "shop", "query_cache": "on"},
            {"name": "report", "application_name": "report", "consistency": "eventual", "pool_size": 5},
        ]
        settings = {"failover": "promote", "failover_user": "postgres", "routes": rules}
        with shown(cluster, Path(scratch), **settings) as (endpoint, url), _load(endpoint):
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            page.goto(url)
            log_in(page)
            page.wait_for_timeout(LOAD_MS)
            _take(page, "dashboard-light", 2100)
            cluster.node("db3").kill()
            expect(row(page, "db3")).to_contain_text("down")
            page.get_by_role("button", name="Make primary db2").click()
            page.wait_for_timeout(500)
            _take(page, "dashboard-switchover", 640)
            page.get_by_role("dialog").get_by_role("button", name="Make db2 the primary").click()
            expect(page.locator("#messages")).to_contain_text("is done")
            page.get_by_role("button", name="Close this message").click()
            page.wait_for_timeout(6000)
            page.emulate_media(color_scheme="dark")
            page.wait_for_timeout(1500)
            _take(page, "dashboard-dark", 1150)
            phone = browser.new_page(viewport={"width": 360, "height": 760}, device_scale_factor=1.5)
            phone.goto(url)
            expect(row(phone, "db2")).to_contain_text("primary")
            phone.wait_for_timeout(3000)
            _take(phone, "dashboard-phone", 1300)
    return 0


@contextlib.contextmanager
def _load(endpoint: Endpoint) -> Iterator[None]:
    with contextlib.ExitStack() as clients:
        for name, statements in (("shop", SHOP), ("shop", SHOP), ("report", REPORT), ("billing", BILLING)):
            clients.enter_context(traffic(endpoint, *statements, application_name=name))
        yield


def _take(page: Page, name: str, height: int) -> None:
    expect(page.locator("body")).to_have_attribute("data-link", "live")
    width = page.viewport_size["width"] if page.viewport_size else 0
    picture = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})
    small = shrink(picture)
    (IMAGES / f"{name}.png").write_bytes(small)
    print(f"{name}.png: {len(picture)} bytes, now {len(small)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
