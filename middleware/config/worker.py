"""What a worker needs of the settings: plain values for its hot path. They travel over the control channel."""

import msgspec


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
    consistency: str
    """What a read may miss, unless its client says otherwise: "session", "eventual", "global" or "primary"."""
    max_replica_lag_s: float
    max_replica_lag_bytes: int
    """0 for no bound."""
    consistency_wait_s: float
    """How long a read waits for a standby to have what its client has seen, before it goes to the primary."""
    transaction_reads: str
    """Where a transaction that may write reads: "primary", or "until_write" on a standby."""
    log_level: str
    log_format: str

    def __repr__(self) -> str:
        # The generated one would print the passwords, into whatever log or traceback shows this value.
        return f"{type(self).__name__}(pool_mode={self.pool_mode!r}, auth_type={self.auth_type!r}, ...)"
