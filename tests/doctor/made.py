"""A case in which every check is content, to be changed by tests in one place each."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from middleware.config import build_settings
from middleware.config.access import access_of
from middleware.doctor.facts import Case, Database, DatabaseRole, Machine, NodeFacts, Replay, Sender, Slot
from middleware.doctor.units import Value

NOW: Final = 1_800_000_000.0
GB: Final = 2**30
MB: Final = 2**20

SETTINGS: Final[Mapping[str, Any]] = {
    "default_pool_size": 20,
    "max_client_conn": 200,
    "idle_transaction_timeout": 60,
    "tcp_keepidle": 60,
    "health_check": {"user": "pointsman", "password": "s3cret-word"},
    "nodes": {"db1": {"host": "192.0.2.1"}, "db2": {"host": "192.0.2.2"}},
    "users": {"app": {"password": "s3cret-word"}},
}
NODE_SETTINGS: Final[Mapping[str, Value]] = {
    "authentication_timeout": 60.0,
    "autovacuum_max_workers": 3,
    "autovacuum_work_mem": -1,
    "data_checksums": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "hash_mem_multiplier": 2.0,
    "hot_standby_feedback": "on",
    "idle_in_transaction_session_timeout": 0,
    "idle_session_timeout": 0,
    "maintenance_work_mem": 64 * MB,
    "max_connections": 100,
    "max_locks_per_transaction": 64,
    "max_prepared_transactions": 0,
    "max_replication_slots": 10,
    "max_slot_wal_keep_size": -1,
    "max_standby_streaming_delay": 5.0,
    "max_wal_senders": 10,
    "max_worker_processes": 8,
    "password_encryption": "scram-sha-256",
    "recovery_min_apply_delay": 0,
    "reserved_connections": 5,
    "shared_buffers": 4 * GB,
    "statement_timeout": 0,
    "superuser_reserved_connections": 3,
    "synchronous_standby_names": "",
    "tcp_keepalives_idle": 60.0,
    "transaction_timeout": 0,
    "wal_level": "replica",
    "wal_log_hints": "off",
    "wal_receiver_status_interval": 10.0,
    "work_mem": 4 * MB,
}
PRIMARY: Final = NodeFacts(
    name="db1",
    version=180_001,
    settings=NODE_SETTINGS,
    system_identifier=7,
    timeline=1,
    started_at=1000.0,
    insert_lsn=10 * GB,
    senders=(Sender("db2"),),
    slots=(Slot("db2"),),
    backends={"app": 12, "pointsman": 2},
    roles=(DatabaseRole("app"), DatabaseRole("pointsman"), DatabaseRole("owners", login=False)),
    databases=(Database("app", collation=("2.36", "2.36")), Database("postgres", collation=("2.36", "2.36"))),
    reserved=True,
    memory_bytes=16 * GB,
    cores=8,
)
STANDBY: Final = msgspec.structs.replace(
    PRIMARY,
    name="db2",
    in_recovery=True,
    started_at=2000.0,
    insert_lsn=None,
    replay=Replay(lsn=10 * GB),
    senders=(),
    slots=(),
)

ONE_PER_SEVERITY: Final[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]] = (
    {"client_idle_timeout": 30},
    {"fsync": "off"},
    {"fsync": "off", "hot_standby_feedback": "off"},
)
"""Arguments of made(): advice, an error on both nodes, and a warning."""


def made(
    settings: Mapping[str, Any] | None = None,
    primary: Mapping[str, Any] | None = None,
    standby: Mapping[str, Any] | None = None,
    more: tuple[NodeFacts, ...] = (),
    **case: Any,
) -> Case:
    """The case with some of its values changed; keys of nodes that are PostgreSQL's settings go there."""
    built = build_settings({**SETTINGS, **(settings or {})})
    nodes = (_changed(PRIMARY, primary or {}), _changed(STANDBY, standby or {}), *more)
    values: dict[str, Any] = {
        "settings": built,
        "nodes": tuple(node for node in nodes if node.name in built.nodes),
        "machine": Machine(descriptors_max=65_536, cores=8, now=NOW),
        "users": frozenset(access_of(built, b"").secrets),
    }
    return Case(**values | case)


def _changed(node: NodeFacts, changes: Mapping[str, Any]) -> NodeFacts:
    own = {name: value for name, value in changes.items() if name in NODE_SETTINGS}
    others = {name: value for name, value in changes.items() if name not in NODE_SETTINGS}
    return msgspec.structs.replace(node, settings={**node.settings, **own}, **others)
