"""Asking one node what it is.

In: where the node is and who asks. Out: an Observation, or ProbeError with the reason in one line. The role that asks
needs `pg_monitor` to see a standby's received timeline; everything else is open to every role.
"""

from typing import Final

from healthcheck.line import Credentials, Line
from healthcheck.topology import Condition, Observation, Role

# The timeline of a primary is the one it inserts WAL on: pg_control_checkpoint() still shows the old one until the
# first checkpoint after a promotion. A standby follows what it receives, or what its last restartpoint was on.
# A standby that was promoted keeps its primary_conninfo, which says nothing then.
_QUERY: Final = r"""
WITH node AS (
    SELECT pg_is_in_recovery() AS in_recovery,
           pg_last_wal_receive_lsn() AS received, pg_last_wal_replay_lsn() AS replayed,
           -- Who may not see it gets no row, where current_setting() would fail.
           CASE WHEN pg_is_in_recovery()
                THEN (SELECT setting FROM pg_settings WHERE name = 'primary_conninfo') END AS conninfo,
           current_setting('synchronous_standby_names') AS sync_names
), receiver AS (
    SELECT received_tli, sender_host, sender_port, status,
           extract(epoch FROM clock_timestamp() - last_msg_receipt_time)::float8 AS heard_s_ago
      FROM pg_stat_wal_receiver
)
SELECT in_recovery,
       (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
       CASE WHEN in_recovery
            THEN greatest((SELECT received_tli FROM receiver), (SELECT timeline_id FROM pg_control_checkpoint()))
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int
       END AS timeline,
       CASE WHEN NOT in_recovery THEN (pg_current_wal_insert_lsn() - '0/0')::bigint END AS insert_lsn,
       (received - '0/0')::bigint AS receive_lsn,
       (replayed - '0/0')::bigint AS replay_lsn,
       CASE WHEN in_recovery AND received <= replayed THEN 0
            WHEN in_recovery THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8
       END AS replay_lag_s,
       CASE WHEN in_recovery THEN coalesce(
            (SELECT sender_host || ':' || sender_port FROM receiver),
            substring(conninfo FROM '(?:^|\s)host=''?([^''\s]+)') || ':'
              || coalesce(substring(conninfo FROM '(?:^|\s)port=''?(\d+)'), '5432')) END AS upstream,
       CASE WHEN in_recovery THEN coalesce(
            substring(conninfo FROM '(?:^|\s)application_name=''?([^''\s]+)'),
            nullif(current_setting('cluster_name'), ''), 'walreceiver') END AS standby_name,
       (SELECT heard_s_ago FROM receiver WHERE status = 'streaming') AS heard_s_ago,
       CASE WHEN in_recovery THEN NULL ELSE (
            SELECT array_agg(application_name) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))
       END AS sync_standbys,
       CASE WHEN in_recovery OR sync_names = '' THEN 0
            WHEN sync_names ~* '^\s*any\M' THEN greatest(1, 1
              + (SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum')
              - substring(sync_names FROM '\d+')::int)
            ELSE 1 END::int AS sync_needed,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int AS connections,
       current_setting('max_connections')::int AS max_connections
  FROM node
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
            condition=Condition.UP,
            replay_lag_s=row["replay_lag_s"],
            upstream=row["upstream"] or "",
            standby_name=row["standby_name"] or "",
            heard_s_ago=row["heard_s_ago"],
            sync_standbys=tuple(row["sync_standbys"] or ()),
            sync_needed=row["sync_needed"],
            connections=row["connections"],
            max_connections=row["max_connections"],
        )

    def unseen(self) -> Observation:
        """What is known of the node before it has answered."""
        return Observation(self._name, self._host, self._port)

    def close(self) -> None:
        """Drop the connection."""
        self._line.close()
