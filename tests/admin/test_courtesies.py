"""What drivers and tools say of their own accord, and what they are answered."""

import pytest

from middleware.admin.columns import COLUMNS
from middleware.admin.courtesies import CHANGEABLE, Courtesies, Courtesy
from middleware.admin.driver_queries import DEPTH_MAX, WORDS_MAX
from middleware.admin.table import Value
from middleware.admin.words import statements_of
from middleware.config import Settings
from middleware.errors import PointsmanError


@pytest.fixture
def session() -> Courtesies:
    return Courtesies("app", "pointsman", 7, "0.1.0", {"application_name": "test", "client_encoding": "LATIN1"})


def say(session: Courtesies, text: str) -> Courtesy | None:
    [statement] = statements_of(text)
    return session.answer(statement)


def asked(session: Courtesies, text: str) -> tuple[list[str], list[tuple[Value, ...]]]:
    """The names of an answer's columns, and its rows."""
    answer = say(session, text)
    assert answer is not None
    return [column.name for column in answer.columns], list(answer.rows)


def value(session: Courtesies, text: str) -> Value:
    """The only one."""
    _, [[found]] = asked(session, text)
    return found


def test_no_parameter_of_postgresql_hides_a_setting_or_a_table_of_ours() -> None:
    assert not CHANGEABLE.keys() & (Settings.model_fields.keys() | COLUMNS.keys())


@pytest.mark.parametrize(
    "text",
    [
        "SHOW POOLS",
        "SELECT pools",
        "PAUSE",
        "SET query_timeout = 5",
        "SET log.level = debug",
        "RELOAD",
        "SHOW query_timeout",
        "EXPLAIN SELECT 1",
        "CREATE TABLE x (a int)",
    ],
)
def test_what_is_none_of_it(session: Courtesies, text: str) -> None:
    assert say(session, text) is None


@pytest.mark.parametrize(
    ("text", "tag", "block"),
    [
        ("BEGIN", "BEGIN", "begin"),
        ("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE", "BEGIN", "begin"),
        ("START TRANSACTION READ ONLY", "START TRANSACTION", "begin"),
        ("COMMIT", "COMMIT", "end"),
        ("END", "COMMIT", "end"),
        ("ROLLBACK", "ROLLBACK", "end"),
        ("ABORT", "ROLLBACK", "end"),
        ("SAVEPOINT a", "SAVEPOINT", ""),
        ("RELEASE SAVEPOINT a", "RELEASE", ""),
        ("ROLLBACK TO a", "ROLLBACK", "go on"),
        ("DISCARD ALL", "DISCARD ALL", ""),
        ("DEALLOCATE ALL", "DEALLOCATE ALL", ""),
        ('DEALLOCATE "s1"', "DEALLOCATE", ""),
        ("UNLISTEN *", "UNLISTEN", ""),
        ("CLOSE ALL", "CLOSE CURSOR ALL", ""),
        ("RESET ALL", "RESET", ""),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET", ""),
        ("SET TRANSACTION READ ONLY", "SET", ""),
        ("SET extra_float_digits = 3", "SET", ""),
        ("SET SESSION statement_timeout TO '5s'", "SET", ""),
        ("SET LOCAL lock_timeout = 5", "SET", ""),
        ("SET TIME ZONE 'UTC'", "SET", ""),
        ("SET NAMES 'UTF8'", "SET", ""),
        ("SET search_path = a, b", "SET", ""),
    ],
)
def test_tags(session: Courtesies, text: str, tag: str, block: str) -> None:
    answer = say(session, text)
    assert answer is not None
    assert (answer.tag, answer.block) == (tag, block)


def test_what_was_set_is_shown_and_reset(session: Courtesies) -> None:
    def do(text: str) -> tuple[tuple[str, str], ...]:
        answer = say(session, text)
        assert answer is not None
        return session.apply(answer)

    assert do("SET search_path = a, b") == (("search_path", "a, b"),)
    assert value(session, "SHOW search_path") == "a, b"
    assert value(session, "SELECT current_setting('search_path')") == "a, b"
    assert do("SET application_name TO DEFAULT") == ()
    do("SET application_name = 'x'")
    assert session.application_name == "x"
    assert do("RESET application_name") == (("application_name", "test"),)
    do("SET application_name = 'x'")
    assert do("DISCARD ALL") == (("application_name", "test"), ("search_path", '"$user", public'))
    with pytest.raises(PointsmanError, match="unrecognized configuration parameter"):
        say(session, "RESET nothing")


@pytest.mark.parametrize(
    ("text", "noticed"),
    [
        ("SET client_encoding = 'UTF8'", False),
        ("SET client_encoding = 'utf-8'", False),
        ("SET client_encoding = 'LATIN1'", True),
        ("SET DateStyle = ISO", False),
        ("SET DateStyle = German", True),
        ("SET TimeZone = 'Europe/Berlin'", True),
        ("SET standard_conforming_strings = on", False),
    ],
)
def test_what_cannot_be_otherwise_is_noticed(session: Courtesies, text: str, noticed: bool) -> None:
    answer = say(session, text)
    assert answer is not None
    assert bool(answer.notices) is noticed
    assert not answer.sets


def test_the_console_speaks_utf8_whatever_was_asked_for(session: Courtesies) -> None:
    told = dict(session.greeting())
    assert told["client_encoding"] == "UTF8"
    assert told["application_name"] == "test"
    assert told["session_authorization"] == "app"
    assert told["server_version"].split(".")[0].isdigit()


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("SELECT 1", ["?column?"], [(1,)]),
        ("select 'a' AS \"X\", true, 2 y", ["X", "bool", "y"], [("a", True, 2)]),
        ("SELECT current_database(), current_user", ["current_database", "current_user"], [("pointsman", "app")]),
        ("SELECT pg_catalog.current_schema() s, session_user", ["s", "session_user"], [("public", "app")]),
        ("SELECT pg_backend_pid()", ["pg_backend_pid"], [(7,)]),
        ("SELECT pg_is_in_recovery()", ["pg_is_in_recovery"], [(False,)]),
        ("SELECT set_config('bytea_output', 'hex', false)", ["set_config"], [("hex",)]),
        ("SELECT datname AS name FROM pg_database d", ["name"], [("pointsman",)]),
        ("SELECT d.datname, x.y FROM pg_catalog.pg_database d, pg_x x", ["datname", "y"], [("pointsman", None)]),
        ("SELECT rolname FROM pg_roles WHERE rolname = 'app'", ["rolname"], [("app",)]),
        ("SELECT setting FROM pg_settings WHERE name IN ('TimeZone')", ["setting"], [("Etc/UTC",)]),
        ("SELECT setting FROM pg_settings WHERE name = 'nothing'", ["setting"], []),
        ("SELECT oid, typname FROM pg_type WHERE oid = 3 LIMIT 1", ["oid", "typname"], []),
        ("SELECT count(*) FROM information_schema.tables", ["count"], [(0,)]),
        (
            "SELECT r.oid, ARRAY(SELECT m.roleid FROM pg_auth_members m) AS of FROM pg_roles r",
            ["oid", "of"],
            [(10, "{}")],
        ),
        ("SELECT string_agg(word, ',') FROM pg_catalog.pg_get_keywords()", ["string_agg"], [("",)]),
        ("SELECT t.typlen FROM pg_type t, pg_namespace n WHERE t.typname='name'", ["typlen"], [(64,)]),
        ("SELECT typname FROM pg_type", ["typname"], []),
        ("SELECT count(*) AS n, max(datname) FROM pg_database", ["n", "max"], [(1, None)]),
        ("SELECT sum(a) + sum(b) AS both FROM pg_stat_database", ["both"], [(None,)]),
        ("SELECT relkind, count(*) FROM pg_class GROUP BY relkind", ["relkind", "count"], []),
        (
            "SELECT datname x FROM pg_database UNION ALL SELECT 'b' UNION SELECT 3",
            ["x"],
            [("pointsman",), ("b",), (None,)],
        ),
        ("SELECT a.d FROM (SELECT aclexplode(datacl) AS d FROM pg_database) a GROUP BY d", ["d"], []),
        ("SELECT 1 AS a UNION SELECT 2, 3", ["a"], [(1,)]),
        ("SELECT 1 AS a EXCEPT SELECT 1", ["a"], [(1,)]),
        ("((SELECT 1 AS a) UNION (SELECT 2))", ["a"], [(1,), (2,)]),
        ("(SELECT relname FROM pg_class ORDER BY 1)", ["relname"], []),
        ("SELECT (SELECT count(*) FROM pg_stat_activity) AS n, 1", ["n", "?column?"], [(0, 1)]),
        ("SELECT (SELECT datname FROM pg_database) AS n FROM pg_roles", ["n"], [("pointsman",)]),
        ("SELECT s.setting v FROM (SELECT * FROM pg_settings WHERE name = 'TimeZone') s", ["v"], [("Etc/UTC",)]),
        (
            "SELECT 'a' AS chart, row_to_json(t) AS data FROM "
            '(SELECT (SELECT count(*) FROM pg_locks) AS "All", (SELECT sum(x) FROM pg_locks) AS "None") t',
            ["chart", "data"],
            [("a", '{"All": 0, "None": null}')],
        ),
        ("SELECT * FROM (SELECT a.x, b.y AS z FROM pg_class a) s WHERE true", ["x", "z"], []),
        ("WITH c AS (SELECT 1 FROM pg_class) SELECT a, b FROM c", ["a", "b"], []),
        ("SELECT CASE WHEN true THEN 1 END FROM pg_class", ["case"], []),
        ("SELECT x.* FROM pg_class x", ["?column?"], []),
        ("SELECT (SELECT 1 FROM pg_class LIMIT 1) AS a FROM pg_class", ["a"], []),
    ],
)
def test_selects(session: Courtesies, text: str, columns: list[str], rows: list[tuple[Value, ...]]) -> None:
    assert asked(session, text) == (columns, rows)


def test_pgadmin_lists_the_database_for_it_is_not_the_systems_own(session: Courtesies) -> None:
    assert value(session, "SELECT db.oid AS did FROM pg_catalog.pg_database db WHERE db.oid > 16383::OID") == 16384


def test_subqueries_are_read_to_a_depth_and_selects_to_a_length(session: Courtesies) -> None:
    def nested(depth: int) -> str:
        return "SELECT 1 FROM (" * depth + "SELECT 1 FROM pg_class" + ") s" * depth

    assert asked(session, nested(DEPTH_MAX - 1)) == (["?column?"], [])
    assert asked(session, "SELECT " + "1, " * (WORDS_MAX // 2 - 2) + "1")[1]
    for text in (
        nested(DEPTH_MAX),
        "SELECT " + "(SELECT " * 1000 + "1" + ")" * 1000,
        "SELECT " + "1, " * (WORDS_MAX // 2) + "1",
        "SELECT 1 FROM (" * 1000 + "SELECT 1 FROM pg_class" + ")" * 1000,
    ):
        with pytest.raises(PointsmanError, match="statement is too complex") as caught:
            say(session, text)
        assert caught.value.sqlstate == "54001"


def test_what_is_no_catalog_does_not_exist(session: Courtesies) -> None:
    with pytest.raises(PointsmanError, match='relation "orders" does not exist') as caught:
        say(session, "SELECT * FROM orders")
    assert caught.value.sqlstate == "42P01"
