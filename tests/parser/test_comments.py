"""Comments, the hints in them, and which texts share what was read of one."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser import shapes
from parser.analyse import analyse
from parser.analyse import without_comments as read_comments
from parser.facts import CHANGES, EMPTY, MAY_CHANGE, PRIMARY_HINT, STANDBY_HINT, UNREAD, StatementFacts
from parser.shapes import KEPT_BYTES_MAX, FactsTable


def facts_of(text: str) -> StatementFacts:
    return FactsTable().facts_of(text.encode())


def told(facts: StatementFacts) -> dict[str, Any]:
    """All that the facts say; they are themselves compared by identity."""
    return {name: value for name, value in dataclasses.asdict(facts).items() if name != "special"}


def without_comments(text: str) -> tuple[str, str]:
    """What is left of a text, and where a comment sends it."""
    left, hints = read_comments(text)
    return left, hints.route


# What is left of a text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("SELECT 1", "SELECT 1"),
        ("/* a */SELECT 1", "SELECT 1"),
        ("SELECT 1/* a */", "SELECT 1"),
        ("SELECT/* a */1", "SELECT 1"),
        ("SELECT a/**/b", "SELECT a b"),
        ("SELECT 1 -- a", "SELECT 1"),
        ("SELECT 1 --", "SELECT 1"),
        ("-- a\nSELECT 1", "SELECT 1"),
        ("SELECT 1 -- a\n+ 2", "SELECT 1  \n+ 2"),
        ("SELECT 1 -- a /* b\n, 2 -- */", "SELECT 1  \n, 2"),
        ("SELECT 1 /* -- */, 2", "SELECT 1  , 2"),
        ("SELECT 1 /* a\n b */, 2", "SELECT 1  , 2"),
        ("SELECT 1 /* a /* b */ c */, 2", "SELECT 1  , 2"),
        ("SELECT 1 /* a /* /* b */*/ ' */, 2", "SELECT 1  , 2"),
        ("SELECT 1 */* a */ 2", "SELECT 1 *  2"),
        ("SELECT 1 +-- a\n 2", "SELECT 1 + \n 2"),
        ("SELECT 1 - -1", "SELECT 1 - -1"),
        ("SELECT 1 / * 2", "SELECT 1 / * 2"),
        ("/* a */ /* b */", ""),
        ("-- nothing", ""),
        ("SELECT 'a' -- b\n'c'", "SELECT 'a' -- b\n'c'"),
    ],
)
def test_a_comment_leaves_a_space(text: str, left: str) -> None:
    assert without_comments(text) == (left, "")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT '/* pointsman: primary */'",
        "SELECT '-- a'",
        "SELECT 'it''s /* a */'",
        "SELECT E'\\' /* pointsman: primary */ '",
        "SELECT E'\\\\', '/* a */'",
        "SELECT U&'/* a */', N'-- a', B'0', X'1F'",
        'SELECT "/* a */", "-- b", "a""/* c */"',
        "SELECT $$/* pointsman: primary */ -- a$$",
        "SELECT $a$ $$ -- $b$ /* a */ $a$",
        "DO $$BEGIN /*NO LOAD BALANCE*/ NULL; END$$",
        "SELECT $1 -1",
    ],
)
def test_what_looks_like_a_comment_inside_something_else_is_left(text: str) -> None:
    assert without_comments(text) == (text, "")
    # And a real one behind it is found all the same.
    assert without_comments(f"{text} /* pointsman: standby */") == (text, STANDBY_HINT)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 /* a",
        "SELECT 1 /* a /* b */",
        "/*",
        "SELECT 'a -- b",
        'SELECT "a /* b */',
        "SELECT $$ /* b */",
        "/* pointsman: primary */ SELECT '",
    ],
)
def test_what_never_ends_is_left_as_it_is_and_not_read(text: str) -> None:
    assert without_comments(text) == (text, "")
    assert facts_of(text) is UNREAD


ALPHABETS = ["é", "ß", "Ω", "日本", "€", "😀", "e\u0301", "\u200b", "\u00a0"]


@pytest.mark.parametrize("word", ALPHABETS)
def test_other_alphabets_do_not_move_what_is_cut(word: str) -> None:
    text = (
        f"SELECT '{word}' /* {word} */ , \"{word}\" -- {word}{word}\n, f('{word}'/*{word}*/) /* pointsman: standby */"
    )
    left, hint = without_comments(text)
    assert left == f"SELECT '{word}'   , \"{word}\"  \n, f('{word}' )"
    assert hint == STANDBY_HINT
    assert facts_of(text).calls == {("", "f", 1)}


PIECES = st.sampled_from(
    ["SELECT", "f()", "'a'", '"b"', "$$c$$", "1", ",", "+", "é", "'/*'", "'--'", '"*/"', "$q$--$q$", "E'\\'/*'", "\n"]
)
COMMENTS = st.sampled_from(
    ["/* a */", "/**/", "-- a\n", "--\n", "/* ' */", "/* é */", "/* /* b */ */", '/* " $$ */', "-- ' $$ é\n"]
)


@given(st.lists(st.tuples(PIECES, COMMENTS), min_size=1, max_size=10))
def test_exactly_the_comments_go(parts: list[tuple[str, str]]) -> None:
    """The comma: strings with a comment and a line's end between them are one string."""
    left, hint = without_comments("".join(f" {piece}, {comment}" for piece, comment in parts))
    assert hint == ""
    assert left.split() == "".join(f"{piece}, " for piece, _ in parts).split()


# Hints


@pytest.mark.parametrize(
    ("comment", "hint"),
    [
        ("/* pointsman: primary */", PRIMARY_HINT),
        ("/*pointsman:primary*/", PRIMARY_HINT),
        ("/* pointsman : standby */", STANDBY_HINT),
        ("/*\tPOINTSMAN:\n STANDBY*/", STANDBY_HINT),
        ("/* Pointsman: Primary */", PRIMARY_HINT),
        ("/*NO LOAD BALANCE*/", PRIMARY_HINT),
        ("/* no  load\nbalance */", PRIMARY_HINT),
        ("/* pointsman: eventual */", "eventual"),
        ("/* pointsman: SESSION */", "session"),
        ("/*pointsman:global*/", "global"),
        ("/* pointsman: primary", None),
        ("-- pointsman: primary\n", ""),
        ("-- /* pointsman: primary */\n", ""),
        ("/* pointsman: master */", ""),
        ("/* pointsman: primary standby */", ""),
        ("/* not pointsman: primary */", ""),
        ("/* pointsman primary */", ""),
        ("/* /* pointsman: primary */ */", ""),
        ("/*+ pointsman: primary */", ""),
        ("/*NOLOADBALANCE*/", ""),
        ("/* NO LOAD BALANCE please */", ""),
    ],
)
@pytest.mark.parametrize(
    "place", ["{} SELECT a FROM t", "SELECT a {} FROM t", "SELECT a FROM t {}", "SELECT a{}FROM t"]
)
def test_a_hint_is_a_comment_of_its_own_anywhere(place: str, comment: str, hint: str | None) -> None:
    facts = facts_of(place.format(comment))
    if hint is None:
        assert facts is UNREAD
    else:
        assert told(facts) == {**told(facts_of("SELECT a FROM t")), "hint": hint}


def test_of_several_hints_the_last_counts() -> None:
    assert facts_of("/* pointsman: primary */ SELECT 1 /* pointsman: standby */").hint == STANDBY_HINT
    assert facts_of("/* pointsman: standby */ SELECT 1 /*NO LOAD BALANCE*/").hint == PRIMARY_HINT


def test_a_text_has_the_hint_it_gives_whatever_was_read_before() -> None:
    table = FactsTable()
    texts = {
        b"SELECT a FROM t WHERE b = 1": "",
        b"SELECT a FROM t WHERE b = 1 /* pointsman: primary */": PRIMARY_HINT,
        b"SELECT a FROM t WHERE b = 2 /* pointsman: standby */": STANDBY_HINT,
        b"SELECT a FROM t WHERE b = 3 /* none */": "",
        b"SELECT a FROM t WHERE b = '/* pointsman: primary */'": "",
    }
    for _ in range(2):
        for text, hint in texts.items():
            assert table.facts_of(text).hint == hint, text


def test_a_hint_alone_says_nothing_else() -> None:
    assert told(facts_of("/* pointsman: standby */")) == {**told(EMPTY), "hint": STANDBY_HINT}


def test_a_hint_counts_in_a_text_too_long_to_keep() -> None:
    padding = "x" * KEPT_BYTES_MAX
    assert facts_of(f"SELECT '{padding}' /* pointsman: primary */").hint == PRIMARY_HINT
    assert facts_of(f"SELECT 1 /* {padding} */").kind == "SelectStmt"


# What is shared


@pytest.fixture
def analysed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are analysed, as they come."""
    texts: list[str] = []

    def counted(text: str) -> StatementFacts:
        texts.append(text)
        return analyse(text)

    monkeypatch.setattr(shapes, "analyse", counted)
    return texts


@pytest.mark.parametrize(
    "comment",
    [
        "/*action='/polls/{0}',controller='index',traceparent='00-{0}-01'*/",
        "-- request {0}\n",
        "/* é {0} /* nested {0} */ */",
        "/*{0}*/",
    ],
)
@pytest.mark.parametrize("place", ["{} SELECT a FROM t WHERE b = 1", "SELECT a FROM t {} WHERE b = 1"])
def test_comments_of_different_content_share_one_shape(analysed: list[str], place: str, comment: str) -> None:
    table = FactsTable()
    facts = {table.facts_of(place.format(comment.format(number)).encode()) for number in range(50)}
    assert len(facts) == 1
    assert len(analysed) == 1
    assert len(table.by_shape) == 1


def test_constants_and_comments_share_one_shape_together(analysed: list[str]) -> None:
    table = FactsTable()
    for number in range(20):
        table.facts_of(f"SELECT a FROM t WHERE b = {number} AND c = 'x{number}' /* {number} */".encode())
        table.facts_of(f"SELECT a FROM t WHERE b = {number} AND c = $${number}$$ /* {number} */".encode())
    assert len(analysed) == 1


def test_the_same_text_is_read_once(analysed: list[str]) -> None:
    table = FactsTable()
    for text in (b"SELECT current_setting('x')", b"SET pointsman.route = 'auto'", b"DO 'x'", b"SELECT 1 /* a */"):
        before = len(analysed)
        assert table.facts_of(text) is table.facts_of(text)
        assert len(analysed) == before + 1


# What is not shared

SETTINGS = ["timezone", "TimeZone", "in_hot_standby", "search_path", "it''s", "", "é"]
BODIES = ["BEGIN NULL; END", "BEGIN CREATE TABLE n (); END", "BEGIN DROP VIEW v; END", "BEGIN PERFORM f(1); END"]
LEVELS = ["session", "eventual", "global", "GLOBAL", "nonsense", "1"]
ISOLATIONS = ["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"]


def constants(values: list[str]) -> st.SearchStrategy[str]:
    """A string constant in one of SQL's notations."""
    forms = st.sampled_from(["'{}'", "'{}'", "E'{}'", "$${}$$", "$q${}$q$"])
    return st.builds(lambda form, value: form.format(value), forms, st.sampled_from(values))


MODES = st.sampled_from(["READ ONLY", "READ WRITE", *(f"ISOLATION LEVEL {level}" for level in ISOLATIONS)])
FAMILIES = [
    st.builds("SELECT current_setting({})".format, constants(SETTINGS)),
    st.builds("SELECT current_setting({}, true), {}".format, constants(SETTINGS), constants(SETTINGS)),
    st.builds("SELECT a FROM t WHERE b = {}".format, constants(SETTINGS)),
    st.builds("SELECT {}::text WHERE current_setting({}) = {}".format, *[constants(SETTINGS)] * 3),
    st.builds("EXPLAIN SELECT current_setting({})".format, constants(SETTINGS)),
    st.builds("SET pointsman.consistency = {}".format, st.sampled_from([*LEVELS[:3], "'global'", "'it''s'", "1", "2"])),
    st.builds("SET LOCAL pointsman.route TO {}".format, constants(["auto", "standby", "primary"])),
    st.builds("RESET pointsman.{}".format, st.sampled_from(["route", "consistency"])),
    st.builds("SET work_mem = {}".format, constants(["1MB", "2MB"])),
    st.builds("DO {}".format, constants(BODIES)),
    st.builds("DO LANGUAGE plpgsql {}".format, constants(BODIES)),
    st.builds("{} {}, {}".format, st.sampled_from(["BEGIN", "SET TRANSACTION", "START TRANSACTION"]), MODES, MODES),
    st.builds("SET SESSION CHARACTERISTICS AS TRANSACTION {}".format, MODES),
    st.builds("INSERT INTO t VALUES ({})".format, constants(SETTINGS)),
]
"""Texts of one family may share a shape."""
REMARKS = st.sampled_from(
    ["", "", "/* a */", "/* b */", "-- c\n", "/* pointsman: primary */", "/* pointsman: standby */"]
)


def with_remarks(family: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Texts of a family, most of them without a comment."""
    return st.lists(st.builds("{}{} {}".format, REMARKS, family, REMARKS) | family, min_size=2, max_size=6)


@given(st.sampled_from(FAMILIES).flatmap(with_remarks))
def test_what_depends_on_constants_is_never_anothers(texts: list[str]) -> None:
    """Whatever a table has read before, it says of a text what a new one says."""
    table = FactsTable()
    for text in texts:
        assert told(table.facts_of(text.encode())) == told(facts_of(text)), text


def told_after(first: str, second: str) -> dict[str, Any]:
    """What is told of the second text by a table that has read the first."""
    table = FactsTable()
    table.facts_of(first.encode())
    return told(table.facts_of(second.encode()))


def test_a_block_that_creates_is_told_from_one_that_does_not() -> None:
    assert told_after("DO 'BEGIN NULL; END'", "DO 'BEGIN CREATE TABLE n (); END'")["changes_catalog"] == CHANGES
    assert told_after("DO 'BEGIN CREATE TABLE n (); END'", "DO 'BEGIN NULL; END'")["changes_catalog"] == MAY_CHANGE


@pytest.mark.parametrize("quote", ["'", "$$"])
def test_a_block_among_several_statements_that_creates_is_told_from_one_that_does_not(quote: str) -> None:
    nothing = f"DO {quote}BEGIN NULL; END{quote}; SELECT 1"
    creates = f"DO {quote}BEGIN CREATE TABLE n (); END{quote}; SELECT 1"
    assert facts_of(creates).changes_catalog == CHANGES
    assert told_after(nothing, creates)["changes_catalog"] == CHANGES


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT checked0 FROM t", "SELECT checked'5' FROM t"),
        ("SELECT a LIKE0 FROM t", "SELECT a LIKE'x' FROM t"),
    ],
)
def test_a_constant_behind_a_word_is_no_part_of_it(one: str, other: str) -> None:
    assert told_after(one, other) == told(facts_of(other))


def test_digits_that_are_part_of_a_word_count() -> None:
    """Of texts that differ in the values of numbers alone one is read for all; a name is no number."""
    table = FactsTable()
    for number in (10, 20, 30):
        assert table.facts_of(b"SELECT a FROM t WHERE b = %d" % number) is table.facts_of(
            b"SELECT a FROM t WHERE b = 77"
        )
    for number in range(1, 9):
        assert table.facts_of(b"SELECT a FROM t%d WHERE b = 11" % number).relations == {("", f"t{number}")}
        assert table.facts_of(b"SELECT f%d(10)" % number).calls == {("", f"f{number}", 1)}
    assert table.facts_of(b"SELECT a FROM t WHERE b = 1") is table.facts_of(b"SELECT a FROM t WHERE b = 1234567")
    assert table.facts_of(b"SELECT current_setting('a1')").shows == {"a1"}
    assert table.facts_of(b"SELECT current_setting('a2')").shows == {"a2"}
