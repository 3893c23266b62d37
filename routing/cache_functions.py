"""Built-in functions as the query cache sees them: whose results last, and which of them run SQL of their own. Data.

Sources: pg_proc of PostgreSQL 15 to 18, gone through function by function; utils/adt for what a result depends on. A
stable function that is not listed is not cached, so one that a later version adds is not either, until it is looked at.
"""

from typing import Final

LASTING: Final = frozenset(
    # The settings that their results depend on are in the key of an answer.
    {
        "anytextcat",
        "array_to_json",
        "array_to_string",
        "concat",
        "concat_ws",
        "convert",
        "convert_from",
        "convert_to",
        "format",
        "length",
        "numeric",
        "quote_literal",
        "quote_nullable",
        "textanycat",
        "to_char",
        "to_number",
        "money",
        "date",
        "date_add",
        "date_cmp_timestamptz",
        "date_eq_timestamptz",
        "date_ge_timestamptz",
        "date_gt_timestamptz",
        "date_le_timestamptz",
        "date_lt_timestamptz",
        "date_ne_timestamptz",
        "date_part",
        "date_subtract",
        "date_trunc",
        "extract",
        "generate_series",
        "in_range",
        "interval_pl_timestamptz",
        "make_timestamptz",
        "overlaps",
        "time",
        "timestamp",
        "timestamptz",
        "timezone",
        "to_date",
        "to_timestamp",
        "timestamp_cmp_timestamptz",
        "timestamp_eq_timestamptz",
        "timestamp_ge_timestamptz",
        "timestamp_gt_timestamptz",
        "timestamp_le_timestamptz",
        "timestamp_lt_timestamptz",
        "timestamp_ne_timestamptz",
        "timestamptz_cmp_date",
        "timestamptz_cmp_timestamp",
        "timestamptz_eq_date",
        "timestamptz_eq_timestamp",
        "timestamptz_ge_date",
        "timestamptz_ge_timestamp",
        "timestamptz_gt_date",
        "timestamptz_gt_timestamp",
        "timestamptz_le_date",
        "timestamptz_le_timestamp",
        "timestamptz_lt_date",
        "timestamptz_lt_timestamp",
        "timestamptz_mi_interval",
        "timestamptz_ne_date",
        "timestamptz_ne_timestamp",
        "timestamptz_pl_interval",
        "json_agg",
        "json_agg_strict",
        "json_agg_strict_transfn",
        "json_agg_transfn",
        "json_build_array",
        "json_build_object",
        "json_object_agg",
        "json_object_agg_strict",
        "json_object_agg_strict_transfn",
        "json_object_agg_transfn",
        "json_object_agg_unique",
        "json_object_agg_unique_strict",
        "json_object_agg_unique_strict_transfn",
        "json_object_agg_unique_transfn",
        "jsonb_agg",
        "jsonb_agg_finalfn",
        "jsonb_agg_strict",
        "jsonb_agg_strict_transfn",
        "jsonb_agg_transfn",
        "jsonb_build_array",
        "jsonb_build_object",
        "jsonb_object_agg_finalfn",
        "jsonb_object_agg_strict_transfn",
        "jsonb_object_agg_transfn",
        "jsonb_object_agg_unique_strict_transfn",
        "jsonb_object_agg_unique_transfn",
        "jsonb_path_exists_tz",
        "jsonb_path_match_tz",
        "jsonb_path_query_array_tz",
        "jsonb_path_query_first_tz",
        "jsonb_path_query_tz",
        "row_to_json",
        "to_json",
        "to_jsonb",
        "get_current_ts_config",
        "json_to_tsvector",
        "jsonb_to_tsvector",
        "phraseto_tsquery",
        "plainto_tsquery",
        "to_tsquery",
        "to_tsvector",
        "ts_headline",
        "ts_match_tq",
        "ts_match_tt",
        "websearch_to_tsquery",
        "xml",
        "xml_is_well_formed",
        "current_database",
        "current_schema",
        "current_user",
        "getpgusername",
        "session_user",
        "getdatabaseencoding",
        "pg_char_to_encoding",
        "pg_client_encoding",
        "pg_encoding_to_char",
        "pg_typeof",
        "pg_collation_for",
    }
)
"""Stable functions, by name, whose results depend on their arguments, on settings, and on who is connected where."""

NOT_LASTING: Final = {"pg_partition_root": "depends on the system catalogs"}
"""Immutable by pg_proc, and yet not lasting."""

RUN_SQL: Final = frozenset(
    {
        "query_to_xml",
        "query_to_xmlschema",
        "query_to_xml_and_xmlschema",
        "cursor_to_xml",
        "cursor_to_xmlschema",
        "table_to_xml",
        "table_to_xmlschema",
        "table_to_xml_and_xmlschema",
        "schema_to_xml",
        "schema_to_xmlschema",
        "schema_to_xml_and_xmlschema",
        "database_to_xml",
        "database_to_xmlschema",
        "database_to_xml_and_xmlschema",
        "ts_rewrite",
        "ts_stat",
    }
)
"""Built-in functions that run a query which their caller gives, or read a relation that may be a view: what is called
in there is called. Nothing else that is built in changes a table of a user's."""

RELOAD: Final = frozenset({"pg_reload_conf"})
"""After it the settings of all sessions may have other values, and so all answers."""

HARMLESS_C: Final = frozenset(
    {
        "uuid_generate_v1",
        "uuid_generate_v1mc",
        "uuid_generate_v4",
        "gen_random_uuid",
        "gen_random_bytes",
        "gen_salt",
        "normal_rand",
        "set_limit",
        "autoinc",
        "insert_username",
        "moddatetime",
        "lo_manage",
    }
)
"""Volatile functions in C of the extensions that come with PostgreSQL, which change no table: what they are in tells
nothing, so any other may change all."""

BY_CATALOG: Final = frozenset(
    {
        "regclass",
        "regcollation",
        "regnamespace",
        "regoper",
        "regoperator",
        "regproc",
        "regprocedure",
        "regrole",
        "regtype",
    }
)
"""Types whose values are read from names, and written as names, as the system catalogs have them at that moment."""

TIME_WITH_ZONE: Final = frozenset({1266, 1270})
"""The oids of timetz and its array: a zone is worked out for the day it is read on."""
WITH_DATES: Final = frozenset(
    {1082, 1083, 1114, 1184, 1266, 3908, 3910, 3912, 4533, 4534, 4535}
    | {1182, 1183, 1115, 1185, 1270, 3909, 3911, 3913, 6152, 6153, 6155}
)
"""The oids of date, time, timestamp, timestamptz, timetz, the ranges and multiranges of them, and their arrays
(pg_type.dat)."""
