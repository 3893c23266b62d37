"""Asking the nodes and this machine for what the checks look at: the only I/O of the doctor.

In: the settings. Out: a Case. A node is asked by the role of [health_check], in one read-only transaction, within the
timeout of a health check; one that does not answer holds up no other.
"""

import contextlib
import ipaddress
import os
import resource
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

import anyio
import anyio.to_thread
import asyncpg
import msgspec
import psutil

from healthcheck import line
from healthcheck.line import Credentials, reason
from middleware.config import NodeSettings, Settings
from middleware.config.access import access_of
from middleware.config.fields import plain
from middleware.config.tls import asyncpg_tls, material_of
from middleware.doctor.facts import Case, Database, DatabaseRole, Machine, NodeFacts, Overridden, Replay, Sender, Slot
from middleware.doctor.units import Value, seconds_of, value_of

APPLICATION_NAME: Final = "pointsman-doctor"
LAG_AGAIN_S: Final = 0.1
"""A lag is looked at twice, so far apart."""
WITHOUT_PASSWORD: Final = ("trust", "cert", "peer")

# What the role or its database has otherwise does not tell what the server has.
_SETTINGS: Final = """
SELECT name, setting, unit, vartype FROM pg_settings
 WHERE name = ANY($1) AND source NOT IN ('database', 'user', 'database user', 'client', 'session')
"""
_NAMES: Final = (
    "authentication_timeout",
    "autovacuum_max_workers",
    "autovacuum_work_mem",
    "data_checksums",
    "fsync",
    "full_page_writes",
    "hash_mem_multiplier",
    "hot_standby_feedback",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "maintenance_work_mem",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "max_standby_streaming_delay",
    "max_wal_senders",
    "max_worker_processes",
    "password_encryption",
    "recovery_min_apply_delay",
    "reserved_connections",
    "shared_buffers",
    "statement_timeout",
    "superuser_reserved_connections",
    "synchronous_standby_names",
    "tcp_keepalives_idle",
    "transaction_timeout",
    "wal_level",
    "wal_log_hints",
    "wal_receiver_status_interval",
    "work_mem",
)
_OVERRIDABLE: Final = (
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "statement_timeout",
    "transaction_timeout",
)
_OVERRIDDEN: Final = """
SELECT coalesce(r.rolname, '') AS role, coalesce(d.datname, '') AS database,
       split_part(one, '=', 1) AS name, substr(one, strpos(one, '=') + 1) AS value
  FROM pg_db_role_setting s
       CROSS JOIN unnest(s.setconfig) AS one
       LEFT JOIN pg_roles r ON r.oid = s.setrole
       LEFT JOIN pg_database d ON d.oid = s.setdatabase
 WHERE split_part(one, '=', 1) = ANY($1)
"""
_STATE: Final = """
SELECT pg_is_in_recovery() AS in_recovery,
       current_setting('server_version_num')::int AS version,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
       CASE WHEN pg_is_in_recovery()
            THEN greatest((SELECT received_tli FROM pg_stat_wal_receiver),
                          (SELECT timeline_id FROM pg_control_checkpoint()))
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int
       END AS timeline,
       extract(epoch FROM pg_postmaster_start_time())::float8 AS started_at,
       CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - '0/0')::bigint END AS insert_lsn,
       pg_backend_pid() AS pid,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       pg_has_role(current_user, 'pg_monitor', 'USAGE') AS monitors,
       -- The role is there since PostgreSQL 16.
       coalesce((SELECT pg_has_role(current_user, oid, 'USAGE') FROM pg_roles
                  WHERE rolname = 'pg_use_reserved_connections'), false) AS reserved,
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS encrypted
"""
# What has been replayed is as old as the last commit in it, if there is more to replay.
_REPLAY: Final = """
SELECT (coalesce(pg_last_wal_replay_lsn(), '0/0') - '0/0')::bigint AS lsn,
       CASE WHEN pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn()
            THEN greatest(0, coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0))
            ELSE 0 END::float8 AS lag_s,
       pg_is_wal_replay_paused() AS paused,
       (SELECT count(*) = 1 AND bool_and(status = 'streaming') FROM pg_stat_wal_receiver) AS streaming,
       (SELECT coalesce(sum(confl_tablespace + confl_lock + confl_snapshot + confl_bufferpin + confl_deadlock), 0)
          FROM pg_stat_database_conflicts)::bigint AS conflicts
"""
_SENDERS: Final = """
SELECT coalesce(application_name, '') AS name, sync_state FROM pg_stat_replication
"""
_SLOTS: Final = """
SELECT slot_name AS name, active,
       greatest(0, CASE WHEN pg_is_in_recovery() THEN 0
                        ELSE pg_current_wal_insert_lsn() - coalesce(restart_lsn, pg_current_wal_insert_lsn())
                   END)::bigint AS retained_bytes
  FROM pg_replication_slots
"""
_BACKENDS: Final = """
SELECT usename, count(*)::int AS count FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND usename IS NOT NULL AND pid <> pg_backend_pid() GROUP BY usename
"""
_ROLES: Final = """
SELECT rolname AS name, rolcanlogin AS login, rolconnlimit AS connection_limit,
       CASE WHEN isfinite(rolvaliduntil) THEN extract(epoch FROM rolvaliduntil)::float8 END AS expires_at
  FROM pg_roles
"""
_DATABASES: Final = """
SELECT d.datname AS name, d.datallowconn AS allows_connections, d.datconnlimit AS connection_limit,
       ARRAY(SELECT r.rolname::text FROM pg_roles r
              WHERE r.rolcanlogin AND NOT has_database_privilege(r.oid, d.oid, 'CONNECT')) AS refused,
       {collation} AS collation
  FROM pg_database d WHERE NOT d.datistemplate
"""
_NO_COLLATION: Final = "ARRAY[NULL, NULL]::text[]"
_COLLATION: Final = "ARRAY[d.datcollversion, pg_database_collation_actual_version(d.oid)]"
_COLLATION_SINCE: Final = 150_000


async def look(
    settings: Settings,
    *,
    instances: int,
    databases: tuple[str, ...],
    memory_bytes: int | None,
    cores: int | None,
    spindles: int,
) -> Case:
    """Ask everybody. `memory_bytes` and `cores` are each node's, where they are given. Raises FileMistake, TlsError."""
    access = access_of(settings, b"")
    tls = asyncpg_tls(material_of(settings.server_tls()))
    asked: dict[str, NodeFacts] = {}

    async def one(name: str, node: NodeSettings) -> None:
        local = False
        with anyio.move_on_after(settings.health_check.timeout):
            local = await anyio.to_thread.run_sync(_is_local, node.host, abandon_on_cancel=True)
        asked[name] = msgspec.structs.replace(await _ask(name, node, settings, tls), local=local)

    async with anyio.create_task_group() as tasks:
        for name, node in settings.nodes.items():
            tasks.start_soon(one, name, node)
    nodes = tuple(asked[name] for name in settings.nodes)
    machine = _machine()
    share = max(1, sum(node.local for node in nodes))
    return Case(
        settings=settings,
        nodes=tuple(_with_resources(node, machine, share, memory_bytes, cores) for node in nodes),
        machine=machine,
        users=frozenset(access.secrets),
        open_to_all=bool(settings.auth_user) or any(rule.method in WITHOUT_PASSWORD for rule in access.rules),
        instances=instances,
        databases=databases,
        spindles=spindles,
    )


def _machine() -> Machine:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Machine(0 if hard == resource.RLIM_INFINITY else hard, os.cpu_count() or 1, time.time())


def _with_resources(
    node: NodeFacts, machine: Machine, share: int, memory_bytes: int | None, cores: int | None
) -> NodeFacts:
    """The nodes of one machine share it."""
    if node.local:
        memory_bytes = memory_bytes or psutil.virtual_memory().total // share
        cores = cores or max(1, machine.cores // share)
    return msgspec.structs.replace(node, memory_bytes=memory_bytes, cores=cores)


def _is_local(host: str) -> bool:
    """Whether a name, an address or a socket's directory is this machine's."""
    if host.startswith("/"):
        return True
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    own = {address.address.partition("%")[0] for family in psutil.net_if_addrs().values() for address in family}
    return all(one in own or ipaddress.ip_address(one).is_loopback for one in found)


async def _ask(name: str, node: NodeSettings, settings: Settings, tls: Any) -> NodeFacts:
    """What a node says, or why it does not."""
    checks = settings.health_check
    direct = settings.server_tls_negotiation == "direct"
    credentials = Credentials(checks.user, plain(checks.password), checks.database, lambda: tls, direct)
    connection: Any = None
    try:
        with anyio.fail_after(checks.timeout):
            # Without a cache: a pooler in between may not know of statements that were prepared.
            connection = await line.connect(
                node.host, node.port, credentials, checks.timeout * 2, application_name=APPLICATION_NAME
            )
            pgpool = await _is_pgpool(connection)
            async with connection.transaction(readonly=True):
                return await _facts(connection, name, pgpool)
    except TimeoutError:
        return NodeFacts(name, why=f"no answer within {checks.timeout:g} s")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        return NodeFacts(name, why=reason(error))
    finally:
        if connection is not None:
            connection.terminate()


async def _is_pgpool(connection: Any) -> bool:
    """Only pgpool-II knows what it asks, in the simple protocol; PostgreSQL's log has an error line of it."""
    try:
        await connection.execute("SHOW pool_version")
    except asyncpg.UndefinedObjectError:
        return False
    return True


async def _facts(connection: Any, name: str, pgpool: bool) -> NodeFacts:
    state = dict((await connection.fetch(_STATE))[0])
    # Other poolers make up the process id of BackendKeyData: no one server is behind it.
    made_up = connection.get_server_pid() != state.pop("pid")
    collation = _COLLATION if state["version"] >= _COLLATION_SINCE else _NO_COLLATION
    offset_s, error_s = await _clock(connection)
    databases = await _rows(connection, _DATABASES.format(collation=collation))
    return NodeFacts(
        name=name,
        **state,
        settings=await _settings(connection),
        overridden=await _overridden(connection),
        replay=await _replay(connection) if state["in_recovery"] else None,
        senders=tuple(Sender(**row) for row in await _rows(connection, _SENDERS)),
        slots=tuple(Slot(**row) for row in await _rows(connection, _SLOTS)),
        backends={row["usename"]: row["count"] for row in await _rows(connection, _BACKENDS)},
        roles=tuple(DatabaseRole(**row) for row in await _rows(connection, _ROLES)),
        databases=tuple(
            Database(**row | {"refused": frozenset(row["refused"]), "collation": tuple(row["collation"])})
            for row in databases
        ),
        pooler="pgpool-II" if pgpool else "a pooler such as PgBouncer" if made_up else "",
        clock_offset_s=offset_s,
        clock_error_s=error_s,
    )


async def _rows(connection: Any, query: str, *arguments: object) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.fetch(query, *arguments)]


async def _replay(connection: Any) -> Replay:
    """Of a standby. One that was seen just before it replayed the first WAL after a long silence is no laggard."""
    first = Replay(**(await _rows(connection, _REPLAY))[0])
    if not first.lag_s:
        return first
    await anyio.sleep(LAG_AGAIN_S)
    return Replay(**(await _rows(connection, _REPLAY))[0])


async def _settings(connection: Any) -> Mapping[str, Value]:
    rows = await _rows(connection, _SETTINGS, list(_NAMES))
    return {row["name"]: value_of(row["setting"], row["unit"], row["vartype"]) for row in rows}


async def _overridden(connection: Any) -> tuple[Overridden, ...]:
    found = []
    for row in await _rows(connection, _OVERRIDDEN, list(_OVERRIDABLE)):
        # PostgreSQL takes 0x10 and 1e3 as well, which nobody writes.
        with contextlib.suppress(ValueError):
            found.append(Overridden(row["role"], row["database"], row["name"], seconds_of(row["value"])))
    return tuple(found)


async def _clock(connection: Any) -> tuple[float, float]:
    """The node's clock minus ours, and by how much that may be wrong: it was asked at some time in between."""
    began, wall = time.monotonic(), time.time()
    there = (await connection.fetch("SELECT extract(epoch FROM clock_timestamp())::float8"))[0][0]
    took = time.monotonic() - began
    return there - (wall + took / 2), took / 2
