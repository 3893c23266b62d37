"""Which pools there can be, and what they come to."""

from typing import Any

import pytest

from middleware.doctor.facts import Database, DatabaseRole
from middleware.doctor.pools import assumption, servers
from tests.doctor.made import PRIMARY, made

APP, B = Database("app"), Database("b", refused=frozenset({"two"}))
USERS = {name: {"password": "s3cret-word"} for name in ("one", "two")}


@pytest.mark.parametrize(
    ("settings", "pools", "most"),
    [
        # Who may CONNECT where; "postgres" is not counted beside others.
        ({}, ["one@app 20", "two@app 20", "one@b 20"], 60),
        ({"reserve_pool_size": 5}, ["one@app 25", "two@app 25", "one@b 25"], 75),
        # The smaller sum of both limits: 30 + 20 of databases, 3 x 20 of users
        ({"max_db_connections": 30}, ["one@app 20", "two@app 20", "one@b 20"], 50),
        ({"max_user_connections": 15}, ["one@app 20", "two@app 20", "one@b 20"], 30),
        ({"max_user_connections": 15, "max_db_connections": 10}, ["one@app 20", "two@app 20", "one@b 20"], 20),
        # The first rule that matches, or any that its clients' names and addresses may lead to
        (
            {"routes": [{"name": "r", "database": "app", "pool_size": 5}]},
            ["one@app (r) 5", "two@app (r) 5", "one@b 20"],
            30,
        ),
        (
            {"routes": [{"name": "r", "database": "app", "application_name": "jobs", "pool_size": 5}]},
            ["one@app 20", "one@app (r) 5", "two@app 20", "two@app (r) 5", "one@b 20"],
            70,
        ),
        (
            {"routes": [{"name": "r", "database": "app", "client_addr": ["10.0.0.0/8"], "pool_size": 5}]},
            ["one@app 20", "one@app (r) 5", "two@app 20", "two@app (r) 5", "one@b 20"],
            70,
        ),
        # A rule that says nothing of pools shares the others'.
        ({"routes": [{"name": "r", "database": "app"}]}, ["one@app 20", "two@app 20", "one@b 20"], 60),
        ({"routes": [{"user": "t.*", "pool_size": 1}]}, ["one@app 20", "two@app (routes[0]) 1", "one@b 20"], 41),
        # One that limits a database has pools of its own, which others' servers count against.
        (
            {"routes": [{"database": "app", "application_name": "jobs", "max_db_connections": 10}]},
            ["one@app 20", "one@app (routes[0]) 20", "two@app 20", "two@app (routes[0]) 20", "one@b 20"],
            70,
        ),
        (
            {
                "routes": [{"database": "app", "application_name": "jobs", "max_db_connections": 10}],
                "max_db_connections": 12,
            },
            ["one@app 20", "one@app (routes[0]) 20", "two@app 20", "two@app (routes[0]) 20", "one@b 20"],
            24,
        ),
        # Other names on the nodes
        ({"routes": [{"server_user": "one"}]}, ["one@app 20", "one@b 20"], 40),
        (
            {"routes": [{"database": "shop", "server_database": "app", "server_user": "one"}]},
            ["one@app 20", "two@app 20", "one@b 20"],
            60,
        ),
        ({"routes": [{"server_database": "app"}]}, ["one@app 20", "two@app 20"], 40),
    ],
)
def test_pools_and_their_sum(settings: dict[str, Any], pools: list[str], most: int) -> None:
    case = made({"users": USERS, **settings}, {"databases": (APP, B, Database("postgres"))})
    found = servers(case)
    assert [f"{pool} {pool.servers}" for pool in found.pools] == pools
    assert found.most == most


def test_a_limit_of_one_rule_does_not_hold_the_pools_of_another() -> None:
    rule = {"user": "one", "pool_size": 20, "max_db_connections": 10}
    case = made({"users": USERS, "routes": [rule]}, {"databases": (APP,)})
    # Those of the rule may come first: 10, and then the other's 20.
    assert servers(case).most == 30


def test_what_admin_users_may_have_beyond() -> None:
    case = made({"users": USERS, "admin_users": ["one"], "max_db_connections": 10}, {"databases": (APP,)})
    assert servers(case).most == 10 + 3
    case = made({"users": USERS, "admin_users": ["one"]}, {"databases": (APP,)})
    assert servers(case).most == 20 + 3 + 20
    # Whoever the client is on the nodes.
    rule = {"user": "one", "server_user": "two"}
    case = made({"users": USERS, "admin_users": ["one"], "routes": [rule]}, {"databases": (APP,)})
    assert [f"{pool} {pool.servers}" for pool in servers(case).pools] == ["two@app 23"]


def test_everybody_whom_the_nodes_know_may_come() -> None:
    roles = (*PRIMARY.roles, DatabaseRole("other"), DatabaseRole("nologin", login=False))
    case = made({}, {"roles": roles}, open_to_all=True)
    assert [str(pool) for pool in servers(case).pools] == ["app@app", "other@app"]
    assert "users app, other;" in assumption(case)


def test_databases_that_are_named() -> None:
    case = made({"users": USERS}, {"databases": (APP, B)}, databases=("b",))
    assert [str(pool) for pool in servers(case).pools] == ["one@b"]
    assert "databases b;" in assumption(case)


def test_the_only_database_counts_whatever_it_is_called() -> None:
    case = made({}, {"databases": (Database("postgres"), Database("closed", allows_connections=False))})
    assert [str(pool) for pool in servers(case).pools] == ["app@postgres"]


def test_connections_of_the_supervisor() -> None:
    # A probe, a sampler and four catalogs; and auth_query's.
    assert servers(made()).own == 6
    assert servers(made({"auth_user": "app"})).own == 7
