"""What DDL has changed that did not pass through this Pointsman: which tables look different, or are filled anew.

Decoding shows rows and counters count them; neither says that a column was added, that a table was rewritten or its
partitions were attached. The rows of the system catalogs do: those written by transactions that had not ended at the
last look. To read them costs milliseconds on a small database and more on one of many tables, so it is not done after
each commit: once a second, and never for more than a fiftieth of the time.
"""

import time
from typing import Final

from middleware.supervisor.visibility import Snapshot
from middleware.supervisor.watching import Session, Told

LOOK_S: Final = 1.0
"""Between two looks."""
SUSPECTED_S: Final = 0.05
"""Where a transaction was seen that may have been DDL."""
SHARE: Final = 50
"""Of the time that one takes passes at least until the next; a tenth of that where DDL is suspected."""
ROWS_MAX: Final = 10_000
"""More of them are not counted singly."""

_SNAPSHOT: Final = "SELECT pg_current_snapshot()::text AS snapshot"
# Temporary tables come and go. age() compares modulo 2^32; all that is older had ended by the last look.
_LOOK: Final = """
WITH relation AS MATERIALIZED (
    SELECT oid, xmin FROM pg_class WHERE relpersistence <> 't' AND relkind IN ('r', 'p', 'm', 'f', 'v')
), found AS (
    SELECT 'relation' AS kind, oid, xmin FROM relation WHERE age(xmin) <= age($1::text::xid)
    UNION ALL
    SELECT 'relation', r.oid, a.xmin FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid
     WHERE age(a.xmin) <= age($1::text::xid)
    UNION ALL
    SELECT 'inherits', inhrelid, i.xmin FROM pg_inherits i JOIN relation r ON r.oid = i.inhrelid
     WHERE age(i.xmin) <= age($1::text::xid)
    UNION ALL
    SELECT 'rule', e.oid, e.xmin FROM pg_rewrite e JOIN relation r ON r.oid = e.ev_class
     WHERE age(e.xmin) <= age($1::text::xid)
    UNION ALL SELECT 'function', oid, xmin FROM pg_proc WHERE age(xmin) <= age($1::text::xid)
    UNION ALL SELECT 'policy', oid, xmin FROM pg_policy WHERE age(xmin) <= age($1::text::xid)
    UNION ALL SELECT 'enum', oid, xmin FROM pg_enum WHERE age(xmin) <= age($1::text::xid)
)
SELECT kind, oid::int8 AS oid, xmin::text AS xmin FROM found LIMIT $2
"""


class CatalogWatch:
    """Of one database, over `session`."""

    def __init__(self, session: Session, told: Told) -> None:
        self._session = session
        self._told = told
        self._before: Snapshot | None = None
        """As of the last look."""
        self._known: set[tuple[str, int, str]] = set()
        """What the last look has found: it is found again while an older transaction is open."""
        self._lsn = -1
        self._due = 0.0
        self._took_s = 0.0
        self._suspected = False

    def suspect(self) -> None:
        """A transaction was seen that may have been DDL."""
        if not self._suspected:
            self._suspected = True
            self._due = min(self._due, time.monotonic() + max(SUSPECTED_S, self._took_s * SHARE / 10))

    async def look(self, lsn: int) -> None:
        """If it is time for it; `lsn` is where the primary inserts WAL. Raises one of FAILURES."""
        now = time.monotonic()
        if now < self._due or lsn == self._lsn:
            return
        self._suspected = False
        snapshot = Snapshot.parse((await self._session.row(_SNAPSHOT))["snapshot"])
        if self._before is not None:
            self._tell(await self._session.rows(_LOOK, str(self._before.xmin % (1 << 32)), ROWS_MAX + 1))
        self._before, self._lsn = snapshot, lsn
        self._took_s = time.monotonic() - now
        self._due = time.monotonic() + max(LOOK_S, self._took_s * SHARE)

    def _tell(self, rows: list[tuple[str, int, str]]) -> None:
        found = {(kind, oid, xmin) for kind, oid, xmin in rows}
        new = found - self._known
        self._known = found
        if not new:
            return
        if len(found) > ROWS_MAX or any(kind != "relation" for kind, _, _ in new):
            # Who depends on a function, a policy or a type is not known here.
            self._told.all_changed()
        else:
            self._told.changed({oid for _, oid, _ in new})
        self._told.suspected()
