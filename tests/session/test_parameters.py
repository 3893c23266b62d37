"""A startup message's settings: read as PostgreSQL reads them, and put onto a server as SQL."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.session.parameters import (
    NAMES_MAX,
    NONE,
    Interned,
    StartupParameters,
    change_query,
    gucs_of,
    parse_options,
)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (b"", []),
        (b"  \t\n", []),
        (b"-c a=1", [(b"a", b"1")]),
        (b"-ca=1", [(b"a", b"1")]),
        (b"--a=1", [(b"a", b"1")]),
        (b"-c A-B=1", [(b"a_b", b"1")]),
        (b"--work-mem=4MB", [(b"work_mem", b"4MB")]),
        (b" -c  a=1\t-c b=2\n", [(b"a", b"1"), (b"b", b"2")]),
        (b"-c a=", [(b"a", b"")]),
        (b"-c a=b=c", [(b"a", b"b=c")]),
        (b"-c a=x\\ y", [(b"a", b"x y")]),
        (b"-c a=x\\\\y", [(b"a", b"x\\y")]),
        (b"-c a=\\", [(b"a", b"")]),
        (b"-c my.setting=1 --my.setting=2", [(b"my.setting", b"1"), (b"my.setting", b"2")]),
        ("-c a=ü".encode(), [(b"a", "ü".encode())]),
    ],
)
def test_options(options: bytes, found: list[tuple[bytes, bytes]]) -> None:
    assert parse_options(options) == found


@pytest.mark.parametrize("options", [b"a=1", b"-c", b"-c a", b"-ca", b"--a", b"--", b"-", b"-x", b"-d 5", b"\\"])
def test_options_we_cannot_take(options: bytes) -> None:
    with pytest.raises(ValueError):
        parse_options(options)


NAMES = st.text("abc.", min_size=1, max_size=5).map(str.encode)
VALUES = st.text(max_size=8).map(str.encode).map(lambda value: value.replace(b"\0", b""))


def escaped(value: bytes) -> bytes:
    return b"".join(b"\\" + bytes([byte]) if byte in b" \t\n\r\v\f\\" else bytes([byte]) for byte in value)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_options_round_trip(settings: list[tuple[bytes, bytes]]) -> None:
    options = b" ".join(b"-c " + name + b"=" + escaped(value) for name, value in settings)
    assert parse_options(options) == settings


@given(st.binary(max_size=60))
def test_arbitrary_options(options: bytes) -> None:
    try:
        found = parse_options(options)
    except ValueError:
        return
    assert all(isinstance(value, bytes) for pair in found for value in pair)


def test_gucs_leave_out_what_is_none() -> None:
    startup = {
        b"user": b"ann",
        b"database": b"app",
        b"replication": b"off",
        b"_pq_.a": b"1",
        b"options": b"-c work_mem=1MB -c TimeZone=UTC",
        b"TimeZone": b"CET",
        b"application_name": b"it",
    }
    assert gucs_of(startup) == ((b"application_name", b"it"), (b"timezone", b"CET"), (b"work_mem", b"1MB"))


def test_gucs_are_bounded() -> None:
    settings = {b"a.b%d" % number: b"1" for number in range(NAMES_MAX)}
    assert len(gucs_of(settings)) == NAMES_MAX
    with pytest.raises(ValueError):
        gucs_of({**settings, b"one.more": b"1"})


@pytest.mark.parametrize(
    ("have", "want", "query"),
    [
        ((), (), b""),
        (((b"a", b"1"),), ((b"a", b"1"),), b""),
        ((), ((b"a", b"1"),), b"SELECT pg_catalog.set_config(E'a',E'1',false)"),
        (((b"a", b"1"),), (), b'RESET "a"'),
        (((b"a", b"1"),), ((b"a", b"2"),), b"SELECT pg_catalog.set_config(E'a',E'2',false)"),
        (
            ((b"a", b"1"), (b"b.c", b"1"), (b"d", b"1")),
            ((b"d", b"1"), (b"e", b"x"), (b"f", b"y")),
            b'RESET "a";RESET "b"."c";SELECT pg_catalog.set_config(E\'e\',E\'x\',false),'
            b"pg_catalog.set_config(E'f',E'y',false)",
        ),
        ((), ((b"a", b"it's \\ so"),), b"SELECT pg_catalog.set_config(E'a',E'it''s \\\\ so',false)"),
        (((b'a"b', b"1"),), (), b'RESET "a""b"'),
    ],
)
def test_change(have: tuple[tuple[bytes, bytes], ...], want: tuple[tuple[bytes, bytes], ...], query: bytes) -> None:
    assert change_query(StartupParameters(have), StartupParameters(want)) == query


@pytest.mark.parametrize(
    ("values", "text", "opaque"),
    [
        ((), "ü\\".encode(), False),
        (((b"client_encoding", b"UTF8"),), "ü".encode(), False),
        (((b"client_encoding", b"'utf-8'"),), "ü".encode(), False),
        (((b"client_encoding", b"LATIN1"),), b"\xfc", True),
        (((b"client_encoding", b"SJIS"),), b"plain", False),
        (((b"standard_conforming_strings", b"off"),), b"'\\'", True),
        (((b"standard_conforming_strings", b"off"),), b"'plain'", False),
        (((b"standard_conforming_strings", b"ON"),), b"'\\'", False),
    ],
)
def test_texts_that_may_not_be_read(values: tuple[tuple[bytes, bytes], ...], text: bytes, opaque: bool) -> None:
    assert StartupParameters(values).opaque(text) is opaque


def test_equal_settings_are_one_object_and_changes_are_remembered() -> None:
    interned = Interned(size_max=3)
    one = interned.of(((b"a", b"1"),))
    assert interned.of(((b"a", b"1"),)) is one
    assert interned.of(()) is NONE
    assert interned.change(NONE, one) is interned.change(NONE, one)


def test_interned_stays_bounded() -> None:
    interned = Interned(size_max=3)
    for number in range(20):
        settings = interned.of(((b"a", b"%d" % number),))
        assert b"E'%d'" % number in interned.change(NONE, settings)
        assert len(interned._known) <= 3
        assert len(interned._changes) <= 3
    assert interned.of(()) is NONE
