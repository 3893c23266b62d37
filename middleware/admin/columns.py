"""The columns of each table that SHOW shows.

PgBouncer's tables have PgBouncer's columns, in its order and of its types (1.25; moments are text, as there): programs
go by them. All others are ours.
"""

from typing import Final

from middleware.admin.table import Column, ColumnType

_LETTERS: Final[dict[str, ColumnType]] = {
    "s": "text",
    "b": "bool",
    "i": "int4",
    "q": "int8",
    "f": "float8",
    "N": "numeric",
    "t": "timestamptz",
    "B": "bytea",
}


def _columns(words: str) -> tuple[Column, ...]:
    """From "name:letter name name": without a letter it is text."""
    found = []
    for word in words.split():
        name, _, letter = word.partition(":")
        found.append(Column(name, _LETTERS[letter or "s"]))
    return tuple(found)


SOCKETS: Final = _columns(
    "type user database replication state addr port:i local_addr local_port:i connect_time request_time wait:i "
    "wait_us:i close_needed:i ptr link remote_pid:i tls application_name prepared_statements:i id:i"
)
_MORE_OF_SOCKETS: Final = _columns(
    "recv_pos:i pkt_pos:i pkt_remain:i send_pos:i send_remain:i pkt_avail:i send_avail:i"
)

STATS_TOTALS: Final = _columns(
    "database server_assignment_count:N xact_count:N query_count:N bytes_received:N bytes_sent:N xact_time:N "
    "query_time:N wait_time:N client_parse_count:N server_parse_count:N bind_count:N"
)
STATS_AVERAGES: Final = _columns(
    "database server_assignment_count:N xact_count:N query_count:N bytes_received:N bytes_sent:N xact_time:N "
    "query_time:N wait_time:N avg_client_parse_count:N avg_server_parse_count:N avg_bind_count:N"
)
STATS: Final = _columns(
    "database total_server_assignment_count:N total_xact_count:N total_query_count:N total_received:N total_sent:N "
    "total_xact_time:N total_query_time:N total_wait_time:N total_client_parse_count:N total_server_parse_count:N "
    "total_bind_count:N avg_server_assignment_count:N avg_xact_count:N avg_query_count:N avg_recv:N avg_sent:N "
    "avg_xact_time:N avg_query_time:N avg_wait_time:N avg_client_parse_count:N avg_server_parse_count:N "
    "avg_bind_count:N"
)

COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    # PgBouncer's
    "active_sockets": SOCKETS + _MORE_OF_SOCKETS,
    "clients": SOCKETS,
    "config": _columns("key value default changeable"),
    "databases": _columns(
        "name host port:i database force_user pool_size:i min_pool_size:i reserve_pool_size:i server_lifetime:i "
        "pool_mode load_balance_hosts max_connections:i current_connections:i max_client_connections:i "
        "current_client_connections:i paused:i disabled:i"
    ),
    "dns_hosts": _columns("hostname ttl:q addrs"),
    "dns_zones": _columns("zonename serial:q count:i"),
    "fds": _columns(
        "fd:i task user database addr port:i cancel:q link:i client_encoding std_strings datestyle timezone password "
        "scram_client_key:B scram_server_key:B"
    ),
    "lists": _columns("list items:i"),
    "mem": _columns("name size:i used:i free:i memtotal:i"),
    "peer_pools": _columns("peer_id:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active_cancel:i sv_login:i"),
    "peers": _columns("peer_id:i host port:i pool_size:i"),
    "pools": _columns(
        "database user cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active:i "
        "sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i sv_login:i maxwait:i maxwait_us:i "
        "pool_mode load_balance_hosts"
    ),
    "servers": SOCKETS,
    "sockets": SOCKETS + _MORE_OF_SOCKETS,
    "state": _columns("key value"),
    "stats": STATS,
    "stats_averages": STATS_AVERAGES,
    "stats_totals": STATS_TOTALS,
    "totals": _columns("name value:N"),
    "users": _columns(
        "name pool_size reserve_pool_size pool_mode max_user_connections:i current_connections:i "
        "max_user_client_connections:i current_client_connections:i"
    ),
    "version": _columns("version"),
    # Ours
    "cache": _columns("key value"),
    "digests": _columns(
        "database shape calls:q errors:q rows:q total_ms:f mean_ms:f max_ms:f on_primary:q on_standbys:q hits:q reason"
    ),
    "events": _columns("number:q at:t node what text bad:b"),
    "failover": _columns("key value"),
    "help": _columns("command description"),
    "node_pools": _columns(
        "node route database user pool_mode state pool_size:i min_pool_size:i reserve_pool_size:i cl_active:i "
        "cl_waiting:i sv_active:i sv_idle:i sv_used:i sv_tested:i sv_login:i sv_closing:i maxwait_ms:f"
    ),
    "nodes": _columns(
        "name host port:i role state used:b since:t weight:f lag_bytes:q lag_ms:f timeline:i reads:q writes:q leases:i "
        "servers:i backends:i max_connections:i why"
    ),
    "prepared_statements": _columns("shape clients:i servers:i bytes:q workers:i"),
    "reasons": _columns("reason reads:q percent:f"),
    "routes": _columns(
        "position:i name database user application_name client_addr refuse:b pool_mode pool_size:i consistency balance "
        "read_from_primary prefer query_cache server_database server_user"
    ),
    "session_state": _columns("application_name user database state action statements:q"),
    "sessions": _columns(
        "id:i database user application_name state route pool_mode node server_pid:i waited_ms:f connected_at:t "
        "requested_at:t pinned"
    ),
    "workers": _columns(
        "worker:i pid:i state clients:i waiting:i logins_in_flight:i servers:i loop_lag_ms:f cpu_s:f rss_bytes:q"
    ),
}
"""By what is written behind SHOW."""
