"""What the code logs is what the table declares, and the page shows the table."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from middleware.cli import app
from middleware.config.tables import LogLevels
from middleware.logs.events import BY_TEXT, EVENTS, FIELDS, LIBRARY, LINES_LEFT_OUT, LINES_LOST, SUBJECTS
from middleware.logs.lines import EXCEPTION
from middleware.logs.reference import HEADING
from tests.logs.calls import Call, calls, of_source

CALLS = list(calls())
ITS_OWN = {event.text for event in (LIBRARY, LINES_LEFT_OUT, LINES_LOST)}
OF_A_LINE = {"timestamp", "level", "subject", "id", "event", EXCEPTION}


def wrong(call: Call) -> str:
    """What is wrong with a call, or nothing."""
    if call.level is None:
        return "a logger is called by its methods, and is not passed on"
    event = BY_TEXT.get(call.event or "")
    if event is None:
        return f"not in the table of events, or no constant: {call.event}"
    if call.subject != event.subject:
        return f"the logger's subject is {call.subject}, and the event's {event.subject}"
    if call.level not in event.levels:
        return f"{call.level} is none of its levels {event.levels}"
    unknown = [str(name) for name in call.fields if name not in (*event.fields, "exc_info")]
    return f"undeclared fields {unknown}" if unknown else ""


@pytest.mark.parametrize("call", CALLS, ids=[call.place for call in CALLS])
def test_what_is_logged_is_declared(call: Call) -> None:
    assert not wrong(call)


def test_what_is_declared_is_logged() -> None:
    logged = {call.event for call in CALLS}
    assert {event.text for event in EVENTS} - ITS_OWN == logged
    for event in EVENTS:
        of_it = [call for call in CALLS if call.event == event.text]
        if of_it:
            assert set(event.fields) == {name for call in of_it for name in call.fields} - {"exc_info"}, event.name
            assert set(event.levels) == {call.level for call in of_it}, event.name


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('log.info("ready", workers=2)', ""),
        ("log.info(READY, workers=2)", ""),
        ('log.info(f"ready {1}", workers=2)', "no constant"),
        ('log.info("quite ready", workers=2)', "not in the table"),
        ('log.warning("ready", workers=2)', "none of its levels"),
        ('log.info("ready", database="x")', "undeclared fields ['database']"),
        ('log.info("ready", **more)', "undeclared fields ['None']"),
        ('log.info("ready %s", "x")', "no constant"),
        ("say = log.info", "not passed on"),
        ('log.warn("ready")', "not passed on"),
        ('log.info("no primary")', "none of its levels"),
        ('other.info("ready")', "subject is pool"),
        ('nameless.info("ready")', "subject is None"),
    ],
)
def test_a_mistake_is_seen(line: str, said: str) -> None:
    head = (
        'READY: Final = "ready"\nlog: Final = structlog.get_logger("service")\n'
        'other = structlog.get_logger("pool")\nnameless = structlog.get_logger()\n'
    )
    source = head + line
    if "no primary" in line:
        source = source.replace('"service"', '"node"')
    (call,) = of_source(source, "made.py")
    assert said in wrong(call) if said else not wrong(call)


def test_a_call_that_chooses_between_events_is_one_of_each() -> None:
    source = 'log = structlog.get_logger("service")\nlog.info("ready" if late else "no such event", workers=2)\n'
    good, bad = of_source(source, "made.py")
    assert not wrong(good)
    assert "not in the table" in wrong(bad)


def test_the_table_is_sound() -> None:
    assert len({event.name for event in EVENTS}) == len(BY_TEXT) == len(EVENTS)
    assert {event.subject for event in EVENTS} <= SUBJECTS.keys()
    assert LogLevels.model_fields.keys() == SUBJECTS.keys()
    used = {name for event in EVENTS for name in event.fields}
    assert FIELDS.keys() - used <= {EXCEPTION}
    assert used <= FIELDS.keys()
    assert not used & OF_A_LINE
    for event in EVENTS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", event.name)
        assert event.text.isprintable()
        assert len(set(event.fields)) == len(event.fields)


def test_the_page_has_the_table() -> None:
    printed = CliRunner().invoke(app, ["log-events"]).stdout
    assert printed.startswith(HEADING)
    page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()
    head, heading, rest = page.partition(f"\n{HEADING}\n")
    assert f"{heading}{rest}" == f"\n{printed}", "make it anew: docs/logs.md says how, above this heading"
    assert head.startswith("# Logs")
