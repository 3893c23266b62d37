"""How the page looks, as far as a program can tell: widths, contrast, names of what can be pressed, what jumps."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint
from tests.dashboard.conftest import Open, log_in, row, shown, traffic

pytestmark = pytest.mark.integration

LONG: Final = "an_application_with_a_name_that_is_much_longer_than_it_ought_to_be_in_the_interest_of_all"

CONTRASTS: Final = """
() => {
  const channels = (colour) => {
    const found = colour.match(/[\\d.]+/g).map(Number);
    return { rgb: found.slice(0, 3), alpha: found[3] ?? 1 };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((one) => {
      const share = one / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const back = channels(getComputedStyle(one).backgroundColor);
      if (back.alpha === 1) return back.rgb;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.closest(".unseen, .skip, svg, noscript")) continue;
    seen += 1;
    const [one, other] = [channels(getComputedStyle(element).color).rgb, behind(element)].map(luminance);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) poor.push(`${contrast.toFixed(2)} ${element.tagName} ${text.slice(0, 30)}`);
  }
  return { seen, poor };
}
"""

NAMELESS: Final = """
() => [...document.querySelectorAll("button, a, input, table, section, dialog, [role=img]")]
  .filter((one) => one.checkVisibility() && !one.getAttribute("aria-label") && !one.getAttribute("aria-labelledby"))
  .filter((one) => !one.textContent.trim() && !(one.labels && one.labels.length))
  .map((one) => one.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module")
def served(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoint, str]]:
    with shown(cluster, tmp_path_factory.mktemp("looks")) as both:
        yield both


@pytest.fixture
def busy(served: tuple[Endpoint, str]) -> Iterator[str]:
    """All tables have rows, some of them with long words."""
    statements = (
        "SELECT count(*) FROM pg_class WHERE relname <> 'a'",
        f'SELECT 1 AS "{LONG[:60]}"',
        "CREATE TEMPORARY TABLE IF NOT EXISTS mine (a int)",
    )
    with traffic(served[0], *statements, application_name=LONG):
        yield served[1]


def filled(page: Page) -> Page:
    log_in(page)
    for table in ("Nodes", "Pools", "Statements that took longest", "Session state left behind"):
        expect(page.get_by_role("table", name=table).get_by_role("rowheader").first).to_be_visible()
    expect(page.locator("figure").first.locator("path.line").first).to_be_attached()
    return page


@pytest.mark.parametrize("width", [320, 360, 640, 1000, 1001, 1360, 2000])
def test_it_fits_and_nothing_is_cut_off(busy: str, open_page: Open, width: int) -> None:
    page = filled(open_page(busy, viewport={"width": width, "height": 800}))
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    outside = page.evaluate(
        """() => [...document.querySelectorAll("main *")]
          .filter((one) => one.checkVisibility() && !one.closest("svg"))
          .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
          .map((one) => one.outerHTML.slice(0, 100))"""
    )
    assert outside == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1360])
def test_text_can_be_read(busy: str, open_page: Open, scheme: Any, width: int) -> None:
    """WCAG 2, 1.4.3: 4.5 to 1."""
    page = filled(open_page(busy, color_scheme=scheme, viewport={"width": width, "height": 800}))
    page.get_by_role("button", name="Clear", exact=True).click()
    found = page.evaluate(CONTRASTS)
    assert found["seen"] > 100
    assert found["poor"] == []
    page.get_by_role("dialog").get_by_role("button", name="Clear").click()
    expect(page.locator(".message")).to_be_visible()
    assert page.evaluate(CONTRASTS)["poor"] == []


def test_light_and_dark_are_not_the_same(busy: str, open_page: Open) -> None:
    backs = {
        scheme: open_page(busy, color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    }
    assert backs["light"] != backs["dark"]


def test_what_can_be_pressed_has_a_name_and_is_reached_by_keys(busy: str, open_page: Open) -> None:
    page = filled(open_page(busy))
    assert page.evaluate(NAMELESS) == []
    page.keyboard.press("Tab")
    page.evaluate("document.body.focus(); document.activeElement.blur()")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent.trim()"))
    assert {"Skip to what there is to see", "Log out", "Drain db2", "Make primary db3", "Hint", "Pause"} <= reached


def test_on_a_phone_tables_are_still_tables(busy: str, open_page: Open) -> None:
    page = filled(open_page(busy, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True))
    nodes = page.get_by_role("table", name="Nodes")
    expect(nodes.get_by_role("rowheader")).to_have_count(3)
    expect(row(page, "db2").get_by_role("cell", name="standby")).to_be_visible()
    # A finger needs room.
    sizes = page.evaluate(
        """() => [...document.querySelectorAll(".actions button")].filter((one) => one.checkVisibility())
          .map((one) => one.getBoundingClientRect().height)"""
    )
    assert len(sizes) > 5
    assert min(sizes) >= 36


def test_nothing_jumps_while_figures_change(busy: str, open_page: Open) -> None:
    page = filled(open_page(busy, viewport={"width": 1360, "height": 900}))
    page.wait_for_timeout(1500)
    page.evaluate(
        """() => {
          window.jumps = [];
          new PerformanceObserver((list) => window.jumps.push(...list.getEntries().map((one) => one.value)))
            .observe({ type: "layout-shift" });
        }"""
    )
    page.wait_for_timeout(6000)
    # Cumulative Layout Shift: what counts as good is below 0.1, for all of a page's life.
    assert sum(page.evaluate("window.jumps")) < 0.02
