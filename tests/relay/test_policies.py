"""Which rule holds for a client."""

import msgspec
import pytest

from middleware.config import RoutePolicy
from middleware.relay.policies import KNOWN_MAX, Policies


def rule(balance: str, database: str | None = None, user: str | None = None, name: str | None = None) -> RoutePolicy:
    """A rule that its word for the balance tells from the others."""
    return RoutePolicy(database, user, name, "session", 0.0, 1.0, balance, "fallback", False, "primary", ())


RULES = Policies(
    (
        rule("both", "app", "app"),
        rule("user", user="app|ap+"),
        rule("database", database="a.*"),
        rule("nameless", database="x", name=""),
        rule("name", name="report(ing)?"),
        rule("rest"),
    )
)


@pytest.mark.parametrize(
    ("database", "user", "name", "expected"),
    [
        (b"app", b"app", b"", "both"),  # the first that matches
        (b"app2", b"app", b"", "user"),
        (b"x", b"appp", b"", "user"),
        (b"x", b"apples", b"", "nameless"),  # the whole of a name, and nothing is a name too
        (b"app2", b"x", b"reporting", "database"),
        (b"x", b"x", b"report", "name"),
        (b"x", b"x", b"my report", "rest"),
        (b"x", b"x", b"report\n", "rest"),
        (b"x", b"\xff", b"\xff", "rest"),
    ],
)
def test_the_first_rule_that_matches_holds(database: bytes, user: bytes, name: bytes, expected: str) -> None:
    # The second time it is remembered.
    assert [RULES.of(database, user, name, "unix").balance for _ in range(2)] == [expected] * 2


def test_a_name_counts_as_far_as_postgresql_keeps_it() -> None:
    policies = Policies((rule("long", name="a{63}"), rule("rest")))
    assert policies.of(b"", b"", b"a" * 64, "unix").balance == "long"
    assert policies.of(b"", b"", b"a" * 62, "unix").balance == "rest"


def test_names_that_clients_make_up_are_forgotten_in_time() -> None:
    policies = Policies((rule("odd", name=".*[13579]"), rule("even")))
    for number in range(2 * KNOWN_MAX + 10):
        assert policies.of(b"", b"", str(number).encode(), "unix").balance == ("odd" if number % 2 else "even")
    assert len(policies._known) <= KNOWN_MAX


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", "private"),
        ("::ffff:10.1.2.3", "private"),  # an IPv4 client of a socket for both
        ("11.1.2.3", "rest"),
        ("fd00::1%eth0", "local"),
        ("fe00::1", "rest"),
        ("unix", "local"),
    ],
)
def test_a_rule_may_be_for_addresses(address: str, expected: str) -> None:
    def at(balance: str, *networks: str) -> RoutePolicy:
        return msgspec.structs.replace(rule(balance), client_addr=networks)

    policies = Policies((at("private", "10.0.0.0/8"), at("local", "unix", "fd00::/8"), rule("rest")))
    assert [policies.of(b"d", b"u", b"", address).balance for _ in range(2)] == [expected] * 2


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("app", ["both", "user", "database"]),
        ("abc", ["user", "database"]),
        ("x", ["user", "nameless", "name", "rest"]),
        ("y", ["user", "name", "rest"]),
    ],
)
def test_which_rules_may_hold_for_clients_of_a_database(database: str, expected: list[str]) -> None:
    """Up to the first that asks for nothing else."""
    assert [policy.balance for policy in RULES.leading(database)] == expected


def test_a_rule_that_refuses_leads_nowhere() -> None:
    refusing = msgspec.structs.replace(rule("none", database="secret"), refuse=True)
    policies = Policies((rule("boss", database="secret", user="boss"), refusing, rule("rest")))
    assert [policy.balance for policy in policies.leading("secret")] == ["boss"]
    assert [policy.balance for policy in policies.leading("other")] == ["rest"]
