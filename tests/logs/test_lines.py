"""A line is one line, whatever is in it."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from healthcheck.topology import Role
from middleware.logs.lines import CUT, LINE_BYTES_MAX, as_json, as_text, cut, escaped, plain, traceback_of, word

HOSTILE = 'a\nb\r\x1b[31mred\x9b0m\u2028\u202egnp.exe\x00\t"=\\'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("app", "app"),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "x"', '"say \\"x\\""'),
        ("a=b", '"a=b"'),
        ("back\\slash", '"back\\\\slash"'),
        ("Zoë", '"Zoë"'),
        (1.5e-7, "1.5e-07"),
        ("a\nb", '"a\\nb"'),
        ("\x1b[31m", '"\\x1b[31m"'),
        ("\u202e", '"\\u202e"'),
        ("\U000e0001", '"\\U000e0001"'),
        ("\udc80", '"\\udc80"'),
        (5, "5"),
        (0.25, "0.25"),
        (True, "true"),
        (["a b", 1], '"[\\"a b\\", 1]"'),
    ],
)
def test_a_value_in_text(value: object, shown: str) -> None:
    assert word(value) == shown


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (b"app", "app"),
        (b"\xff", "\ufffd"),
        (Role.PRIMARY, "primary"),
        (Path("/run/x"), "/run/x"),
        (SecretStr("hunter2"), "**********"),
        ((1, b"x"), [1, "x"]),
        ({b"k": 2}, {"k": 2}),
        (ValueError("why"), "why"),
    ],
)
def test_a_value_is_made_plain(value: object, made: object) -> None:
    assert plain(value) == made


def test_text_has_time_level_subject_event_fields() -> None:
    line = as_text(0.5, "info", "client", "login refused", {"user": "a b", "sqlstate": "28P01"}, colours=False)
    assert line == '1970-01-01T00:00:00.500000Z [info     ] client: login refused user="a b" sqlstate=28P01'
    assert as_text(None, "error", "pool", "x", {}, colours=False) == "[error    ] pool: x"
    assert as_text(None, "error", "pool", "x", {}, colours=True) == "\x1b[31m[error    ]\x1b[0m pool: \x1b[1mx\x1b[0m"


def test_json_has_the_same() -> None:
    line = as_json(0.5, "info", "client", "login_refused", "login refused", {"user": "ö", "n": 1})
    assert line.isascii()
    assert json.loads(line) == {
        "timestamp": "1970-01-01T00:00:00.500000Z",
        "level": "info",
        "subject": "client",
        "id": "login_refused",
        "event": "login refused",
        "user": "ö",
        "n": 1,
    }


@given(st.text(max_size=6000), st.text(max_size=30))
def test_no_text_breaks_a_line_or_makes_it_too_long(text: str, short: str) -> None:
    values = {"user": plain(text), "database": plain(short)}
    told = as_text(0.0, "info", "client", "login refused", values, colours=False)
    assert told.isprintable()
    assert len(told.encode()) < LINE_BYTES_MAX
    line = as_json(0.0, "info", "client", "login_refused", "login refused", values)
    assert line.isprintable()
    assert line.isascii()
    assert len(line) < LINE_BYTES_MAX
    got = json.loads(line)
    assert got["database"] == short
    assert got["user"] == text or CUT in got["user"]


def test_a_traceback_stays_within_its_event() -> None:
    try:
        raise ValueError(f"{HOSTILE}\n2026-01-01T00:00:00Z [info     ] service: forged")
    except ValueError:
        info = sys.exc_info()
    assert info[0] is not None
    trace = traceback_of(info)
    first, *rest = as_text(0.0, "error", "client", "a bug", {"exception": trace}, colours=False).split("\n")
    assert first.endswith("client: a bug")
    assert rest
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    assert len(as_json(0.0, "error", "client", "b", "a bug", {"exception": trace}).splitlines()) == 1


def test_a_traceback_shows_no_variables() -> None:
    password = "hunter2"  # noqa: F841
    try:
        raise KeyError("x")
    except KeyError:
        trace = traceback_of(sys.exc_info())  # type: ignore[arg-type]
    assert "KeyError" in trace
    assert "hunter2" not in trace


@given(st.text(max_size=100), st.integers(0, 100))
def test_what_is_cut_is_short_enough(text: str, chars_max: int) -> None:
    made = cut(text, chars_max)
    assert made == text if len(text) <= chars_max else len(made) <= max(chars_max, len(CUT))


def test_what_is_printable_stays() -> None:
    assert escaped("Zoë 🐘") == "Zoë 🐘"
    assert escaped(HOSTILE).isprintable()
