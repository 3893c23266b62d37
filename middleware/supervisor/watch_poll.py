"""Watching a database's tables by the counters of the cumulative statistics system, where they cannot be decoded.

In: a node, a database. Out: a table has changed when the number of its rows that were ever inserted, updated or deleted
has; the catalog tells of TRUNCATE and of rewrites. A backend reports what it has done at most once a second, and after
its last transaction up to ten seconds later (pgstat.c: PGSTAT_MIN_INTERVAL, PGSTAT_IDLE_INTERVAL), so that is by how
much more than a period changes may be told late.
"""

import time
from typing import Any, Final

import anyio

from healthcheck.line import Credentials
from healthcheck.topology import Node
from middleware.supervisor.watch_catalog import CatalogWatch
from middleware.supervisor.watching import CannotWatch, Session, Told, session

LATE_S: Final = 75.0
"""Counters may still move for so long after the last WAL was written: PGSTAT_MAX_INTERVAL is a minute."""

_BEGIN: Final = """
SELECT (pg_current_wal_insert_lsn() - '0/0')::int8 AS lsn, current_setting('track_counts') AS counting
"""
# Arrays are read a hundred times as fast as rows are. A partitioned table has none of its own.
_COUNTERS: Final = """
SELECT array_agg(oid) AS oids, array_agg(counted) AS counts
  FROM (SELECT oid::int8,
               pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid)
          FROM pg_class WHERE relkind IN ('r', 'm') AND relpersistence <> 't') AS each (oid, counted)
 WHERE counted > 0
"""


class PollWatch:
    """Of one database."""

    def __init__(self, node: Node, database: str, credentials: Credentials, told: Told, timeout_s: float) -> None:
        self._at = node, database, credentials, timeout_s
        self._told = told
        self._counters: dict[int, int] = {}

    async def run(self, interval_s: float, why: str) -> None:
        """Poll every `interval_s` until cancelled. Raises CannotWatch and FAILURES."""
        asking = await session(*self._at)
        try:
            catalog = CatalogWatch(asking, self._told)
            lsn, moved_at = -1, 0.0
            first = True
            while True:
                begun = time.monotonic()
                row = await asking.row(_BEGIN)
                if row["counting"] != "on":
                    raise CannotWatch("track_counts is off")
                if row["lsn"] != lsn:
                    lsn, moved_at = row["lsn"], begun
                await catalog.look(lsn)
                if begun - moved_at < LATE_S:
                    self._tell(await self._count(asking), first)
                if first:
                    first = False
                    self._told.using("poll", why)
                self._told.confirmed(begun, 0)
                await anyio.sleep(max(0.0, begun + interval_s - time.monotonic()))
        finally:
            asking.close()

    async def _count(self, asking: Session) -> dict[int, int]:
        row: Any = await asking.row(_COUNTERS)
        return dict(zip(row["oids"] or (), row["counts"] or (), strict=True))

    def _tell(self, counters: dict[int, int], first: bool) -> None:
        before, self._counters = self._counters, counters
        if first:
            # Nobody knows what was written before.
            self._told.all_changed()
        elif before != counters:
            # Counters that were reset count as changes.
            self._told.changed({oid for oid, _ in before.items() ^ counters.items()})
