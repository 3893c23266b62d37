"""The settings a person writes: Settings, of groups (connections, reads) and tables.

In: a mapping (the TOML file) under the environment. Out: Settings, whose secrets print as asterisks, and each worker's
part of it. How a mistake is told is middleware.config.load's part; it reads the words in `allowed` from here.
"""

import re
from pathlib import Path
from typing import Any, Final

from pydantic import field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from middleware.config.caching import QueryCache
from middleware.config.connections import (
    Authentication,
    ClientEncryption,
    Clients,
    ClientTimeouts,
    Listening,
    Network,
    Pools,
    Processes,
    ServerEncryption,
    ServerTimeouts,
)
from middleware.config.drilling import DrillSettings
from middleware.config.failing_over import Failover
from middleware.config.fields import setting
from middleware.config.instances import Instances
from middleware.config.log_lines import LogLines
from middleware.config.operating import Operating
from middleware.config.patroni import FromPatroni
from middleware.config.reads import Reads, States
from middleware.config.tables import (
    POLICIES,
    HealthCheckSettings,
    LogSettings,
    NodeSettings,
    RouteSettings,
    SessionStateSettings,
    UserSettings,
)
from middleware.config.worker import (
    CacheSettings,
    ClientPolicy,
    NetworkSettings,
    NodeShare,
    PoolPolicy,
    RoutePolicy,
    TlsSettings,
    WorkerSettings,
)
from middleware.logs.options import LogOptions
from routing.rows import Overrides

GROUPS = (
    Listening,
    Processes,
    Authentication,
    ClientEncryption,
    ServerEncryption,
    Clients,
    ClientTimeouts,
    Pools,
    ServerTimeouts,
    Network,
    Reads,
    QueryCache,
    States,
    Failover,
    Instances,
    FromPatroni,
    Operating,
    LogLines,
)
"""The chapters of the reference, in their order."""

CONTROL_ADDRESS_CHARS_MAX: Final = 60
"""Of listen_addr in the control socket's name: a unix socket's path has little room."""


class Settings(
    LogLines,
    Operating,
    FromPatroni,
    Instances,
    Failover,
    States,
    QueryCache,
    Reads,
    Network,
    ServerTimeouts,
    Pools,
    ClientTimeouts,
    Clients,
    ServerEncryption,
    ClientEncryption,
    Authentication,
    Processes,
    Listening,
    BaseSettings,
):
    """The whole file, with POINTSMAN_* variables laid over it."""

    model_config = SettingsConfigDict(
        env_prefix="POINTSMAN_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    session_state: SessionStateSettings = setting(SessionStateSettings(), "a table", "What is done about each class.")
    log: LogSettings = setting(LogSettings(), "a table", "What is logged.")
    drill: DrillSettings = setting(DrillSettings(), "a table", "What `pointsman drill` is judged by.")
    health_check: HealthCheckSettings = setting(..., "a table [health_check]", "Who asks the nodes how they are.")
    nodes: dict[str, NodeSettings] = setting(..., "at least one table [nodes.NAME]", "The nodes.", min_length=1)
    users: dict[str, UserSettings] = setting({}, "tables [users.NAME]", "Who may log in.")
    routes: tuple[RouteSettings, ...] = setting((), "tables [[routes]]", "What holds for whom.")

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        if isinstance(value, bool):
            raise PydanticCustomError("boolean", "a boolean is not allowed")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over the file, whose content comes in as arguments; no other source."""
        return env_settings, init_settings

    def listen_addresses(self) -> tuple[str, ...]:
        """`listen_addr` as a list."""
        return tuple(name.strip() for name in self.listen_addr.split(",") if name.strip())

    def http_addresses(self) -> tuple[str, ...]:
        """`http_listen_addr` as a list."""
        return tuple(name.strip() for name in self.http_listen_addr.split(",") if name.strip())

    def unix_socket_path(self) -> Path | None:
        """Where the unix socket's directory is, or None for no unix socket."""
        return Path(self.unix_socket_dir) if self.unix_socket_dir else None

    def control_socket_path(self) -> Path | None:
        """Where the control socket is, by the settings alone: whoever has the same ones finds it. None for none."""
        if self.control_socket != "auto":
            return Path(self.control_socket) if self.control_socket else None
        if not self.listen_port:
            # It is not known before it is bound.
            return None
        if self.unix_socket_dir:
            return Path(self.unix_socket_dir) / f".s.pointsman.{self.listen_port}"
        # PostgreSQL's own choice. Not TMPDIR: the service's need not be that of who asks it.
        address = re.sub(r"[^A-Za-z0-9.-]+", "_", self.listen_addr)[:CONTROL_ADDRESS_CHARS_MAX]
        return Path("/tmp") / f".s.pointsman.{address}.{self.listen_port}"  # noqa: S108

    def overrides(self) -> Overrides:
        """What is said of functions and relations."""
        return Overrides(
            self.primary_functions,
            self.safe_functions,
            cache_safe=self.cache_safe_functions,
            cache_safe_relations=self.cache_safe_relations,
            cache_unsafe_relations=self.cache_unsafe_relations,
        )

    def worker_settings(self) -> WorkerSettings:
        """What a worker needs to know."""
        return WorkerSettings(
            max_client_conn=self.max_client_conn,
            admin_reserved_conn=self.admin_reserved_conn,
            admin_users=self.admin_users,
            stats_users=self.stats_users,
            max_client_logins=self.max_client_logins,
            max_server_logins=self.max_server_logins,
            max_wal_senders=self.max_wal_senders,
            max_prepared_statements=self.max_prepared_statements,
            max_packet_size=self.max_packet_size,
            statement_size_max=self.statement_size_max,
            shutdown_timeout_s=self.shutdown_timeout,
            client_login_timeout_s=self.client_login_timeout,
            cancel_wait_timeout_s=self.cancel_wait_timeout,
            suspend_timeout_s=self.suspend_timeout,
            server_connect_timeout_s=self.server_connect_timeout,
            server_login_retry_s=self.server_login_retry,
            server_check_delay_s=self.server_check_delay,
            server_keepalive_s=self.server_keepalive,
            server_idle_timeout_s=self.server_idle_timeout,
            server_lifetime_s=self.server_lifetime,
            server_lifetime_jitter=self.server_lifetime_jitter,
            server_reset_query=self.server_reset_query,
            network=self.network(),
            max_replica_lag_bytes=self.max_replica_lag_bytes,
            primary_queries=self.primary_queries,
            state_quiet=tuple(name.lower() for name in self.session_state_quiet),
            zone=self.zone,
            nodes={name: NodeShare(node.weight, node.zone) for name, node in self.nodes.items()},
            policies=self.policies(),
            cache=self.cache(),
            otel_endpoint=self.otel_endpoint.get_secret_value(),
            otel_sample_ratio=self.otel_sample_ratio,
            log=self.log_options(),
            digests_max=self.digests_max,
        )

    def log_options(self) -> LogOptions:
        """How each process logs, and what."""
        return LogOptions(
            level=self.log.level,
            levels=self.log.levels.model_dump(exclude_none=True),
            format=self.log.format,
            event_rate_max=self.log.event_rate_max,
            connections=self.log_connections == "on",
            disconnections=self.log_disconnections == "on",
            pooler_errors=self.log_pooler_errors == "on",
            statements=bool(self.log_sample_rate) or any(one.client.log_min_duration_s >= 0 for one in self.policies()),
            sample_rate=self.log_sample_rate,
            statement_text=self.log_statement_text == "on",
        )

    def cache(self) -> CacheSettings:
        """What holds for the answers a worker keeps."""
        return CacheSettings(
            size_bytes=self.query_cache_size,
            result_bytes_max=self.max_cached_result_size,
            ttl_s=self.query_cache_ttl,
            redis_url=self.cache_redis_url.get_secret_value(),
            redis_timeout_s=self.cache_redis_timeout,
            watch=self.cache_watch,
        )

    def network(self) -> NetworkSettings:
        """What is set on sockets, and how long addresses are kept."""
        return NetworkSettings(
            self.tcp_keepalive == "on",
            self.tcp_keepidle,
            self.tcp_keepintvl,
            self.tcp_keepcnt,
            self.tcp_user_timeout,
            self.dns_max_ttl,
        )

    def client_tls(self) -> TlsSettings:
        """TLS with clients."""
        return TlsSettings(
            self.client_tls_sslmode,
            self.client_tls_cert_file,
            self.client_tls_key_file,
            self.client_tls_ca_file,
            self.client_tls_min_protocol,
        )

    def server_tls(self) -> TlsSettings:
        """TLS with the nodes."""
        return TlsSettings(
            self.server_tls_sslmode,
            self.server_tls_cert_file,
            self.server_tls_key_file,
            self.server_tls_ca_file,
            self.server_tls_min_protocol,
            self.server_tls_negotiation == "direct",
        )

    def policies(self) -> tuple[RoutePolicy, ...]:
        """What holds for whom: the rules in their order, and the top level for everybody else."""
        rules = [self._policy(rule, rule.called(index)) for index, rule in enumerate(self.routes)]
        return (*rules, self._policy(RouteSettings(), ""))

    def _policy(self, rule: RouteSettings, name: str) -> RoutePolicy:
        def resolved(name: str) -> Any:
            own = getattr(rule, name)
            return getattr(self, name) if own is None else own

        return RoutePolicy(
            database=rule.database,
            user=rule.user,
            application_name=rule.application_name,
            consistency=resolved("consistency"),
            consistency_wait_s=resolved("consistency_wait"),
            max_replica_lag_s=resolved("max_replica_lag"),
            balance=resolved("balance"),
            read_from_primary=resolved("read_from_primary"),
            session_affinity=resolved("session_affinity") == "on",
            transaction_reads=resolved("transaction_reads"),
            query_cache=resolved("query_cache"),
            prefer=rule.prefer,
            state=tuple(
                (name, getattr(rule.session_state, name) or getattr(self.session_state, name) or default)
                for name, default in POLICIES.items()
            ),
            # In session pooling nothing is left to warn of.
            state_warnings="off" if resolved("pool_mode") == "session" else resolved("session_state_warnings"),
            name=name,
            client_addr=rule.client_addr,
            server_database=rule.server_database or "",
            server_user=rule.server_user or "",
            mode=resolved("pool_mode"),
            refuse=rule.refuse == "on",
            pool=PoolPolicy(
                name=name if rule.own_pools() else "",
                size=rule.pool_size or self.default_pool_size,
                min_size=resolved("min_pool_size"),
                reserve_size=resolved("reserve_pool_size"),
                reserve_timeout_s=self.reserve_pool_timeout,
                max_db_connections=resolved("max_db_connections"),
                max_user_connections=resolved("max_user_connections"),
            ),
            client=ClientPolicy(
                max_db_connections=resolved("max_db_client_connections"),
                max_user_connections=resolved("max_user_client_connections"),
                idle_s=resolved("client_idle_timeout"),
                query_s=resolved("query_timeout"),
                query_wait_s=resolved("query_wait_timeout"),
                query_wait_notify_s=resolved("query_wait_notify"),
                transaction_s=resolved("transaction_timeout"),
                idle_transaction_s=resolved("idle_transaction_timeout"),
                leak_warning_s=resolved("leak_warning"),
                log_min_duration_s=resolved("log_min_duration"),
            ),
        )
