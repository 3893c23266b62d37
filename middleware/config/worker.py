"""What a worker needs of the settings: plain values for its hot path. They travel over the control channel."""

from typing import Final

import msgspec

from middleware.logs.options import LogOptions


class NodeShare(msgspec.Struct, frozen=True):
    """Which part of the reads a node takes."""

    weight: int = 1
    """In proportion to the others'; 0 for none."""
    zone: str = ""


class PoolPolicy(msgspec.Struct, frozen=True):
    """What holds for the pools of a rule, over all workers."""

    name: str = ""
    """The rule's, where it has pools of its own. Policies of one name are equal."""
    size: int = 20
    min_size: int = 0
    reserve_size: int = 0
    """Servers beyond `size`, once a client has waited for `reserve_timeout_s`."""
    reserve_timeout_s: float = 5.0
    max_db_connections: int = 0
    """Servers of its database on one node; 0 for no limit."""
    max_user_connections: int = 0


class ClientPolicy(msgspec.Struct, frozen=True):
    """The limits and timeouts of a rule's clients: seconds, 0 for never; numbers, 0 for no limit."""

    max_db_connections: int = 0
    max_user_connections: int = 0
    idle_s: float = 0.0
    query_s: float = 0.0
    query_wait_s: float = 120.0
    query_wait_notify_s: float = 5.0
    transaction_s: float = 0.0
    idle_transaction_s: float = 0.0
    leak_warning_s: float = 0.0
    log_min_duration_s: float = -1.0
    """0 for all statements, -1 for none."""


class TlsSettings(msgspec.Struct, frozen=True):
    """TLS on one side: files and words, as in the settings."""

    sslmode: str = "disable"
    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    min_protocol: str = "TLSv1.2"
    direct: bool = False
    """Towards a node: without asking first."""


class TlsMaterial(msgspec.Struct, frozen=True):
    """TLS on one side: what the files of TlsSettings held when they were read, all at once."""

    sslmode: str = "disable"
    certificate: bytes = b""
    """PEM, as is the rest; empty where the settings name no file."""
    key: bytes = b""
    authorities: bytes = b""
    min_protocol: str = "TLSv1.2"
    direct: bool = False

    def __repr__(self) -> str:
        return f"TlsMaterial(sslmode={self.sslmode!r})"


class NetworkSettings(msgspec.Struct, frozen=True):
    """What is set on TCP sockets; 0 as the system has it."""

    keepalive: bool = True
    keepalive_idle_s: int = 0
    keepalive_interval_s: int = 0
    keepalive_count: int = 0
    user_timeout_s: float = 0.0
    dns_max_ttl_s: float = 15.0


class CacheSettings(msgspec.Struct, frozen=True):
    """What holds for the answers a worker keeps."""

    size_bytes: int = 67_108_864
    """Of all of them, in one worker."""
    result_bytes_max: int = 1_048_576
    """Of one."""
    ttl_s: float = 60.0
    """0 for as long as it holds."""
    redis_url: str = ""
    """Where several Pointsmans share them; "" for nowhere. It may hold a password."""
    redis_timeout_s: float = 0.02
    watch: str = "auto"
    """How writes that do not pass through us are noticed: "auto", "logical", "poll" or "off"."""

    def __repr__(self) -> str:
        return f"CacheSettings(size_bytes={self.size_bytes}, watch={self.watch!r})"


class RoutePolicy(msgspec.Struct, frozen=True):
    """What holds for the clients of one rule: every value resolved, the rule's own or the top level's."""

    database: str | None
    user: str | None
    application_name: str | None
    """Whom it is for: regular expressions for the whole of each; None for any."""
    consistency: str
    """What a read may miss, unless its client says otherwise: "session", "eventual", "global" or "primary"."""
    consistency_wait_s: float
    """How long a read waits for a standby to have what its client has seen, before it goes to the primary."""
    max_replica_lag_s: float
    balance: str
    """"least_outstanding", "round_robin" or "random"."""
    read_from_primary: str
    """Reads that a standby may serve: "never" there, as a "fallback", or "always" as one of the readers."""
    session_affinity: bool
    """A client stays with the node of its first read."""
    transaction_reads: str
    """Reads of a read-write transaction: "primary", or where others go "until_write"."""
    prefer: tuple[str, ...]
    """The nodes that are asked first."""
    state: tuple[tuple[str, str], ...] = ()
    """What is done about each class of session state: "track", "pin", "reject" or "allow"."""
    state_warnings: str = "client"
    """Who is told of it: "client" (and the log), the "log" alone, or "off"."""
    name: str = ""
    client_addr: tuple[str, ...] = ()
    """Networks, or "unix"; none for any."""
    server_database: str = ""
    """What its clients' databases are called on the nodes; "" as the clients call them."""
    server_user: str = ""
    mode: str = "transaction"
    """"session", "transaction" or "statement"."""
    pool: PoolPolicy = PoolPolicy()
    client: ClientPolicy = ClientPolicy()
    refuse: bool = False
    """Its clients may not come in: there is no such database."""
    query_cache: str = "off"
    """Whose answers are kept: of all that can be ("on"), of statements that ask for it ("hint"), or none ("off")."""


class WorkerSettings(msgspec.Struct, frozen=True):
    """What a worker needs of the settings: plain values. Limits are over all workers, unless they say otherwise."""

    max_client_conn: int
    admin_reserved_conn: int
    """Beyond each limit of clients and of servers, for `admin_users`."""
    admin_users: tuple[str, ...]
    stats_users: tuple[str, ...]
    """Who may look, in the admin console."""
    max_client_logins: int
    """Connections that have not proved who they are, in one worker."""
    max_server_logins: int
    """Servers of one node that are being opened, in one worker."""
    max_wal_senders: int
    """Replication connections to one node."""
    max_prepared_statements: int
    """Named statements kept on each server."""
    max_packet_size: int
    """Bytes of a message from a client."""
    statement_size_max: int
    """Bytes of SQL looked at; a longer simple query goes to the primary unread, a longer named one is refused."""
    shutdown_timeout_s: float
    """For what is lent of a node to end that is gone from the settings."""
    client_login_timeout_s: float
    cancel_wait_timeout_s: float
    suspend_timeout_s: float
    """0 for ever."""
    server_connect_timeout_s: float
    server_login_retry_s: float
    server_check_delay_s: float
    server_keepalive_s: float
    """0 for never."""
    server_idle_timeout_s: float
    """0 for never."""
    server_lifetime_s: float
    server_lifetime_jitter: float
    server_reset_query: str
    network: NetworkSettings
    max_replica_lag_bytes: int
    """0 for no bound."""
    primary_queries: tuple[str, ...]
    """Regular expressions: a statement in which one is found goes to the primary."""
    state_quiet: tuple[str, ...]
    """Settings, in lower case, whose SET only the log is told of; `name=value` for one value alone."""
    zone: str
    """Where this Pointsman runs; "" where no zone is preferred."""
    nodes: dict[str, NodeShare]
    policies: tuple[RoutePolicy, ...]
    """The first that matches a client holds for it; the last one matches all."""
    cache: CacheSettings
    log: LogOptions
    digests_max: int
    """Shapes of statements whose use is counted; 0 for none."""
    otel_endpoint: str = ""
    """Where traces are sent; "" for none."""
    otel_sample_ratio: float = 0.0

    def share_of(self, node: str) -> NodeShare:
        """Of the reads. What workers are told of the settings and of the nodes may come at different times."""
        return self.nodes.get(node) or ONE_MORE


ONE_MORE: Final = NodeShare()
