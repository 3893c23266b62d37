"""Asking one node what it is.

In: where the node is and who asks. Out: an Observation, or ProbeError with the reason in one line. The role that asks
needs `pg_monitor` to see a standby's received timeline; everything else is open to every role.
"""

from typing import Final

from healthcheck.line import Credentials, Line
from healthcheck.topology import Observation, Role

# The timeline of a primary is the one it inserts WAL on: pg_control_checkpoint() still shows the old one until the
# first checkpoint after a promotion. A standby follows what it receives, or what its last restartpoint was on.
_QUERY: Final = """
SELECT pg_is_in_recovery() AS in_recovery,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
       CASE WHEN pg_is_in_recovery()
            THEN greatest((SELECT received_tli FROM pg_stat_wal_receiver),
                          (SELECT timeline_id FROM pg_control_checkpoint()))
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int
       END AS timeline,
       CASE WHEN NOT pg_is_in_recovery() THEN (pg_current_wal_insert_lsn() - '0/0')::bigint END AS insert_lsn,
       (pg_last_wal_receive_lsn() - '0/0')::bigint AS receive_lsn,
       (pg_last_wal_replay_lsn() - '0/0')::bigint AS replay_lsn
"""


class Probe:
    """Asks one node. Not for concurrent use."""

    def __init__(self, name: str, host: str, port: int, credentials: Credentials, timeout_s: float) -> None:
        self._name, self._host, self._port = name, host, port
        self._line = Line(host, port, credentials, timeout_s)

    async def ask(self) -> Observation:
        """What the node is now. Raises ProbeError."""
        row = await self._line.ask(_QUERY)
        return Observation(
            name=self._name,
            host=self._host,
            port=self._port,
            up=True,
            role=Role.STANDBY if row["in_recovery"] else Role.PRIMARY,
            system_identifier=row["system_identifier"],
            timeline=row["timeline"],
            insert_lsn=row["insert_lsn"],
            receive_lsn=row["receive_lsn"],
            replay_lsn=row["replay_lsn"],
        )

    def unseen(self) -> Observation:
        """What is known of the node before it has answered."""
        return Observation(self._name, self._host, self._port)

    def close(self) -> None:
        """Drop the connection."""
        self._line.close()
