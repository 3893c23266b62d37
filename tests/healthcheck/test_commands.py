"""The operator's commands: what stands for what, and how they may end; and connection strings."""

import gc
from pathlib import Path

import anyio
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcheck.commands import OUTPUT_MAX, CommandFailed, Place, placeholders, run, words
from healthcheck.conninfo import literal, parse, pointed_at, write

VALUES = placeholders(
    Place("db3", 2, "h3", 5433, "/d 3"), Place("db2", 1, "h2", 5434, "/d2"), Place("db1", 0, "h1", 5435, "/d1")
)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", []),
        ("a b", ["a", "b"]),
        ("f %d %n %h %p", ["f", "2", "db3", "h3", "5433"]),
        ("%m%o %H:%r", ["1db2", "h2:5434"]),
        ("%M %P %N %S", ["0", "0", "h1", "5435"]),
        # One word each, whatever is in them.
        ("-D %D -R %R", ["-D", "/d 3", "-R", "/d2"]),
        ("sh -c 'echo %h; exit 1'", ["sh", "-c", "echo h3; exit 1"]),
        ("100%% %%h %%%h", ["100%", "%h", "%h3"]),
    ],
)
def test_words(command: str, expected: list[str]) -> None:
    assert words(command, VALUES) == expected


def test_without_a_new_primary() -> None:
    assert words("%m %o %H", placeholders(Place("a", 0, "h", 1), None, Place("a", 0, "h", 1))) == ["-1", "", ""]


@pytest.mark.parametrize("command", ["%x", "a %", "a 'b", "%%%", "%d%"])
def test_mistakes(command: str) -> None:
    with pytest.raises(ValueError, match=r"placeholder|quotation"):
        words(command, VALUES)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("sh -c 'echo %n; echo %o >&2'", "db3\ndb2"),
        ("true", ""),
    ],
)
def test_what_it_says_is_told(command: str, told: str) -> None:
    assert anyio.run(run, command, VALUES, 10.0) == told


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("sh -c 'echo no; exit 3'", "ended with status 3: no"),
        ("false", "ended with status 1"),
        ("/nowhere/at-all", "could not be started: No such file or directory"),
        ("sleep 60", "did not end within 0.2 s"),
        ("%x", 'there is no placeholder "%x"'),
    ],
)
def test_how_it_fails(command: str, why: str) -> None:
    with pytest.raises(CommandFailed) as failed:
        anyio.run(run, command, VALUES, 0.2 if command.startswith("sleep") else 10.0)
    assert str(failed.value) == why


@pytest.mark.parametrize("timeout_s", [0.0, 0.0005, 0.001, 0.002, 0.004])
def test_it_is_not_left_behind_where_its_time_is_up_as_it_starts(timeout_s: float, tmp_path: Path) -> None:
    mine = tmp_path / "mine"

    async def try_it() -> None:
        with pytest.raises(CommandFailed, match="did not end"):
            await run(f"sh -c 'sleep 60; : {mine}'", VALUES, timeout_s)
        # With the loop still running, nothing of it is left.
        assert [one.pid for one in psutil.process_iter() if str(mine) in " ".join(one.cmdline())] == []

    anyio.run(try_it)
    # What was not closed says so now, and pytest fails for that.
    gc.collect()


def test_only_the_end_of_much_output_is_told() -> None:
    assert len(anyio.run(run, "sh -c 'yes | head -c 100000'", VALUES, 10.0)) == OUTPUT_MAX


@pytest.mark.parametrize(
    ("conninfo", "expected"),
    [
        ("", {}),
        ("host=a port=5432", {"host": "a", "port": "5432"}),
        (" user = 'x y'  password='it\\'s \\\\' ", {"user": "x y", "password": "it's \\"}),
        ("a='' b=c", {"a": "", "b": "c"}),
        (r"a=b\ c", {"a": "b c"}),
    ],
)
def test_connection_strings(conninfo: str, expected: dict[str, str]) -> None:
    assert parse(conninfo) == expected


@pytest.mark.parametrize("conninfo", ["host", "host=a port", "='a'", "host='a"])
def test_what_is_none(conninfo: str) -> None:
    with pytest.raises(ValueError, match="keywords and values"):
        parse(conninfo)


def test_pointing_elsewhere_keeps_the_rest() -> None:
    before = "user=rep passfile='/my dir/pass' hostaddr=10.0.0.1 host=old port=1 application_name=db3"
    assert parse(pointed_at(before, "/run/pg", 5433)) == {
        "user": "rep",
        "passfile": "/my dir/pass",
        "host": "/run/pg",
        "port": "5433",
        "application_name": "db3",
    }


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(max_size=20)))
def test_written_ones_are_read_as_they_were(values: dict[str, str]) -> None:
    assert parse(write(values)) == values


@pytest.mark.parametrize(("value", "expected"), [("a", "'a'"), ("it's", "'it''s'"), ("a\\b'", " E'a\\\\b'''")])
def test_literals(value: str, expected: str) -> None:
    assert literal(value) == expected
