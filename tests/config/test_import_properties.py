"""Of any file: what is written is taken by check-config, but for what a person must supply; and who comes in has what
PgBouncer would give it."""

import string
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.config.from_pgbouncer import from_pgbouncer
from middleware.config.from_pgpool import from_pgpool
from middleware.config.settings import Settings
from tests.config.import_files import only_needs, policy, refused, taken

NOWHERE = Path("/nowhere/x")
NUMBERS = (
    "0",
    "-1",
    "1",
    "007",
    "0777",
    "511",
    "0x1F",
    "99999999999999999999",
    "2.5",
    "1e9",
    "0.0000001",
    "08",
    "5min",
)
WORDS = (
    "",
    "on",
    "off",
    "*",
    "x",
    "session",
    "DISCARD ALL;",
    "tlsv1.3",
    "@a",
    "/tmp",
    "md5",
    "cert",
    "hba",
    "(",
    "a,b",
)
LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=12)
VALUES = st.sampled_from(NUMBERS + WORDS) | LINE

OTHERS = ("verbose", "client_tls_protocols", "server_tls_protocols", "so_reuseport", "peer_id", "reserve_pool")
PGBOUNCER = st.sampled_from((*Settings.model_fields, *OTHERS))
OF_A_DATABASE = (
    *("host", "port", "dbname", "user", "password", "pool_size", "min_pool_size", "reserve_pool", "pool_mode"),
    *("max_db_connections", "max_db_client_connections", "query_wait_timeout", "connect_query", "server_lifetime"),
)
OF_A_USER = (
    "pool_mode",
    "pool_size",
    "reserve_pool_size",
    "max_user_connections",
    "query_timeout",
    "client_idle_timeout",
)
PLAIN = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=70)
QUOTED = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n'"), min_size=1, max_size=70).map(
    "'{}'".format
)
NAMES = st.just("*") | PLAIN | QUOTED


def entries(keys: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Connection strings, most of them sound."""
    quoted = LINE.map(lambda text: "'" + text.replace("'", "''") + "'")
    pair = st.tuples(st.sampled_from(keys), st.sampled_from(NUMBERS) | quoted | PLAIN).map("=".join)
    return st.lists(pair, max_size=4).map(" ".join)


def ini(**sections: dict[str, str]) -> str:
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in pairs.items())
        for name, pairs in sections.items()
    )


@settings(deadline=None)
@given(
    st.dictionaries(PGBOUNCER, VALUES, max_size=8),
    st.dictionaries(NAMES, entries(OF_A_DATABASE), min_size=1, max_size=4),
    st.dictionaries(NAMES, entries(OF_A_USER), max_size=3),
)
def test_no_pgbouncer_ini_becomes_a_file_that_is_refused(
    pgbouncer: dict[str, str], databases: dict[str, str], users: dict[str, str]
) -> None:
    try:
        found = from_pgbouncer(NOWHERE, ini(databases=databases, users=users, pgbouncer=pgbouncer))
    except ValueError:
        return
    lines = refused(found)
    assert only_needs(lines), lines


NODE = ("backend_hostname{}", "backend_port{}", "backend_weight{}", "health_check_period{}", "connect_timeout{}")
PGPOOL = st.sampled_from(
    (
        *("listen_addresses", "port", "unix_socket_directories", "unix_socket_permissions", "num_init_children"),
        *("reserved_connections", "authentication_timeout", "client_idle_limit", "connect_timeout", "ssl", "ssl_cert"),
        *("connection_life_time", "ssl_key", "ssl_ca_cert", "delay_threshold", "delay_threshold_by_time"),
        *("write_function_list", "read_only_function_list", "primary_routing_query_pattern_list", "load_balance_mode"),
        *("database_redirect_preference_list", "app_name_redirect_preference_list", "statement_level_load_balance"),
        *("health_check_user", "health_check_password", "health_check_period", "health_check_timeout", "sr_check_user"),
        *("health_check_max_retries", "health_check_retry_delay", "relcache_expire", "sr_check_database"),
        *("memory_cache_enabled", "memqcache_total_size", "memqcache_maxcache", "memqcache_expire"),
        *("cache_safe_memqcache_table_list", "cache_unsafe_memqcache_table_list", "memqcache_method"),
        *("enable_pool_hba", "pool_passwd", "reset_query_list", "backend_clustering_mode", "connection_cache"),
        *(name.format(number) for number in (0, 1, 7) for name in NODE),
    )
)
PREFERENCES = st.sampled_from(["a:primary,b.*:1", "(:0", "x:standby(0.5)", ";a;(;\\;", "f,(,[[:alpha:]]", "\\u00e9"])


@settings(deadline=None)
@given(st.dictionaries(PGPOOL, VALUES | PREFERENCES, max_size=12), st.booleans())
def test_no_pgpool_conf_becomes_a_file_that_is_refused(pairs: dict[str, str], quoted: bool) -> None:
    pairs = {"backend_hostname0": "db", "backend_port0": "5432", **pairs}
    lines = [f"{name} = '{value}'" if quoted else f"{name} = {value}" for name, value in pairs.items()]
    try:
        found = from_pgpool(NOWHERE, "\n".join(lines))
    except ValueError:
        return
    said = refused(found)
    assert only_needs(said), said


# What holds for a client, by PgBouncer's own order: its user's value, its database's, the top level's

MODE = st.sampled_from([None, "session", "transaction", "statement"])
SIZE = st.sampled_from([None, 1, 5])
FORCED = st.sampled_from([None, "u1", "u9"])


def said(**values: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items() if value is not None)


@settings(deadline=None)
@given(
    MODE,
    st.dictionaries(st.sampled_from(["a", "b", "*"]), st.tuples(MODE, SIZE, FORCED, SIZE), min_size=1),
    st.dictionaries(st.sampled_from(["u1", "u2"]), st.tuples(MODE, SIZE, SIZE)),
)
def test_each_client_has_what_pgbouncer_would_give_it(
    mode: str | None,
    databases: dict[str, tuple[str | None, int | None, str | None, int | None]],
    users: dict[str, tuple[str | None, int | None, int | None]],
) -> None:
    text = ini(
        databases={
            name: said(host="db", pool_mode=mode, pool_size=size, user=forced, query_wait_timeout=wait)
            for name, (mode, size, forced, wait) in databases.items()
        },
        users={
            name: said(pool_mode=mode, pool_size=size, query_wait_timeout=wait)
            for name, (mode, size, wait) in users.items()
        },
        pgbouncer={"auth_type": "trust", **({"pool_mode": mode} if mode else {})},
    )
    ours = taken(from_pgbouncer(NOWHERE, text))
    for database in ("a", "b", "c"):
        for user in ("u1", "u2", "u3"):
            found = policy(ours, database, user)
            of_database = databases.get(database) or databases.get("*")
            assert found.refuse == (of_database is None)
            if of_database is None:
                continue
            forced = of_database[2]
            of_pool = users.get(forced or user, (None, None, None))
            of_client = users.get(user, (None, None, None))
            assert found.server_user == (forced or "")
            assert found.mode == (of_pool[0] or of_database[0] or mode or "session")
            assert found.pool.size == (of_pool[1] or of_database[1] or 20)
            assert found.client.query_wait_s == (of_client[2] or of_database[3] or 120)
