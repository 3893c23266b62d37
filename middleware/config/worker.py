"""What a worker needs of the settings: plain values for its hot path. They travel over the control channel."""

import msgspec


class NodeShare(msgspec.Struct, frozen=True):
    """Which part of the reads a node takes."""

    weight: int = 1
    """In proportion to the others'; 0 for none."""
    zone: str = ""


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


class WorkerSettings(msgspec.Struct, frozen=True):
    """What a worker needs of the settings: plain values, shares of a limit already divided over the workers."""

    pool_mode: str
    auth_type: str
    """How clients prove who they are: "scram-sha-256" or "trust"."""
    users: dict[str, str | None]
    """Users who may log in, with the password used towards clients and servers; None where there is none."""
    pool_size: int
    """Servers per (node, database, user) in this worker."""
    max_client_conn: int
    """Clients in this worker."""
    max_prepared_statements: int
    """Named statements kept on each server."""
    statement_size_max: int
    """Bytes of SQL looked at; a longer simple query goes to the primary unread, a longer named one is refused."""
    client_login_timeout_s: float
    query_wait_timeout_s: float
    server_connect_timeout_s: float
    server_login_retry_s: float
    server_check_delay_s: float
    server_idle_timeout_s: float
    server_lifetime_s: float
    cancel_wait_timeout_s: float
    server_reset_query: str
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
    log_level: str
    log_format: str

    def __repr__(self) -> str:
        # The generated one would print the passwords, into whatever log or traceback shows this value.
        return f"{type(self).__name__}(pool_mode={self.pool_mode!r}, auth_type={self.auth_type!r}, ...)"
