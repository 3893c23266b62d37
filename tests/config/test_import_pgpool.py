"""Settings made of pgpool-II's: what they become, what is said of the rest, and that ours take them."""

from pathlib import Path
from typing import Any

import pytest

from middleware.config.from_pgpool import from_pgpool
from middleware.config.imported import Imported
from tests.config.import_files import noted, policy, refused, taken, written

PGPOOL = r"""
# comment
listen_addresses = 'localhost'
port = 9999
num_init_children = 64   # with a comment
backend_hostname0 = 'db-a'
backend_port0 = 5432
backend_weight0 = 1
backend_hostname2 = 'db-b'
backend_port2 = 5433
backend_weight2 = 0.5
backend_flag2 = 'ALLOW_TO_FAILOVER'
connect_timeout = 10000
connection_life_time = 5min
client_idle_limit = 0
health_check_user = 'checker'
health_check_password = 'TEXTpw'
sr_check_user = 'other'
health_check_period = 0
sr_check_period = 10
delay_threshold = 1000000
ssl = on
primary_routing_query_pattern_list = 'SELECT \* FROM one;two\;too LIKE \'%a%\''
white_function_list = 'get_.*, Other'
statement_level_load_balance = on
memory_cache_enabled = off
failover_command = '/bin/promote %d'
"""
NODES = "backend_hostname0 = 'a'\nbackend_port0 = 5432\nbackend_hostname1 = 'b'\nbackend_port1 = 5432\n"
USERS = 'settings: users: missing: auth_type "scram-sha-256" needs tables [users.NAME], auth_file or auth_user'


def imported(text: str, directory: Path = Path("/etc/pgpool2")) -> Imported:
    return from_pgpool(directory / "pgpool.conf", text)


def test_a_file() -> None:
    found = imported(PGPOOL)
    values = written(found)
    assert values.pop("nodes") == {
        "db0": {"host": "db-a", "port": 5432, "weight": 10},
        "db2": {"host": "db-b", "port": 5433, "weight": 5},
    }
    assert values.pop("health_check") == {
        "user": "checker",
        "password": "pw",
        "period": 10,
        "timeout": 20,
        "max_retries": 0,
    }
    assert values == {
        "pool_mode": "session",
        "listen_addr": "localhost",
        "listen_port": 9999,
        "unix_socket_dir": "/tmp",
        "max_client_conn": 64,
        "default_pool_size": 64,
        "server_connect_timeout": 10,
        "server_idle_timeout": 300,
        "client_idle_timeout": 0,
        "read_from_primary": "always",
        "session_affinity": "off",
        "max_replica_lag_bytes": 1000000,
        "client_tls_sslmode": "disable",
        "primary_queries": [r"^(?:SELECT \* FROM one)$", r"^(?:two;too LIKE \'%a%\')$"],
        "safe_functions": ["get_.*", "(?i:Other)"],
    }
    assert [note.partition(":")[0] for note in found.notes] == [
        "pool_mode",
        "backend_weight",
        "health_check_period",
        "read_from_primary",
        "max_replica_lag",
        "read_only_function_list",
        "num_init_children",
        "default_pool_size",
        "ssl",
        "pool_passwd",
        "backend_flag2",
        "failover_command",
    ]
    assert refused(found) == [USERS]


def test_defaults_are_written_out() -> None:
    assert imported(NODES).values == {
        "pool_mode": "session",
        "listen_addr": "localhost",
        "listen_port": 9999,
        "unix_socket_dir": "/tmp",
        "max_client_conn": 32,
        "default_pool_size": 32,
        "server_connect_timeout": 10,
        # Never.
        "server_idle_timeout": 0,
        "read_from_primary": "always",
        "session_affinity": "on",
        "max_replica_lag_bytes": 0,
        "client_tls_sslmode": "disable",
    }


@pytest.mark.parametrize(
    ("text", "expected", "told"),
    [
        ("load_balance_mode = off", {"consistency": "primary", "read_from_primary": None}, "load_balance_mode"),
        ("reserved_connections = 2", {"max_client_conn": 30, "admin_reserved_conn": None}, "default_pool_size"),
        ("connect_timeout = 0", {"server_connect_timeout": None}, "connect_timeout"),
        ("connect_timeout0 = 5s", {"server_connect_timeout": 10}, "connect_timeout0"),
        ("authentication_timeout = 0", {"client_login_timeout": None}, "authentication_timeout"),
        ("authentication_timeout = 1min", {"client_login_timeout": 60}, None),
        ("unix_socket_permissions = 0770", {"unix_socket_mode": "0770"}, None),
        ("unix_socket_permissions = 511", {"unix_socket_mode": "0777"}, None),
        ("unix_socket_permissions = rw", {"unix_socket_mode": None}, "unix_socket_permissions"),
        ("socket_dir = '/a'", {"unix_socket_dir": "/a"}, None),
        ("unix_socket_directories = '/a, /b'", {"unix_socket_dir": "/a"}, "unix_socket_directories"),
        ("listen_addresses = ''\nsocket_dir = ''", {"listen_addr": None}, "listen_addresses"),
        ("delay_threshold = 16MB", {"max_replica_lag_bytes": 2**24}, "max_replica_lag"),
        ("delay_threshold = a lot", {"max_replica_lag_bytes": None}, "delay_threshold"),
        # Bytes do not count beside it.
        (
            "delay_threshold = 5\ndelay_threshold_by_time = 1500",
            {"max_replica_lag": 1.5, "max_replica_lag_bytes": None},
            None,
        ),
        ("black_function_list = 'f,g'", {"primary_functions": ["f", "g"]}, "write_function_list"),
        ("write_function_list = '*,[[:alpha:]],g'", {"primary_functions": ["g"]}, "write_function_list"),
        ("primary_routing_query_pattern_list = ';(;'", {"primary_queries": None}, "primary_routing_query_pattern_list"),
        ("enable_pool_hba = on", {"auth_type": "hba", "auth_hba_file": "/etc/pgpool2/pool_hba.conf"}, "pool_passwd"),
        (
            "ssl = on\nssl_cert = 'c.crt'\nssl_key = '/k.key'\nssl_ca_cert = 'ca.crt'",
            {
                "client_tls_sslmode": "prefer",
                "client_tls_cert_file": "/etc/pgpool2/c.crt",
                "client_tls_key_file": "/k.key",
                "server_tls_sslmode": "verify-ca",
                "server_tls_ca_file": "/etc/pgpool2/ca.crt",
            },
            "ssl_ca_cert",
        ),
        ("ssl_cert = 'c.crt'", {"client_tls_cert_file": None, "client_tls_sslmode": "disable"}, None),
        ("backend_clustering_mode = 'snapshot_isolation'", {}, "backend_clustering_mode"),
        ("replication_mode = on", {}, "replication_mode"),
        ("connection_cache = off", {"server_lifetime": 0.001}, "connection_cache"),
        ("connection_cache = on", {"server_lifetime": None}, None),
        ("reset_query_list = 'ABORT; DISCARD ALL'", {}, None),
        ("reset_query_list = 'ABORT; RESET ALL'", {}, "reset_query_list"),
        ("follow_master_command = 'x'", {}, "follow_primary_command"),
        (
            "memory_cache_enabled = on",
            {
                "query_cache": "on",
                "query_cache_size": 2**26,
                "max_cached_result_size": 409_600,
                # There an answer does not expire.
                "query_cache_ttl": 0,
            },
            "memory_cache_enabled",
        ),
        (
            "memory_cache_enabled = on\nmemqcache_total_size = 1000\nmemqcache_maxcache = 2kB\nmemqcache_expire = 1min",
            {"query_cache_size": 1000, "max_cached_result_size": 1000, "query_cache_ttl": 60},
            "max_cached_result_size",
        ),
        # It may be turned on later.
        ("memqcache_expire = 5", {"query_cache": None, "query_cache_ttl": 5, "query_cache_size": None}, None),
        ("memqcache_total_size = lots", {"query_cache_size": None}, "memqcache_total_size"),
        ("memqcache_method = 'memcached'", {"query_cache": None}, None),
        ("memory_cache_enabled = on\nmemqcache_method = 'memcached'", {}, "memqcache_method"),
        ("memory_cache_enabled = on\nmemqcache_method = 'shmem'", {}, None),
        ("memory_cache_enabled = on\nmemqcache_max_num_cache = 1000", {}, "memqcache_max_num_cache"),
        ("memory_cache_enabled = on\nmemqcache_auto_cache_invalidation = on", {}, None),
        (
            "memory_cache_enabled = on\nmemqcache_auto_cache_invalidation = off",
            {},
            "memqcache_auto_cache_invalidation",
        ),
        (
            "cache_unsafe_memqcache_table_list = 'a.*, Public.b'",
            {"cache_unsafe_relations": ["a.*", "(?i:Public.b)"]},
            None,
        ),
        ("black_memqcache_table_list = 'a'", {"cache_unsafe_relations": ["a"]}, None),
        (
            "memory_cache_enabled = on\nwhite_memqcache_table_list = 'a'",
            {"cache_safe_relations": None},
            "cache_safe_memqcache_table_list",
        ),
        ("num_init_children = x", {"max_client_conn": 32, "default_pool_size": 32}, "num_init_children"),
    ],
)
def test_a_value(text: str, expected: dict[str, Any], told: str | None) -> None:
    found = imported(NODES + text)
    values = written(found)
    assert {name: values.get(name) for name in expected} == expected
    assert told is None or noted(found, told)
    if told is None:
        name = text.rpartition("\n")[2].partition(" =")[0]
        assert not noted(found, name)


def test_what_is_off_is_not_told_of() -> None:
    assert imported(NODES + "memory_cache_enabled = off\nuse_watchdog = off\nfailover_command = ''\n").notes == (
        imported(NODES).notes
    )


@pytest.mark.parametrize(
    ("text", "expected", "told"),
    [
        # A password is not given to another's user.
        ("health_check_user = 'a'\nsr_check_user = 'b'\nsr_check_password = 'x'", {"user": "b", "password": "x"}, ""),
        (
            "health_check_user0 = 'a'\nhealth_check_password0 = 'x'",
            {"user": "a", "password": "x"},
            "health_check_user0",
        ),
        ("health_check_user = 'a'\nhealth_check_user1 = 'b'", {"user": "a"}, "health_check_user1"),
        ("sr_check_user = 'a'\nsr_check_password = 'AESabc='", {"user": "a", "password": None}, "sr_check_password"),
        ("sr_check_user = 'a'\nsr_check_password = 'md5abc'", {"user": "a", "password": None}, "sr_check_password"),
        ("", {"user": "pointsman", "password": None}, "[health_check]"),
        ("health_check_retry_delay = 0", {"retry_delay": None}, "health_check_retry_delay"),
        ("health_check_max_retries = 5000", {"max_retries": 1000}, "health_check_max_retries"),
        ("health_check_timeout = 0", {"timeout": None}, "health_check_timeout"),
        ("relcache_expire = 0", {"catalog_refresh": None}, "relcache_expire"),
        ("sr_check_database = ''", {"database": None}, ""),
    ],
)
def test_health_checks(text: str, expected: dict[str, Any], told: str) -> None:
    found = imported(NODES + text)
    assert {key: found.health_check.get(key) for key in expected} == expected
    assert not told or noted(found, told)
    assert refused(found) == [USERS]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 3), [1, 3]),
        ((0, 1), [0, 1]),
        ((0.25, 0.75), [25, 75]),
        ((0.333, 1), [333, 1000]),
        ((5000, 10000), [500, 1000]),
        ((0.000001, 1), [1, 1000]),
        ((0, 0), [0, 0]),
    ],
)
def test_weights(weights: tuple[float, ...], expected: list[int]) -> None:
    found = imported(NODES + "".join(f"backend_weight{at} = {weight:f}\n" for at, weight in enumerate(weights)))
    assert [node["weight"] for node in found.nodes.values()] == expected
    assert refused(found) == [USERS]


def test_a_node_is_one_with_a_host() -> None:
    found = imported("backend_port0 = 5432\nbackend_hostname3 = ''\nbackend_port3 = 99999\n")
    assert found.nodes == {"db3": {"host": "/tmp"}}
    assert noted(found, "backend_hostname0")
    assert noted(found, "backend_port3")
    assert refused(found) == [USERS]


def test_preferences_are_rules_of_applications_before_databases() -> None:
    found = imported(
        NODES
        + "database_redirect_preference_list = 'postgres:primary,mydb[01]:1,mydb2:standby(1.0),x:1(0.3),y:7,[:1'\n"
        "app_name_redirect_preference_list = 'psql:standby'\n[users]"
    )
    assert found.routes == [
        {"application_name": "psql", "read_from_primary": "fallback"},
        {"database": "postgres", "consistency": "primary"},
        {"database": "mydb[01]", "prefer": ["db1"]},
        {"database": "mydb2", "read_from_primary": "fallback"},
    ]
    assert len(noted(found, "database_redirect_preference_list")) == 3
    found.users["u"] = {"password": "p"}
    settings = taken(found)
    assert policy(settings, "postgres", "u", "psql").read_from_primary == "fallback"
    assert policy(settings, "postgres", "u").consistency == "primary"
    assert policy(settings, "mydb1", "u").prefer == ("db1",)


def test_included_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("port = 7777\ninclude = 'none.conf'\n")
    found = imported(NODES + "port = 1\ninclude = 'more.conf'\n", tmp_path)
    assert found.values["listen_port"] == 7777
    assert "MISSING" in noted(found, "include none.conf")[0]
    (tmp_path / "more.conf").write_text("include 'more.conf'\n")
    with pytest.raises(ValueError, match="include each other"):
        imported(NODES + "include 'more.conf'\n", tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [("port = 1\n", "no backend_hostname0"), ("backend_hostname0 = 'a'\nbackend_weight0 = x\n", "backend_weight0")],
)
def test_no_pgpool_conf(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        imported(text)
