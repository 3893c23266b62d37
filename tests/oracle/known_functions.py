"""What the volatility of a built-in function does not tell. Data, with the reason for each.

Five tables, looked through in this order; a function in none of them must answer alike on both nodes.
"""

import re
from typing import Final

_STAYS: Final = {
    r"pg_(cancel|terminate)_backend|pg_log_backend_memory_contexts": "it signals a process of its node",
    r"pg_(reload_conf|rotate_logfile|promote|wal_replay_(pause|resume))": "it commands the node",
    r"pg_(switch_wal|create_restore_point|backup_start|backup_stop|log_standby_snapshot)": "it writes WAL",
    r"pg_logical_emit_message|pg_current_xact_id|txid_current": "it writes WAL or assigns a transaction id",
    r"pg_(create|copy|drop)_\w*replication_slot|pg_replication_slot_advance": "it moves a slot",
    r"pg_sync_replication_slots": "it moves slots",
    r"pg_logical_slot_\w+|pg_replication_origin_\w+": "it is about the node's slots",
    r"pg_show_replication_origin_status": "it is about the node's slots",
    r"pg_get_replication_slots": "slots belong to a node",
    r"pg_stat_\w*reset\w*|pg_stat_force_next_flush|pg_stat_clear_snapshot|pg_stat_file": "it acts on the node's own",
    r"pg_stat_\w+|pg_lock_status": "a node counts for itself",
    r"pg_get_wait_events|pg_(isolation|safe_snapshot)_\w+|pg_blocking_pids": "it is about the node's processes",
    r"pg_(restore|clear)_\w+_stats|binary_upgrade_\w+|pg_nextoid": "it writes the catalog",
    r"pg_stop_making_pinned_objects|pg_extension_config_dump|pg_import_system_collations": "it writes the catalog",
    r"brin_(summarize|desummarize)_\w+|gin_clean_pending_list": "it writes an index",
    r"pg_ls_\w+|pg_read_(binary_)?file|pg_current_logfile|pg_control_\w+": "files belong to a node",
    r"pg_(show_all_file_settings|hba_file_rules|ident_file_mappings)": "files belong to a node",
    r"pg_available_wal_summaries|pg_wal_summary_contents|pg_get_wal_summarizer_state": "files belong to a node",
    r"pg_current_wal_\w+|pg_last_(wal|xact|committed)_\w+|pg_walfile_name\w*": "it tells a primary from a standby",
    r"pg_is_in_recovery|pg_is_wal_replay_paused|pg_get_wal_replay_pause_state": "it tells a primary from a standby",
    r"pg_prepared_xact|pg_xact_commit_timestamp\w*": "it tells a primary from a standby",
    r"nextval|setval|currval|lastval|pg_sequence_last_value|pg_get_sequence_data": "sequences run ahead on a standby",
    r"set_config|setseed|pg_\w*advisory_\w+|pg_export_snapshot": "it leaves something on its session",
    r"pg_notify|pg_listening_channels|pg_notification_queue_usage": "it is about sessions",
    r"pg_cursor|pg_prepared_statement": "it is about a session",
    r"lo_\w+|loread|lowrite|currtid2": "it opens or writes what a transaction keeps",
    r"pg_show_all_settings": "transaction_read_only and in_hot_standby are among them",
}
"""Must stay on the primary, and is not called here: by whole name."""

_DIFFERS: Final = {
    r"random|random_normal|array_sample|array_shuffle|gen_random_uuid|uuidv4|uuidv7": "chance",
    r"now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday": "the moment",
}
"""Good on a standby, though rows need not be equal: by whole name."""

_TELLS: Final = {
    r"age|mxid_age|pg_current_snapshot|txid_current_snapshot|pg_xact_status|txid_status": "transactions go on",
    r"pg_current_xact_id_if_assigned|txid_current_if_assigned": "transactions go on",
    r"pg_backend_pid|pg_my_temp_schema|pg_is_other_temp_schema": "the session",
    r"inet_(client|server)_(addr|port)|pg_conf_load_time|pg_postmaster_start_time": "the connection or the server",
    r"pg_get_(backend_memory_contexts|shmem_allocations\w*|aios|loaded_modules)|pg_numa_available": "the process",
    r"pg_config|pg_available_extension\w*|pg_extension_update_paths|pg_settings_get_flags": "what is installed",
    r"pg_tablespace_(location|databases)": "the directories of the node",
    r"pg_(database|tablespace|table|indexes|relation|total_relation)_size": "each node writes its own free space maps",
}
"""Harmless on a standby, and yet it tells of the node, the session or its transactions: may stay or go."""

_DEPENDS: Final = {
    r"(query|cursor|table|schema|database)_to_xml\w*|ts_stat|ts_rewrite": "it reads what its argument names",
    r"domain_in|domain_recv|pg_input_is_valid|pg_input_error_info": "it may run the checks of a domain",
    r"current_setting": "it may ask for transaction_read_only",
    r"pg_sleep\w*": "it waits, wherever it is",
}
"""May stay or go: what it does hangs on its argument, or it is worth nothing on a standby. By whole name."""

_READS: Final = {
    r"pg_partition_(tree|ancestors)|pg_collation_actual_version|pg_database_collation_actual_version": "the catalog",
    r"pg_get_wal_resource_managers|pg_jit_available|pg_get_multixact_members|current_query": "the server or session",
}
"""Volatile by declaration alone: they answer alike, and would be as good on a standby. By whole name."""


class Table:
    """Reasons by whole name."""

    def __init__(self, patterns: dict[str, str]) -> None:
        self._patterns = [(re.compile(pattern), reason) for pattern, reason in patterns.items()]

    def reason(self, name: str) -> str:
        """Why the function is in this table; empty when it is not."""
        return next((reason for pattern, reason in self._patterns if pattern.fullmatch(name)), "")


STAYS: Final = Table(_STAYS)
DIFFERS: Final = Table(_DIFFERS)
TELLS: Final = Table(_TELLS)
READS: Final = Table(_READS)
DEPENDS: Final = Table(_DEPENDS)
