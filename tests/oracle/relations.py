"""Every table, view and sequence there is, system catalogs included, read whole.

Enumerated when it runs. Each is either routed to the primary, or read on both nodes with equal rows, or named here.
"""

from typing import Final

from middleware.sandbox import Sandbox
from tests.oracle.known_functions import Table
from tests.oracle.statement import APP, SUPERUSER, Statement, Where

_QUERY: Final = """
SELECT n.nspname, c.relname, c.relkind, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'v', 'm', 'p', 'S', 'f') AND n.nspname NOT IN ('pg_toast')
 ORDER BY n.nspname, c.relname
"""

_STAYS: Final = Table(
    {
        r"pg_stat(io)?_(all|sys|user|xact|activity|archiver|bgwriter|checkpointer|database|gssapi|io|progress|recovery|"
        r"replication|slru|ssl|subscription|wal)\w*": "a node counts for itself",
        r"pg_locks|pg_replication_(slots|origin_status)|pg_prepared_xacts": "it is about the node",
        r"pg_settings|pg_(file_settings|hba_file_rules|ident_file_mappings)": "settings and files of the node",
        r"pg_cursors|pg_prepared_statements": "it is about a session",
        r"pg_sequences": "sequences run ahead on a standby",
    }
)
"""Must stay on the primary, though rows may happen to be equal: by whole name."""

_DIFFERS: Final = Table(
    {
        r"clock_view": "the moment",
    }
)
"""Good on a standby, though rows need not be equal."""

_TELLS: Final = Table(
    {
        r"pg_(backend_memory_contexts|shmem_allocations\w*|aios|dsm_\w+)": "the process",
        r"pg_config|pg_wait_events|pg_available_extension\w*": "what is installed",
        r"watched": "row security spares the owner",
    }
)
"""Harmless on a standby, and yet it tells of the node, or is not harmless for everyone: may stay or go."""

_HAZARDS: Final = (
    "fleeting", "mixed_parts", "mixed_parts_b", "elder", "elder_child", "vol_view", "nested_view", "deep_view",
    "operator_view", "cast_view", "domain_view", "aggregate_view", "fleeting_view", "parts_view", "guarded",
    "guarded_view", "invoker_view", "sly_view", "from_view", "node_view", "sequence_view", "setting_view",
    "deep_parts", "deep_parts_a", "deep_parts_a1", "far_parts", "far_parts_b", "Odd View", "distant",
)  # fmt: skip
"""Of our schema, in `public`."""


def reads(cluster: Sandbox, database: str) -> list[Statement]:
    """A read of each, as the owner of the schema and, where that differs, as a superuser."""
    return [
        _read(*row, user=user)
        for row in cluster.query(_QUERY, database=database)
        for user in (APP, SUPERUSER)
        if user == APP or row[0] == "pg_catalog"
    ]


def _read(schema: str, name: str, kind: str, written: str, *, user: str) -> Statement:
    sql = f"SELECT * FROM {written}"
    if kind == "S":
        return Statement(sql, Where.PRIMARY, "sequences run ahead on a standby", user=user)
    if reason := _TELLS.reason(name):
        return Statement(sql, Where.EITHER, reason, user=user, varies=True)
    if schema in ("pg_catalog", "information_schema"):
        if reason := _STAYS.reason(name):
            return Statement(sql, Where.PRIMARY, reason, user=user)
        return Statement(sql, Where.JUDGED, "system catalog", user=user, varies=bool(_DIFFERS.reason(name)))
    if schema == "public" and (name in _HAZARDS or name.startswith(("pg_tables", "fleeting_"))):
        return Statement(sql, Where.PRIMARY, "hidden calls", user=user)
    return Statement(sql, Where.JUDGED, "tables and views", user=user, varies=bool(_DIFFERS.reason(name)))
