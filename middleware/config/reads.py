"""The settings of what goes where, and of what sessions leave behind, by groups as in middleware.config.connections."""

from typing import Final

from pydantic import BaseModel

from middleware.config.fields import Switch, one_of, seconds, setting, whole
from middleware.config.tables import Balance, Consistency, ReadFromPrimary, StateWarnings, TransactionReads

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


class Reads(BaseModel):
    """Where reads go"""

    consistency: Consistency = one_of(
        "session",
        Consistency,
        'What a read may miss: "session" (own writes are seen, and time never goes back), "eventual", "global" (every '
        'commit told of is seen), "primary" (no split).',
        peers="pgpool: disable_load_balance_on_write",
    )
    consistency_wait: float = seconds(
        0.0, "How long a read waits for a fresh standby before it goes to the primary.", zero=True
    )
    max_replica_lag: float = seconds(
        10.0, "A standby further behind serves no reads.", peers="pgpool: delay_threshold_by_time"
    )
    max_replica_lag_bytes: int = whole(
        0, 0, 2**62, "The same in bytes of WAL; 0 for no bound.", peers="pgpool: delay_threshold"
    )
    freshness_period: float = seconds(1.0, "Between two looks at the standbys while nobody waits for one.")
    zone: str = setting("", "a string", "Where this Pointsman runs: nodes of the same zone are asked first.")
    balance: Balance = one_of(
        "least_outstanding",
        Balance,
        "Which standby serves a read; all by the nodes' weights.",
        peers="pgpool: load_balance_mode",
    )
    read_from_primary: ReadFromPrimary = one_of(
        "fallback",
        ReadFromPrimary,
        "Reads that a standby may serve: never there, as a fallback, or as one of the readers.",
    )
    session_affinity: Switch = one_of(
        "off", Switch, "A client keeps the standby of its first read.", peers="pgpool: statement_level_load_balance"
    )
    transaction_reads: TransactionReads = one_of(
        "primary",
        TransactionReads,
        "Reads of a read-write transaction: on the primary, or where others go until it writes.",
        peers="pgpool: disable_load_balance_on_write",
    )
    primary_functions: tuple[str, ...] = setting(
        (),
        "a list of regular expressions",
        "Functions, with or without schema, that go to the primary.",
        peers="pgpool: write_function_list",
    )
    safe_functions: tuple[str, ...] = setting(
        (),
        "a list of regular expressions",
        "And those that need not, whatever they are declared as.",
        peers="pgpool: read_only_function_list",
    )
    primary_queries: tuple[str, ...] = setting(
        (),
        "a list of regular expressions",
        "A statement in which one is found goes to the primary.",
        peers="pgpool: primary_routing_query_pattern_list",
    )


class States(BaseModel):
    """What sessions leave behind"""

    session_state_warnings: StateWarnings = one_of(
        "client", StateWarnings, "Who is told of a session's first use of a class: the client and the log, or the log."
    )
    session_state_quiet: tuple[str, ...] = setting(
        QUIET, "a list of names of settings, or name=value", "Settings that only the log is told of."
    )
