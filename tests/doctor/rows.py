"""Cases for each check, in the order of the checks: what it finds, and how near that is to where it finds nothing."""

from typing import Any, Final, NamedTuple

import msgspec

from middleware.doctor.facts import Database, DatabaseRole, Machine, Overridden, Replay, Sender, Slot
from tests.doctor.made import GB, MB, NOW, PRIMARY, STANDBY

E, W, A, NONE = "error", "warning", "advice", ""


class Row(NamedTuple):
    """A check, a case, and how bad the check finds it; NONE for not at all."""

    check: str
    severity: str
    case: dict[str, Any]


def settings(**values: Any) -> dict[str, Any]:
    return {"settings": values}


def primary(**values: Any) -> dict[str, Any]:
    return {"primary": values}


def standby(**values: Any) -> dict[str, Any]:
    return {"standby": values}


def both(**values: Any) -> dict[str, Any]:
    return {"primary": values, "standby": values}


def roles(*roles: DatabaseRole) -> dict[str, Any]:
    return primary(roles=(*PRIMARY.roles[1:], *roles))


def databases(*databases: Database) -> dict[str, Any]:
    return primary(databases=(*databases, PRIMARY.databases[1]))


def rule(**rule: Any) -> dict[str, Any]:
    return settings(routes=[{"name": "r", "database": "app", **rule}])


ONE_NODE: Final = {"nodes": {"db1": {"host": "192.0.2.1"}}}
THREE_NODES: Final = {f"db{n}": {"host": f"192.0.2.{n}"} for n in (1, 2, 3)}
THIRD: Final = msgspec.structs.replace(STANDBY, name="db3", started_at=3000.0)
FROM_APP: Final = {"app": {"password": "SCRAM-SHA-256$4096:c2FsdA==$a2V5:a2V5"}}
MANY: Final = {f"u{n}": {"password": "s3cret-word"} for n in range(21)}
OLDER: Final = Database("app", collation=("2.36", "2.31"))

BEYOND: Final = {"http_listen_addr": "*", "http_port": 6480, "dashboard_password": "s3cret-word"}

TABLE: Final = (
    # The nodes together
    Row("unasked", E, {"standby": {"why": "connection refused"}}),
    Row("unasked", NONE, {}),
    Row("primaries", E, {"primary": {"in_recovery": True, "replay": Replay(lsn=1)}}),
    Row("primaries", E, standby(in_recovery=False)),
    Row("primaries", E, primary(why="connection refused")),
    Row("primaries", NONE, standby(why="connection refused")),
    Row("no_standby", A, settings(**ONE_NODE)),
    Row("no_standby", NONE, {}),
    Row("system_identifiers", E, standby(system_identifier=8)),
    Row("system_identifiers", NONE, standby(system_identifier=7)),
    Row("same_server", E, standby(started_at=1000.0)),
    Row("same_server", NONE, standby(started_at=1000.0, system_identifier=8)),
    Row("timelines", W, primary(timeline=2)),
    Row("timelines", NONE, both(timeline=2)),
    Row("timelines", NONE, {"primary": {"timeline": 2}, "standby": {"monitors": False}}),
    Row("versions", E, standby(version=170_005)),
    Row("versions", A, standby(version=180_002)),
    Row("versions", NONE, both(version=170_005)),
    Row("collations", W, standby(databases=(OLDER,))),
    Row("collations", W, standby(databases=(Database("app", collation=(None, "2.31")),))),
    Row("collations", NONE, both(databases=(Database("app", collation=(None, None)),))),
    Row("poolers", E, standby(pooler="a pooler")),
    Row("poolers", NONE, {}),
    Row("clocks", W, standby(clock_offset_s=1.2, clock_error_s=0.1)),
    Row("clocks", NONE, standby(clock_offset_s=1.2, clock_error_s=0.3)),
    Row("clocks", W, {"primary": {"clock_offset_s": -0.8}, "standby": {"clock_offset_s": 0.8}}),
    # Connections: 8 of 100 are reserved, 6 are the supervisor's, and there is one pool.
    Row("max_connections", NONE, settings(default_pool_size=86)),
    Row("max_connections", E, settings(default_pool_size=87)),
    Row("max_connections", E, {"settings": {"default_pool_size": 41}, "instances": 2}),
    Row("max_connections", NONE, {"settings": {"default_pool_size": 40}, "instances": 2}),
    Row("max_connections", NONE, settings(default_pool_size=80, workers=8)),
    Row("max_connections", W, {"settings": {"default_pool_size": 50}} | databases(Database("app"), Database("b"))),
    Row("max_connections", NONE, {"settings": {"default_pool_size": 43}} | databases(Database("app"), Database("b"))),
    Row("max_connections", E, settings(reserve_pool_size=67)),
    Row("max_connections", NONE, settings(default_pool_size=87, routes=[{"refuse": "on"}])),
    Row("max_connections", NONE, settings(default_pool_size=300, max_db_connections=86)),
    Row("max_connections", NONE, settings(default_pool_size=300, max_user_connections=86)),
    Row("max_connections", E, settings(default_pool_size=300, max_db_connections=87)),
    Row("max_connections", E, settings(max_db_connections=86, default_pool_size=300, admin_users=["app"])),
    Row("max_connections", E, standby(max_connections=30)),
    Row("max_connections", NONE, both(max_connections=34)),
    Row("max_connections", E, both(max_connections=34, reserved_connections=6)),
    Row("others_connections", A, primary(backends={"legacy": 80})),
    Row("others_connections", NONE, primary(backends={"legacy": 60, "app": 40, "pointsman": 9})),
    Row("database_limit", W, databases(Database("app", connection_limit=19))),
    Row("database_limit", NONE, databases(Database("app", connection_limit=20))),
    Row("role_limit", W, roles(DatabaseRole("app", connection_limit=19))),
    Row("role_limit", NONE, roles(DatabaseRole("app", connection_limit=20))),
    Row("cores", A, both(cores=1)),
    Row("cores", NONE, both(cores=2)),
    Row("cores", A, {"instances": 4}),
    Row("cores", NONE, {"instances": 4, "spindles": 4}),
    Row("cores", A, standby(cores=None)),
    # 200 + 3 + 500 clients, 20 servers on each of two nodes, 100 others
    Row("file_descriptors", W, {"machine": Machine(842, 8, NOW)}),
    Row("file_descriptors", NONE, {"machine": Machine(843, 8, NOW)}),
    Row("file_descriptors", NONE, {"machine": Machine(0, 8, NOW)}),
    Row("worker_processes", A, settings(workers=9)),
    Row("worker_processes", NONE, settings(workers=8)),
    # Memory: 4 GB + 26 connections * 4 MB * 2 + 3 * 64 MB = 4.39 GB
    Row("work_mem", E, both(memory_bytes=4 * GB)),
    Row("work_mem", W, both(memory_bytes=5 * GB)),
    Row("work_mem", NONE, both(memory_bytes=6 * GB)),
    Row("work_mem", E, both(work_mem=256 * MB)),
    Row("work_mem", NONE, both(work_mem=160 * MB)),
    Row("work_mem", W, both(work_mem=160 * MB, hash_mem_multiplier=2.4)),
    Row("work_mem", W, both(autovacuum_work_mem=3 * GB)),
    # No more connections than the node lets in count.
    Row("work_mem", NONE, {"settings": {"default_pool_size": 1000}, **both(work_mem=40 * MB)}),
    Row("shared_buffers", A, both(shared_buffers=7 * GB)),
    Row("shared_buffers", NONE, both(shared_buffers=6 * GB)),
    Row("memory_not_known", A, standby(memory_bytes=None)),
    Row("memory_not_known", NONE, {}),
    # Limits
    Row("min_pool_size", W, settings(min_pool_size=21)),
    Row("min_pool_size", NONE, settings(min_pool_size=20)),
    Row("min_pool_size", W, settings(min_pool_size=11, max_db_connections=10)),
    Row("min_pool_size", W, rule(pool_size=5, min_pool_size=6)),
    Row("pool_beyond_limits", A, settings(max_user_connections=19)),
    Row("pool_beyond_limits", NONE, settings(max_user_connections=20)),
    Row("pool_beyond_limits", A, rule(max_db_connections=5)),
    Row("client_limits", A, settings(max_db_client_connections=201)),
    Row("client_limits", A, rule(max_user_client_connections=201)),
    Row("client_limits", NONE, settings(max_db_client_connections=200)),
    Row("more_servers_than_clients", A, settings(max_client_conn=19)),
    Row("more_servers_than_clients", NONE, settings(max_client_conn=20)),
    Row("session_pooling", A, settings(pool_mode="session")),
    Row("session_pooling", NONE, settings(pool_mode="session", max_user_client_connections=20)),
    Row("session_pooling", A, rule(pool_mode="session")),
    # Timeouts
    Row("query_timeout", W, settings(query_timeout=90, transaction_timeout=90)),
    Row("query_timeout", NONE, settings(query_timeout=90, transaction_timeout=91)),
    Row("query_timeout", NONE, settings(query_timeout=90, transaction_timeout=0)),
    Row("query_timeout", W, {"settings": rule(query_timeout=90)["settings"] | {"transaction_timeout": 80}}),
    Row("idle_transaction_timeout", W, settings(transaction_timeout=60)),
    Row("idle_transaction_timeout", NONE, settings(transaction_timeout=61)),
    Row("query_wait_notify", A, settings(query_wait_notify=120)),
    Row("query_wait_notify", NONE, settings(query_wait_notify=0)),
    Row("query_wait_timeout", W, settings(query_wait_timeout=14)),
    Row("query_wait_timeout", NONE, settings(query_wait_timeout=15)),
    Row("query_wait_timeout", W, rule(query_wait_timeout=14)),
    Row("reserve_pool_timeout", W, settings(reserve_pool_size=1, reserve_pool_timeout=120)),
    Row("reserve_pool_timeout", NONE, settings(reserve_pool_size=0, reserve_pool_timeout=120)),
    Row("client_login_timeout", W, settings(client_login_timeout=15)),
    Row("client_login_timeout", NONE, settings(client_login_timeout=16)),
    Row("client_idle_timeout", A, settings(client_idle_timeout=59)),
    Row("client_idle_timeout", NONE, settings(client_idle_timeout=60)),
    Row("leak_warning", A, settings(leak_warning=90, transaction_timeout=90)),
    Row("leak_warning", NONE, settings(leak_warning=90, transaction_timeout=90, pool_mode="session")),
    Row("shutdown_timeout", A, settings(transaction_timeout=90)),
    Row("shutdown_timeout", NONE, settings(transaction_timeout=90, shutdown_timeout=90)),
    Row("server_idle_timeout", A, settings(server_lifetime=600)),
    Row("server_idle_timeout", NONE, settings(server_lifetime=601)),
    Row("server_idle_timeout", NONE, settings(server_idle_timeout=0)),
    Row("server_keepalive", W, settings(server_keepalive=600)),
    Row("server_keepalive", NONE, settings(server_keepalive=600, server_idle_timeout=0)),
    Row("server_keepalive", NONE, settings(server_keepalive=599)),
    Row("server_keepalive", NONE, settings(server_keepalive=600, min_pool_size=1)),
    Row("server_check_delay", A, settings(server_check_delay=600)),
    Row("server_check_delay", NONE, settings(server_check_delay=599)),
    Row("server_check_delay", NONE, settings(server_check_delay=600, server_idle_timeout=0)),
    # 1 + 3 * 5 + 2 * 1
    Row("failure_detection", A, settings(query_wait_timeout=18)),
    Row("failure_detection", NONE, settings(query_wait_timeout=18.5)),
    Row("freshness_period", W, settings(max_replica_lag=1)),
    Row("freshness_period", NONE, settings(max_replica_lag=1, freshness_period=0.9)),
    # The query cache
    Row("query_cache_pool_mode", A, settings(query_cache="on", pool_mode="session")),
    Row("query_cache_pool_mode", A, rule(query_cache="hint", pool_mode="session")),
    Row("query_cache_pool_mode", NONE, settings(query_cache="on")),
    Row("query_cache_pool_mode", NONE, settings(pool_mode="session")),
    Row("cache_watch", A, settings(query_cache="on", cache_watch="off")),
    Row("cache_watch", A, settings(query_cache="on", cache_watch="off", query_cache_ttl=0)),
    Row("cache_watch", NONE, settings(cache_watch="off")),
    Row("cache_watch", NONE, settings(query_cache="on")),
    Row("cache_watch", W, settings(query_cache="hint", cache_watch="logical")),
    Row("cache_watch", NONE, settings(query_cache="hint", cache_watch="logical") | both(wal_level="logical")),
    Row("cache_watch_interval", W, settings(query_cache="on", cache_watch_interval=10)),
    Row("cache_watch_interval", NONE, settings(query_cache="on", cache_watch_interval=9)),
    Row("cache_watch_interval", NONE, settings(query_cache="on", cache_watch_interval=10, cache_watch="off")),
    Row("cache_watch_interval", NONE, settings(cache_watch_interval=10)),
    # Timeouts of the nodes
    Row("idle_session_timeout", W, standby(idle_session_timeout=600.0)),
    Row("idle_session_timeout", NONE, standby(idle_session_timeout=601.0)),
    Row("idle_session_timeout", W, standby(idle_session_timeout=601.0) | settings(min_pool_size=1)),
    Row("idle_session_timeout", W, standby(idle_session_timeout=3600.0) | settings(server_idle_timeout=0)),
    Row("idle_session_timeout", NONE, standby(idle_session_timeout=61.0) | settings(server_keepalive=60)),
    Row("idle_session_timeout", W, primary(overridden=(Overridden("app", "", "idle_session_timeout", 60.0),))),
    Row("idle_session_timeout", NONE, primary(overridden=(Overridden("other", "", "idle_session_timeout", 60.0),))),
    Row("statement_timeout", W, both(statement_timeout=30.0) | settings(query_timeout=30)),
    Row("statement_timeout", NONE, both(statement_timeout=31.0) | settings(query_timeout=30)),
    Row("statement_timeout", NONE, both(statement_timeout=30.0)),
    Row(
        "statement_timeout",
        W,
        primary(overridden=(Overridden("", "app", "statement_timeout", 5.0),)) | settings(query_timeout=30),
    ),
    Row("idle_in_transaction_session_timeout", W, primary(idle_in_transaction_session_timeout=60.0)),
    Row("idle_in_transaction_session_timeout", NONE, primary(idle_in_transaction_session_timeout=61.0)),
    Row("node_transaction_timeout", W, primary(transaction_timeout=90.0) | settings(transaction_timeout=90)),
    Row("node_transaction_timeout", NONE, primary(transaction_timeout=91.0) | settings(transaction_timeout=90)),
    Row("idle_transactions", A, settings(idle_transaction_timeout=0)),
    Row("idle_transactions", NONE, settings(idle_transaction_timeout=0, transaction_timeout=600)),
    Row(
        "idle_transactions",
        NONE,
        settings(idle_transaction_timeout=0) | primary(idle_in_transaction_session_timeout=60.0),
    ),
    Row("authentication_timeout", A, both(authentication_timeout=14.0)),
    Row("authentication_timeout", NONE, both(authentication_timeout=15.0)),
    Row("idle_connections", A, settings(tcp_keepidle=0) | both(tcp_keepalives_idle=7200.0)),
    Row("idle_connections", NONE, settings(tcp_keepidle=0)),
    Row("idle_connections", NONE, settings(tcp_keepidle=0) | both(tcp_keepalives_idle=7200.0, local=True)),
    Row("idle_connections", A, settings(tcp_keepalive="off") | both(tcp_keepalives_idle=7200.0)),
    Row(
        "idle_connections",
        NONE,
        settings(tcp_keepalive="off", server_keepalive=60) | both(tcp_keepalives_idle=7200.0),
    ),
    Row("dead_pointsman", A, primary(tcp_keepalives_idle=7200.0)),
    Row("dead_pointsman", NONE, standby(tcp_keepalives_idle=7200.0)),
    # Replication
    Row("hot_standby_feedback", W, standby(hot_standby_feedback="off")),
    Row("hot_standby_feedback", W, standby(wal_receiver_status_interval=0)),
    Row("hot_standby_feedback", NONE, primary(hot_standby_feedback="off")),
    Row("max_standby_streaming_delay", A, standby(max_standby_streaming_delay=30.0)),
    Row("max_standby_streaming_delay", W, standby(max_standby_streaming_delay=-1)),
    Row("max_standby_streaming_delay", NONE, standby(max_standby_streaming_delay=10.0)),
    Row("recovery_min_apply_delay", W, standby(recovery_min_apply_delay=10.0)),
    Row("recovery_min_apply_delay", A, standby(recovery_min_apply_delay=9.0)),
    Row(
        "recovery_min_apply_delay",
        NONE,
        standby(recovery_min_apply_delay=3600.0)
        | settings(nodes={"db1": {"host": "192.0.2.1"}, "db2": {"host": "192.0.2.2", "weight": 0}}),
    ),
    Row("replay", E, standby(replay=Replay(lsn=10 * GB, paused=True))),
    Row("replay", E, standby(replay=Replay(lsn=10 * GB, streaming=False))),
    Row("replay", NONE, standby(replay=Replay(lsn=10 * GB, streaming=None))),
    Row("replay", W, standby(replay=Replay(lsn=9 * GB, lag_s=10.1))),
    Row("replay", NONE, standby(replay=Replay(lsn=9 * GB, lag_s=10.0))),
    Row("replay", W, standby(replay=Replay(lsn=9 * GB)) | settings(max_replica_lag_bytes=GB - 1)),
    Row("replay", NONE, standby(replay=Replay(lsn=9 * GB)) | settings(max_replica_lag_bytes=GB)),
    Row("standby_parameters", E, standby(max_connections=99)),
    Row("standby_parameters", E, primary(max_locks_per_transaction=128)),
    Row("standby_parameters", NONE, standby(max_connections=101)),
    Row("pg_rewind", W, standby(data_checksums="off")),
    Row("pg_rewind", NONE, standby(data_checksums="off", wal_log_hints="on")),
    Row("pg_rewind", W, primary(full_page_writes="off")),
    Row("fsync", E, standby(fsync="off")),
    Row("fsync", NONE, {}),
    Row("wal_level", E, primary(wal_level="minimal")),
    Row("wal_level", NONE, primary(wal_level="logical")),
    Row("wal_senders", W, both(max_wal_senders=1)),
    Row("wal_senders", NONE, both(max_wal_senders=2)),
    Row("replication_slots", W, both(max_replication_slots=1)),
    Row("replication_slots", NONE, both(max_replication_slots=2)),
    Row("replication_slots", W, primary(slots=(Slot("gone", active=False, retained_bytes=2 * GB),))),
    Row("replication_slots", NONE, primary(slots=(Slot("gone", active=False, retained_bytes=GB),))),
    Row("replication_slots", NONE, primary(slots=(Slot("db2", active=True, retained_bytes=2 * GB),))),
    Row(
        "replication_slots",
        NONE,
        primary(slots=(Slot("gone", active=False, retained_bytes=2 * GB),), max_slot_wal_keep_size=4 * GB),
    ),
    Row("synchronous_standbys", E, primary(synchronous_standby_names="db9")),
    Row("synchronous_standbys", A, primary(synchronous_standby_names="db2", senders=(Sender("db2", "sync"),))),
    Row(
        "synchronous_standbys",
        NONE,
        primary(synchronous_standby_names="ANY 1 (*)", senders=(Sender("db2", "quorum"), Sender("db3", "quorum"))),
    ),
    Row(
        "synchronous_standbys",
        E,
        primary(synchronous_standby_names="FIRST 2 (db2, db3)", senders=(Sender("db2", "sync"),)),
    ),
    Row("synchronous_standbys", NONE, primary(synchronous_standby_names="db9", monitors=False)),
    # Users and databases
    Row("health_role", W, standby(monitors=False)),
    Row("health_role", A, both(superuser=True)),
    Row("health_role", NONE, {}),
    Row("reserved_connections", A, both(reserved_connections=0)),
    Row("reserved_connections", A, both(reserved=False)),
    Row("reserved_connections", NONE, both(reserved=False, superuser=True)),
    Row("users", E, roles()),
    Row("users", E, roles(DatabaseRole("app", login=False))),
    Row("users", E, roles(DatabaseRole("app", expires_at=NOW - 1))),
    Row("users", W, roles(DatabaseRole("app", expires_at=NOW + 13 * 86_400))),
    Row("users", NONE, roles(DatabaseRole("app", expires_at=NOW + 15 * 86_400))),
    Row("users", A, databases(Database("app", refused=frozenset({"app"})))),
    Row("users", NONE, databases(Database("app", refused=frozenset({"app"})), Database("b"))),
    Row("users", E, rule(server_user="nobody")),
    Row("users", NONE, roles(DatabaseRole("real")) | settings(routes=[{"user": "app", "server_user": "real"}])),
    Row("users", E, settings(routes=[{"user": "app", "database": "x", "server_user": "pointsman"}]) | roles()),
    Row("databases", E, rule(server_database="nowhere")),
    Row("databases", E, settings(routes=[{"database": "app|nowhere"}])),
    Row("databases", E, rule() | databases(Database("app", allows_connections=False))),
    Row("databases", NONE, settings(routes=[{"database": "app|postgres"}, {"database": "no.*"}])),
    Row("health_database", W, databases(Database("app", refused=frozenset({"pointsman"})))),
    Row("health_database", NONE, databases(Database("app", refused=frozenset({"other"})))),
    Row("password_encryption", W, both(password_encryption="md5")),
    Row("password_encryption", NONE, both(password_encryption="md5") | settings(auth_type="md5")),
    Row("password_encryption", W, both(password_encryption="md5") | settings(auth_type="md5", users=FROM_APP)),
    Row("encryption", A, standby(encrypted=False)),
    Row("encryption", NONE, both(encrypted=False, local=True)),
    # HTTP
    Row("dashboard_password", W, settings(**BEYOND)),
    Row("dashboard_password", W, settings(**{**BEYOND, "http_listen_addr": "127.0.0.1, 192.0.2.9"})),
    Row("dashboard_password", NONE, settings(**{**BEYOND, "http_listen_addr": "localhost, ::1, 127.0.0.2"})),
    Row("dashboard_password", NONE, settings(**{**BEYOND, "http_port": 0})),
    Row("dashboard_password", NONE, settings(**{**BEYOND, "dashboard": "off"})),
    Row("dashboard_password", NONE, settings(**{**BEYOND, "dashboard_password": ""})),
    Row("dashboard_open", W, settings(**{**BEYOND, "dashboard": "on"})),
    Row("dashboard_open", NONE, settings(**{**BEYOND, "dashboard": "login"})),
    Row("dashboard_open", NONE, settings(http_port=6480, dashboard="on")),
)
