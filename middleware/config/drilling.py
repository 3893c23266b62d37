"""The settings of drills: the targets they are judged by, and the hands that break an operator's own nodes."""

from typing import Literal

from middleware.config.fields import Table, one_of, seconds, setting, whole

COUNT_MAX = 1_000_000_000

Judged = Literal["report", "fail"]


class DrillSettings(Table):
    """[drill]"""

    write_outage_max: float = seconds(
        3.0, "primary-crash: how long no write may be acknowledged, and how long a statement may take."
    )
    hang_outage_max: float = seconds(
        6.0,
        "The same in primary-hang and primary-partition: what is silent is known to be dead only when its probes have "
        "timed out.",
    )
    switchover_outage_max: float = seconds(1.0, "The same in switchover and rolling-restart.")
    bystander_outage_max: float = seconds(1.0, "The same where the primary stays: replica-*, worker-crash.")
    read_outage_max: float = seconds(1.0, "How long no read may succeed, in each drill.")
    failed_reads_max: int = whole(
        0, 0, COUNT_MAX, "Reads that may fail for clients in replica-*, switchover and rolling-restart."
    )
    failed_writes_max: int = whole(0, 0, COUNT_MAX, "Writes that may fail in those.")
    lost_commits_max: int = whole(0, 0, COUNT_MAX, "Acknowledged commits that may be lost.")
    lost_commits_async: Judged = one_of(
        "report",
        Judged,
        "Those lost with a primary whose replication is asynchronous: are told, or held against lost_commits_max too.",
    )
    recovery_timeout: float = seconds(
        60.0, "How long a drill waits for reads and writes to be back, and then for all nodes to be."
    )
    break_command: str = setting(
        "",
        "a command",
        "With --config and --i-mean-it: breaks a node. Its placeholders are those of a failover's commands (%n, %h, %p "
        "..), and %b for what is to be done: crash, hang, partition, lag or restart. No shell is run.",
    )
    heal_command: str = setting("", "a command", "Undoes it. Not run for restart.")
    command_timeout: float = seconds(60.0, "For each of them.")
