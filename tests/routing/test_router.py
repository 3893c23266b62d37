"""Decisions from facts and catalog."""

import pytest

from parser.shapes import FactsTable
from routing.catalog import Catalog
from routing.router import NO_CATALOG, Decision, Router, Target, decide

CATALOG = Catalog("app", 1, frozenset({"lower", "now", "count", "txid_current"}))


def decision(text: str, catalog: Catalog | None = CATALOG) -> Decision:
    return decide(FactsTable().facts_of(text.encode()), catalog)


@pytest.mark.parametrize(
    "text", ["SELECT 1", "SELECT lower(a), count(*) FROM t WHERE b < now()", "SELECT PG_CATALOG.LOWER('X')"]
)
def test_reads_go_to_a_standby(text: str) -> None:
    assert decision(text) == Decision(Target.STANDBY, "it only reads")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT random()", "it calls random(), which is volatile or not known"),
        ("SELECT app.lower2(1)", "it calls lower2(), which is volatile or not known"),
        ('SELECT "LOWER"(1)', "it calls LOWER(), which is volatile or not known"),
        ("SELECT txid_current()", "it calls txid_current(), which assigns a transaction id, which a standby cannot"),
        ("SELECT 1 FOR SHARE", "it locks rows (FOR UPDATE or FOR SHARE)"),
        ("nonsense", "its text could not be read"),
        ("", "it is empty"),
    ],
)
def test_all_else_goes_to_the_primary_and_says_why(text: str, reason: str) -> None:
    assert decision(text) == Decision(Target.PRIMARY, reason)


def test_without_a_catalog_nothing_is_known() -> None:
    assert decision("SELECT 1", None) is NO_CATALOG
    assert decision("INSERT INTO t VALUES (1)", None).reason == "it is INSERT"


def test_a_new_catalog_changes_what_was_decided() -> None:
    router = Router()
    facts = FactsTable().facts_of(b"SELECT f()")
    assert router.route(facts).target is Target.PRIMARY
    router.set_catalog(Catalog("app", 1, frozenset({"f"})))
    assert router.route(facts).target is Target.STANDBY
    router.set_catalog(Catalog("app", 2, frozenset()))
    assert router.route(facts).target is Target.PRIMARY


def test_without_further_snapshots_all_goes_to_the_primary() -> None:
    router = Router()
    router.set_catalog(CATALOG)
    facts = FactsTable().facts_of(b"SELECT 1")
    assert router.route(facts).target is Target.STANDBY
    router.retire()
    assert router.route(facts) is NO_CATALOG
