"""The settings of connections, by groups: listening, who may come in, encryption, pools, limits, timeouts.

Each group is a part of Settings and a chapter of the reference. Names are PgBouncer's where it has the setting.
"""

from typing import Final, Literal

from pydantic import BaseModel

from middleware.config.fields import Switch, one_of, path, seconds, setting, whole
from middleware.config.tables import LIMIT_MAX, PoolMode

WORKERS_MAX: Final = 256
"""More than any machine has use for, and well inside the eleven bits a cancel key has for the worker."""

AuthType = Literal["scram-sha-256", "scram-sha-256-plus", "md5", "password", "cert", "trust", "hba"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
TlsVersion = Literal["TLSv1.2", "TLSv1.3"]


class Listening(BaseModel):
    """Where clients connect"""

    listen_addr: str = setting(
        "127.0.0.1",
        'names or addresses with commas between, or "*"',
        'Where to listen: "*" for all addresses, "" for none.',
        peers="pgbouncer: listen_addr; pgpool: listen_addresses",
    )
    listen_port: int = whole(6432, 0, 65535, "0 takes a free port.", peers="pgbouncer: listen_port; pgpool: port")
    unix_socket_dir: str = setting(
        "",
        "a directory, or nothing for no unix socket",
        "Where to make .s.PGSQL.<port>.",
        peers="pgbouncer: unix_socket_dir; pgpool: unix_socket_directories",
    )
    unix_socket_mode: str = setting(
        "0777",
        'an octal mode such as "0770"',
        "Who may connect by it.",
        pattern=r"^0?[0-7]{3}$",
        peers="pgbouncer: unix_socket_mode; pgpool: unix_socket_permissions",
    )


class Processes(BaseModel):
    """Processes"""

    workers: int = whole(
        1,
        1,
        WORKERS_MAX,
        "Worker processes, at most one per core.",
        peers="pgbouncer: so_reuseport; pgpool: num_init_children",
    )
    fail_fast: Switch = one_of(
        "off",
        Switch,
        "Whether to end, with status 1, when the first look at the nodes finds no primary, instead of waiting for one.",
        peers="hikaricp: initializationFailTimeout",
    )
    shutdown_timeout: float = seconds(
        30.0,
        "Open transactions have this long to end after SIGTERM.",
        zero=True,
        peers="pgbouncer: SHUTDOWN WAIT_FOR_CLIENTS",
    )
    restart_timeout: float = seconds(
        3600.0,
        "After an online restart, clients of the process before have this long to leave by themselves; then those that "
        "are in no transaction are sent away, and shutdown_timeout begins.",
        zero=True,
    )
    control_socket: str = setting(
        "auto",
        'the path of a unix socket, "auto", or nothing for none',
        "By which `pointsman status`, `events`, `switchover` and `cache` reach a Pointsman that runs; only its own "
        "user may. "
        '"auto" is .s.pointsman.<port> in unix_socket_dir, or .s.pointsman.<listen_addr>.<port> in /tmp, and none with '
        "a listen_port of 0.",
        peers="pgpool: pcp_socket_dir",
    )


class Authentication(BaseModel):
    """How clients prove who they are"""

    auth_type: AuthType = one_of(
        "scram-sha-256",
        AuthType,
        'How clients log in: by PostgreSQL\'s methods; with "scram-sha-256-plus" only bound to their TLS, with "trust" '
        'they are believed, with "hba" auth_hba_file says how.',
        peers="pgbouncer: auth_type; pgpool: enable_pool_hba",
    )
    auth_hba_file: str = path(
        "Who may come in from where, and how: in the format of pg_hba.conf.",
        peers="pgbouncer: auth_hba_file; pgpool: pool_hba.conf",
    )
    auth_ident_file: str = path(
        "Which names in certificates may be which users: in the format of pg_ident.conf.",
        peers="pgbouncer: auth_ident_file",
    )
    auth_file: str = path(
        'Users and their secrets, a line each: "user" "password", or "md5...", or "SCRAM-SHA-256$..." for it. '
        "What [users] says counts before it.",
        peers="pgbouncer: auth_file; pgpool: pool_passwd",
    )
    auth_user: str = setting(
        "",
        "the name of a user whose password is known, or nothing",
        'Who asks the primary for users that are in neither [users] nor auth_file; "" for nobody.',
        peers="pgbouncer: auth_user",
    )
    auth_query: str = setting(
        "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
        "FROM pg_authid WHERE rolname = $1 AND rolcanlogin",
        "a query with $1, of two columns: user and secret",
        "What auth_user asks. Give it a SECURITY DEFINER function to call, and auth_user need not be a superuser.",
        min_length=1,
        peers="pgbouncer: auth_query",
    )
    auth_dbname: str = setting(
        "postgres", "the name of a database", "Where it asks.", min_length=1, peers="pgbouncer: auth_dbname"
    )
    auth_query_ttl: float = seconds(
        60.0, "How long an answer is used. One by which a login has failed is asked for again at the next.", zero=True
    )
    admin_users: tuple[str, ...] = setting(
        (),
        "a list of names of users",
        "Users who may do anything in the admin console, and for whom admin_reserved_conn is kept free.",
        peers="pgbouncer: admin_users",
    )


class ClientEncryption(BaseModel):
    """TLS with clients"""

    client_tls_sslmode: SslMode = one_of(
        "disable",
        SslMode,
        'Whether clients get TLS ("allow", "prefer"), must use it ("require"), and must show a certificate that '
        "client_tls_ca_file has signed (verify-ca, verify-full).",
        peers="pgbouncer: client_tls_sslmode; pgpool: ssl",
    )
    client_tls_cert_file: str = path(
        "Our certificate, with those between it and the root.",
        peers="pgbouncer: client_tls_cert_file; pgpool: ssl_cert",
    )
    client_tls_key_file: str = path("Its key.", peers="pgbouncer: client_tls_key_file; pgpool: ssl_key")
    client_tls_ca_file: str = path(
        "Who signs clients' certificates.", peers="pgbouncer: client_tls_ca_file; pgpool: ssl_ca_cert"
    )
    client_tls_min_protocol: TlsVersion = one_of(
        "TLSv1.2", TlsVersion, "The oldest version spoken.", peers="pgbouncer: client_tls_protocols"
    )


class ServerEncryption(BaseModel):
    """TLS with the nodes"""

    server_tls_sslmode: SslMode = one_of(
        "prefer",
        SslMode,
        "As libpq's sslmode. With allow and prefer, a login that is refused with 28000 is tried on the other kind.",
        peers="pgbouncer: server_tls_sslmode",
    )
    server_tls_negotiation: Literal["postgres", "direct"] = one_of(
        "postgres",
        Literal["postgres", "direct"],
        'As libpq\'s sslnegotiation; "direct" saves a round trip, and needs PostgreSQL 17.',
    )
    server_tls_cert_file: str = path("Our certificate towards the nodes.", peers="pgbouncer: server_tls_cert_file")
    server_tls_key_file: str = path("Its key.", peers="pgbouncer: server_tls_key_file")
    server_tls_ca_file: str = path(
        "Who signs the nodes' certificates; by default those the system trusts.", peers="pgbouncer: server_tls_ca_file"
    )
    server_tls_min_protocol: TlsVersion = one_of(
        "TLSv1.2", TlsVersion, "The oldest version spoken.", peers="pgbouncer: server_tls_protocols"
    )


class Pools(BaseModel):
    """Pools

    A pool is for one node, database and user, and where a rule has pools of its own, for that rule. All numbers are
    over all workers: a worker that needs more gets what others leave idle."""

    pool_mode: PoolMode = one_of(
        "transaction",
        PoolMode,
        "When a client gives its server back: at its end, at that of each transaction, or of each statement.",
        peers="pgbouncer: pool_mode",
    )
    default_pool_size: int = whole(
        20,
        1,
        LIMIT_MAX,
        "Servers of a pool.",
        peers="pgbouncer: default_pool_size; pgpool: num_init_children; hikaricp: maximumPoolSize",
    )
    min_pool_size: int = whole(
        0,
        0,
        LIMIT_MAX,
        "Servers that are kept open in a pool that has been used.",
        peers="pgbouncer: min_pool_size; hikaricp: minimumIdle",
    )
    reserve_pool_size: int = whole(
        0, 0, LIMIT_MAX, "Servers beyond that, when a client has waited for long.", peers="pgbouncer: reserve_pool_size"
    )
    reserve_pool_timeout: float = seconds(5.0, "How long is long.", zero=True, peers="pgbouncer: reserve_pool_timeout")
    max_db_connections: int = whole(
        0, 0, LIMIT_MAX, "Servers of a database on one node; 0 for no limit.", peers="pgbouncer: max_db_connections"
    )
    max_user_connections: int = whole(
        0, 0, LIMIT_MAX, "Servers of a user on one node; 0 for no limit.", peers="pgbouncer: max_user_connections"
    )
    max_server_logins: int = whole(
        8, 1, LIMIT_MAX, "Connections to a node that are being opened at once, in each worker; pools take turns."
    )
    max_wal_senders: int = whole(
        10,
        0,
        LIMIT_MAX,
        "Replication connections to a node, each of which has a server of its own; 0 for none. At the bound: FATAL "
        "53300.",
    )
    max_prepared_statements: int = whole(
        200, 1, 100_000, "Named statements kept on each server.", peers="pgbouncer: max_prepared_statements"
    )


class Clients(BaseModel):
    """Limits for clients"""

    max_client_conn: int = whole(
        1000,
        1,
        LIMIT_MAX,
        "Clients. At the bound: FATAL 53300.",
        peers="pgbouncer: max_client_conn; pgpool: num_init_children",
    )
    admin_reserved_conn: int = whole(
        3,
        0,
        LIMIT_MAX,
        "Connections that only admin_users get: clients beyond max_client_conn and the other limits for clients, "
        "servers beyond a pool's size and the limits for servers.",
    )
    max_db_client_connections: int = whole(
        0,
        0,
        LIMIT_MAX,
        "Clients of a database; 0 for no limit. At the bound: FATAL 53300.",
        peers="pgbouncer: max_db_client_connections",
    )
    max_user_client_connections: int = whole(
        0,
        0,
        LIMIT_MAX,
        "Clients of a user; 0 for no limit. At the bound: FATAL 53300.",
        peers="pgbouncer: max_user_client_connections",
    )
    max_client_logins: int = whole(
        500,
        1,
        LIMIT_MAX,
        "Connections that have not proved yet who they are, in each worker. When one more comes, the one that has been "
        "silent for longest is closed; where none is silent, the one that came first.",
    )
    # A message cannot be longer than PostgreSQL takes (1 GiB).
    max_packet_size: int = whole(
        2**30 - 1,
        # What one read from a socket may hold: a Query that came whole is not measured.
        262_144,
        2**30 - 1,
        "Bytes of a message from a client. At the bound: FATAL 08P01.",
        peers="pgbouncer: max_packet_size",
    )
    statement_size_max: int = whole(
        1_048_576,
        1024,
        2**30 - 1,
        "Bytes of a message that is gathered and read. A longer Query that does not come at once goes to the primary; "
        "a longer named statement is refused with FATAL 54000.",
    )


class ClientTimeouts(BaseModel):
    """Timeouts of clients"""

    client_login_timeout: float = seconds(
        60.0,
        "For logging in. At the bound: FATAL 57014; a connection that has said nothing is closed.",
        peers="pgbouncer: client_login_timeout; pgpool: authentication_timeout",
    )
    client_idle_timeout: float = seconds(
        0.0,
        "A client that sends nothing for longer, outside a transaction, is sent away: FATAL 57P05. 0 for never.",
        zero=True,
        peers="pgbouncer: client_idle_timeout; pgpool: client_idle_limit",
    )
    query_timeout: float = seconds(
        0.0,
        "A statement that runs for longer is canceled: ERROR 57014. What stands between two Syncs counts as one. 0 for "
        "never.",
        zero=True,
        peers="pgbouncer: query_timeout",
    )
    query_wait_timeout: float = seconds(
        120.0,
        "How long a statement waits for a server: ERROR 53300. So does, in each worker, the first login of a database "
        "and user, and with settings (but application_name) that were not seen before: FATAL 53300.",
        peers="pgbouncer: query_wait_timeout; hikaricp: connectionTimeout; sqlalchemy: pool_timeout",
    )
    query_wait_notify: float = seconds(
        5.0,
        "A client that waits for longer gets a NOTICE. 0 for none.",
        zero=True,
        peers="pgbouncer: query_wait_notify",
    )
    transaction_timeout: float = seconds(
        0.0,
        "A transaction that lasts longer ends, and its client is sent away: FATAL 25P04. 0 for never.",
        zero=True,
        peers="pgbouncer: transaction_timeout",
    )
    idle_transaction_timeout: float = seconds(
        0.0,
        "The same for one in which the client sends nothing for longer: FATAL 25P03. 0 for never.",
        zero=True,
        peers="pgbouncer: idle_transaction_timeout",
    )
    leak_warning: float = seconds(
        0.0,
        "A client that holds a server for longer is named in the log, with its last statement's shape. 0 for never.",
        zero=True,
        peers="hikaricp: leakDetectionThreshold",
    )
    cancel_wait_timeout: float = seconds(
        10.0, "For passing a cancel request on.", peers="pgbouncer: cancel_wait_timeout"
    )
    suspend_timeout: float = seconds(
        10.0,
        "How long SUSPEND waits for what was read to be passed on; then connections that do not take it are closed. "
        "0 for ever.",
        zero=True,
        peers="pgbouncer: suspend_timeout",
    )


class ServerTimeouts(BaseModel):
    """Servers' lives"""

    server_connect_timeout: float = seconds(
        15.0,
        "For opening a server, and for its answer to a check.",
        peers="pgbouncer: server_connect_timeout; pgpool: connect_timeout",
    )
    server_login_retry: float = seconds(
        1.0,
        "No server is opened for so long after one could not be; twice as long each time, up to 15 times.",
        zero=True,
        peers="pgbouncer: server_login_retry",
    )
    server_check_delay: float = seconds(
        30.0,
        "A server idle for longer is asked for a sign of life before use. 0 for always.",
        zero=True,
        peers="pgbouncer: server_check_delay; sqlalchemy: pool_pre_ping",
    )
    server_keepalive: float = seconds(
        0.0,
        "A server idle for longer is asked for a sign of life, so that firewalls do not forget it. 0 for never.",
        zero=True,
        peers="hikaricp: keepaliveTime",
    )
    server_idle_timeout: float = seconds(
        600.0,
        "A server idle for longer is closed, down to min_pool_size. 0 for never.",
        zero=True,
        peers="pgbouncer: server_idle_timeout; pgpool: connection_life_time; hikaricp: idleTimeout",
    )
    server_lifetime: float = seconds(
        3600.0,
        "A server older than this is closed once it is idle.",
        peers="pgbouncer: server_lifetime; pgpool: child_life_time; hikaricp: maxLifetime; sqlalchemy: pool_recycle",
    )
    server_lifetime_jitter: float = setting(
        0.1,
        "a share from 0 to 1",
        "A server's lifetime is shorter by up to this share of it, so that those opened together do not end together.",
        ge=0,
        le=1,
        peers="hikaricp: maxLifetime",
    )
    # What else a statement of one's own leaves on the server, its books could not tell.
    server_reset_query: Literal["DISCARD ALL", ""] = setting(
        "DISCARD ALL",
        '"DISCARD ALL", or "" to close the connection instead',
        'Behind a client that has left something behind; "" closes the connection instead.',
        peers="pgbouncer: server_reset_query; pgpool: reset_query_list",
    )


class Network(BaseModel):
    """Network"""

    tcp_keepalive: Switch = one_of("on", Switch, "TCP keepalive on both sides.", peers="pgbouncer: tcp_keepalive")
    tcp_keepidle: int = whole(0, 0, 32_767, "Seconds; 0 as the system has it.", peers="pgbouncer: tcp_keepidle")
    tcp_keepintvl: int = whole(0, 0, 32_767, "Seconds; 0 as the system has it.", peers="pgbouncer: tcp_keepintvl")
    tcp_keepcnt: int = whole(0, 0, 127, "0 as the system has it.", peers="pgbouncer: tcp_keepcnt")
    tcp_user_timeout: float = seconds(
        0.0,
        "How long sent data may stay unacknowledged; 0 as the system has it.",
        zero=True,
        peers="pgbouncer: tcp_user_timeout",
    )
    dns_max_ttl: float = seconds(
        15.0,
        "How long the addresses of a node's name are used before it is resolved again.",
        zero=True,
        peers="pgbouncer: dns_max_ttl",
    )
