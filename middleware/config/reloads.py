"""When a change of each setting takes effect in a Pointsman that runs: one table, for all of them.

A key path is as in the file, with `*` for a name or number of the user's own: `nodes.*.host`, `routes.*.pool_size`. Of
the nodes, users and rules themselves, more may come and some may go at any time.
"""

from typing import Final, Literal

When = Literal["at once", "new connections", "restart"]

AT_ONCE: Final[When] = "at once"
"""Also for who is connected, as soon as nothing is under way for it."""
NEW_CONNECTIONS: Final[When] = "new connections"
"""For the connections that are made from then on, of clients or to nodes."""
RESTART: Final[When] = "restart"
"""Not before Pointsman is started again."""

_RESTART: Final = (
    # The sockets, and where others find them.
    "listen_addr",
    "listen_port",
    "unix_socket_dir",
    "unix_socket_mode",
    "control_socket",
    "http_listen_addr",
    "http_port",
    # The memory that workers share is made for so many.
    "workers",
    # Looked at once.
    "fail_fast",
    "state_file",
    # Whose word counts for which node is the primary, or may act on it.
    "topology",
    "patroni_urls",
    "patroni_ca_file",
    "patroni_cert_file",
    "patroni_key_file",
    "instances",
    "instance_name",
    "etcd_hosts",
    "etcd_prefix",
    "etcd_ttl",
    "etcd_user",
    "etcd_password",
    "etcd_ca_file",
    "etcd_cert_file",
    "etcd_key_file",
    # A connection to each worker's second level is made once.
    "cache_redis_url",
    "cache_redis_timeout",
    # So is one to the collector of traces.
    "otel_endpoint",
)

_NEW_CONNECTIONS: Final = (
    # Who may come in, and how.
    "auth_type",
    "auth_hba_file",
    "auth_ident_file",
    "auth_file",
    "auth_user",
    "auth_query",
    "auth_dbname",
    "auth_query_ttl",
    "admin_users",
    "stats_users",
    "users.*.password",
    "max_client_conn",
    "admin_reserved_conn",
    "max_db_client_connections",
    "max_user_client_connections",
    "max_client_logins",
    "client_login_timeout",
    "client_tls_sslmode",
    "client_tls_cert_file",
    "client_tls_key_file",
    "client_tls_ca_file",
    "client_tls_min_protocol",
    # How nodes are connected to.
    "server_tls_sslmode",
    "server_tls_negotiation",
    "server_tls_cert_file",
    "server_tls_key_file",
    "server_tls_ca_file",
    "server_tls_min_protocol",
    "max_wal_senders",
    "max_prepared_statements",
    "server_lifetime",
    "server_lifetime_jitter",
    "tcp_keepalive",
    "tcp_keepidle",
    "tcp_keepintvl",
    "tcp_keepcnt",
    "tcp_user_timeout",
    # A client has been told of its session there.
    "routes.*.server_database",
    "routes.*.server_user",
    "routes.*.refuse",
    "routes.*.max_db_client_connections",
    "routes.*.max_user_client_connections",
)

_AT_ONCE: Final = (
    "otel_sample_ratio",
    "stats_period",
    "digests_max",
    "shutdown_timeout",
    "restart_timeout",
    # Pools
    "pool_mode",
    "default_pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "reserve_pool_timeout",
    "max_db_connections",
    "max_user_connections",
    "max_server_logins",
    # Clients
    "max_packet_size",
    "statement_size_max",
    "client_idle_timeout",
    "query_timeout",
    "query_wait_timeout",
    "query_wait_notify",
    "transaction_timeout",
    "idle_transaction_timeout",
    "leak_warning",
    "cancel_wait_timeout",
    # Servers
    "server_connect_timeout",
    "server_login_retry",
    "server_check_delay",
    "server_keepalive",
    "server_idle_timeout",
    "server_reset_query",
    "dns_max_ttl",
    # Reads
    "consistency",
    "consistency_wait",
    "max_replica_lag",
    "max_replica_lag_bytes",
    "freshness_period",
    "zone",
    "balance",
    "read_from_primary",
    "session_affinity",
    "transaction_reads",
    "primary_functions",
    "safe_functions",
    "primary_queries",
    # The query cache
    "query_cache",
    "query_cache_size",
    "max_cached_result_size",
    "query_cache_ttl",
    "cache_safe_functions",
    "cache_safe_relations",
    "cache_unsafe_relations",
    "cache_watch",
    "cache_watch_interval",
    "cache_watch_publication",
    # Session state
    "session_state_warnings",
    "session_state_quiet",
    "session_state.*",
    # Failover
    "failover",
    "failover_after",
    "max_failover_lag",
    "failover_user",
    "promote_timeout",
    "fence_command",
    "failover_command",
    "follow_primary_command",
    "demote_command",
    "switchover_timeout",
    "command_timeout",
    # Operations
    "dashboard",
    "dashboard_hosts",
    "dashboard_password",
    "suspend_timeout",
    "log.level",
    "log.format",
    "log.levels.*",
    "log.event_rate_max",
    "log_connections",
    "log_disconnections",
    "log_pooler_errors",
    "log_min_duration",
    "log_sample_rate",
    "log_statement_text",
    "log_stats",
    # Read by each drill.
    "drill.*",
    # Nodes
    "health_check.user",
    "health_check.password",
    "health_check.database",
    "health_check.period",
    "health_check.timeout",
    "health_check.max_retries",
    "health_check.retry_delay",
    "health_check.catalog_refresh",
    "nodes.*.host",
    "nodes.*.port",
    "nodes.*.weight",
    "nodes.*.zone",
    "nodes.*.data_directory",
    # Rules
    "routes.*.name",
    "routes.*.database",
    "routes.*.user",
    "routes.*.application_name",
    "routes.*.client_addr",
    "routes.*.prefer",
    "routes.*.pool_mode",
    "routes.*.pool_size",
    "routes.*.min_pool_size",
    "routes.*.reserve_pool_size",
    "routes.*.max_db_connections",
    "routes.*.max_user_connections",
    "routes.*.client_idle_timeout",
    "routes.*.query_timeout",
    "routes.*.query_wait_timeout",
    "routes.*.query_wait_notify",
    "routes.*.transaction_timeout",
    "routes.*.idle_transaction_timeout",
    "routes.*.leak_warning",
    "routes.*.log_min_duration",
    "routes.*.consistency",
    "routes.*.consistency_wait",
    "routes.*.max_replica_lag",
    "routes.*.balance",
    "routes.*.read_from_primary",
    "routes.*.session_affinity",
    "routes.*.transaction_reads",
    "routes.*.query_cache",
    "routes.*.session_state.*",
    "routes.*.session_state_warnings",
)

WHEN: Final[dict[str, When]] = {
    **dict.fromkeys(_RESTART, RESTART),
    **dict.fromkeys(_NEW_CONNECTIONS, NEW_CONNECTIONS),
    **dict.fromkeys(_AT_ONCE, AT_ONCE),
}
"""Each setting is in one of the three: tests/config/test_reloads.py sees to it."""


def when(pattern: str) -> When:
    """When a change takes effect; of a key path as in WHEN. Raises KeyError for one that is none."""
    found = WHEN.get(pattern)
    if found is None:
        found = WHEN[f"{pattern.rpartition('.')[0]}.*"]
    return found
