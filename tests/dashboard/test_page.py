"""What the page shows of a real cluster, in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from middleware.sandbox import Sandbox
from middleware.sandbox.ports import free_port
from tests.conftest import Endpoint
from tests.dashboard.conftest import Open, log_in, row, shown, traffic

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def served(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoint, str]]:
    with shown(cluster, tmp_path_factory.mktemp("dashboard")) as both:
        yield both


def test_nodes_appear_with_their_roles_and_traffic(served: tuple[Endpoint, str], open_page: Open) -> None:
    endpoint, url = served
    page = open_page(url)
    expect(page.get_by_role("table", name="Nodes").get_by_role("rowheader")).to_have_count(3)
    for name, role in (("db1", "primary"), ("db2", "standby"), ("db3", "standby")):
        expect(row(page, name)).to_contain_text(role)
        expect(row(page, name)).to_contain_text("up")
    expect(page.locator("#summary")).to_have_text("All is well")
    expect(page.get_by_role("img", name=re.compile("db1, primary, up; db2, standby, up"))).to_be_visible()
    with traffic(
        endpoint, "SELECT 1", "SELECT count(*) FROM pg_class", "CREATE TEMPORARY TABLE IF NOT EXISTS t (a int)"
    ):
        reads = page.locator("#tiles > div", has=page.get_by_text("Reads", exact=True)).locator(".value")
        expect(reads).not_to_have_text("0")
        # Pools come with the workers' answers, and who uses session state with their reports.
        expect(page.get_by_role("table", name="Pools").get_by_role("rowheader").first).to_have_text("app")
        expect(page.get_by_role("table", name="Session state left behind")).to_contain_text("load")
        longest = page.get_by_role("table", name="Statements that took longest")
        expect(longest).to_contain_text("SELECT count(*) FROM pg_class")
    expect(page.locator("#events li")).to_contain_text(["it is a standby", "it is a standby", "it is a primary"])


def test_a_page_that_is_opened_later_shows_what_was(served: tuple[Endpoint, str], open_page: Open) -> None:
    """Its lines have the seconds before it was opened: a new page has one more each second, this one all at once."""
    line = "figure:has-text('Statements per second') path.line.s0"
    several = re.compile("(L.*){4}")
    expect(open_page(served[1]).locator(line)).to_have_attribute("d", several)
    later = open_page(served[1])
    assert several.search(later.locator(line).get_attribute("d") or "")


def test_without_a_login_it_only_shows(served: tuple[Endpoint, str], open_page: Open) -> None:
    page = open_page(served[1])
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    for name in ("Drain db2", "Detach db2", "Make primary db2", "Off", "Clear", "Pause", "Reload the settings"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)


def test_without_a_password_it_says_how_to_have_buttons(cluster: Sandbox, tmp_path: Path, open_page: Open) -> None:
    with shown(cluster, tmp_path, dashboard_password="") as (_, url):
        page = open_page(url)
        expect(page.get_by_role("button", name="Log in")).to_have_count(0)
        page.get_by_role("button", name="Read-only").click()
        expect(page.locator("#read-only-why")).to_be_visible()


def test_who_may_not_look_is_asked_to_log_in(cluster: Sandbox, tmp_path: Path, open_page: Open) -> None:
    with shown(cluster, tmp_path, dashboard="login") as (_, url):
        page = open_page(url, live=False)
        expect(page.get_by_role("heading", name="Log in to look")).to_be_visible()
        expect(page.locator("#shown")).to_be_hidden()
        assert "db1" not in page.content()
        log_in(page)
        expect(row(page, "db1")).to_contain_text("primary")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Log in to look")).to_be_visible()
        expect(page.locator("#shown")).to_be_hidden()


def test_a_replica_that_is_killed_turns_down(sandbox: Sandbox, tmp_path: Path, open_page: Open) -> None:
    with shown(sandbox, tmp_path, workers=1) as (_, url):
        page = open_page(url)
        expect(row(page, "db2")).to_contain_text("up")
        sandbox.node("db2").kill()
        expect(row(page, "db2")).to_contain_text("down")
        expect(row(page, "db2")).to_contain_text("connection refused")
        expect(page.locator("#alarms")).to_contain_text("Node db2 is not used (down): connection refused.")
        expect(page.locator("#summary")).to_have_text("1 thing is wrong")
        # Who cannot see it hears it.
        expect(page.get_by_role("status").filter(has_text="Node db2 is not used")).to_have_count(1)
        expect(page).to_have_title("(1) Pointsman")
        expect(page.locator("#events li").first).to_contain_text("not used: connection refused")
        sandbox.node("db2").start()
        expect(row(page, "db2")).to_contain_text("up")
        expect(page.locator("#summary")).to_have_text("All is well")
        expect(page.locator("#announcement")).to_have_text("All is well again.")


def test_a_page_comes_back_when_pointsman_does(cluster: Sandbox, tmp_path: Path, open_page: Open) -> None:
    port = free_port()
    with shown(cluster, tmp_path, http_port=port, workers=1) as (_, url):
        page = open_page(url)
        log_in(page)
        expect(page.get_by_role("button", name="Log out")).to_be_visible()
    link = page.locator("#link-text")
    expect(link).to_contain_text("disconnected since")
    expect(page.locator("#announcement")).to_have_text("Disconnected: what is shown is old.")
    # What was known last can still be read.
    expect(row(page, "db1")).to_contain_text("primary")
    page.get_by_role("button", name="Try now").click()
    expect(link).to_contain_text("disconnected since")
    with shown(cluster, tmp_path, http_port=port, workers=1):
        # By itself: it tries again, at most a quarter of a minute apart.
        expect(link).to_have_text("live", timeout=60_000)
        # Its sessions went with it, and so did what had happened.
        expect(page.get_by_role("button", name="Log in")).to_be_visible()
        expect(page.locator("#events li").filter(has_text="it is a primary")).to_have_count(1)
