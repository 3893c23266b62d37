"""What may be cached and what is changed, from rows made by hand: the parts that a database shows less plainly."""

from dataclasses import replace
from typing import Any

import msgspec

from parser.facts import StatementFacts
from parser.shapes import FactsTable, MarkingFactsTable
from routing.assemble import assemble
from routing.cache_catalog import closure
from routing.cached import EVERYWHERE, NO_CATALOG, READ_MOST, TOUCHED_MOST, cached, touched
from routing.catalog import Catalog, shared
from routing.mentions import changed_by, read_by
from routing.router import CHANGING, Router, Target, search_path_of
from routing.rows import Cast, ForeignKey, Operator, Rows, Type, Use
from tests.routing.test_assemble import builtin, function, gathered, relation, type_, view, volatile

PATH = search_path_of("app", "joe")
T = relation("t", oid=20)
LOG = relation("log", oid=21)
WRITES = volatile("writes", body="INSERT INTO app.log VALUES (1); SELECT 1", oid=30, least=1, most=1)
READS = function("reads", "SELECT count(*) FROM app.log", volatility="i", oid=31, least=1, most=1)


def catalog(*rows: Any, **more: Any) -> Catalog:
    return assemble("app", 1, gathered(T, LOG, *rows, **more), FactsTable())


def facts(text: str) -> StatementFacts:
    return FactsTable().facts_of(text.encode())


def changed(text: str, *rows: Any, **more: Any) -> tuple[int, ...] | None:
    return touched(facts(text), catalog(*rows, **more), PATH)


def read(text: str, *rows: Any, **more: Any) -> Any:
    found = cached(facts(text), catalog(*rows, **more), PATH)
    return found.why or found.relations


# What is called without being named


def test_a_function_behind_an_operator_a_cast_or_a_check_counts_for_every_statement() -> None:
    ways: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
        ((Operator("app", "+++", 30),), {}),
        ((Cast(23, 40, 30, implicit=True), type_("goal", oid=40)), {}),
        ((), {"uses": [Use(0, "type", "iu", 30, 0)]}),
    )
    assert changed("DELETE FROM t", WRITES) == (20,)
    for rows, more in ways:
        assert changed("DELETE FROM t", WRITES, *rows, **more) == (20, 21)
    assert read("SELECT 1 FROM t", READS) == (20,)
    for rows, more in ways:
        also = [msgspec.structs.replace(one, function=31) for one in rows if not isinstance(one, Type)]
        also += [one for one in rows if isinstance(one, Type)]
        uses = [msgspec.structs.replace(one, function=31) for one in more.get("uses", ())]
        assert read("SELECT 1 FROM t", READS, *also, uses=uses) == (20, 21)


def test_what_c_does_behind_an_operator_is_taken_to_be_nothing() -> None:
    unknown = volatile("c_one", language="c", oid=32, least=1, most=1)
    assert changed("DELETE FROM t", unknown, Operator("app", "+++", 32)) == (20,)
    # Called by its name it may do anything, but for those that are known.
    assert changed("SELECT c_one(1)", unknown) is None
    assert changed("SELECT moddatetime()", volatile("moddatetime", language="c")) == ()
    assert changed("SELECT moddatetime()", volatile("moddatetime", body="x", language="plpython3u")) is None


def test_what_c_is_declared_as_it_is() -> None:
    assert changed("SELECT f() FROM t FOR UPDATE", function("f", language="c")) == ()
    assert read("SELECT f() FROM t", function("f", language="c", volatility="i")) == (20,)


def test_functions_that_call_each_other_come_to_an_end() -> None:
    one = volatile("one", body="SELECT app.two(); DELETE FROM app.t", oid=33)
    two = volatile("two", body="SELECT app.one(); INSERT INTO app.log VALUES (1)", oid=34)
    assert changed("SELECT one()", one, two) == changed("SELECT two()", one, two) == (20, 21)
    lasting = [
        msgspec.structs.replace(each, volatility="i", body=body) for each, body in ((one, "two t"), (two, "one"))
    ]
    assert read("SELECT two()", *lasting) == (20,)


def test_which_overload_is_called_is_told_by_its_arguments_alone() -> None:
    other = volatile("writes", body="DELETE FROM app.t", oid=35, least=2, most=2)
    assert changed("SELECT writes(1)", WRITES, other) == (21,)
    assert changed("SELECT writes(1, 2)", WRITES, other) == (20,)
    assert changed("SELECT writes(VARIADIC x) FROM t", WRITES, other) == (20, 21)
    assert changed("SELECT other.writes(1)", WRITES) is None


def test_a_function_may_be_called_like_a_column() -> None:
    named = msgspec.structs.replace(WRITES, name="total", attribute=True)
    assert changed("SELECT t.total FROM t FOR UPDATE", named) == (21,)
    lasting = msgspec.structs.replace(READS, name="total", attribute=True)
    assert read("SELECT t.total FROM t", lasting) == (20, 21)
    assert read("SELECT t.total FROM t", msgspec.structs.replace(lasting, volatility="s")) == (
        "total may be the function total(), which is only stable"
    )


# Bounds


def test_too_many_relations_are_all() -> None:
    keys = [ForeignKey(1000 + number, 20, "c", "a") for number in range(TOUCHED_MOST)]
    assert len(changed("DELETE FROM t", foreign_keys=keys[:-1]) or ()) == TOUCHED_MOST
    assert changed("DELETE FROM t", foreign_keys=keys) is None
    parts = [relation(f"part{number}", oid=1000 + number) for number in range(READ_MOST)]
    parent = relation("parent", kind="p", children=tuple(part.oid for part in parts))
    assert read("SELECT 1 FROM parent", parent, *parts) == f"it reads more than {READ_MOST} relations"
    assert len(read("SELECT 1 FROM part1", parent, *parts)) == 1


def test_a_closure_is_all_that_follows() -> None:
    graph: dict[str, tuple[str, ...] | None] = {"a": ("b", "c"), "b": ("a",), "x": ("y",), "y": None}
    assert closure(graph, ["a"]) == {"a", "b", "c"}
    assert closure(graph, ["x"]) is None
    assert closure(graph, []) == set()


# Bodies

PLACES = catalog().cache.oids


def words(body: str, language: str = "plpgsql") -> tuple[str, ...] | None:
    return changed_by(body, language, PLACES, {}, [])


def test_what_the_words_of_a_body_may_do() -> None:
    assert words("BEGIN SELECT a INTO x FROM app.t; END") == ("s20",)
    assert words("BEGIN UPDATE t SET a = 1; END") == ("s20", "u20")
    assert words("MERGE INTO t USING log", "sql") is not None
    assert set(words("insert delete truncate T Log") or ()) == {
        "s20", "i20", "d20", "t20", "s21", "i21", "d21", "t21"
    }  # fmt: skip
    assert words("BEGIN RETURN NEW; END") == ()
    assert words("BEGIN EXECUTE x; END") is None
    assert words("SELECT a INTO new FROM t", "sql") is None
    assert words("INSERT INTO t SELECT 1", "sql") == ("s20", "i20")
    assert words('DELETE FROM U&"t"') is None
    assert words("PERFORM query_to_xml('x', true, true, '')") is None
    assert words("CREATE TABLE x (a int)") is None
    assert words("CREATE TEMP TABLE x (a int)") == ()
    assert words("CREATE LOCAL TEMPORARY TABLE x (a int)") == ()
    assert words("ALTER ROLE joe") == words("GRANT a TO b") == ("*",)
    assert words("PERFORM pg_reload_conf()") == ("*",)
    assert words("plpy.execute('x')", "plpython3u") is None
    assert read_by("SELECT * FROM t, elsewhere", PLACES, {}, []) == ("r20",)


def test_every_database_is_told_of_what_concerns_it() -> None:
    assert (
        changed("SELECT f()", volatile("f", body="BEGIN ALTER ROLE joe SET a.b = 1; END", language="plpgsql"))
        == EVERYWHERE
    )


# The router


def test_a_router_remembers_until_its_catalog_changes() -> None:
    router = Router(path=PATH)
    select, delete = facts("SELECT * FROM t"), facts("DELETE FROM t")
    assert (router.cached(select), router.touched(delete)) == (NO_CATALOG, None)
    router.set_catalog(catalog(), 1.0, 1.0)
    assert router.cached(select).relations == router.touched(delete) == (20,)
    assert router.cached(select) is router.cached(select)
    assert router.touched(select) == ()
    router.set_catalog(catalog(foreign_keys=[ForeignKey(21, 20, "c", "a")]), 2.0, 2.0)
    assert router.touched(delete) == (20, 21)
    router.suspend(3.0)
    assert (router.cached(select), router.touched(delete)) == (NO_CATALOG, None)


def test_names_that_are_a_sessions_own_are_not_remembered_for_others() -> None:
    router = Router(path=PATH)
    router.set_catalog(catalog(), 1.0, 1.0)
    insert = facts("INSERT INTO mine SELECT 1")
    assert router.touched(insert, frozenset({"mine"})) == ()
    assert router.touched(insert) is None
    assert router.touched(facts("INSERT INTO pg_temp.mine SELECT 1")) == ()
    # What goes by a name of both may be either, and one in a schema is not the session's own.
    assert router.touched(facts("INSERT INTO t SELECT 1"), frozenset({"t"})) == (20,)
    assert router.touched(facts("INSERT INTO app.mine SELECT 1"), frozenset({"mine"})) is None


def test_a_catalog_that_stands_in_knows_nothing() -> None:
    standing_in = Catalog("app", 2, hazard=CHANGING)
    assert cached(facts("SELECT 1"), standing_in, PATH).why == CHANGING
    assert touched(facts("DELETE FROM t"), standing_in, PATH) is None
    assert touched(facts("SELECT f()"), standing_in, PATH) is None


def test_what_is_kept_on_the_primary_is_cached_only_if_asked_for() -> None:
    made = catalog()
    assert cached(facts("/* pointsman: primary */ SELECT 1 FROM t"), made, PATH).why != ""
    both = facts("/* pointsman: primary */ /* pointsman: cache */ SELECT 1 FROM t")
    assert cached(both, made, PATH).relations == (20,)
    listed = MarkingFactsTable(("from t",)).facts_of(b"SELECT 1 FROM t")
    assert cached(listed, made, PATH).why == "it matches from t of primary_queries"
    assert cached(replace(listed, cache_hint="on"), made, PATH).relations == (20,)


def test_a_hint_about_the_cache_routes_nothing() -> None:
    router = Router(path=PATH)
    router.set_catalog(catalog(), 1.0, 1.0)
    for hint in ("/* pointsman: cache 3s */", "/* pointsman: no cache */", "/*NO QUERY CACHE*/"):
        assert router.route(facts(f"{hint} SELECT * FROM t")).target is Target.STANDBY
        assert router.route(facts(f"{hint} DELETE FROM t")).target is Target.PRIMARY


def test_a_catalog_comes_through_the_channel_as_it_was() -> None:
    made = catalog(
        WRITES,
        READS,
        view("v", "SELECT a FROM app.t"),
        builtin("now", least=0, most=0),
        uses=[Use(20, "expression", "iu", 30, 0)],
        date_columns=frozenset({"d"}),
        fingerprint="x",
    )
    assert made.cache.effects
    assert made.cache.functions
    came = msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Catalog)
    assert came == made
    assert shared(came, {}) == made


def test_nothing_of_the_cache_is_in_the_way_of_rows_that_say_nothing_of_it() -> None:
    assert assemble("app", 1, Rows(), FactsTable()).cache.effects == {}
