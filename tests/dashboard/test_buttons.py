"""What the page's buttons do to a real cluster."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Page, expect

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint
from tests.dashboard.conftest import Open, log_in, row, shown, traffic

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def served(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoint, str]]:
    with shown(cluster, tmp_path_factory.mktemp("buttons")) as both:
        yield both


@pytest.fixture
def page(served: tuple[Endpoint, str], open_page: Open) -> Page:
    """Logged in."""
    opened = open_page(served[1])
    log_in(opened)
    expect(opened.get_by_role("button", name="Log out")).to_be_visible()
    return opened


def press(page: Page, name: str, confirm: str = "") -> None:
    """A button, and the one of the dialog that asks whether it is meant."""
    page.get_by_role("button", name=name, exact=True).click()
    if confirm:
        page.get_by_role("dialog").get_by_role("button", name=confirm, exact=True).click()


def test_a_wrong_password_is_said_and_the_right_one_has_buttons(served: tuple[Endpoint, str], open_page: Open) -> None:
    page = open_page(served[1])
    log_in(page, "battery staple")
    expect(page.get_by_role("alert")).to_have_text("password authentication failed")
    expect(page.get_by_label("Password")).to_have_value("")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_label("Password").press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Drain db2")).to_be_visible()
    # A session is the browser's, not the page's.
    page.reload()
    expect(page.get_by_role("button", name="Drain db2")).to_be_visible()
    press(page, "Log out")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    expect(page.get_by_role("button", name="Drain db2")).to_have_count(0)


def test_the_cache_is_turned_on_and_off(page: Page) -> None:
    cache = page.get_by_role("region", name="Query cache")
    expect(cache).to_have_attribute("data-state", "off")
    press(page, "On", "Turn on")
    expect(cache).to_have_attribute("data-state", "on")
    rules = page.get_by_role("table", name="Query cache by rule")
    expect(rules).to_contain_text("all that can be")
    expect(rules).to_contain_text("an operator")
    expect(page.get_by_role("status").filter(has_text="CACHE ON is done.")).to_be_visible()
    press(page, "Hint", "Cache what asks")
    expect(rules).to_contain_text("what asks for it")
    press(page, "Clear", "Clear")
    expect(page.locator("#events li").first).to_contain_text("the query cache was cleared by admin")
    press(page, "Off", "Turn off")
    expect(cache).to_have_attribute("data-state", "off")
    press(page, "As in the settings")
    expect(rules).to_contain_text("the settings")


def test_what_is_not_confirmed_is_not_done(page: Page) -> None:
    cleared = page.locator("#events li").filter(has_text="the query cache was cleared")
    before = cleared.count()
    page.get_by_role("button", name="Clear", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("No answer is given again that is kept now.")
    # The harmless one has the focus: Enter and Escape do nothing.
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Clear", exact=True).click()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Clear", exact=True).click()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    # Only that one.
    expect(cleared).to_have_count(before + 1)
    page.wait_for_timeout(1000)
    assert cleared.count() == before + 1


def test_a_standby_is_drained_and_attached(served: tuple[Endpoint, str], page: Page) -> None:
    with traffic(served[0], "SELECT 1"):
        page.get_by_role("button", name="Drain db2").click()
        expect(page.get_by_role("dialog")).to_contain_text("It stays out of use until it is attached again.")
        page.get_by_role("dialog").get_by_role("button", name="Drain db2").click()
        expect(row(page, "db2")).to_contain_text("detached")
        expect(page.locator("#messages")).to_contain_text("DRAIN NODE db2 is done.")
        expect(page.get_by_role("button", name="Drain db2")).to_have_count(0)
        press(page, "Attach db2")
        expect(row(page, "db2").locator(".badge")).to_contain_text("up")


def test_what_takes_long_is_seen_and_can_be_taken_back(served: tuple[Endpoint, str], page: Page) -> None:
    with psycopg.connect(served[0].conninfo()) as client:
        # Open, and idle.
        client.execute("CREATE TEMPORARY TABLE mine (a int)")
        press(page, "Drain db1", "Drain db1")
        under_way = page.get_by_role("list", name="Under way")
        expect(under_way).to_contain_text("DRAIN NODE db1: under way for")
        expect(row(page, "db1").locator(".badge")).to_contain_text("draining")
        expect(under_way).to_contain_text("transactions or statements under way")
        press(page, "Cancel DRAIN NODE db1")
        expect(row(page, "db1").locator(".badge")).to_contain_text("up")
        expect(page.get_by_role("alert").filter(has_text="DRAIN NODE db1 has failed.")).to_contain_text("57014")
        client.execute("INSERT INTO mine VALUES (1)")


def test_pause_and_resume(served: tuple[Endpoint, str], page: Page) -> None:
    press(page, "Pause", "Pause")
    expect(page.locator("#messages")).to_contain_text("PAUSE is done.")
    press(page, "Resume")
    expect(page.locator("#messages")).to_contain_text("RESUME is done.")
    with psycopg.connect(served[0].conninfo()) as client:
        client.execute("SELECT 1")
    press(page, "Resume")
    expect(page.get_by_role("alert").filter(has_text="RESUME has failed.")).to_contain_text("ERROR 55000")


def test_a_switchover_from_the_button(sandbox: Sandbox, tmp_path: Path, open_page: Open) -> None:
    with shown(sandbox, tmp_path, failover="promote", failover_user="postgres") as (endpoint, url):
        page = open_page(url)
        log_in(page)
        with traffic(
            endpoint,
            "SELECT 1",
            "CREATE TABLE IF NOT EXISTS visit (at timestamptz)",
            "INSERT INTO visit VALUES (now())",
        ):
            page.get_by_role("button", name="Make primary db2").click()
            dialog = page.get_by_role("dialog")
            expect(dialog).to_contain_text("db1 is stopped, and db2 takes its place.")
            dialog.get_by_role("button", name="Make db2 the primary").click()
            expect(row(page, "db2")).to_contain_text("primary")
            expect(page.locator("#messages")).to_contain_text("SWITCHOVER db2 is done.")
        expect(page.locator("#events li").filter(has_text=re.compile("new work was held"))).to_have_count(1)
        expect(page.get_by_role("button", name="Make primary db2")).to_have_count(0)
        assert sandbox.query("SELECT pg_is_in_recovery()", sandbox.node("db2")) == [["f"]]
        # Nobody noticed: `traffic` has had no error.
        assert not sandbox.node("db1").running


def test_a_switchover_that_is_refused_says_why(page: Page) -> None:
    press(page, "Make primary db2", "Make db2 the primary")
    refused = page.get_by_role("alert").filter(has_text="SWITCHOVER db2 has failed.")
    expect(refused).to_contain_text("ERROR 55000: ")
    expect(refused).to_contain_text("HINT: ")
    press(page, "Close this message")
    expect(refused).to_have_count(0)
