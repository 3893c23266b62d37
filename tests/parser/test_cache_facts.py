"""What a text says about the query cache: hints, what it changes, and what may differ from one day to the next."""

import pytest

from parser.dates import DEPTH_MAX, time_words
from parser.facts import ANY_NUMBER, CACHE_OFF, CACHE_ON, StatementFacts
from parser.shapes import FactsTable, MarkingFactsTable


def facts_of(text: str) -> StatementFacts:
    return FactsTable().facts_of(text.encode())


# Hints


@pytest.mark.parametrize(
    ("text", "cache", "ttl_s", "route"),
    [
        ("SELECT 1", "", 0.0, ""),
        ("/* pointsman: cache */ SELECT 1", CACHE_ON, 0.0, ""),
        ("SELECT 1 /*POINTSMAN:CACHE*/", CACHE_ON, 0.0, ""),
        ("SELECT /*\tpointsman :\ncache  */ 1", CACHE_ON, 0.0, ""),
        ("/* pointsman: cache 30s */ SELECT 1", CACHE_ON, 30.0, ""),
        ("/* pointsman: cache 500ms */ SELECT 1", CACHE_ON, 0.5, ""),
        ("/* pointsman: cache 5 min */ SELECT 1", CACHE_ON, 300.0, ""),
        ("/* pointsman: cache 1.5h */ SELECT 1", CACHE_ON, 5400.0, ""),
        ("/* pointsman: cache 0s */ SELECT 1", "", 0.0, ""),
        ("/* pointsman: cache 30 */ SELECT 1", "", 0.0, ""),
        ("/* pointsman: cache 30days */ SELECT 1", "", 0.0, ""),
        ("/* pointsman: cache -1s */ SELECT 1", "", 0.0, ""),
        ("/* pointsman: cache ٣s */ SELECT 1", "", 0.0, ""),
        ("/* pointsman: cache 99999999999s */ SELECT 1", "", 0.0, ""),
        ("/* pointsman: cached */ SELECT 1", "", 0.0, ""),
        ("-- pointsman: cache\nSELECT 1", "", 0.0, ""),
        ("SELECT '/* pointsman: cache */'", "", 0.0, ""),
        ("/* pointsman: no cache */ SELECT 1", CACHE_OFF, 0.0, ""),
        ("/*NO QUERY CACHE*/ SELECT 1", CACHE_OFF, 0.0, ""),
        ("/* no  query\ncache */ SELECT 1", CACHE_OFF, 0.0, ""),
        ("/* pointsman: no cache 3s */ SELECT 1", "", 0.0, ""),
        ("/* pointsman: cache 3s */ SELECT 1 /* pointsman: cache 4s */", CACHE_ON, 4.0, ""),
        ("/* pointsman: cache 3s */ SELECT 1 /* pointsman: no cache */", CACHE_OFF, 0.0, ""),
        ("/*NO QUERY CACHE*/ SELECT 1 /* pointsman: cache 3s */", CACHE_OFF, 0.0, ""),
        ("/* pointsman: standby */ SELECT 1 /* pointsman: cache 3s */", CACHE_ON, 3.0, "standby"),
        ("/*NO LOAD BALANCE*/ /*NO QUERY CACHE*/ SELECT 1", CACHE_OFF, 0.0, "primary"),
    ],
)
def test_a_hint_in_a_comment(text: str, cache: str, ttl_s: float, route: str) -> None:
    facts = facts_of(text)
    assert (facts.cache_hint, facts.cache_ttl_s, facts.hint) == (cache, ttl_s, route)
    assert not facts.special


def test_texts_of_one_shape_keep_their_own_hints() -> None:
    table = FactsTable()
    texts = [
        b"SELECT a FROM t WHERE b = 1",
        b"/* pointsman: cache */ SELECT a FROM t WHERE b = 2",
        b"/* pointsman: cache 3s */ SELECT a FROM t WHERE b = 3",
        b"/* pointsman: no cache */ SELECT a FROM t WHERE b = 4",
        b"/* pointsman: primary */ SELECT a FROM t WHERE b = 5",
    ]
    for _ in range(2):
        told = [(facts.cache_hint, facts.cache_ttl_s, facts.hint) for facts in map(table.facts_of, texts)]
        assert told == [("", 0.0, ""), ("on", 0.0, ""), ("on", 3.0, ""), ("off", 0.0, ""), ("", 0.0, "primary")]
    again = table.facts_of(b"/* pointsman: cache 3s */ SELECT a FROM t WHERE b = 6")
    assert again is table.facts_of(texts[2])


def test_a_hint_stays_where_a_text_is_marked_or_explained() -> None:
    marked = MarkingFactsTable(("from t",)).facts_of(b"/* pointsman: cache 3s */ SELECT a FROM t")
    assert (marked.cache_hint, marked.cache_ttl_s, marked.pattern) == (CACHE_ON, 3.0, "from t")
    explained = facts_of("/* pointsman: cache 3s */ EXPLAIN (ROUTE) SELECT 1").explained
    assert explained is not None
    assert (explained.cache_hint, explained.cache_ttl_s) == (CACHE_ON, 3.0)


# What is changed


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("INSERT INTO t VALUES (1)", {("i", "", "t")}),
        ("INSERT INTO s.t VALUES (1) ON CONFLICT DO NOTHING", {("i", "s", "t")}),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1", {("i", "", "t"), ("u", "", "t")}),
        ("UPDATE t SET a = 1 FROM u", {("u", "", "t")}),
        ("DELETE FROM t USING u", {("d", "", "t")}),
        ("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", {("i", "", "t"), ("u", "", "t"), ("d", "", "t")}),
        ("TRUNCATE t, s.u CASCADE", {("t", "", "t"), ("t", "s", "u")}),
        ("COPY t FROM STDIN", {("i", "", "t")}),
        ("COPY t TO STDOUT", set()),
        ("COPY (DELETE FROM t RETURNING a) TO STDOUT", {("d", "", "t")}),
        ("REFRESH MATERIALIZED VIEW s.m", {("m", "s", "m")}),
        ("WITH x AS (UPDATE u SET a = 1 RETURNING a) INSERT INTO t SELECT * FROM x", {("u", "", "u"), ("i", "", "t")}),
        ("PREPARE p AS DELETE FROM t", {("d", "", "t")}),
        ("EXPLAIN DELETE FROM t", {("d", "", "t")}),
        ("SELECT 1", set()),
    ],
)
def test_changes(text: str, changes: set[tuple[str, str, str]]) -> None:
    facts = facts_of(text)
    assert facts.changes == changes
    assert facts.writes == {(schema, name) for way, schema, name in changes if way != "m"} | (
        {("s", "m")} if text.startswith("REFRESH") else set()
    )


def test_code_that_is_run() -> None:
    assert facts_of("CALL s.p(1, 2)").procedures == {("s", "p", ANY_NUMBER)}
    assert facts_of("CALL p(1)").calls == frozenset()
    assert facts_of("DO $$BEGIN NULL; END$$").blocks == ("BEGIN NULL; END",)
    assert facts_of("DO LANGUAGE plpgsql 'BEGIN END'").blocks == ("BEGIN END",)
    assert facts_of("DO LANGUAGE plpython3u 'pass'").blocks == ()


def test_several_statements_are_told_one_by_one() -> None:
    parts = facts_of("DELETE FROM t; SELECT f()").parts
    assert [(part.kind, part.changes, part.calls) for part in parts] == [
        ("DeleteStmt", {("d", "", "t")}, frozenset()),
        ("SelectStmt", frozenset(), {("", "f", 0)}),
    ]


def test_a_role_or_a_database_is_renamed() -> None:
    assert facts_of("ALTER ROLE a RENAME TO b").changes_cluster
    assert facts_of("ALTER DATABASE a RENAME TO b").changes_cluster
    assert not facts_of("ALTER TABLE a RENAME TO b").changes_cluster


# What may differ from one day to the next


@pytest.mark.parametrize(
    ("text", "varies"),
    [
        ("SELECT CURRENT_DATE", "it asks for the time (CURRENT_DATE)"),
        ("SELECT (SELECT CURRENT_TIMESTAMP(3))", "it asks for the time (CURRENT_TIMESTAMP)"),
        ("SELECT LOCALTIME", "it asks for the time (LOCALTIME)"),
        ("SELECT CURRENT_USER, USER, SESSION_USER, CURRENT_ROLE, CURRENT_CATALOG, CURRENT_SCHEMA", ""),
        ("SELECT * FROM t TABLESAMPLE bernoulli (1)", "it draws a sample (TABLESAMPLE)"),
        ("SELECT ctid FROM t", "it asks for ctid, which changes while its row does not"),
        ("SELECT t.xmax FROM t", "it asks for xmax, which changes while its row does not"),
        ("SELECT xmin, tableoid FROM t", ""),
        ("SELECT JSON_VALUE(a, '$.d') FROM t", ""),
        ("SELECT JSON_VALUE(a, '$.d' RETURNING date) FROM t", "it takes values out of JSON or XML"),
        ("SELECT * FROM JSON_TABLE(a, '$' COLUMNS (d date PATH '$.d')) AS x", "it takes values out of JSON or XML"),
        ("SELECT * FROM XMLTABLE('/a' PASSING x COLUMNS d date)", "it takes values out of JSON or XML"),
    ],
)
def test_what_varies(text: str, varies: str) -> None:
    assert facts_of(text).varies.startswith(varies)
    assert bool(facts_of(text).varies) is bool(varies)


@pytest.mark.parametrize(
    ("expression", "sources"),
    [
        ("'x'::date", set()),
        ("$1::date", set()),
        ("'x'::text::date", set()),
        ("$1::text::date", set()),
        ("a::date", {"a"}),
        ("t.a::date", {"a"}),
        ("CAST(a AS timestamp)::date", {"a"}),
        ("a::text::date", {"*"}),
        ("(a || 'x')::date", {"*"}),
        ("lower(a)::date", {"*"}),
        ("(SELECT a)::date", {"*"}),
        ("(t.*)::date", {"*"}),
        ("date_trunc('day', a)::date", set()),
        ("s.date_trunc('day', a)::date", {"*"}),
        ("to_date(a, b)::date", set()),
        ("generate_series(a, b, '1 day')::date", set()),
        ("(a AT TIME ZONE 'UTC')::date", set()),
        ("(a + interval '1 day')::date", {"a"}),
        ("(a - b)::date", {"a", "b"}),
        ("(lower(a) + b)::date", {"b"}),
        ("(lower(a) + upper(b))::date", {"*"}),
        ("max(a)::date", {"a"}),
        ("coalesce(a, b, 'x')::date", {"a", "b"}),
        ("coalesce(a, lower(b))::date", {"a", "*"}),
        ("greatest(a, $1)::date", {"a"}),
        ("(CASE WHEN x THEN a ELSE b END)::date", {"a", "b"}),
        ("(CASE WHEN x THEN a END)::date", {"a"}),
        ("(ARRAY[a, '2024-01-01'])::date[]", {"a"}),
        ("date(a)", {"a"}),
        ("(a).date", {"*"}),
        (f"({'a + ' * (DEPTH_MAX + 5)} 1)::date", {"a"}),
        ("(" + "coalesce(" * (DEPTH_MAX + 5) + "a" + ")" * (DEPTH_MAX + 5) + ")::date", {"*"}),
    ],
)
def test_what_a_cast_rests_on(expression: str, sources: set[str]) -> None:
    casts = facts_of(f"SELECT {expression} FROM t").casts
    assert {source for _, name, source in casts if name in ("date", "timestamp")} == sources


@pytest.mark.parametrize(
    ("expression", "zoned"),
    [
        ("a AT TIME ZONE 'UTC'", {"a"}),
        ("timezone('UTC', a)", {"a"}),
        ("a AT LOCAL", {"a"}),
        ("a::timestamp AT TIME ZONE 'UTC'", set()),
        ("a::time AT TIME ZONE 'UTC'", {"*"}),
        ("$1 AT TIME ZONE 'UTC'", {"*"}),
        ("'10:00' AT TIME ZONE 'UTC'", {"*"}),
        ("(a + interval '1 day') AT TIME ZONE 'UTC'", {"a"}),
        ("(time '10:00' + interval '1 day') AT TIME ZONE 'UTC'", {"*"}),
        ("(a AT TIME ZONE 'UTC') AT TIME ZONE 'CET'", {"a"}),
        ("date_trunc('day', a) AT TIME ZONE 'UTC'", set()),
        ("date_trunc('day', a AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'", {"a"}),
    ],
)
def test_what_stands_before_a_time_zone(expression: str, zoned: set[str]) -> None:
    assert facts_of(f"SELECT {expression} FROM t").zoned == zoned


def test_names_that_a_statement_gives() -> None:
    text = "WITH w (a) AS (SELECT 1) SELECT x AS b, y FROM w AS c (d) JOIN f() AS g (h text) USING (k) AS j"
    assert {"a", "b", "c", "d", "g", "h", "j"} <= facts_of(text).given_names
    assert facts_of("SELECT a, t.b FROM t").given_names == frozenset()


@pytest.mark.parametrize(
    "data", [b"now", b"'NOW'", b"Today 10:00", b"today10:00", b"1today", b"yesterday", b"_tomorrow_", b"'a' \n 'b'"]
)
def test_words_for_another_moment(data: bytes) -> None:
    assert time_words(data)


@pytest.mark.parametrize(
    "data",
    [
        b"SELECT known, nowhere, todays FROM t",
        b"2024-01-01",
        b"'a', 'b'",
        b"'a',\n'b'",
        b"SELECT 'C:\\new'",
        b"name'\\'",
        b"SELECT a FROM t WHERE b LIKE '%\\_'",
        b"\x00\xff\x01",
    ],
)
def test_texts_without_such_words(data: bytes) -> None:
    assert not time_words(data)


def test_a_long_text_is_searched_in_a_moment() -> None:
    assert not time_words(b"'" + b" " * 200_000 + b"--" * 50_000 + b"x")
    assert not time_words(b"e'" * 100_000)
    assert not time_words(b"' -- \n x" * 30_000)
