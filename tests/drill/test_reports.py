"""The reports: all that others have said is escaped, nothing is loaded, and what counts is there."""

import io
import json
from html.parser import HTMLParser

import pytest
from rich.console import Console

from middleware.drill import report_text
from middleware.drill.books import Outcome
from middleware.drill.checks import Findings
from middleware.drill.report_chart import chart
from middleware.drill.report_html import page
from middleware.drill.result import Result
from middleware.drill.scenarios import DRILLS
from middleware.drill.series import exit_status
from tests.drill.made import attempt, result, suspect

EVIL = "<script>alert('1')</script>\"' onload=\"x\" &amp; [bold]"
PLANTED = Findings(
    acknowledged=2,
    lost=(attempt(3),),
    phantoms=(attempt(4, Outcome.FAILED, sqlstate="57P03", message=EVIL),),
    stale=(suspect(5),),
    strangers=((9, 9),),
)


class Page(HTMLParser):
    """What a browser would make of it: which elements, which attributes, and whether they are closed."""

    VOID = ("meta", "br", "line", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("results", [[result(text=EVIL, findings=PLANTED)], [result(text=EVIL), result(text=EVIL)]])
def test_the_page_is_whole_and_says_only_what_is_ours(results: list[Result]) -> None:
    text = page(results)
    seen = Page(text)
    assert seen.open == []
    assert "script" not in seen.elements
    assert not {name for name in seen.attributes if name.startswith("on")}
    assert not seen.attributes & {"src", "data"}
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "url(" not in text
    # And a person reads it as it was said.
    assert EVIL in seen.text


def test_the_page_has_figures_marks_and_findings() -> None:
    seen = Page(page([result(findings=PLANTED)])).text
    for words in ("FAIL", "write outage", "1.50 s", "at most 3 s, write_outage_max", "promoted +1.40 s", "number 3"):
        assert words in seen
    assert "prefers-color-scheme: dark" in page([result()])


def test_a_drill_that_was_not_played_is_shown_too() -> None:
    unplayed = Result("switchover", "about", "", 1, 0.0, 1.0, EVIL)
    seen = Page(page([unplayed]))
    assert "NOT PLAYED" in seen.text
    assert EVIL in seen.text
    assert chart(unplayed) == ""


def shown(*results: Result, width: int = 80) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False)
    for one in results:
        report_text.show(console, one)
    report_text.summary(console, results)
    return out.getvalue()


def test_the_terminal_has_one_line_for_each_target_however_narrow() -> None:
    lines = shown(result(text=EVIL, findings=PLANTED), width=40).splitlines()
    verdicts = [line for line in lines if line.startswith(("      pass", "      FAIL"))]
    assert len(verdicts) == len(result().verdicts)
    assert any(line.split()[:3] == ["FAIL", "lost", "commits"] for line in verdicts)
    assert any(EVIL in line for line in lines)
    assert any(line.startswith("primary-crash") and "FAIL" in line and "1.50 s" in line for line in lines)


def test_the_json_has_all_that_is_known() -> None:
    document = json.loads(report_text.as_json([result(findings=PLANTED), result(name="switchover")]))
    assert document["passed"] is False
    first = document["results"][0]
    assert first["findings"]["lost"][0]["number"] == 3
    assert first["figures"]["write_outage"] == {"begin": 3.0, "end": 4.5, "over": True}
    assert first["marks"]["broken"] == 3.0
    assert len(first["buckets"]) == 100
    assert {verdict["what"] for verdict in first["verdicts"] if not verdict["passed"]} == {
        "lost commits",
        "reported failed, but there",
        "rows that nobody wrote",
        "stale reads",
    }


def test_exit_status() -> None:
    passed, failed = result(), result(findings=PLANTED)
    unplayed = Result("switchover", "about", "", 1, 0.0, 1.0, "why")
    assert exit_status([passed]) == 0
    assert exit_status([passed, failed]) == 1
    assert exit_status([failed, unplayed]) == 2


def test_every_drill_says_what_it_does_and_only_what_touches_no_node_is_harmless() -> None:
    assert all(drill.about for drill in DRILLS)
    assert [drill.name for drill in DRILLS if drill.harmless] == ["worker-crash"]
