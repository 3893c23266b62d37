"""The settings of what is logged, as a group of Settings; how is in the table [log] (middleware.config.tables)."""

from pydantic import BaseModel

from middleware.config.fields import Switch, one_of, setting


class LogLines(BaseModel):
    """Logs

    What is logged; how, and from which level on, says the table [log]. All of it is told in [logs.md](logs.md)."""

    log_connections: Switch = one_of(
        "on", Switch, "Each login, and each connection to a node.", peers="pgbouncer: log_connections"
    )
    log_disconnections: Switch = one_of(
        "on", Switch, "The end of each, with its reason.", peers="pgbouncer: log_disconnections"
    )
    log_pooler_errors: Switch = one_of(
        "on", Switch, "Errors of Pointsman's own that clients are sent.", peers="pgbouncer: log_pooler_errors"
    )
    log_min_duration: float = setting(
        -1.0,
        "a number of seconds, 0 for all statements, -1 for none",
        "Statements that take this long, by their shape: from their being sent to a server until they are answered.",
        ge=-1,
        le=10_000_000,
    )
    log_sample_rate: float = setting(
        0.0, "a number from 0 to 1", "The part of all statements that is logged by chance.", ge=0, le=1
    )
    log_statement_text: Switch = one_of(
        "off",
        Switch,
        "Whether statements are logged as they were sent: with their literals, such as passwords and people's names.",
    )
    log_stats: Switch = one_of("on", Switch, "A line of figures each stats_period.", peers="pgbouncer: log_stats")
