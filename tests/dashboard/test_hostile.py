"""What clients, nodes and rules are called, and what they say, is text: none of it runs, or loads anything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, expect

from middleware.sandbox import Sandbox
from tests.dashboard.conftest import Open, log_in, shown, traffic

pytestmark = pytest.mark.integration

IMAGE: Final = "<img src=x onerror=document.title='RAN'>"
SCRIPT: Final = "<script>document.title='RAN'</script>"
BREAKS_OUT: Final = "\"'></td><svg onload=document.title='RAN'>"
ROUTE: Final = "<iframe srcdoc=\"<script>parent.document.title='RAN'</script>\">"


@pytest.fixture
def strange_database(cluster: Sandbox) -> Iterator[str]:
    cluster.query(f'CREATE DATABASE "{IMAGE}" OWNER app')
    cluster.wait_for_replay()
    yield IMAGE
    cluster.query(f'DROP DATABASE "{IMAGE}" WITH (FORCE)')


def test_names_and_statements_are_inert(
    cluster: Sandbox, strange_database: str, tmp_path: Path, open_page: Open
) -> None:
    route = {"name": ROUTE, "application_name": ".*svg.*", "query_cache": "on", "pool_size": 3}
    with shown(cluster, tmp_path, routes=[route]) as (endpoint, url):
        page = open_page(url)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        log_in(page)
        hostile = endpoint._replace(database=strange_database)
        statements = (
            f'SELECT 1 AS "{IMAGE}"',
            f'SELECT 2 AS "{SCRIPT}"',
            f'CREATE TEMPORARY TABLE IF NOT EXISTS "{SCRIPT}" (a int)',
        )
        with (
            traffic(hostile, *statements, application_name=BREAKS_OUT),
            traffic(endpoint, *statements, application_name=IMAGE),
        ):
            expect(page.get_by_role("table", name="Pools")).to_contain_text(IMAGE)
            expect(page.get_by_role("table", name="Pools")).to_contain_text(ROUTE)
            digests = page.get_by_role("table", name="Statements that took longest")
            expect(digests).to_contain_text(IMAGE)
            expect(digests).to_contain_text(SCRIPT)
            states = page.get_by_role("table", name="Session state left behind")
            expect(states).to_contain_text(BREAKS_OUT)
            expect(states).to_contain_text(IMAGE)
            expect(page.get_by_role("table", name="Query cache by rule")).to_contain_text(ROUTE)
            # An event, with a rule's name in it.
            page.get_by_role("button", name="On", exact=True).click()
            page.get_by_role("dialog").get_by_role("button", name="Turn on").click()
            expect(page.locator("#events li").first).to_contain_text("query cache")
        assert (
            page.evaluate("document.querySelectorAll('main img, main iframe, main script, main svg [onload]').length")
            == 0
        )
        expect(page).to_have_title("Pointsman")
        # None of it was asked for: only what the page itself asks for.
        assert {one.removeprefix(url) for one in asked} <= {"dashboard/login", "dashboard/command"}


def test_an_error_with_a_name_in_it_is_inert(cluster: Sandbox, tmp_path: Path, open_page: Open) -> None:
    """A command's answer, with what a request has called a node."""
    with shown(cluster, tmp_path) as (_, url):
        page = open_page(url)
        log_in(page)
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
        page.evaluate(
            """async (name) => {
                const { Session } = await import("./session.js");
                const session = new Session(() => {});
                await session.ask();
                await session.act("attach", name, null);
            }""",
            IMAGE,
        )
        expect(page.get_by_role("alert")).to_contain_text(f'node "{IMAGE}" does not exist')
        expect(page).to_have_title("Pointsman")


def test_markup_from_a_string_is_refused_by_the_browser_itself(
    cluster: Sandbox, tmp_path: Path, browser: Browser
) -> None:
    """Were there a mistake in a script of ours, this is what stands behind it."""
    with shown(cluster, tmp_path) as (_, url), browser.new_context() as context:
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda line: said.append(line.text))
        page.goto(url)
        error = page.evaluate(
            "() => { try { document.body.innerHTML = '<b>x</b>'; return ''; } catch (error) { return error.name; } }"
        )
        assert error == "TypeError"
        assert [line for line in said if "TrustedHTML" in line]
        expect(page.get_by_role("heading", name="Nodes")).to_be_visible()
