"""Built-in functions whose volatility in `pg_proc` does not tell where they may run. Data, with the reason for each.

Sources: the manual's chapters "System Administration Functions", "System Information Functions" and "Hot Standby", and
what a standby answers (`make oracle` calls every function of `pg_proc` and compares).
"""

from typing import Final

SAFE_VOLATILE: Final = {
    "random": "draws a number, no two calls are alike anyway",
    "random_normal": "draws a number, no two calls are alike anyway",
    "array_sample": "draws a number, no two calls are alike anyway",
    "array_shuffle": "draws a number, no two calls are alike anyway",
    "gen_random_uuid": "draws a number, no two calls are alike anyway",
    "uuidv4": "draws a number, no two calls are alike anyway",
    "uuidv7": "draws a number and reads the clock",
    "clock_timestamp": "reads the clock",
    "timeofday": "reads the clock",
    "pg_sleep": "waits",
    "pg_sleep_for": "waits",
    "pg_sleep_until": "waits",
    "pg_partition_tree": "reads the catalog",
    "pg_partition_ancestors": "reads the catalog",
}
"""Volatile, and yet as good on a standby."""

TRANSACTION: Final = "is about transactions of the primary"
STATISTICS: Final = "tells statistics that each node keeps for itself"
NODE: Final = "tells of the node that answers, not of the data"
ANY_TYPE: Final = "converts to a type that its text does not name"
SESSION: Final = "depends on what its session did before"

PRIMARY_ONLY: Final = {
    "txid_current": "assigns a transaction id, which a standby cannot",
    "pg_current_xact_id": "assigns a transaction id, which a standby cannot",
    "txid_current_if_assigned": TRANSACTION,
    "pg_current_xact_id_if_assigned": TRANSACTION,
    "txid_current_snapshot": TRANSACTION,
    "pg_current_snapshot": TRANSACTION,
    "mxid_age": TRANSACTION,
    "pg_walfile_name": "cannot run during recovery",
    "pg_walfile_name_offset": "cannot run during recovery",
    "pg_get_replication_slots": NODE,
    "pg_show_all_settings": NODE,
    "pg_settings_get_flags": NODE,
    "pg_config": NODE,
    "pg_available_extensions": NODE,
    "pg_available_extension_versions": NODE,
    "pg_extension_update_paths": NODE,
    "pg_numa_available": NODE,
    "pg_conf_load_time": NODE,
    "pg_postmaster_start_time": NODE,
    "pg_tablespace_location": NODE,
    "pg_tablespace_databases": NODE,
    "pg_cursor": SESSION,
    "pg_prepared_statement": SESSION,
    "pg_listening_channels": SESSION,
    "database_to_xml": "reads relations that its text does not name",
    "database_to_xmlschema": "reads relations that its text does not name",
    "database_to_xml_and_xmlschema": "reads relations that its text does not name",
    "schema_to_xml": "reads relations that its text does not name",
    "schema_to_xmlschema": "reads relations that its text does not name",
    "schema_to_xml_and_xmlschema": "reads relations that its text does not name",
    "table_to_xml": "reads relations that its text does not name",
    "table_to_xmlschema": "reads relations that its text does not name",
    "table_to_xml_and_xmlschema": "reads relations that its text does not name",
    "pg_replication_origin_oid": NODE,
    "pg_input_is_valid": ANY_TYPE,
    "pg_input_error_info": ANY_TYPE,
    "array_in": ANY_TYPE,
    "array_recv": ANY_TYPE,
    "domain_in": ANY_TYPE,
    "domain_recv": ANY_TYPE,
    "multirange_in": ANY_TYPE,
    "multirange_recv": ANY_TYPE,
    "range_in": ANY_TYPE,
    "range_recv": ANY_TYPE,
    "record_in": ANY_TYPE,
    "record_recv": ANY_TYPE,
    "cursor_to_xml": SESSION,
    "cursor_to_xmlschema": SESSION,
}
"""Not volatile by pg_proc, and yet not for a standby."""

PRIMARY_ONLY_PREFIXES: Final = {"pg_stat_get_": STATISTICS}
"""The same for whole families of functions."""

PRIMARY_ONLY_OVERLOADS: Final = {("age", "xid"): TRANSACTION}
"""The same for one overload, by name and argument types (`oidvectortypes`)."""

LANGUAGES_TRUSTED: Final = frozenset({"c", "internal"})
"""Functions in these have no body to look into: they are what they are declared as."""

# pg_my_temp_schema and pg_is_other_temp_schema depend on the session's temporary tables: a session that has some reads
# on the primary altogether.
#
# Identity: inet_server_addr, inet_server_port and pg_backend_pid tell which node and process answers. That is what they
# are asked for, so they run wherever the statement goes; so does cluster_name among the settings.

HARMLESS_SETTINGS: Final = frozenset(
    {
        "application_name",
        "block_size",
        "bytea_output",
        "client_encoding",
        "client_min_messages",
        "cluster_name",
        "datestyle",
        "default_transaction_deferrable",
        "default_transaction_isolation",
        "extra_float_digits",
        "integer_datetimes",
        "intervalstyle",
        "is_superuser",
        "lc_messages",
        "lc_monetary",
        "lc_numeric",
        "lc_time",
        "max_identifier_length",
        "role",
        "search_path",
        "segment_size",
        "server_encoding",
        "server_version",
        "server_version_num",
        "session_authorization",
        "standard_conforming_strings",
        "timezone",
        "transaction_isolation",
        "wal_block_size",
        "xmloption",
    }
)
"""Settings that are the same on each node, or a client's own; `SHOW` of any other asks for what may differ."""
