"""What an operator says of functions comes before what the catalog says."""

from parser.shapes import FactsTable
from routing.assemble import assemble
from routing.catalog import hazard_of
from routing.rows import Function, Overrides, Relation, Rows


def function(oid: int, name: str, volatility: str, body: str = "") -> Function:
    return Function(oid, "app", name, 0, 0, volatility, "f", False, "", "sql", body, False, (), ())


ROWS = Rows(
    functions=[
        function(20001, "lookup", "v"),
        function(20002, "audit", "s"),
        function(20003, "combined", "s", "SELECT app.audit(), app.lookup()"),
    ],
    relations=[Relation(20010, "app", "seen", "v", "p", "SELECT app.audit() AS a", (), (), ())],
)


def hazard(sql: str, overrides: Overrides) -> str:
    texts = FactsTable()
    return hazard_of(texts.facts_of(sql.encode()), assemble("d", 1, ROWS, texts, overrides))


def test_a_volatile_function_that_is_said_to_be_safe_is() -> None:
    assert hazard("SELECT app.lookup()", Overrides()) == "it calls app.lookup(), which is volatile"
    assert hazard("SELECT app.lookup(), app.combined()", Overrides(safe=("look.*",))) == ""
    assert hazard("SELECT app.lookup()", Overrides(safe=("app\\.lookup",))) == ""
    assert hazard("SELECT app.lookup()", Overrides(safe=("look",))) != ""


def test_a_function_said_to_be_for_the_primary_takes_all_that_uses_it_along() -> None:
    overrides = Overrides(primary=("audit",), safe=(".*",))
    assert hazard("SELECT audit()", overrides) == "it calls audit(), which is on the list primary_functions"
    assert hazard("SELECT * FROM seen", overrides).startswith("it reads seen, which is a view: it calls app.audit()")
    unsafe = Overrides(primary=("audit",), safe=("lookup",))
    assert (
        hazard("SELECT combined()", unsafe)
        == "it calls combined(), which mentions audit, which is on the list primary_functions"
    )
