"""Tables made of reports by hand: what is added up, what is not, and in which order."""

from typing import Any

import msgspec
import pytest

from middleware.admin import show_settings, show_stats, show_traffic
from middleware.admin.columns import COLUMNS
from middleware.admin.table import Table
from middleware.config import Settings, build_settings
from middleware.reports import ClientReport, DigestReport, PoolReport, PreparedReport, ServerReport, TrafficReport
from middleware.supervisor.console_clients import PART_BYTES_MAX, PART_ROWS_MAX, parts_of

POOL = PoolReport(
    node="db1",
    database="app",
    user="app",
    route="",
    mode="transaction",
    size=20,
    min_size=1,
    reserve_size=2,
    cl_active=3,
    cl_waiting=1,
    cl_active_cancel_req=0,
    cl_waiting_cancel_req=0,
    sv_active=2,
    sv_active_cancel=0,
    sv_being_canceled=0,
    sv_idle=4,
    sv_used=1,
    sv_tested=0,
    sv_login=1,
    sv_closing=0,
    maxwait_s=1.25,
    state="active",
)
CLIENT = ClientReport(
    process_id=7,
    database="app",
    user="app",
    application_name="web",
    state="active",
    addr="10.0.0.9",
    port=50_000,
    local_addr="10.0.0.1",
    local_port=6432,
    connected_at=1_795_813_200.0,
    requested_at=1_795_813_201.5,
    waited_s=0.0,
    route="reports",
    mode="transaction",
    link=4711,
    node="db2",
    tls="TLSv1.3/TLS_AES_256_GCM_SHA384",
    prepared_statements=2,
    pinned="a temporary table",
    replication="",
)
SERVER = ServerReport(
    process_id=4711,
    node="db2",
    host="10.0.0.3",
    port=5432,
    database="app",
    user="app",
    application_name="web",
    state="active",
    local_addr="10.0.0.1",
    local_port=40_000,
    connected_at=1_795_813_100.0,
    requested_at=1_795_813_201.5,
    close_needed=True,
    link=7,
    route="reports",
    tls="",
    prepared_statements=5,
)


def but(report: Any, **other: object) -> Any:
    return msgspec.structs.replace(report, **other)


def rows(table: Table) -> list[dict[str, Any]]:
    """Each as a dictionary; every one has a value for each column."""
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def settings(**more: Any) -> Settings:
    return build_settings(
        {
            "health_check": {"user": "monitor", "password": "secret-one"},
            "nodes": {"db1": {"host": "10.0.0.2"}},
            "users": {"app": {"password": "secret-two"}},
            **more,
        }
    )


# Pools and connections


def test_pools_of_a_database_and_user_are_one() -> None:
    standby = but(POOL, node="db2", cl_active=0, cl_waiting=0, sv_active=1, maxwait_s=0.0)
    other_worker = but(POOL, maxwait_s=2.000_001)
    found = rows(show_traffic.pools([POOL, standby, other_worker, but(POOL, user="b", cl_active=1)], 2))
    assert [(one["database"], one["user"]) for one in found] == [
        ("app", "app"),
        ("app", "b"),
        ("pgbouncer", "pgbouncer"),
    ]
    app = found[0]
    assert (app["cl_active"], app["cl_waiting"], app["sv_active"], app["sv_idle"]) == (6, 2, 5, 12)
    assert (app["maxwait"], app["maxwait_us"]) == (2, 1)
    assert (app["pool_mode"], app["load_balance_hosts"]) == ("transaction", None)
    assert (found[2]["cl_active"], found[2]["pool_mode"]) == (2, "statement")


def test_pools_of_a_node_are_told_by_rule() -> None:
    found = rows(show_traffic.node_pools([POOL, but(POOL, state="draining"), but(POOL, route="reports")]))
    assert [(one["node"], one["route"], one["state"]) for one in found] == [
        ("db1", "", "draining"),
        ("db1", "reports", "active"),
    ]
    assert (found[0]["cl_active"], found[0]["sv_idle"], found[0]["pool_size"]) == (6, 8, 20)
    assert found[0]["maxwait_ms"] == 1250.0


def test_a_client() -> None:
    waiting = but(CLIENT, process_id=8, state="waiting", waited_s=3.25, link=0, node="", connected_at=1_795_813_000.0)
    first, second = rows(show_traffic.clients([CLIENT, waiting]))
    assert (first["id"], first["wait"], first["wait_us"], first["link"]) == (8, 3, 250_000, "")
    assert (second["type"], second["id"], second["ptr"], second["link"]) == ("C", 7, "client/7", "db2/4711")
    assert (second["connect_time"], second["request_time"]) == ("2026-11-27 21:00:00 UTC", "2026-11-27 21:00:01 UTC")
    assert second["replication"] == "none"


def test_a_server() -> None:
    [found] = rows(show_traffic.servers([SERVER]))
    assert (found["type"], found["ptr"], found["link"], found["remote_pid"]) == ("S", "db2/4711", "client/7", 4711)
    assert (found["addr"], found["port"], found["close_needed"]) == ("10.0.0.3", 5432, 1)


def test_sockets_are_both_and_active_ones_are_those_at_work() -> None:
    idle, spare = but(CLIENT, state="idle"), but(SERVER, state="idle")
    new = but(SERVER, state="new", requested_at=0.0)
    every = rows(show_traffic.sockets([CLIENT, idle], [SERVER, spare, new], active=False))
    assert [one["state"] for one in every] == ["cl_active", "cl_active", "sv_active", "sv_idle", "sv_login"]
    assert every[-1]["request_time"] == ""
    active = rows(show_traffic.sockets([CLIENT, idle], [SERVER, spare, new], active=True))
    assert [one["state"] for one in active] == ["cl_active", "sv_active", "sv_login"]


def test_what_is_held_is_told_as_of_one_buffer() -> None:
    client = but(CLIENT, unread_bytes=5, unsent_bytes=30)
    server = but(SERVER, unread_bytes=2, unsent_bytes=400, left_bytes=1000)
    names = ("recv_pos", "pkt_pos", "pkt_remain", "send_pos", "send_remain", "pkt_avail", "send_avail")
    found = rows(show_traffic.sockets([client], [server], active=True))
    told = [tuple(one[name] for name in names) for one in found]
    assert told == [(35, 30, 0, 0, 0, 5, 30), (402, 400, 1000, 0, 0, 2, 400)]


def test_descriptors_are_told_by_worker_and_link_within_it() -> None:
    of_clients = [
        (1, but(CLIENT, descriptor=20)),
        (0, but(CLIENT, process_id=8, descriptor=21, user="idle", link=0, node="")),
        (0, but(CLIENT, process_id=9, descriptor=20, user="early", link=999)),
    ]
    # Nodes count their backends each for itself, and workers their descriptors.
    of_servers = [
        (1, but(SERVER, descriptor=15)),
        (0, but(SERVER, descriptor=16, node="db1", link=0)),
        (1, but(SERVER, descriptor=17, node="db1", link=0)),
    ]
    found = rows(show_traffic.descriptors({4: ("unix", 6432), 3: ("127.0.0.1", 6432)}, of_clients, of_servers))
    names = ("fd", "task", "user", "addr", "port", "link")
    assert [tuple(one[name] for name in names) for one in found] == [
        (3, "pooler", None, "127.0.0.1", 6432, None),
        (4, "pooler", None, "unix", 6432, None),
        (16, "server", "app", "10.0.0.3", 5432, None),
        (20, "client", "early", "10.0.0.9", 50_000, None),
        (21, "client", "idle", "10.0.0.9", 50_000, None),
        (15, "server", "app", "10.0.0.3", 5432, 20),
        (17, "server", "app", "10.0.0.3", 5432, None),
        (20, "client", "app", "10.0.0.9", 50_000, 15),
    ]
    assert {(one["cancel"], one["password"], one["scram_server_key"]) for one in found} == {(None, None, None)}


def test_sessions_tell_of_rule_node_and_pin() -> None:
    [found] = rows(show_traffic.sessions([CLIENT]))
    assert (found["route"], found["node"], found["pinned"]) == ("reports", "db2", "a temporary table")


def test_prepared_statements_are_one_over_all_workers() -> None:
    one = PreparedReport("_pointsman_1", 3, 1, 40, "select $1")
    found = rows(
        show_traffic.prepared_statements(
            [(0, one), (1, but(one, name="_pointsman_9", clients=1)), (1, but(one, shape="select now()", clients=9))]
        )
    )
    assert [(row["shape"], row["clients"], row["servers"], row["workers"]) for row in found] == [
        ("select now()", 9, 1, 1),
        ("select $1", 4, 2, 2),
    ]


def test_lists() -> None:
    found = {
        row["list"]: row["items"] for row in rows(show_traffic.lists([POOL, but(POOL, node="db2")], 5, 1, 2, 3, 4))
    }
    assert (found["pools"], found["used_clients"], found["used_servers"]) == (2, 5, 16)
    assert (found["login_clients"], found["databases"], found["users"], found["dns_names"]) == (1, 2, 3, 4)


# Settings


def test_databases_are_those_that_rules_name_and_those_in_use() -> None:
    chosen = settings(
        routes=[
            {"database": "gone", "refuse": "on"},
            {"database": "alias", "server_database": "app", "pool_mode": "session", "pool_size": 3},
            {"database": "pg\\.stat", "max_db_connections": 9},
            {"database": "report.*", "pool_size": 4},
            {"database": "app", "user": "b", "pool_size": 5},
        ]
    )
    found = {
        row["name"]: row
        for row in rows(
            show_settings.databases(
                chosen,
                [POOL],
                [CLIENT, but(CLIENT, database="pointsman")],
                ("10.0.0.2", 5432),
                {"app": True},
                {"x": True},
            )
        )
    }
    assert list(found) == ["alias", "app", "pg.stat", "x", "pgbouncer"]
    alias, app = found["alias"], found["app"]
    assert (alias["database"], alias["pool_mode"], alias["pool_size"]) == ("app", "session", 3)
    assert (app["pool_mode"], app["pool_size"], app["host"], app["port"]) == (None, 20, "10.0.0.2", 5432)
    assert (app["current_connections"], app["current_client_connections"]) == (8, 1)
    assert (app["paused"], app["disabled"], found["x"]["disabled"]) == (1, 0, 1)
    assert found["pg.stat"]["max_connections"] == 9
    assert found["pgbouncer"]["current_client_connections"] == 1


def test_without_a_primary_a_database_has_no_host() -> None:
    [row, _] = rows(show_settings.databases(settings(), [POOL], [], None, {}, {}))
    assert (row["host"], row["port"]) == (None, None)


def test_users_are_those_with_passwords_and_those_in_use() -> None:
    found = rows(show_settings.users(settings(), ["app", "idle"], [POOL], [CLIENT, but(CLIENT, user="seen")]))
    assert [(row["name"], row["current_connections"], row["current_client_connections"]) for row in found] == [
        ("app", 8, 1),
        ("idle", 0, 0),
        ("seen", 0, 1),
    ]


def test_the_configuration_hides_what_is_secret() -> None:
    table = show_settings.config(settings(dashboard_password="secret-three"))
    assert "secret-" not in repr(table)
    found = {row["key"]: row for row in rows(table)}
    assert found["dashboard_password"]["value"] == "********"
    assert (found["max_client_conn"]["value"], found["listen_port"]["changeable"]) == ("1000", "no")


def test_routes_end_with_everybody() -> None:
    found = rows(show_settings.routes(settings(routes=[{"name": "reports", "user": "r.*"}]).policies()))
    assert [(row["position"], row["name"], row["user"]) for row in found] == [(1, "reports", "r.*"), (2, "", None)]


# What has gone through

TRAFFIC = TrafficReport(
    "app",
    "",
    "db1",
    assignments=10,
    xacts=10,
    queries=20,
    received_bytes=1000,
    sent_bytes=5000,
    xact_s=0.5,
    query_s=0.25,
    wait_s=0.001,
    client_parses=1,
    server_parses=2,
    binds=3,
)


def test_stats_add_up_nodes_and_rules() -> None:
    period = show_stats.Period(
        (TRAFFIC, but(TRAFFIC, node="db2"), but(TRAFFIC, database="b")),
        (TRAFFIC,),
        10.0,
    )
    app, b = rows(show_stats.stats(period))
    assert (app["database"], app["total_query_count"], app["total_received"], app["total_sent"]) == (
        "app",
        40,
        2000,
        10_000,
    )
    assert (app["total_xact_time"], app["total_query_time"], app["total_wait_time"]) == (1_000_000, 500_000, 2000)
    # In ten seconds: 20 queries, of 12.5 ms each.
    assert (app["avg_query_count"], app["avg_query_time"], app["avg_recv"]) == (2, 12_500, 100)
    assert (app["avg_xact_count"], app["avg_xact_time"], app["avg_wait_time"]) == (1, 50_000, 100)
    assert b["avg_query_count"] == 2
    assert [row["query_count"] for row in rows(show_stats.stats_totals(period))] == [40, 20]
    assert [row["query_count"] for row in rows(show_stats.stats_averages(period))] == [2, 2]
    totals = {row["name"]: row["value"] for row in rows(show_stats.totals(period))}
    assert (totals["total_query_count"], totals["avg_query_count"], totals["total_client_bytes"]) == (60, 4, 3000)


def test_without_time_there_are_no_averages() -> None:
    [row] = rows(show_stats.stats(show_stats.Period((TRAFFIC,), (), 0.0)))
    assert (row["total_query_count"], row["avg_query_count"], row["avg_query_time"]) == (20, 0, 0)


DIGEST = DigestReport("app", "select $1", 4, 1, 4, 0.4, 0.2, 1, 3, 0, "")


@pytest.mark.parametrize(
    ("order", "limit", "shapes"),
    [
        ("total", 0, ["select $1", "select 2", "select 3"]),
        ("calls", 0, ["select 3", "select $1", "select 2"]),
        ("mean", 2, ["select 2", "select $1"]),
    ],
)
def test_digests(order: Any, limit: int, shapes: list[str]) -> None:
    others = [but(DIGEST, shape="select 2", calls=1, total_s=0.3), but(DIGEST, shape="select 3", calls=50, total_s=0.1)]
    table = show_stats.digests([DIGEST, but(DIGEST, reason="it writes", max_s=0.3), *others], order, limit)
    found = {row["shape"]: row for row in rows(table)}
    assert list(found) == shapes
    one = found["select $1"]
    assert (one["calls"], one["errors"], one["total_ms"], one["mean_ms"], one["max_ms"]) == (8, 2, 800.0, 100.0, 300.0)
    assert (one["on_primary"], one["on_standbys"], one["reason"]) == (2, 6, "it writes")


# Parts


def test_parts_have_a_bound_and_all_rows_in_order() -> None:
    few = tuple((number, "x") for number in range(PART_ROWS_MAX * 2 + 1))
    parts = list(parts_of(few))
    assert [len(part) for part in parts] == [PART_ROWS_MAX, PART_ROWS_MAX, 1]
    assert sum(parts, ()) == few
    wide = tuple(("y" * (PART_BYTES_MAX - 10), number) for number in range(3))
    assert [len(part) for part in parts_of(wide)] == [1, 1, 1]
    assert list(parts_of(())) == [()]


def test_every_column_has_a_name_of_its_own() -> None:
    for subject, columns in COLUMNS.items():
        assert len({column.name for column in columns}) == len(columns), subject
