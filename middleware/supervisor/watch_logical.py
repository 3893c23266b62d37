"""Watching a database's tables by logical decoding.

In: a node, a database. Out: which tables have changed, soon after their commits are flushed; until when that is all.

A round asks where the primary inserts WAL, waits until the slot's stream has passed that, and so knows of all commits
that were acknowledged before the round began. What is decoded need not be visible yet (visibility.py), so a commit's
tables are told once a snapshot that was taken later shows it, and at once where that may take long; a round takes such
a snapshot after it has begun, so what that does not show was not acknowledged before it.

WAL that nobody has flushed is not decoded. The WAL writer flushes asynchronous commits within a fraction of a second,
but not the last page of a transaction that is open: a round that waits for that has it flushed, by a commit of its own.

What was committed before the slot has begun is not decoded: with a new slot everything counts as changed, and once more
when each transaction has ended that was in progress then.
"""

import secrets
import time
from typing import Any, Final

import anyio
import asyncpg

from healthcheck.line import NOT_IN_SERVICE, Credentials
from healthcheck.topology import Node
from middleware.supervisor.decoding import Committed, Decoder, Name, PgOutput, TestDecoding
from middleware.supervisor.slot_stream import SlotStream, StreamLost
from middleware.supervisor.visibility import Snapshot
from middleware.supervisor.watch_catalog import CatalogWatch
from middleware.supervisor.watching import ROUND_S, CannotWatch, Pace, Session, Told, connect, session

SLOT: Final = "pointsman_cache_"
"""How the names of our slots begin."""
SILENT_S: Final = 60.0
"""A stream of which nothing is heard for so long, although it was asked, is lost: walsenders send what they have, and
answer in between."""
FLUSH_S: Final = 0.1
"""How long a round waits for WAL before it has it flushed."""
ASK_FIRST_S: Final = 0.001
"""How soon the stream is asked again how far it is; then later, up to ROUND_S."""

# Right behind a page's header nothing is on the page yet: the stream ends where the last page does. The first page of
# a segment has a longer header.
_BEGIN: Final = """
SELECT CASE WHEN at % segment = 40 THEN at - 40 WHEN at % block = 24 THEN at - 24 ELSE at END AS lsn,
       ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int AS timeline,
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active) AS streaming,
       $2 = '' OR EXISTS (SELECT FROM pg_publication WHERE pubname = $2 AND puballtables AND pubinsert AND pubupdate
                             AND pubdelete AND pubtruncate AND NOT pubviaroot) AS published
  FROM (SELECT (pg_current_wal_insert_lsn() - '0/0')::int8,
               current_setting('wal_block_size')::int8,
               pg_size_bytes(current_setting('wal_segment_size'))) AS position(at, block, segment)
"""
_INSERTED: Final = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8 AS lsn"
_FLUSHED: Final = "SELECT (pg_current_wal_flush_lsn() - '0/0')::int8 AS lsn"
# The session's synchronous_commit is local: the commit flushes all that was written before it.
_FLUSH: Final = "SELECT pg_logical_emit_message(true, 'pointsman', '')"
_SNAPSHOT: Final = "SELECT pg_current_snapshot()::text AS snapshot"
_NEXT_XID: Final = "SELECT pg_current_xact_id()::text::int8 AS xid"
_PUBLICATION: Final = """
SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate AS all_changes, pubviaroot
  FROM pg_publication WHERE pubname = $1
"""
_TABLES: Final = """
SELECT convert_to(nspname::text, getdatabaseencoding()) AS schema,
       convert_to(relname::text, getdatabaseencoding()) AS name,
       c.oid::int8 AS oid
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE relkind IN ('r', 'm') AND relpersistence = 'p'
"""
_NAMED: Final = """
SELECT w.schema, w.name, c.oid::int8 AS oid
  FROM unnest($1::bytea[], $2::bytea[]) AS w (schema, name)
  JOIN pg_namespace n ON n.nspname = convert_from(w.schema, getdatabaseencoding())::name
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = convert_from(w.name, getdatabaseencoding())::name
"""


class LogicalWatch:
    """Of one database. `open`, then `run`, then `close` in any case."""

    def __init__(
        self, node: Node, database: str, credentials: Credentials, told: Told, pace: Pace, timeout_s: float
    ) -> None:
        self._node = node
        self._database = database
        self._credentials = credentials
        self._told = told
        self._pace = pace
        self._timeout_s = timeout_s
        self._slot = SLOT + secrets.token_hex(8)
        self._publication = ""
        """Which one the stream goes by, if any."""
        self._stream: SlotStream | None = None
        self._session: Session | None = None
        self._invisible: list[Committed] = []
        """Decoded, and told or not, and not seen to have ended."""
        self._begun_lsn = 0
        """Where the primary inserted WAL when the slot had begun."""
        self._earlier: set[int] = set()
        """Transactions that were in progress when the slot began, and were not decoded, maybe."""
        self._names: dict[Name, int] = {}
        """Which table was last known by a name."""

    async def open(self, publication: str) -> None:
        """Make a slot; waits for transactions that are in progress to end. Raises CannotWatch and FAILURES."""
        self._session = await session(self._node, self._database, self._credentials, self._timeout_s)
        settings = {"replication": "database"}
        if self._session.version >= 14:
            # Otherwise one that waits for a transaction to end would not notice that we are gone.
            settings["client_connection_check_interval"] = "5s"
        try:
            connection = await connect(self._node, self._database, self._credentials, self._timeout_s, settings)
        except asyncpg.PostgresError as error:
            raise _refused(error) from None
        try:
            decoder, options = await self._make_slot(connection, publication)
        except BaseException:
            connection.terminate()
            raise
        self._stream = SlotStream(connection, decoder, self._pace.poke)
        with anyio.fail_after(self._timeout_s):
            await self._stream.start(self._slot, options)

    async def _make_slot(self, connection: Any, publication: str) -> tuple[Decoder, dict[str, str]]:
        make = f'CREATE_REPLICATION_SLOT "{self._slot}" TEMPORARY LOGICAL %s NOEXPORT_SNAPSHOT'
        try:
            try:
                await connection.execute(make % "test_decoding")
                return TestDecoding(), {}
            except asyncpg.UndefinedFileError as error:
                await self._check(publication, _said(error))
            await connection.execute(make % "pgoutput")
        except asyncpg.PostgresError as error:
            raise _refused(error) from None
        self._publication = publication
        quoted = '"' + publication.replace('"', '""') + '"'
        return PgOutput(), {"proto_version": "1", "publication_names": quoted}

    async def _check(self, publication: str, missing: str) -> None:
        """Whether pgoutput is any good. Raises CannotWatch."""
        rows = await self._asking().rows(_PUBLICATION, publication)
        if not rows:
            raise CannotWatch(f'{missing}, and there is no publication "{publication}"')
        if not rows[0]["puballtables"] or not rows[0]["all_changes"]:
            raise CannotWatch(f'publication "{publication}" is not of all changes of all tables')
        if rows[0]["pubviaroot"]:
            raise CannotWatch(f'publication "{publication}" names the root of what was changed, not the partition')

    async def run(self, interval_s: float) -> None:
        """One round after the other until cancelled. Raises CannotWatch and FAILURES."""
        catalog = CatalogWatch(self._asking(), self._told)
        await self._begin(catalog)
        self._told.using("logical", "")
        while True:
            self._pace.begin()
            await self._round(catalog)
            await self._pace.rest(interval_s)

    async def _begin(self, catalog: CatalogWatch) -> None:
        """Nobody knows what was committed before the slot began."""
        asking = self._asking()
        await catalog.look(0)
        if not self._publication:
            for row in await asking.rows(_TABLES):
                self._names[bytes(row["schema"]), bytes(row["name"])] = row["oid"]
        # Lower ids were given before; those of them that have not ended are listed, since this one has.
        following = (await asking.row(_NEXT_XID))["xid"]
        snapshot = Snapshot.parse((await asking.row(_SNAPSHOT))["snapshot"])
        self._earlier = {xid for xid in snapshot.running if xid < following}
        # By commits that are not decoded: before the slot began.
        self._begun_lsn = (await asking.row(_INSERTED))["lsn"]
        self._told.all_changed(self._begun_lsn)

    async def _round(self, catalog: CatalogWatch) -> None:
        begun = time.monotonic()
        row = await self._asking().row(_BEGIN, self._slot, self._publication)
        if not row["streaming"]:
            # Another server may answer at that address by now.
            raise StreamLost("the slot is not there any more")
        if not row["published"]:
            raise CannotWatch(f'publication "{self._publication}" has changed')
        lsn = row["lsn"]
        await self._pass(lsn)
        await self._tell(catalog)
        await catalog.look(lsn)
        self._told.confirmed(begun, lsn, self._vouched(lsn), row["timeline"])

    def _vouched(self, lsn: int) -> int:
        """Up to where all is decoded, told and seen by others: what is told before that is told again then."""
        if self._earlier:
            return 0
        return min([lsn, *(one.lsn - 1 for one in self._invisible)])

    async def _pass(self, lsn: int) -> None:
        """Until the stream has passed `lsn`."""
        stream, asking = self._stream, self._asking()
        assert stream is not None
        pause_s, flush_at = ASK_FIRST_S, time.monotonic() + FLUSH_S
        while stream.position < lsn:
            stream.ask()
            with anyio.fail_after(SILENT_S):
                await stream.moved()
            if stream.position >= lsn:
                return
            if time.monotonic() >= flush_at:
                if (await asking.row(_FLUSHED))["lsn"] < lsn:
                    await asking.rows(_FLUSH)
                flush_at = time.monotonic() + FLUSH_S
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, ROUND_S)

    async def _tell(self, catalog: CatalogWatch) -> None:
        """What has come, as far as it can be seen; the rest now, and again when it can be."""
        assert self._stream is not None
        new = self._stream.take()
        if not new and not self._invisible and not self._earlier:
            return
        snapshot = Snapshot.parse((await self._asking().row(_SNAPSHOT))["snapshot"])
        ended = [one for one in self._invisible if snapshot.ended(one.xid)]
        if ended:
            self._invisible = [one for one in self._invisible if not snapshot.ended(one.xid)]
        fresh = [one for one in new if not snapshot.ended(one.xid)]
        self._invisible += fresh
        if fresh:
            # Mostly for a moment only; for longer they wait for rounds that come anyway.
            self._pace.poke()
        await self._tell_of(ended + new)
        if any(one.reshaped or not (one.names or one.oids or one.whole) for one in new):
            catalog.suspect()
        if any(snapshot.ended(xid % (1 << 32)) for xid in self._earlier):
            self._earlier = {xid for xid in self._earlier if not snapshot.ended(xid % (1 << 32))}
            self._told.all_changed(self._begun_lsn)

    async def _tell_of(self, transactions: list[Committed]) -> None:
        lsns: dict[int, int] = {}
        names: dict[Name, int] = {}
        for one in transactions:
            for oid in one.oids:
                lsns[oid] = max(lsns.get(oid, 0), one.lsn)
            for name in one.names:
                names[name] = max(names.get(name, 0), one.lsn)
        known = await self._resolve(names) if names else {}
        if any(one.whole for one in transactions) or not names.keys() <= known.keys():
            self._told.all_changed(max(one.lsn for one in transactions))
        for name, oids in known.items():
            for oid in oids:
                lsns[oid] = max(lsns.get(oid, 0), names[name])
        for oid, lsn in lsns.items():
            self._told.changed((oid,), lsn)

    async def _resolve(self, names: dict[Name, int]) -> dict[Name, set[int]]:
        """Which tables these may have been: one that was renamed in between is known by what it was called before."""
        asked = list(names)
        rows = await self._asking().rows(_NAMED, [schema for schema, _ in asked], [name for _, name in asked])
        found = {(bytes(row["schema"]), bytes(row["name"])): row["oid"] for row in rows}
        known: dict[Name, set[int]] = {}
        for name, oid in found.items():
            known[name] = {oid, self._names.get(name, oid)}
        self._names.update(found)
        return known

    def _asking(self) -> Session:
        assert self._session is not None
        return self._session

    def close(self) -> None:
        """Drop the connections, and with them the slot."""
        for one in (self._stream, self._session):
            if one is not None:
                one.close()


def _refused(error: asyncpg.PostgresError) -> Exception:
    """What to raise for it: a node in service that says no will do so again."""
    return error if (error.sqlstate or "XX").startswith(NOT_IN_SERVICE) else CannotWatch(_said(error))


def _said(error: BaseException) -> str:
    return str(error).partition("\n")[0]
