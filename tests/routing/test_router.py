"""Decisions from facts and catalog."""

import msgspec
import pytest

from parser.shapes import FactsTable
from routing.catalog import ANY, ANYWHERE, Catalog, Known, SearchPath, shared
from routing.overload import Overload, Thing
from routing.router import FORGOTTEN, NO_CATALOG, READ_ONLY, Decision, Router, Target, decide, search_path_of

V = "is volatile"
OK: tuple[Thing, ...] = (Thing("pg_catalog", ""),)
CATALOG = Catalog(
    "app",
    1,
    functions={
        "lower": (Overload("pg_catalog", 1, 1, ""),),
        "now": (Overload("pg_catalog", 0, 0, ""),),
        "count": (Overload("pg_catalog", 0, 1, ""),),
        "concat": (Overload("pg_catalog", 0, ANY, ""),),
        "current_setting": (Overload("pg_catalog", 1, 2, ""),),
        "nextval": (Overload("pg_catalog", 1, 1, V),),
        "pick": (Overload("app", 1, 1, ""), Overload("app", 2, 3, V), Overload("other", 1, 1, V)),
    },
    relations={
        "t": (Thing("app", ""),),
        "u": (Thing("app", ""), Thing("other", "is unlogged")),
        "counted": (Thing("app", "is a view: it calls nextval(), which is volatile"),),
    },
    operators=dict.fromkeys(("<", "=", ">=", "<=", "+"), OK) | {"@@@": (Thing("app", V),)},
    types={"int4": OK, "text": OK, "checked": (Thing("app", "has a CHECK"),)},
    attributes={"fullname": V},
)


def decision(text: str, catalog: Catalog | None = CATALOG, path: SearchPath = ANYWHERE) -> Decision:
    return decide(FactsTable().facts_of(text.encode()), catalog, path)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT lower(a), count(*) FROM t WHERE b < now()",
        "SELECT PG_CATALOG.LOWER('X')",
        "SELECT concat(1, 2, 3), concat(VARIADIC a) FROM t",
        "SELECT app.pick(1)",
        "SELECT t.a, (t).b::int FROM app.t",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "VALUES (1)",
        "TABLE t",
        "SELECT 1 UNION SELECT 2 ORDER BY 1",
        "SELECT * FROM t JOIN t AS s USING (a) WHERE t.b BETWEEN 1 AND 2",
        "COPY (SELECT 1) TO STDOUT",
        "COPY t TO STDOUT",
        "EXPLAIN SELECT 1",
        "EXPLAIN (ANALYZE) SELECT 1",
        "SHOW timezone",
        "SHOW server_version",
        "SELECT current_setting('TimeZone')",
        "SELECT 1 -- no /* pointsman: primary */",
        "/* app='x', traceparent='00-1' */ SELECT 1",
        "SELECT '/* pointsman: primary */'",
    ],
)
def test_reads_go_to_a_standby(text: str) -> None:
    assert decision(text) == Decision(Target.STANDBY, "it only reads", writes=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT nextval('s')", "it calls nextval(), which is volatile"),
        ("SELECT (SELECT lower((SELECT pg_catalog.nextval('s'))::text))", "it calls pg_catalog.nextval(), which is"),
        ("SELECT app.lower2(1)", "it calls app.lower2(), which is not known"),
        ('SELECT "LOWER"(1)', "it calls LOWER(), which is not known"),
        ("SELECT lower(1, 2)", "it calls lower(), which is not known"),
        ("SELECT pick(1)", "it calls pick(), which is volatile"),
        ("SELECT app.pick(1, 2)", "it calls app.pick(), which is volatile"),
        ("SELECT app.pick(VARIADIC a) FROM t", "it calls app.pick(), which is volatile"),
        ("SELECT * FROM missing", "it reads missing, which is not known"),
        ("SELECT * FROM u", "it reads u, which is unlogged"),
        ("WITH counted AS (SELECT 1) SELECT * FROM counted", "it reads counted, which is a view: it calls nextval()"),
        ("SELECT * FROM pg_temp.t", "it reads pg_temp.t, which is temporary"),
        ("SELECT a @@@ b FROM t", "it applies the operator @@@, which is volatile"),
        ("SELECT a OPERATOR(app.@@@) b FROM t", "it applies the operator app.@@@, which is volatile"),
        ("SELECT * FROM t ORDER BY a USING @@@", "it applies the operator @@@, which is volatile"),
        ("SELECT a @@@ ANY (SELECT 1) FROM t", "it applies the operator @@@, which is volatile"),
        ("SELECT 'x'::checked", "it casts to checked, which has a CHECK"),
        ("SELECT t.fullname FROM t", "fullname may be the function fullname(), which is volatile"),
        ("SELECT (t).fullname FROM t", "fullname may be the function fullname(), which is volatile"),
        ("SELECT * FROM t TABLESAMPLE mine(1)", "its sampling method mine is not known"),
        ("SHOW transaction_read_only", "it asks for transaction_read_only, which may differ between nodes"),
        ("SELECT current_setting('in_hot_standby')", "it asks for in_hot_standby, which may differ"),
        ("SELECT current_setting($1)", "it asks for a setting whose name it computes"),
        ("SHOW ALL", "it asks for all, which may differ"),
        ("SELECT 1 FOR SHARE", "it locks rows (FOR UPDATE or FOR SHARE)"),
        ("EXPLAIN DELETE FROM t", "it explains DELETE"),
        ("EXPLAIN ANALYZE SELECT nextval('s')", "it calls nextval(), which is volatile"),
        ("COPY (SELECT nextval('s')) TO STDOUT", "it calls nextval(), which is volatile"),
        ("COPY (INSERT INTO t VALUES (1) RETURNING a) TO STDOUT", "it holds INSERT"),
        ("COPY t TO PROGRAM 'cat'", "it is no plain query (CopyStmt)"),
        ("/* pointsman: primary */ SELECT 1", "a comment in it asks for the primary"),
        ("/*NO LOAD BALANCE*/ SELECT 1", "a comment in it asks for the primary"),
        ("BEGIN", "it is no plain query (TransactionStmt)"),
        ("BEGIN READ ONLY ISOLATION LEVEL SERIALIZABLE", "it is no plain query (TransactionStmt)"),
        ("nonsense", "its text could not be read"),
        ("", "it is empty"),
        ("-- nothing", "it is empty"),
    ],
)
def test_all_else_goes_to_the_primary_and_says_why(text: str, reason: str) -> None:
    decided = decision(text)
    assert decided.target is Target.PRIMARY
    assert decided.reason.startswith(reason)


def test_a_hint_for_a_standby_is_obeyed() -> None:
    assert decision("SELECT nextval('s') /* pointsman: standby */").target is Target.STANDBY


@pytest.mark.parametrize("text", ["BEGIN READ ONLY", "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"])
def test_a_read_only_transaction_goes_to_a_standby(text: str) -> None:
    assert decision(text) is READ_ONLY


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN",
        "COMMIT",
        "ROLLBACK TO a",
        "SET LOCAL work_mem = 1",
        "PREPARE p AS DELETE FROM t",
        "DEALLOCATE ALL",
        "LISTEN a",
        "UNLISTEN *",
        "LOCK TABLE t",
        "SHOW transaction_read_only",
        "",
    ],
)
def test_what_only_frames_a_transaction_writes_nothing(text: str) -> None:
    assert not decision(text).writes


@pytest.mark.parametrize(
    "text",
    ["INSERT INTO t VALUES (1)", "EXECUTE p", "FETCH c", "COMMIT PREPARED 'x'", "SELECT nextval('s')", "nonsense"],
)
def test_what_may_write_says_so(text: str) -> None:
    assert decision(text).writes


def test_names_are_looked_up_along_the_search_path() -> None:
    here = search_path_of("app, public", "joe")
    assert decision("SELECT pick(1), lower('x') FROM u", path=here).target is Target.STANDBY
    assert decision("SELECT pick(1)", path=search_path_of('"$user", other', "joe")).target is Target.PRIMARY
    assert decision("SELECT * FROM t", path=search_path_of("public", "joe")).reason == "it reads t, which is not known"


def test_a_search_path_as_postgresql_writes_it() -> None:
    assert search_path_of('"$user", Public, "Odd Name"', "joe") == ("pg_catalog", "joe", "public", "Odd Name")
    assert search_path_of("", "joe") == ("pg_catalog",)
    assert search_path_of('"a""b"', "joe") is ANYWHERE


def test_without_a_catalog_nothing_is_known() -> None:
    assert decision("SELECT 1", None) is NO_CATALOG
    assert decision("INSERT INTO t VALUES (1)", None).reason == "it is INSERT"


def test_a_hazard_of_the_database_is_one_of_each_statement() -> None:
    assert decision("SELECT 1", Catalog("app", 1, hazard="there is a cast")).reason == "there is a cast"


def test_a_new_catalog_changes_what_was_decided() -> None:
    router = Router()
    facts = FactsTable().facts_of(b"SELECT lower('x')")
    assert router.route(facts).target is Target.PRIMARY
    router.set_catalog(CATALOG, 1.0, 2.0)
    assert router.route(facts).target is Target.STANDBY
    assert router.changed_at == 2.0
    router.set_catalog(Catalog("app", 2), 3.0, 4.0)
    assert router.route(facts).target is Target.PRIMARY


def test_a_catalog_read_before_a_change_is_not_believed_after_it() -> None:
    router = Router()
    facts = FactsTable().facts_of(b"SELECT 1")
    router.set_catalog(CATALOG, 1.0, 2.0)
    router.suspend(5.0)
    assert router.route(facts) is NO_CATALOG
    router.set_catalog(CATALOG, 4.9, 5.1)
    assert router.route(facts) is NO_CATALOG
    router.set_catalog(CATALOG, 5.0, 5.2)
    assert router.route(facts).target is Target.STANDBY


def test_without_further_snapshots_all_goes_to_the_primary() -> None:
    router = Router()
    router.set_catalog(CATALOG, 1.0, 2.0)
    facts = FactsTable().facts_of(b"SELECT 1")
    assert router.route(facts).target is Target.STANDBY
    router.retire()
    assert router.route(facts) is NO_CATALOG


def test_a_catalog_that_is_missing_is_asked_for_when_there_is_something_to_decide() -> None:
    asked: list[None] = []
    facts = FactsTable().facts_of(b"SELECT lower(a) FROM t")
    router = Router(missing=lambda: asked.append(None))
    assert router.route(facts) is NO_CATALOG
    assert router.route(facts) is NO_CATALOG
    assert len(asked) == 1
    router.set_catalog(CATALOG, 1.0, 1.0)
    assert router.route(facts).target is Target.STANDBY
    assert len(asked) == 1
    router.set_catalog(Catalog("app", 2, hazard=FORGOTTEN), 2.0, 2.0)
    assert (router.lacks_catalog(), router.route(facts).reason) == (True, FORGOTTEN)
    assert len(asked) == 2


def test_catalogs_share_what_they_have_in_common() -> None:
    known: Known = {}
    first, second = (shared(msgspec.convert(msgspec.to_builtins(CATALOG), Catalog), known) for _ in range(2))
    assert first == second == CATALOG
    assert all(first.functions[name] is second.functions[name] for name in CATALOG.functions)
