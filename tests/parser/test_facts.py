"""Facts of statements: a table of texts and what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parser.facts import CHANGES, EMPTY, MAY_CHANGE, UNCHANGED, UNREAD, StatementFacts
from parser.session_state import LEAVES, LISTEN, SETTINGS
from parser.shapes import KEPT_BYTES_MAX, READ_BYTES_MAX, FactsTable, Generations


def facts_of(text: str) -> StatementFacts:
    return FactsTable().facts_of(text.encode())


READS = [
    "SELECT 1",
    "select * from t where a = 1 and b = 'x' order by c limit 10",
    "TABLE t",
    "VALUES (1), (2)",
    "SELECT 1 UNION ALL SELECT 2",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "SELECT (SELECT max(x) FROM (SELECT y AS x FROM t) s)",
    "/* tag */ SELECT 1 -- more",
    'SELECT "odd name" FROM "s"."t"',
    "SELECT $1::int + $2",
    "SELECT E'a\\'b', $$dollar$$",
    "SELECT 1;",
]


@pytest.mark.parametrize("text", READS)
def test_plain_queries_have_nothing_to_write(text: str) -> None:
    facts = facts_of(text)
    assert facts.kind == "SelectStmt"
    assert facts.write_reason == ""
    assert facts.effects == ()
    assert not facts.copy_in
    assert facts.changes_catalog == UNCHANGED


WRITES = [
    ("INSERT INTO t VALUES (1)", "it is INSERT"),
    ("UPDATE t SET a = 1", "it is UPDATE"),
    ("DELETE FROM t", "it is DELETE"),
    ("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE", "it is MERGE"),
    ("SELECT 1 FOR UPDATE", "it locks rows"),
    ("SELECT * FROM (SELECT * FROM t FOR SHARE) s", "it locks rows"),
    ("SELECT * INTO n FROM t", "it creates a table"),
    ("WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x", "it holds INSERT"),
    ("SELECT * FROM (WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x) s", "it holds DELETE"),
    ("BEGIN", "it is no plain query (TransactionStmt)"),
    ("SELECT 1; SELECT 2", "it holds several statements"),
    ("CREATE TABLE t (a int)", "it is no plain query (CreateStmt)"),
]


@pytest.mark.parametrize(("text", "reason"), WRITES)
def test_what_a_standby_cannot_run_says_why(text: str, reason: str) -> None:
    assert facts_of(text).write_reason.startswith(reason)


def test_functions_are_found_at_any_depth_by_their_folded_names() -> None:
    text = 'SELECT Lower(a), pg_catalog.upper(b), count(*) OVER () FROM generate_series(1, 2) g(a), f((SELECT "G"(1)))'
    assert facts_of(text).calls == {
        ("", "lower", 1),
        ("pg_catalog", "upper", 1),
        ("", "count", 0),
        ("", "generate_series", 2),
        ("", "f", 1),
        ("", "G", 1),
    }


def test_session_state_is_told_for_every_part_of_a_string() -> None:
    facts = facts_of("SET a.b = 1; SELECT 1; LISTEN c")
    assert [(effect.state, effect.action) for effect in facts.effects] == [(SETTINGS, LEAVES), (LISTEN, LEAVES)]
    assert facts.special


def test_copy_in_is_told_from_other_copies() -> None:
    assert facts_of("COPY t FROM STDIN").copy_in
    assert facts_of("SELECT 1; COPY t FROM STDIN").copy_in
    assert not facts_of("COPY t FROM '/file'").copy_in
    assert not facts_of("COPY t TO STDOUT").copy_in


def test_deallocating_everything_is_told_from_one_statement() -> None:
    assert facts_of("DEALLOCATE ALL").deallocates_all
    assert facts_of("DISCARD ALL").deallocates_all
    assert not facts_of("DEALLOCATE p").deallocates_all
    assert not facts_of("DISCARD PLANS").deallocates_all


def test_ddl_changes_the_catalog() -> None:
    assert facts_of("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'").changes_catalog == CHANGES
    assert facts_of("ALTER FUNCTION f() STABLE").changes_catalog == CHANGES
    assert facts_of("DROP TABLE t").changes_catalog == CHANGES
    assert facts_of("SELECT 1 INTO t").changes_catalog == CHANGES
    assert facts_of("CREATE TEMP TABLE t (a int)").changes_catalog == UNCHANGED
    assert facts_of("DO $$BEGIN CREATE VIEW v AS SELECT 1; END$$").changes_catalog == CHANGES
    assert facts_of("DO $$BEGIN PERFORM 1; END$$").changes_catalog == MAY_CHANGE
    assert facts_of("CALL p()").changes_catalog == MAY_CHANGE
    assert facts_of("TRUNCATE t").changes_catalog == UNCHANGED
    assert facts_of("INSERT INTO t VALUES (1)").changes_catalog == UNCHANGED


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense",
        b"SELECT \xff",
        b"SELECT " + b"(" * 20_000 + b"1" + b")" * 20_000,
        b"SELECT 1" + b"+1" * 30_000,
        b"SELECT 1" + b" UNION SELECT 1" * 4_000,
        b"SELECT '" + b"x" * READ_BYTES_MAX + b"'",
    ],
    ids=["syntax", "encoding", "parentheses", "operators", "unions", "length"],
)
def test_what_cannot_be_read_is_a_fact(text: bytes) -> None:
    assert FactsTable().facts_of(text) is UNREAD


def test_empty_text() -> None:
    assert facts_of("") is EMPTY
    assert facts_of(" -- nothing") is EMPTY


def test_constants_do_not_make_another_statement() -> None:
    table = FactsTable()
    first = table.facts_of(b"SELECT a FROM t WHERE b = 1 AND c = 'x'")
    assert table.facts_of(b"SELECT a FROM t WHERE b = 234 AND c = 'it''s'") is first
    assert table.facts_of(b"SELECT a FROM t WHERE b = 234 AND c = $1") is not first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"SELECT f1(1)", b"SELECT f2(1)"),
        (b'SELECT "f 1"()', b'SELECT "f 2"()'),
        (b"SELECT 'a' /* ' */, f()", b"SELECT 'a' /* ' */, g()"),
        (b"SELECT '--', f()", b"SELECT '--', g()"),
        (b"SELECT E'\\'', f() --'", b"SELECT E'\\'', g() --'"),
        (b"SELECT $a$ ' $a$, f() --'", b"SELECT $a$ ' $a$, g() --'"),
    ],
)
def test_shapes_that_differ_in_more_than_constants_stay_apart(one: bytes, other: bytes) -> None:
    table = FactsTable()
    assert table.facts_of(one).calls != table.facts_of(other).calls


SNIPPETS = st.sampled_from(["SELECT ", "f1(", "f2(", ")", "1", "22", "x1", " ", ",", ";", "\n", "é"]) | st.sampled_from(
    ["'", "''", '"q 1"', "--", "/*", "*/", "$$", "$1", "\\", "E'"]
)


@given(st.lists(SNIPPETS, max_size=12), st.lists(SNIPPETS, max_size=12))
def test_a_shared_shape_never_gives_the_facts_of_another_text(one: list[str], other: list[str]) -> None:
    """Whatever was seen before, a text has the facts it has on its own."""
    table = FactsTable()
    table.facts_of("".join(one).encode())
    shared = table.facts_of("".join(other).encode())
    alone = FactsTable().facts_of("".join(other).encode())
    if shared is UNREAD:
        return  # A text whose constants make it unreadable may come first: on the primary nothing is lost.
    if alone is not UNREAD:
        assert (shared.kind, shared.calls, shared.write_reason) == (alone.kind, alone.calls, alone.write_reason)


def test_tables_are_bounded() -> None:
    table = FactsTable(texts_max=100, shapes_max=50)
    for number in range(500):
        table.facts_of(f"SELECT c{number} FROM t WHERE a = {number}".encode())
        table.facts_of(f'SELECT "c{number}" FROM t'.encode())
    assert len(table.by_text) <= 100
    assert len(table.by_blanked) <= 100
    assert len(table.by_shape) <= 50
    long = b"SELECT '" + b"x" * KEPT_BYTES_MAX + b"'"
    table.facts_of(long)
    assert table.by_text.get(long) is None


def test_generations_keep_what_is_asked_for() -> None:
    table: Generations[int, str] = Generations(10)
    table.put(0, "kept")
    for number in range(1, 100):
        table.put(number, "other")
        assert table.get(0) == "kept"
    assert len(table) <= 10
