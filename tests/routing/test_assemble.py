"""Hazards from rows made by hand: what hides behind a name, without a database."""

from itertools import count
from typing import Any

import pytest

from parser.shapes import FactsTable
from routing.assemble import assemble
from routing.catalog import ANY, Catalog
from routing.function_hazards import EXECUTES
from routing.functions import NODE, STATISTICS, TRANSACTION
from routing.judgement import VOLATILE
from routing.overload import Overload, Thing
from routing.rows import Cast, Function, Operator, Relation, Rows, Support, Type

OIDS = count(20_000)


def function(name: str, body: str = "", **more: Any) -> Function:
    """A stable function of the schema app in SQL, without arguments."""
    row: dict[str, Any] = {
        "oid": next(OIDS),
        "schema": "app",
        "least": 0,
        "most": 0,
        "volatility": "s",
        "kind": "f",
        "builtin": False,
        "arguments": "",
        "language": "sql",
        "attribute": False,
        "parts": (),
        "types": (),
    }
    return Function(**{**row, "name": name, "body": body, **more})


def builtin(name: str, **more: Any) -> Function:
    """A function of PostgreSQL's own."""
    return function(name, **{"schema": "pg_catalog", "builtin": True, "language": "internal", **more})


def volatile(name: str = "touch", **more: Any) -> Function:
    return function(name, volatility="v", **more)


def relation(name: str, **more: Any) -> Relation:
    """A table of the schema app."""
    row: dict[str, Any] = {
        "oid": next(OIDS),
        "schema": "app",
        "kind": "r",
        "persistence": "p",
        "definition": "",
        "policies": (),
        "children": (),
        "columns": (),
    }
    return Relation(**{**row, "name": name, **more})


def view(name: str, definition: str, **more: Any) -> Relation:
    return relation(name, kind="v", definition=f" {definition};", **more)


def type_(name: str, **more: Any) -> Type:
    """A type of the schema app."""
    row: dict[str, Any] = {"oid": next(OIDS), "schema": "app", "checks": (), "builtin": False, "parts": ()}
    return Type(**{**row, "name": name, **more})


INT4 = type_("int4", oid=23, schema="pg_catalog", builtin=True)
TEXT = type_("text", oid=25, schema="pg_catalog", builtin=True)
LOWER = builtin("lower", volatility="i", least=1, most=1)
NEXTVAL = builtin("nextval", volatility="v", least=1, most=1)
EQUALS = Operator(schema="pg_catalog", name="=", function=LOWER.oid)
OURS = (INT4, TEXT, LOWER, NEXTVAL, EQUALS)
"""In every catalog here."""


def catalog(*rows: Any) -> Catalog:
    """The catalog of these rows, of whatever kind."""
    return assemble("app", 1, gathered(*rows), FactsTable())


def gathered(*rows: Any, **more: Any) -> Rows:
    def of(kind: type) -> list[Any]:
        return [row for row in (*OURS, *rows) if isinstance(row, kind)]

    return Rows(of(Function), of(Relation), of(Type), of(Operator), of(Cast), of(Support), **more)


def hazards(names: dict[str, Any], name: str) -> str:
    """The one hazard of a name."""
    [one] = names[name]
    hazard: str = one.hazard
    return hazard


def of_function(name: str, *rows: Any) -> str:
    return hazards(catalog(*rows).functions, name)


def of_relation(name: str, *rows: Any) -> str:
    return hazards(catalog(*rows).relations, name)


def of_type(name: str, *rows: Any) -> str:
    return hazards(catalog(*rows).types, name)


# Functions as they are declared


@pytest.mark.parametrize(
    ("row", "hazard"),
    [
        (function("f"), ""),
        (function("f", volatility="i"), ""),
        (function("f", volatility="v"), VOLATILE),
        (function("f", volatility="v", language="c"), VOLATILE),
        (function("f", kind="p"), "is a procedure"),
        (function("f", kind="p", volatility="i"), "is a procedure"),
        (function("f", kind="a", volatility="i"), ""),
        (function("f", kind="w", volatility="v"), VOLATILE),
        (builtin("f", volatility="v"), VOLATILE),
        (builtin("random", volatility="v"), ""),
        (function("random", volatility="v"), VOLATILE),
        (function("random", volatility="v", schema="pg_catalog"), VOLATILE),
        (builtin("txid_current"), "assigns a transaction id, which a standby cannot"),
        (function("txid_current"), ""),
        (builtin("pg_postmaster_start_time"), NODE),
        (builtin("pg_stat_get_anything"), STATISTICS),
        (builtin("pg_stat_get_snapshot_timestamp", volatility="v"), STATISTICS),
        (function("pg_stat_get_anything"), ""),
        (builtin("age", arguments="xid"), TRANSACTION),
        (builtin("age", arguments="timestamp with time zone"), ""),
    ],
)
def test_a_declaration_and_the_lists(row: Function, hazard: str) -> None:
    assert of_function(row.name, row) == hazard


def test_overloads_that_differ_only_in_types_are_one() -> None:
    rows = [function("f", least=1, most=2), function("f", least=1, most=2), volatile("f", least=0, most=ANY)]
    assert catalog(*rows).functions["f"] == (Overload("app", 0, ANY, VOLATILE), Overload("app", 1, 2, ""))


def test_attributes_are_the_hazardous_ones() -> None:
    rows = [volatile("full", attribute=True), function("plain", attribute=True), volatile("other")]
    assert catalog(*rows).attributes == {"full": VOLATILE}


def test_an_aggregate_is_what_its_functions_are() -> None:
    bad, good = volatile("step"), function("finish")
    rows = [bad, good]
    over = "is an aggregate over step(), which is volatile"
    assert of_function("total", *rows, function("total", kind="a", volatility="i", parts=(good.oid, bad.oid))) == over
    assert of_function("total", *rows, function("total", kind="a", parts=(good.oid,))) == ""
    # The function may be worse than it is declared.
    worse = function("step", "SELECT nextval('s')")
    hazard = of_function("total", worse, function("total", kind="a", parts=(worse.oid,)))
    assert hazard == "is an aggregate over step(), which mentions nextval, which is volatile"


# Functions by what their bodies mention

SEQUENCE = relation("numbers", kind="S")
ODD = volatile("Odd Name")
WORSE_OPERATOR = (touch := volatile("touch"), Operator(schema="app", name="@@@", function=touch.oid))


@pytest.mark.parametrize(
    ("body", "hazard"),
    [
        ("SELECT 1", ""),
        ("SELECT lower('a')", ""),
        ("SELECT touch()", "mentions touch, which is volatile"),
        ("SELECT app . TOUCH ()", "mentions touch, which is volatile"),
        ('SELECT "touch"()', "mentions touch, which is volatile"),
        ("BEGIN PERFORM touch(); END", "mentions touch, which is volatile"),
        ("SELECT touched()", ""),
        ("SELECT un_touch(), touch1, touch$", ""),
        ('SELECT "Odd Name"()', "mentions odd name, which is volatile"),
        (
            "SELECT last_value FROM numbers",
            "mentions numbers, which is a sequence, whose values are ahead on a standby",
        ),
        ("SELECT 'x'::checked", "mentions checked, which has a CHECK: it calls app.touch(), which is volatile"),
        ("SELECT 1 @@@ 2", "mentions the operator @@@, which is volatile"),
        ("SELECT 1 OPERATOR(app.@@@) 2", "mentions the operator @@@, which is volatile"),
        ("SELECT 1 @@ 2", ""),
        ("SELECT nextval('s')", "mentions nextval, which is volatile"),
        ('SELECT U&"t\\006fuch"()', "mentions names with escapes, which are not read"),
        ('SELECT u&"a" FROM t', "mentions names with escapes, which are not read"),
        ("SELECT current_setting('TimeZone')", ""),
        ("SELECT CURRENT_SETTING ( 'in_hot_standby' )", "asks for a setting that may differ between nodes"),
        ("SELECT current_setting('timezone'), current_setting('port')", "asks for a setting that may differ"),
        ("SELECT current_setting(x)", "asks for a setting that may differ between nodes"),
        ("SELECT current_setting(E'port')", "asks for a setting that may differ between nodes"),
        ("SELECT current_setting($$port$$)", "asks for a setting that may differ between nodes"),
    ],
)
def test_what_a_body_mentions(body: str, hazard: str) -> None:
    checked = type_("checked", checks=("CHECK (app.touch())",), parts=(TEXT.oid,))
    rows = [*WORSE_OPERATOR, ODD, SEQUENCE, checked]
    found = of_function("f", *rows, function("f", body))
    assert found.startswith(hazard)
    assert bool(found) is bool(hazard)


def test_execute_hides_what_it_runs_but_in_sql_it_is_a_name() -> None:
    assert of_function("f", function("f", "BEGIN EXECUTE 'x'; END", language="plpgsql")) == EXECUTES
    assert of_function("f", function("f", "begin execute format('x'); end", language="plpgsql")) == EXECUTES
    assert of_function("f", function("f", "plpy.execute(q)", language="plpython3u")) == EXECUTES
    assert of_function("f", function("f", "BEGIN executed := 1; END", language="plpgsql")) == ""
    assert of_function("f", function("f", "SELECT execute FROM t")) == ""


def test_what_is_written_in_c_is_what_it_is_declared_as() -> None:
    assert of_function("f", volatile(), function("f", language="c")) == ""


def test_a_builtin_that_is_harmless_under_its_name_is_meant() -> None:
    # Else one volatile overload of a common name would spoil every body that holds it.
    assert of_function("f", volatile("lower"), function("f", "SELECT lower('a')")) == ""


def test_hazards_go_through_bodies() -> None:
    rows = [
        function("a", "SELECT b()"),
        function("b", "SELECT c()"),
        function("c", "SELECT touch()"),
        volatile(),
        function("d", "SELECT e()"),
        function("e", "SELECT d()"),
    ]
    found = catalog(*rows)
    assert hazards(found.functions, "a") == "mentions b, which mentions c, which mentions touch, which is volatile"
    # Two that call each other are no reason by themselves.
    assert hazards(found.functions, "d") == hazards(found.functions, "e") == ""


def test_hazards_go_from_functions_to_views_and_back() -> None:
    rows = [
        volatile(),
        view("v1", "SELECT app.touch() AS x"),
        function("f1", "SELECT x FROM app.v1"),
        view("v2", "SELECT app.f1() AS x"),
        function("f2", "SELECT x FROM app.v2"),
        type_("d", checks=("CHECK ((app.f2() > VALUE))",), parts=(INT4.oid,)),
        Operator(schema="pg_catalog", name=">", function=LOWER.oid),
        function("f3", "SELECT 1::d"),
        view("v3", "SELECT app.f3() AS x"),
    ]
    found = catalog(*rows)
    for name in ("f1", "f2", "f3"):
        assert hazards(found.functions, name).endswith("it calls app.touch(), which is volatile"), name
    for name in ("v1", "v2", "v3"):
        assert hazards(found.relations, name).startswith("is a view: it calls app."), name


def test_a_function_may_mention_itself() -> None:
    assert of_function("f", function("f", "SELECT f()")) == ""


def test_a_function_that_calls_a_volatile_one_of_its_name_in_another_schema() -> None:
    rows = [volatile("f", schema="inner"), function("f", "SELECT inner.f()")]
    assert Overload("app", 0, 0, "mentions f, which is volatile") in catalog(*rows).functions["f"]


def test_a_function_that_calls_a_volatile_overload_of_its_own() -> None:
    rows = [volatile("f", least=1, most=1), function("f", "SELECT f(1)")]
    assert Overload("app", 0, 0, "mentions f, which is volatile") in catalog(*rows).functions["f"]


@pytest.mark.parametrize(
    "row",
    [relation("orders", persistence="u"), relation("orders", kind="f"), view("orders", "SELECT nextval('s')")],
    ids=["unlogged", "foreign", "view"],
)
def test_a_function_that_reads_a_hazardous_relation_of_its_name(row: Relation) -> None:
    assert of_function("orders", row, function("orders", "SELECT * FROM orders")) != ""


def test_a_name_with_quotes_in_it_is_found_in_a_body() -> None:
    assert of_function("f", volatile('a"b'), function("f", 'SELECT "a""b"()')) != ""


@pytest.mark.parametrize(
    "body",
    ["SELECT current_setting/* */('port')", "SELECT \"current_setting\"('port')"],
)
def test_a_setting_is_found_however_it_is_asked_for(body: str) -> None:
    assert of_function("f", function("f", body)) != ""


# Types


def test_a_domain_is_what_its_check_calls() -> None:
    check = "CHECK ((lower(VALUE) = VALUE))"
    assert of_type("d", type_("d", checks=(check,))) == ""
    assert of_type("d", volatile(), type_("d", checks=(check, "CHECK (app.touch(VALUE)) NOT VALID"))) == (
        "has a CHECK: it calls app.touch(), which is not known"
    )
    assert of_type("d", volatile(), type_("d", checks=(check, "CHECK (\n app.touch()\n)"))) == (
        "has a CHECK: it calls app.touch(), which is volatile"
    )


def test_a_check_is_read_without_a_search_path() -> None:
    rows = [function("lower", least=1, most=1, volatility="v"), type_("d", checks=("CHECK (lower(VALUE) = VALUE)",))]
    assert of_type("d", *rows) == ""
    assert "not known" in of_type("d", function("f"), type_("d", checks=("CHECK (f())",)))


def test_what_is_made_of_a_hazardous_type_is_hazardous() -> None:
    base = type_("base", checks=("CHECK (app.touch())",))
    array = type_("_base", parts=(base.oid,))
    row = type_("row", parts=(INT4.oid, array.oid))
    over = type_("over", parts=(row.oid,))
    found = catalog(volatile(), over, row, array, base)
    assert hazards(found.types, "_base") == (
        "is made of a type that has a CHECK: it calls app.touch(), which is volatile"
    )
    assert hazards(found.types, "over").count("is made of a type that") == 3
    assert hazards(found.types, "int4") == ""
    assert found.hazard == ""


def test_a_function_for_a_domain_with_a_check_calls_the_check() -> None:
    base = type_("base", checks=("CHECK (app.touch())",))
    array = type_("_base", parts=(base.oid,))
    rows = [volatile(), base, array, function("f", types=(base.oid,)), function("g", language="c", types=(array.oid,))]
    assert of_function("f", *rows) == "is for a type that has a CHECK: it calls app.touch(), which is volatile"
    assert of_function("g", *rows).startswith("is for a type that is made of a type that has a CHECK")
    harmless = type_("base", checks=("CHECK (VALUE = VALUE)",))
    assert of_function("f", harmless, function("f", types=(harmless.oid,))) == ""


MINE = type_("mine")
BAD = volatile("convert", least=1, most=1)
GOOD = function("convert", least=1, most=1)


@pytest.mark.parametrize(("source", "target"), [(MINE, TEXT), (TEXT, MINE), (MINE, MINE)])
def test_an_implicit_cast_taints_the_type_it_came_with(source: Type, target: Type) -> None:
    cast = Cast(source=source.oid, target=target.oid, function=BAD.oid, implicit=True)
    table = relation("t", columns=(MINE.oid,))
    found = catalog(MINE, BAD, cast, table, function("f", types=(MINE.oid,)), relation("plain"))
    tainted = "the type mine, which has an implicit cast over a volatile function"
    assert found.hazard == ""
    assert hazards(found.relations, "t") == f"has a column of {tainted}"
    assert hazards(found.relations, "plain") == ""
    assert hazards(found.functions, "f") == f"is for {tainted}"
    assert hazards(found.types, "mine") != ""
    assert hazards(found.types, "int4") == ""


def test_an_implicit_cast_between_builtin_types_is_everywhere() -> None:
    found = catalog(BAD, Cast(source=TEXT.oid, target=INT4.oid, function=BAD.oid, implicit=True))
    assert found.hazard == (
        "the database has the type int4, which has an implicit cast over a volatile function, which any expression "
        "may use"
    )


def test_a_cast_that_must_be_written_is_one_of_the_type_it_leads_to() -> None:
    found = catalog(MINE, BAD, Cast(source=TEXT.oid, target=MINE.oid, function=BAD.oid, implicit=False))
    assert hazards(found.types, "mine") == "has a cast that is volatile"
    assert hazards(found.types, "text") == ""
    table = relation("t", columns=(MINE.oid,))
    cast = Cast(source=MINE.oid, target=TEXT.oid, function=BAD.oid, implicit=False)
    found = catalog(MINE, BAD, cast, table)
    assert hazards(found.types, "text") == "has a cast that is volatile"
    assert hazards(found.relations, "t") == ""


@pytest.mark.parametrize("implicit", [False, True])
def test_a_cast_over_a_harmless_function_is_harmless(implicit: bool) -> None:
    found = catalog(MINE, GOOD, Cast(source=TEXT.oid, target=MINE.oid, function=GOOD.oid, implicit=implicit))
    assert (found.hazard, hazards(found.types, "mine"), hazards(found.types, "text")) == ("", "", "")


@pytest.mark.parametrize(
    ("support", "tainted"),
    [
        (volatile("compare"), True),
        (volatile("compare", language="plpgsql"), True),
        (function("compare", "SELECT nextval('s')"), True),
        (function("compare", "SELECT 1"), False),
        (volatile("compare", language="c"), False),
        (volatile("compare", language="internal"), False),
    ],
)
def test_an_operator_class_over_a_volatile_function_unless_it_is_in_c(support: Function, tainted: bool) -> None:
    rows = [support, MINE, Support(type=MINE.oid, function=support.oid), relation("t", columns=(MINE.oid,))]
    found = of_relation("t", *rows)
    assert found == (
        "has a column of the type mine, which has an operator class over a volatile function" if tainted else ""
    )


def test_a_column_of_an_array_of_a_tainted_type() -> None:
    compare = volatile("compare")
    array = type_("_mine", parts=(MINE.oid,))
    rows = [array, MINE, compare, Support(type=MINE.oid, function=compare.oid), relation("t", columns=(array.oid,))]
    assert of_relation("t", *rows) == (
        "has a column of the type _mine, which is made of the type mine, which has an operator class over a volatile "
        "function"
    )


# Relations


@pytest.mark.parametrize(
    ("row", "hazard"),
    [
        (relation("t"), ""),
        (relation("t", kind="p"), ""),
        (relation("t", kind="m"), ""),
        (relation("t", persistence="u"), "is unlogged"),
        (relation("t", kind="m", persistence="u"), "is unlogged"),
        (relation("t", persistence="t"), "is temporary"),
        (relation("t", kind="S"), "is a sequence, whose values are ahead on a standby"),
        (relation("t", kind="f"), "is a foreign table, whose data is not the cluster's"),
        (view("t", "SELECT 1"), ""),
        (view("t", "SELECT lower('a'), 'x'::text FROM app.good WHERE 'a' = 'b'"), ""),
        (view("t", "WITH good AS (SELECT 1) SELECT * FROM good"), ""),
        (view("t", "SELECT nextval('s')"), "is a view: it calls nextval(), which is volatile"),
        (view("t", "SELECT lower('a') FROM app.bad"), "is a view: it reads app.bad, which is unlogged"),
        (view("t", "SELECT 1 FROM app.missing"), "is a view: it reads app.missing, which is not known"),
        (view("t", "SELECT 1 FROM good"), "is a view: it reads good, which is not known"),
        (view("t", "SELECT 1 FOR UPDATE"), "is a view: it locks rows (FOR UPDATE or FOR SHARE)"),
        (view("t", "SELECT current_setting('port')"), "is a view: it asks for port, which may differ between"),
        (view("t", "SELECT 1 OPERATOR(app.=) 2"), "is a view: it applies the operator app.=, which is not known"),
        (view("t", "SELECT ROW(1, (2"), "is a view: its text could not be read"),
        (relation("t", policies=("(lower(a) = a)",)), ""),
        (relation("t", policies=("true", "app.touch()")), "is under row security: it calls app.touch(), which is v"),
        (relation("t", policies=("EXISTS ( SELECT 1 FROM app.good)",)), ""),
        (relation("t", policies=("EXISTS ( SELECT 1 FROM app.bad)",)), "is under row security: it reads app.bad,"),
        (relation("t", policies=("EXISTS ( SELECT 1 FROM app.t t_1)",)), ""),
    ],
)
def test_a_relation_by_itself(row: Relation, hazard: str) -> None:
    found = of_relation("t", volatile(), relation("good"), relation("bad", persistence="u"), row)
    assert found.startswith(hazard)
    assert bool(found) is bool(hazard)


def test_a_view_over_views_is_what_the_last_one_is() -> None:
    rows = [
        view("a", "SELECT * FROM app.b, app.good"),
        view("b", "SELECT * FROM app.c"),
        view("c", "SELECT * FROM app.bad"),
        relation("bad", kind="f"),
        relation("good"),
    ]
    for order in (rows, rows[::-1]):
        assert of_relation("a", *order) == (
            "is a view: it reads app.b, which is a view: it reads app.c, which is a view: it reads app.bad, "
            "which is a foreign table, whose data is not the cluster's"
        )


def test_a_view_of_a_name_that_several_schemas_have() -> None:
    rows = [
        relation("t"),
        relation("t", schema="other", persistence="u"),
        view("here", "SELECT * FROM app.t"),
        view("there", "SELECT * FROM other.t"),
    ]
    found = catalog(*rows)
    assert hazards(found.relations, "here") == ""
    assert hazards(found.relations, "there") == "is a view: it reads other.t, which is unlogged"
    assert found.relations["t"] == (Thing("app", ""), Thing("other", "is unlogged"))


def test_views_in_a_circle_are_no_reason_and_no_end() -> None:
    rows = [
        view("a", "SELECT * FROM app.b"),
        view("b", "SELECT * FROM app.c"),
        view("c", "SELECT * FROM app.a"),
        view("self", "SELECT * FROM app.self"),
    ]
    found = catalog(*rows)
    assert [hazards(found.relations, name) for name in ("a", "b", "c", "self")] == [""] * 4


CIRCLE = [
    relation("t", persistence="u", policies=("EXISTS ( SELECT 1 FROM app.v)",)),
    view("v", "SELECT * FROM app.t"),
]


def test_a_view_over_a_table_whose_policy_reads_the_view() -> None:
    assert of_relation("v", *CIRCLE[::-1]) == "is a view: it reads app.t, which is unlogged"


def test_the_order_of_rows_does_not_matter_in_a_circle() -> None:
    assert of_relation("v", *CIRCLE) == "is a view: it reads app.t, which is unlogged"


def test_what_is_read_with_its_children_is_what_they_are() -> None:
    grandchild = relation("grandchild", kind="f")
    child = relation("child", children=(grandchild.oid,))
    parent = relation("parent", kind="p", children=(relation("good").oid, child.oid))
    found = catalog(parent, child, grandchild, view("v", "SELECT * FROM app.parent"))
    foreign = "is a foreign table, whose data is not the cluster's"
    assert hazards(found.relations, "child") == f"has the part grandchild, which {foreign}"
    assert hazards(found.relations, "parent") == f"has the part child, which has the part grandchild, which {foreign}"
    assert hazards(found.relations, "v").startswith("is a view: it reads app.parent, which has the part child")
    assert hazards(catalog(child, grandchild, relation("lone")).relations, "lone") == ""


# Operators and the rest


def test_an_operator_is_what_its_function_is() -> None:
    worse = function("worse", "SELECT touch()")
    rows = [
        touch,
        worse,
        GOOD,
        Operator(schema="app", name="@@@", function=touch.oid),
        Operator(schema="app", name="@@@", function=GOOD.oid),
        Operator(schema="other", name="@@@", function=GOOD.oid),
        Operator(schema="app", name="###", function=worse.oid),
        view("v", "SELECT 1 OPERATOR(app.@@@) 2"),
        view("w", "SELECT 1 OPERATOR(other.@@@) 2"),
    ]
    found = catalog(*rows)
    assert found.operators["@@@"] == (Thing("app", ""), Thing("app", VOLATILE), Thing("other", ""))
    assert hazards(found.operators, "###") == "mentions touch, which is volatile"
    assert hazards(found.relations, "v") == "is a view: it applies the operator app.@@@, which is volatile"
    assert hazards(found.relations, "w") == ""


def test_settings_are_handed_on() -> None:
    settings = {"search_path": {"": '"$user", public', "joe": "app"}}
    found = assemble("app", 7, gathered(settings=settings), FactsTable())
    assert (found.database, found.version, found.settings, found.hazard) == ("app", 7, settings, "")


# All of it


@pytest.mark.parametrize("order", [1, -1])
def test_views_upon_views_do_not_recurse(order: int) -> None:
    depth = 500
    rows = [view(f"v{number}", f"SELECT * FROM app.v{number + 1}") for number in range(depth)]
    rows += [relation(f"v{depth}", kind="f"), view(f"w{depth}", "SELECT 1")]
    rows += [view(f"w{number}", f"SELECT * FROM app.w{number + 1}") for number in range(depth)]
    found = catalog(*rows[::order])
    assert hazards(found.relations, "v0").count("is a view") == depth
    assert hazards(found.relations, "w0") == ""


def test_parts_of_parts_do_not_recurse() -> None:
    leaf = relation("t500", persistence="u")
    rows = [leaf]
    for number in range(499, -1, -1):
        rows.append(relation(f"t{number}", children=(rows[-1].oid,)))
    assert of_relation("t0", *rows).endswith("which is unlogged")


def test_the_same_rows_give_an_equal_catalog() -> None:
    base = type_("base", checks=("CHECK (app.touch())",))
    cast = Cast(source=MINE.oid, target=TEXT.oid, function=BAD.oid, implicit=True)
    rows = gathered(
        *WORSE_OPERATOR,
        ODD,
        SEQUENCE,
        BAD,
        MINE,
        base,
        cast,
        Support(type=MINE.oid, function=BAD.oid),
        *(function(f"f{number}", f"SELECT f{(number * 7 + 1) % 20}(), touch(), numbers") for number in range(20)),
        *(view(f"v{number}", f"SELECT * FROM app.v{(number * 7 + 1) % 20}, app.numbers") for number in range(20)),
        relation("t", columns=(MINE.oid,), policies=("app.touch()", "EXISTS ( SELECT 1 FROM app.v1)")),
        settings={"search_path": {"": "public"}},
    )
    texts = FactsTable()
    first = assemble("app", 1, rows, texts)
    assert assemble("app", 1, rows, texts) == first
    assert assemble("app", 1, rows, FactsTable()) == first
    assert assemble("app", 2, rows, texts) != first
