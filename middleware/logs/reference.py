"""The tables of docs/logs.md: all events by subject, and all fields. What `pointsman log-events` prints."""

from collections.abc import Iterator

from middleware.logs.events import EVENTS, FIELDS, SUBJECTS, Event

HEADING = "## Events"
"""Where the page begins that is made of the table; what is above was written by hand."""


def reference() -> str:
    """From HEADING on, as Markdown."""
    return "\n".join([*_events(), *_fields()])


def _events() -> Iterator[str]:
    yield f"{HEADING}\n"
    yield "Made by `pointsman log-events` from the table in the code. Any event may have `exception`.\n"
    for subject, about in SUBJECTS.items():
        yield f"### `{subject}`\n"
        yield f"{about}\n"
        yield "| id | Level | Event | Fields |"
        yield "|---|---|---|---|"
        yield from (_row(event) for event in EVENTS if event.subject == subject)
        yield ""


def _row(event: Event) -> str:
    text = f"{event.text}<br>{event.about}" if event.about else event.text
    fields = ", ".join(f"`{name}`" for name in event.fields)
    return f"| `{event.name}` | {', '.join(event.levels)} | {_cell(text)} | {fields} |"


def _fields() -> Iterator[str]:
    yield "## Fields\n"
    yield "| Field | |"
    yield "|---|---|"
    yield from (f"| `{name}` | {_cell(about)} |" for name, about in sorted(FIELDS.items()))
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
