"""The settings a person writes, field by field: names, defaults, limits, and what is allowed in words.

In: a mapping (the TOML file) under the environment. Out: Settings, whose secrets print as asterisks. How a mistake is
told is middleware.config.load's part; it reads the words in `allowed` from here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from middleware.config.worker import NodeShare, RoutePolicy, WorkerSettings
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
from routing.rows import Overrides

WORKERS_MAX: Final = 256
"""More than any machine has use for, and well inside the eleven bits a cancel key has for the worker."""

DURATION_S_MAX: Final = 10_000_000.0
"""Four months: beyond any use, and within what the clocks of every event loop accept."""


def _setting(default: object, allowed: str, **limits: Any) -> Any:
    return Field(default, json_schema_extra={"allowed": allowed}, **limits)


def _whole(default: object, low: int, high: int) -> Any:
    return _setting(default, f"a whole number from {low} to {high}", ge=low, le=high)


def _seconds(default: float | None, *, zero: bool = False) -> Any:
    if zero:
        return _setting(default, "a number of seconds, 0 or more", ge=0, le=DURATION_S_MAX)
    return _setting(default, "a number of seconds above 0", gt=0, le=DURATION_S_MAX)


# What a rule may say otherwise than the top level.
Consistency = Literal["session", "eventual", "global", "primary"]
Balance = Literal["least_outstanding", "round_robin", "random"]
ReadFromPrimary = Literal["never", "fallback", "always"]
Switch = Literal["on", "off"]
TransactionReads = Literal["primary", "until_write"]
StateWarnings = Literal["client", "log", "off"]
# What may be done about a piece of session state; only what can be replayed can be tracked.
Tracked = Literal["track", "pin", "reject", "allow"]
Pinned = Literal["pin", "reject", "allow"]


def _one_of(default: object, kind: object) -> Any:
    *names, last = (f'"{name}"' for name in get_args(kind))
    return _setting(default, f"{', '.join(names)} or {last}")


QUIET: Final = (
    "application_name",
    "bytea_output",
    "check_function_bodies",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_table_access_method",
    "default_tablespace",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "quote_all_identifiers",
    "restrict_nonsystem_relation_kind",
    "row_security",
    "search_path=",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronize_seqscans",
    "timezone",
    "transaction_timeout",
    "xmloption",
)
"""What drivers and tools SET by themselves at connect: replayed like the others, and told to the log alone."""


class _Table(BaseModel):
    """A table of the file: nothing unknown in it, nothing changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        # Python counts true as 1; no setting here is a boolean, so one is a mistake.
        if isinstance(value, bool):
            raise PydanticCustomError("boolean", "a boolean is not allowed")
        return value


class LogSettings(_Table):
    """[log]"""

    level: Literal["debug", "info", "warning", "error"] = _setting("info", '"debug", "info", "warning" or "error"')
    format: Literal["text", "json"] = _setting("text", '"text" or "json"')


class HealthCheckSettings(_Table):
    """[health_check]: who asks the nodes how they are, and how often."""

    user: str = _setting(..., "the name of a role that may log in to every node", min_length=1)
    password: SecretStr | None = _setting(None, "a string")
    database: str = _setting("postgres", "the name of a database", min_length=1)
    period: float = _seconds(1.0)
    timeout: float = _seconds(5.0)
    max_retries: int = _whole(2, 0, 1000)
    retry_delay: float = _seconds(1.0)
    catalog_refresh: float = _seconds(30.0)


class NodeSettings(_Table):
    """[nodes.NAME]"""

    host: str = _setting(..., "a host name or an address", min_length=1)
    port: int = _whole(5432, 1, 65535)
    weight: int = _whole(1, 0, 1000)
    zone: str = _setting("", "a string")


class SessionStateSettings(_Table):
    """[session_state]: what is done about each class of it; None as POLICIES has it, in a rule as the top level has."""

    settings: Tracked | None = _one_of(None, Tracked)
    roles: Tracked | None = _one_of(None, Tracked)
    prepared_statements: Tracked | None = _one_of(None, Tracked)
    listen: Pinned | None = _one_of(None, Pinned)
    advisory_locks: Pinned | None = _one_of(None, Pinned)
    temporary_tables: Pinned | None = _one_of(None, Pinned)
    hold_cursors: Pinned | None = _one_of(None, Pinned)
    libraries: Pinned | None = _one_of(None, Pinned)
    random_seed: Pinned | None = _one_of(None, Pinned)
    sequences: Pinned | None = _one_of(None, Pinned)
    unknown: Tracked | None = _one_of(None, Tracked)


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


class RouteSettings(_Table):
    """[[routes]]: what holds for the clients of a database, user or application; None as the top level has it."""

    database: str | None = _setting(None, "a regular expression")
    user: str | None = _setting(None, "a regular expression")
    application_name: str | None = _setting(None, "a regular expression")
    consistency: Consistency | None = _one_of(None, Consistency)
    consistency_wait: float | None = _seconds(None, zero=True)
    max_replica_lag: float | None = _seconds(None)
    balance: Balance | None = _one_of(None, Balance)
    read_from_primary: ReadFromPrimary | None = _one_of(None, ReadFromPrimary)
    session_affinity: Switch | None = _one_of(None, Switch)
    transaction_reads: TransactionReads | None = _one_of(None, TransactionReads)
    prefer: tuple[str, ...] = _setting((), "a list of names of nodes")
    session_state: SessionStateSettings = _setting(SessionStateSettings(), "a table")
    session_state_warnings: StateWarnings | None = _one_of(None, StateWarnings)

    def patterns(self) -> dict[str, str | None]:
        """Whom it is for, by key."""
        return {"database": self.database, "user": self.user, "application_name": self.application_name}


class UserSettings(_Table):
    """[users.NAME]"""

    password: SecretStr | None = _setting(None, "a string")


class Settings(BaseSettings):
    """The whole file, with POINTSMAN_* variables laid over it."""

    model_config = SettingsConfigDict(
        env_prefix="POINTSMAN_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    listen_addr: str = _setting("127.0.0.1", 'names or addresses with commas between, or "*"')
    listen_port: int = _whole(6432, 0, 65535)
    unix_socket_dir: str = _setting("", "a directory, or nothing for no unix socket")
    unix_socket_mode: str = _setting("0777", 'an octal mode such as "0770"', pattern=r"^0?[0-7]{3}$")
    workers: int = _whole(1, 1, WORKERS_MAX)
    pool_mode: Literal["transaction"] = _setting("transaction", '"transaction"')
    default_pool_size: int = _whole(20, 1, 1_000_000)
    max_client_conn: int = _whole(1000, 1, 1_000_000)
    max_prepared_statements: int = _whole(200, 1, 100_000)
    auth_type: Literal["scram-sha-256", "trust"] = _setting("scram-sha-256", '"scram-sha-256" or "trust"')
    # A message cannot be longer than PostgreSQL takes (1 GiB).
    statement_size_max: int = _whole(1_048_576, 1024, 2**30 - 1)
    client_login_timeout: float = _seconds(60.0)
    query_wait_timeout: float = _seconds(120.0)
    server_connect_timeout: float = _seconds(15.0)
    server_login_retry: float = _seconds(1.0, zero=True)
    server_check_delay: float = _seconds(30.0, zero=True)
    server_idle_timeout: float = _seconds(600.0)
    server_lifetime: float = _seconds(3600.0)
    cancel_wait_timeout: float = _seconds(10.0)
    shutdown_timeout: float = _seconds(30.0, zero=True)
    # What else a statement of one's own leaves on the server, its books could not tell.
    server_reset_query: Literal["DISCARD ALL", ""] = _setting(
        "DISCARD ALL", '"DISCARD ALL", or "" to close the connection instead'
    )
    consistency: Consistency = _one_of("session", Consistency)
    consistency_wait: float = _seconds(0.0, zero=True)
    max_replica_lag: float = _seconds(10.0)
    max_replica_lag_bytes: int = _whole(0, 0, 2**62)
    freshness_period: float = _seconds(1.0)
    zone: str = _setting("", "a string")
    balance: Balance = _one_of("least_outstanding", Balance)
    read_from_primary: ReadFromPrimary = _one_of("fallback", ReadFromPrimary)
    session_affinity: Switch = _one_of("off", Switch)
    transaction_reads: TransactionReads = _one_of("primary", TransactionReads)
    primary_functions: tuple[str, ...] = _setting((), "a list of regular expressions")
    safe_functions: tuple[str, ...] = _setting((), "a list of regular expressions")
    primary_queries: tuple[str, ...] = _setting((), "a list of regular expressions")
    session_state: SessionStateSettings = _setting(SessionStateSettings(), "a table")
    session_state_warnings: StateWarnings = _one_of("client", StateWarnings)
    session_state_quiet: tuple[str, ...] = _setting(QUIET, "a list of names of settings, or name=value")
    log: LogSettings = _setting(LogSettings(), "a table")
    health_check: HealthCheckSettings = _setting(..., "a table [health_check]")
    nodes: dict[str, NodeSettings] = _setting(..., "at least one table [nodes.NAME]", min_length=1)
    users: dict[str, UserSettings] = _setting({}, "tables [users.NAME]")
    routes: tuple[RouteSettings, ...] = _setting((), "tables [[routes]]")

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        if isinstance(value, bool):
            raise PydanticCustomError("boolean", "a boolean is not allowed")
        return value

    @field_validator("pool_mode", mode="before")
    @classmethod
    def _pool_mode_supported(cls, value: object) -> object:
        if value in ("session", "statement"):
            raise PydanticCustomError("unsupported", "not supported yet")
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

    def unix_socket_path(self) -> Path | None:
        """Where the unix socket's directory is, or None for no unix socket."""
        return Path(self.unix_socket_dir) if self.unix_socket_dir else None

    def overrides(self) -> Overrides:
        """What is said of functions."""
        return Overrides(self.primary_functions, self.safe_functions)

    def worker_settings(self, index: int) -> WorkerSettings:
        """The share of worker `index`, counted from 0."""
        return WorkerSettings(
            pool_mode=self.pool_mode,
            auth_type=self.auth_type,
            users={name: _plain(user.password) for name, user in self.users.items()},
            pool_size=share(self.default_pool_size, self.workers, index),
            max_client_conn=share(self.max_client_conn, self.workers, index),
            max_prepared_statements=self.max_prepared_statements,
            statement_size_max=self.statement_size_max,
            client_login_timeout_s=self.client_login_timeout,
            query_wait_timeout_s=self.query_wait_timeout,
            server_connect_timeout_s=self.server_connect_timeout,
            server_login_retry_s=self.server_login_retry,
            server_check_delay_s=self.server_check_delay,
            server_idle_timeout_s=self.server_idle_timeout,
            server_lifetime_s=self.server_lifetime,
            cancel_wait_timeout_s=self.cancel_wait_timeout,
            server_reset_query=self.server_reset_query,
            max_replica_lag_bytes=self.max_replica_lag_bytes,
            primary_queries=self.primary_queries,
            state_quiet=tuple(name.lower() for name in self.session_state_quiet),
            zone=self.zone,
            nodes={name: NodeShare(node.weight, node.zone) for name, node in self.nodes.items()},
            policies=self.policies(),
            log_level=self.log.level,
            log_format=self.log.format,
        )

    def policies(self) -> tuple[RoutePolicy, ...]:
        """What holds for whom: the rules in their order, and the top level for everybody else."""
        return tuple(self._policy(rule) for rule in (*self.routes, RouteSettings()))

    def _policy(self, rule: RouteSettings) -> RoutePolicy:
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
            prefer=rule.prefer,
            state=tuple(
                (name, getattr(rule.session_state, name) or getattr(self.session_state, name) or default)
                for name, default in POLICIES.items()
            ),
            state_warnings=resolved("session_state_warnings"),
        )


def share(total: int, workers: int, index: int) -> int:
    """Worker `index`'s part of a limit that holds over all workers; the first ones take the remainder."""
    base, remainder = divmod(total, workers)
    return base + (index < remainder)


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


# A node's name is an operator's word for it, in logs, in SHOW and in variables' names.
_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


Mistake = tuple[tuple[int | str, ...], str]
"""A key path, and what is wrong with what stands there."""


def contradictions(settings: Settings) -> list[Mistake]:
    """What no field shows on its own, in the order of the file."""
    found: list[Mistake] = []
    for key in ("default_pool_size", "max_client_conn"):
        limit: int = getattr(settings, key)
        if limit < settings.workers:
            found.append(((key,), f"{limit} is not allowed: at least 1 for each of the {settings.workers} workers"))
    if not settings.listen_addresses() and settings.unix_socket_path() is None:
        found.append((("listen_addr",), '"" is not allowed without a unix_socket_dir: nothing would listen'))
    found.extend(
        (("nodes", name), "the name is not allowed: letters, digits, _ and -, at most 63")
        for name in settings.nodes
        if not _NODE_NAME.fullmatch(name)
    )
    for key in ("primary_functions", "safe_functions", "primary_queries"):
        for pattern in getattr(settings, key):
            found.extend(_pattern_mistakes((key,), pattern))
    for name, user in settings.users.items():
        if not 1 <= len(name.encode()) <= 63 or "\0" in name:
            found.append((("users", name), "the name is not allowed: 1 to 63 bytes"))
        if settings.auth_type == "scram-sha-256" and not _plain(user.password):
            found.append((("users", name, "password"), 'missing: auth_type "scram-sha-256" needs one'))
    if settings.auth_type == "scram-sha-256" and not settings.users:
        found.append((("users",), 'missing: auth_type "scram-sha-256" needs at least one table [users.NAME]'))
    found.extend(_rule_mistakes(settings))
    return found


def _rule_mistakes(settings: Settings) -> Iterator[Mistake]:
    for index, rule in enumerate(settings.routes):
        patterns = rule.patterns()
        for key, pattern in patterns.items():
            if pattern is not None:
                yield from _pattern_mistakes(("routes", index, key), pattern)
        for name in rule.prefer:
            if name not in settings.nodes:
                known = ", ".join(settings.nodes)
                yield ("routes", index, "prefer"), f'"{name}" is not allowed: a list of names of nodes ({known})'
        if index + 1 < len(settings.routes) and all(pattern is None for pattern in patterns.values()):
            yield ("routes", index), "is for all clients: the rules behind it would never be reached"


def _pattern_mistakes(at: tuple[int | str, ...], pattern: str) -> Iterator[Mistake]:
    try:
        re.compile(pattern)
    except re.error as error:
        yield at, f'"{pattern}" is not allowed: a regular expression ({error})'
