"""Accounts are shared by who is alike; what they count is bounded, and nothing of it is lost at the bound."""

from msgspec.structs import replace

from middleware.config import RoutePolicy
from middleware.relay.accounts import HERE, Accounts, Tallies
from middleware.reports import OTHERS, TRAFFIC_MAX
from middleware.session.digests import Digests
from parser.shapes import FactsTable

POLICY = RoutePolicy(None, None, None, "session", 0.0, 1.0, "random", "fallback", False, "primary", ())


def accounts() -> tuple[Accounts, Tallies]:
    tallies = Tallies()
    return Accounts(tallies, Digests(10, FactsTable())), tallies


def test_who_is_alike_shares_an_account_and_users_of_a_database_their_counts() -> None:
    known, tallies = accounts()
    one, other = known.of(b"d", b"u", POLICY), known.of(b"d", b"v", POLICY)
    assert known.of(b"d", b"u", POLICY) is one
    assert one is not other
    assert one.tally("a") is other.tally("a")
    assert one.tally("a") is not known.of(b"e", b"u", POLICY).tally("a")
    assert one.tally("a").timings is known.of(b"e", b"u", POLICY).tally("a").timings
    rule = replace(POLICY, name="reports")
    assert known.of(b"d", b"u", rule).tally("a").timings is not one.tally("a").timings
    one.tally("a").queried(0.5)
    one.here.answered(1, 2, xact=True)
    found = {(report.database, report.route, report.node): report for report in tallies.traffic()}
    assert found["d", "", "a"].queries == found["d", "", HERE].queries == 1
    assert found["d", "reports", "a"].queries == 0
    assert {(report.route, report.node) for report in tallies.timings()} == {("", "a"), ("reports", "a")}


def test_a_login_alone_takes_no_place() -> None:
    known, tallies = accounts()
    for number in range(2 * TRAFFIC_MAX):
        known.of(b"%d" % number, b"u", POLICY)
    assert tallies.traffic() == ()


def test_beyond_the_bound_databases_are_counted_together() -> None:
    known, tallies = accounts()
    for number in range(TRAFFIC_MAX + 50):
        known.of(b"d%d" % number, b"u", POLICY).tally("a").queried(0.0)
    found = tallies.traffic()
    assert len(found) == TRAFFIC_MAX + 1
    assert sum(report.queries for report in found) == TRAFFIC_MAX + 50
    (others,) = [report for report in found if report.database == OTHERS]
    assert others.queries == 50
    assert len(tallies.timings()) == 1
