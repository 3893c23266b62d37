"""When a change of each setting takes effect: each has its place in the table; and what is different is told."""

from typing import Any

from middleware.config import Settings, build_settings
from middleware.config.reloads import AT_ONCE, NEW_CONNECTIONS, RESTART, WHEN, when
from middleware.config.shown import HIDDEN, Change, changes, config_values, kept, values

SECRET = "hunter2-is-a-secret"
WITH_ALL_TABLES = {
    "health_check": {"user": "monitor", "password": SECRET},
    "nodes": {"db1": {"host": "127.0.0.1"}},
    "users": {"app": {"password": SECRET}},
    "routes": [{"database": "app", "pool_size": 3}],
    "etcd_user": "u",
    "etcd_password": SECRET,
    "cache_redis_url": f"redis://:{SECRET}@h",
    "dashboard_password": SECRET,
    "otel_endpoint": f"http://u:{SECRET}@h:4318",
}


def settings(**other: Any) -> Settings:
    """All tables have something in them."""
    return build_settings({**WITH_ALL_TABLES, **other})


def test_each_setting_has_its_place() -> None:
    missing = []
    for one in values(settings()):
        try:
            assert when(one.pattern) in (AT_ONCE, NEW_CONNECTIONS, RESTART)
        except KeyError:
            missing.append(one.pattern)
    assert not missing, "say in middleware/config/reloads.py when a change of it takes effect"


def test_nothing_in_the_table_is_no_setting() -> None:
    patterns = {one.pattern for one in values(settings())}
    parents = {f"{pattern.rpartition('.')[0]}.*" for pattern in patterns}
    assert WHEN.keys() <= patterns | parents


def test_what_needs_a_restart_stands_at_the_top_level() -> None:
    """As kept() has it."""
    assert all("." not in pattern for pattern, one in WHEN.items() if one == RESTART)


def test_no_secret_is_shown() -> None:
    shown = config_values(settings())
    assert SECRET not in repr(shown)
    assert {one.key for one in shown if one.value == HIDDEN} == {
        "health_check.password",
        "users.app.password",
        "etcd_password",
        "cache_redis_url",
        "dashboard_password",
        "otel_endpoint",
    }
    by_key = {one.key: one for one in shown}
    assert by_key["users.app.password"].default == ""
    assert by_key["default_pool_size"] == ("default_pool_size", "20", "20", True)
    assert by_key["workers"] == ("workers", "1", "1", False)
    assert by_key["nodes.db1.host"] == ("nodes.db1.host", "127.0.0.1", "", True)
    assert by_key["routes[0].pool_size"] == ("routes[0].pool_size", "3", "", True)
    assert by_key["session_state.settings"] == ("session_state.settings", "track", "track", True)
    assert by_key["admin_users"].value == "[]"


def test_the_same_settings_differ_in_nothing() -> None:
    assert changes(settings(), settings()) == ((), ())


def test_what_differs_is_told() -> None:
    new = settings(
        default_pool_size=30,
        query_timeout=1.5,
        workers=4,
        nodes={"db1": {"host": "127.0.0.1", "weight": 2}, "db2": {"host": "h", "port": 5433}},
        users={"app": {"password": "another"}, "b": {"password": "c"}},
        routes=[{"database": "app", "pool_size": 4}, {"user": "b", "name": "of-b"}],
        log={"level": "debug"},
    )
    found = changes(settings(), new)
    assert set(found.live) == {
        Change("default_pool_size", "20", "30"),
        Change("query_timeout", "0", "1.5"),
        Change("nodes.db1.weight", "1", "2"),
        Change("nodes.db2", "", "node at h:5433"),
        Change("users.app.password", HIDDEN, HIDDEN),
        Change("users.b", "", "user"),
        Change("routes[0].pool_size", "3", "4"),
        Change("routes[1]", "", 'rule "of-b"'),
        Change("log.level", "info", "debug"),
    }
    assert found.restart == (Change("workers", "1", "4"),)
    back = changes(new, settings())
    assert Change("nodes.db2", "node at h:5433", "") in back.live
    assert Change("routes[1]", 'rule "of-b"', "") in back.live
    assert Change("users.b", "user", "") in back.live


def test_what_needs_a_restart_is_kept() -> None:
    old, new = settings(), settings(workers=4, listen_port=7000, default_pool_size=30)
    in_force = kept(old, new)
    assert (in_force.workers, in_force.listen_port, in_force.default_pool_size) == (1, 6432, 30)
    assert changes(in_force, new).restart == (Change("listen_port", "6432", "7000"), Change("workers", "1", "4"))
    assert changes(in_force, new).live == ()
