"""The tables of the settings' file: [log], [health_check], [nodes.NAME], [users.NAME], [session_state], [[routes]]."""

import ipaddress
from typing import Final, Literal

from pydantic import SecretStr

from middleware.config.fields import Switch, Table, one_of, seconds, setting, whole
from middleware.logs.events import SUBJECTS
from parser.session_state import (
    CURSORS,
    LIBRARIES,
    LISTEN,
    LOCKS,
    PREPARED,
    ROLES,
    SEED,
    SEQUENCES,
    SETTINGS,
    TEMPORARY,
    UNKNOWN,
)

# What a rule may say otherwise than the top level.
PoolMode = Literal["session", "transaction", "statement"]
Consistency = Literal["session", "eventual", "global", "primary"]
Balance = Literal["least_outstanding", "round_robin", "random"]
ReadFromPrimary = Literal["never", "fallback", "always"]
TransactionReads = Literal["primary", "until_write"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
StateWarnings = Literal["client", "log", "off"]
QueryCacheMode = Literal["off", "on", "hint"]
# What may be done about a piece of session state; only what can be replayed can be tracked.
Tracked = Literal["track", "pin", "reject", "allow"]
Pinned = Literal["pin", "reject", "allow"]

LIMIT_MAX: Final = 1_000_000
"""More connections than any machine has."""
OF_POOLS: Final = (
    "pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "max_db_connections",
    "max_user_connections",
)
"""What a rule may say of pools: it then has pools of its own."""


class LogLevels(Table):
    """[log.levels]: by subject; None as the level of all."""

    client: LogLevel | None = one_of(None, LogLevel, SUBJECTS["client"])
    statement: LogLevel | None = one_of(None, LogLevel, SUBJECTS["statement"])
    session_state: LogLevel | None = one_of(None, LogLevel, SUBJECTS["session_state"])
    pool: LogLevel | None = one_of(None, LogLevel, SUBJECTS["pool"])
    node: LogLevel | None = one_of(None, LogLevel, SUBJECTS["node"])
    catalog: LogLevel | None = one_of(None, LogLevel, SUBJECTS["catalog"])
    cache: LogLevel | None = one_of(None, LogLevel, SUBJECTS["cache"])
    auth: LogLevel | None = one_of(None, LogLevel, SUBJECTS["auth"])
    service: LogLevel | None = one_of(None, LogLevel, SUBJECTS["service"])
    worker: LogLevel | None = one_of(None, LogLevel, SUBJECTS["worker"])
    control: LogLevel | None = one_of(None, LogLevel, SUBJECTS["control"])
    console: LogLevel | None = one_of(None, LogLevel, SUBJECTS["console"])
    web: LogLevel | None = one_of(None, LogLevel, SUBJECTS["web"])
    stats: LogLevel | None = one_of(None, LogLevel, SUBJECTS["stats"])
    library: LogLevel | None = one_of(None, LogLevel, SUBJECTS["library"])
    log: LogLevel | None = one_of(None, LogLevel, SUBJECTS["log"])


class LogSettings(Table):
    """[log]"""

    level: LogLevel = one_of("info", LogLevel, "What is logged: this, and what is worse.", peers="pgbouncer: verbose")
    levels: LogLevels = setting(
        LogLevels(),
        "a table of subjects",
        'What is logged of a subject alone: `{ client = "warning", pool = "debug" }`.',
    )
    format: LogFormat = one_of("text", LogFormat, "For people, or for machines.")
    event_rate_max: int = whole(
        100,
        0,
        1_000_000,
        "Lines of one event a second that one process writes, on average over ten seconds; 0 for no bound. What is "
        "left out is counted, and the log says so.",
    )


class HealthCheckSettings(Table):
    """[health_check]: who asks the nodes how they are, and how often."""

    user: str = setting(
        ...,
        "the name of a role that may log in to every node",
        "The role that asks. It needs pg_monitor, and CONNECT to the databases in use.",
        min_length=1,
        peers="pgpool: health_check_user, sr_check_user",
    )
    password: SecretStr | None = setting(
        None, "a string", "Its password.", peers="pgpool: health_check_password, sr_check_password"
    )
    database: str = setting(
        "postgres",
        "the name of a database",
        "The database it asks in.",
        min_length=1,
        peers="pgpool: health_check_database, sr_check_database",
    )
    period: float = seconds(1.0, "Between two probes of a node.", peers="pgpool: health_check_period, sr_check_period")
    timeout: float = seconds(5.0, "For one probe.", peers="pgpool: health_check_timeout; hikaricp: validationTimeout")
    max_retries: int = whole(
        2, 0, 1000, "Failed probes that are repeated before a node is down.", peers="pgpool: health_check_max_retries"
    )
    retry_delay: float = seconds(1.0, "Between those.", peers="pgpool: health_check_retry_delay")
    catalog_refresh: float = seconds(
        30.0, "Between two looks at each database's functions.", peers="pgpool: relcache_expire"
    )


class NodeSettings(Table):
    """[nodes.NAME]"""

    host: str = setting(
        ...,
        "a host name or an address",
        "A host name, an address, or the directory of a unix socket. A name is resolved again, see dns_max_ttl.",
        min_length=1,
        peers="pgbouncer: host; pgpool: backend_hostname",
    )
    port: int = whole(5432, 1, 65535, "Its port.", peers="pgbouncer: port; pgpool: backend_port")
    weight: int = whole(
        1, 0, 1000, "Its share of the reads, beside the others' weights; 0 takes none.", peers="pgpool: backend_weight"
    )
    zone: str = setting("", "a string", "Where it runs: readers of Pointsman's own zone are asked first.")
    data_directory: str = setting(
        "", "a path", "Its data directory, for the commands of a failover.", peers="pgpool: backend_data_directory"
    )


class SessionStateSettings(Table):
    """[session_state]: what is done about each class of it; None as POLICIES has it, in a rule as the top level has."""

    settings: Tracked | None = one_of(None, Tracked, "SET, set_config().", peers="pgbouncer: track_extra_parameters")
    roles: Tracked | None = one_of(None, Tracked, "SET ROLE, SET SESSION AUTHORIZATION.")
    prepared_statements: Tracked | None = one_of(None, Tracked, "PREPARE.")
    listen: Pinned | None = one_of(None, Pinned, "LISTEN.")
    advisory_locks: Pinned | None = one_of(None, Pinned, "Advisory locks of the session.")
    temporary_tables: Pinned | None = one_of(None, Pinned, "All in its temporary schema.")
    hold_cursors: Pinned | None = one_of(None, Pinned, "DECLARE .. WITH HOLD.")
    libraries: Pinned | None = one_of(None, Pinned, "LOAD.")
    random_seed: Pinned | None = one_of(None, Pinned, "setseed().")
    sequences: Pinned | None = one_of(
        None, Pinned, "currval() and lastval() outside the transaction that called nextval()."
    )
    unknown: Tracked | None = one_of(None, Tracked, "DO, CALL, text that could not be read.")


POLICIES: Final = {
    SETTINGS: "track",
    ROLES: "track",
    PREPARED: "track",
    LISTEN: "pin",
    LOCKS: "pin",
    TEMPORARY: "pin",
    CURSORS: "pin",
    LIBRARIES: "pin",
    SEED: "pin",
    SEQUENCES: "allow",
    UNKNOWN: "track",
}


class UserSettings(Table):
    """[users.NAME]"""

    password: SecretStr | None = setting(
        None,
        "a string",
        "Its password in plain, as md5.., or as a SCRAM verifier. Towards the nodes a plain one is needed, or the "
        "client's own login where both sides have the same verifier.",
        peers="pgbouncer: auth_file; pgpool: pool_passwd",
    )


class RouteSettings(Table):
    """[[routes]]: what holds for the clients of a database, user, address or application; None as the top level has it.

    A rule that says something of pools has pools of its own.
    """

    name: str = setting(
        "",
        "a string",
        "What it is called in logs and in SHOW; by default `routes[N]`. A rule that says something of pools (sizes, "
        "max_db_connections, max_user_connections) has pools of its own, and a name that no other such rule has.",
    )
    database: str | None = setting(None, "a regular expression", "For the whole of the database's name.")
    user: str | None = setting(None, "a regular expression", "For the whole of the user's name.")
    application_name: str | None = setting(
        None, "a regular expression", "For the whole of the application_name the client gave at login."
    )
    client_addr: tuple[str, ...] = setting(
        (), "a list of addresses or networks", 'Addresses, networks such as 10.0.0.0/8, or "unix".'
    )
    # Where to
    server_database: str | None = setting(
        None, "the name of a database", "The database on the nodes.", min_length=1, peers="pgbouncer: dbname"
    )
    server_user: str | None = setting(
        None,
        "the name of a user",
        "The user towards the nodes, whose password is in [users] or auth_file.",
        min_length=1,
        peers="pgbouncer: user",
    )
    prefer: tuple[str, ...] = setting(
        (),
        "a list of names of nodes",
        "The standbys that are asked first.",
        peers="pgpool: app_name_redirect_preference_list",
    )
    refuse: Switch = one_of("off", Switch, "Its clients are told that there is no such database: FATAL 3D000.")
    # Pools
    pool_mode: PoolMode | None = one_of(None, PoolMode, "As the top level's.", peers="pgbouncer: pool_mode")
    pool_size: int | None = whole(None, 1, LIMIT_MAX, "As default_pool_size.", peers="pgbouncer: pool_size")
    min_pool_size: int | None = whole(None, 0, LIMIT_MAX, "As the top level's.", peers="pgbouncer: min_pool_size")
    reserve_pool_size: int | None = whole(
        None, 0, LIMIT_MAX, "As the top level's.", peers="pgbouncer: reserve_pool_size"
    )
    max_db_connections: int | None = whole(
        None, 0, LIMIT_MAX, "As the top level's.", peers="pgbouncer: max_db_connections"
    )
    max_user_connections: int | None = whole(
        None, 0, LIMIT_MAX, "As the top level's.", peers="pgbouncer: max_user_connections"
    )
    max_db_client_connections: int | None = whole(
        None, 0, LIMIT_MAX, "As the top level's.", peers="pgbouncer: max_db_client_connections"
    )
    max_user_client_connections: int | None = whole(
        None, 0, LIMIT_MAX, "As the top level's.", peers="pgbouncer: max_user_client_connections"
    )
    # Timeouts
    client_idle_timeout: float | None = seconds(None, "As the top level's.", zero=True)
    query_timeout: float | None = seconds(None, "As the top level's.", zero=True)
    query_wait_timeout: float | None = seconds(None, "As the top level's.")
    query_wait_notify: float | None = seconds(None, "As the top level's.", zero=True)
    transaction_timeout: float | None = seconds(None, "As the top level's.", zero=True)
    idle_transaction_timeout: float | None = seconds(None, "As the top level's.", zero=True)
    leak_warning: float | None = seconds(None, "As the top level's.", zero=True)
    log_min_duration: float | None = setting(
        None, "a number of seconds, 0 for all, -1 for none", "As the top level's.", ge=-1, le=10_000_000
    )
    # Reads
    consistency: Consistency | None = one_of(None, Consistency, "As the top level's.")
    consistency_wait: float | None = seconds(None, "As the top level's.", zero=True)
    max_replica_lag: float | None = seconds(None, "As the top level's.")
    balance: Balance | None = one_of(None, Balance, "As the top level's.")
    read_from_primary: ReadFromPrimary | None = one_of(None, ReadFromPrimary, "As the top level's.")
    session_affinity: Switch | None = one_of(None, Switch, "As the top level's.")
    transaction_reads: TransactionReads | None = one_of(None, TransactionReads, "As the top level's.")
    query_cache: QueryCacheMode | None = one_of(None, QueryCacheMode, "As the top level's.")
    session_state: SessionStateSettings = setting(SessionStateSettings(), "a table", "As the top level's.")
    session_state_warnings: StateWarnings | None = one_of(None, StateWarnings, "As the top level's.")

    def called(self, index: int) -> str:
        """What it is called as the rule of this index."""
        return self.name or f"routes[{index}]"

    def patterns(self) -> dict[str, str | None]:
        """Whom it is for, by key."""
        return {"database": self.database, "user": self.user, "application_name": self.application_name}

    def networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The addresses it is for. Raises ValueError."""
        return tuple(ipaddress.ip_network(one) for one in self.client_addr if one != "unix")

    def for_all(self) -> bool:
        """No client is not meant."""
        return not self.client_addr and all(pattern is None for pattern in self.patterns().values())

    def own_pools(self) -> bool:
        """It says something of pools that another rule may say otherwise."""
        return any(getattr(self, name) is not None for name in OF_POOLS)
