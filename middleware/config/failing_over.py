"""The settings of what is done when the primary is gone, as a group of Settings (see middleware.config.connections)."""

from typing import Final, Literal

from pydantic import BaseModel

from middleware.config.fields import one_of, path, seconds, setting, whole

FailoverMode = Literal["off", "follow", "promote"]

PLACEHOLDERS: Final = (
    "Placeholders are pgpool-II's (%d %h %p %D, %m %H %r %R, %M %P %N %S, %%), and %n and %o for the names of the node "
    "and of the new primary. No shell is run."
)


class Failover(BaseModel):
    """Failover

    What becomes of a primary that is gone: see [failover.md](failover.md)."""

    failover: FailoverMode = one_of(
        "follow",
        FailoverMode,
        'Whether a standby is promoted when the primary is dead ("promote"), or roles change by others\' hands and are '
        'noticed ("follow"), or not even that: the primary that was seen first is the only one ("off").',
        peers="pgpool: failover_on_backend_error",
    )
    state_file: str = path(
        "Where the highest timeline that was seen is kept, so that a primary which missed a promotion is not written "
        "to after a restart either; made where there is none. One per Pointsman. By default it is forgotten."
    )
    failover_after: float = seconds(
        5.0, "How long a primary must have been down, beyond all retries of its probes, before a standby is promoted."
    )
    max_failover_lag: int = whole(
        1_048_576,
        0,
        2**62,
        "How many bytes of WAL, of what the primary is known to have written, the promoted standby may lack; 0 for any "
        "number.",
        peers="patroni: maximum_lag_on_failover",
    )
    failover_user: str = setting(
        "",
        "the name of a user whose password is known, or nothing",
        "Who promotes standbys and points the others to them: a superuser, or a role that may EXECUTE pg_promote and "
        "ALTER SYSTEM primary_conninfo, with its password in [users] or auth_file; by default the role of "
        "[health_check].",
        peers="pgpool: recovery_user",
    )
    promote_timeout: float = seconds(60.0, "For a promotion to be accepted by its node.")
    fence_command: str = setting(
        "",
        "a command",
        f"Run before a standby is promoted, and must succeed. {PLACEHOLDERS}",
    )
    failover_command: str = setting("", "a command", "Run after it.", peers="pgpool: failover_command")
    follow_primary_command: str = setting(
        "",
        "a command",
        "Makes a standby of a former primary that is back: by pg_rewind, or a new copy.",
        peers="pgpool: follow_primary_command",
    )
    demote_command: str = setting(
        "",
        "a command",
        "Stops the primary in a switchover, cleanly, and has stopped it when it ends. By default failover_user has the "
        "node shut itself down, for which it must be a superuser or a member of pg_execute_server_program.",
    )
    switchover_timeout: float = seconds(
        30.0, "How long a switchover waits for open transactions to end, before it is taken back."
    )
    command_timeout: float = seconds(60.0, "For each of these commands.")
