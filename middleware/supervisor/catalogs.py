"""The catalogs of the databases clients use, loaded from a node and kept fresh.

In: which databases workers ask for, and that DDL was seen on one. Out: `publish(catalog)` when one is new or has
changed. Without a catalog routing knows no name and sends all that has one to the primary, so a database that cannot
be read costs speed, not correctness: it is logged once and tried again with growing delays.

A snapshot is put together in a thread: on a large database that takes seconds, and nobody is to wait for it.
"""

import math
import time
from collections.abc import Callable
from typing import Final

import anyio
import anyio.to_thread
import asyncpg
import msgspec
import structlog
from cachetools import TTLCache

from healthcheck import line
from healthcheck.line import Credentials, reason
from healthcheck.topology import Node, Role, Topology
from middleware.control import SetCatalog
from middleware.supervisor.catalog_reader import read_rows
from parser.shapes import FactsTable
from routing.assemble import assemble
from routing.catalog import Catalog, Known, shared
from routing.router import CHANGING, FORGOTTEN
from routing.rows import NOTHING_SAID, Overrides

DATABASES_MAX: Final = 1000
"""Beyond it the database asked for longest ago is forgotten: workers are told so, and ask again when it is used."""
KEPT_S: Final = 60.0
"""One that was asked for more recently is not forgotten: who comes beyond the bound is served by the primary alone."""
ABSENT_S: Final = 5.0
"""A database that does not exist is not looked for again so soon."""
LOADS_AT_ONCE_MAX: Final = 4
DEBOUNCE_S: Final = 0.2
"""DDL comes in bursts: wait this long for more of it before reading the catalog."""
SUSPECTED_S: Final = 2.0
"""Blocks of code and bulk loads too long to be read come in their thousands: read the catalog this often at most."""
CONNECT_TIMEOUT_S: Final = 60.0
RETRY_DELAY_FIRST_S: Final = 1.0
RETRY_DELAY_MAX_S: Final = 60.0

log = structlog.get_logger("catalog")


class _Entry(msgspec.Struct):
    due: float
    """When to load next; infinite while it is being loaded."""
    asked_at: float
    """When a worker last asked for it."""
    snapshot: SetCatalog | None = None
    failures: int = 0
    stale: bool = False
    """DDL was seen while it was being loaded: what is read may be from before."""
    suspected: bool = False
    """The same, and whether it was DDL cannot be seen."""


class Catalogs:
    """Loads, refreshes and remembers catalogs. `run` does the work; `wanted` may be called at any time."""

    def __init__(
        self,
        credentials: Credentials,
        topology: Callable[[], Topology],
        publish: Callable[[SetCatalog], None],
        *,
        refresh_s: float,
        timeout_s: float,
        overrides: Overrides = NOTHING_SAID,
        paused: Callable[[str], bool] = lambda database: False,
        found: Callable[[str, int, float], None] = lambda database, version, read_at: None,
    ) -> None:
        """What is `paused` is not read meanwhile.

        `found` is told, after each reading on the primary, which version it has found, and when it began."""
        self._credentials = credentials
        self._topology = topology
        self._publish = publish
        self._refresh_s = refresh_s
        self._timeout_s = timeout_s
        self._entries: dict[str, _Entry] = {}
        """By when they were last asked for, the longest ago first."""
        self._changed = anyio.Event()
        self._version = 0
        self._known: Known = {}
        self._absent: TTLCache[str, None] = TTLCache(DATABASES_MAX, ABSENT_S, time.monotonic)
        self._told_full_at = -math.inf
        self._texts = FactsTable()
        self._overrides = overrides
        self._paused = paused
        self._held: set[str] = set()
        """Those that are paused."""
        self._found = found

    def use(self, credentials: Credentials, *, refresh_s: float, timeout_s: float, overrides: Overrides) -> None:
        """Read them as this user, and so often, from now on. Where something else is said of functions or relations,
        nothing is decided by what was read before that."""
        self._credentials, self._refresh_s, self._timeout_s = credentials, refresh_s, timeout_s
        said = overrides != self._overrides
        self._overrides = overrides
        for database, entry in list(self._entries.items()):
            if said:
                self.wanted(database, stale=True)
            elif entry.due != math.inf:
                entry.due = min(entry.due, time.monotonic() + refresh_s)
        self._changed.set()

    def snapshots(self) -> list[SetCatalog]:
        """The catalogs known now."""
        return [entry.snapshot for entry in self._entries.values() if entry.snapshot is not None]

    def wanted(self, database: str, *, stale: bool) -> SetCatalog | None:
        """A worker asks for a catalog, or saw DDL: the catalog known now, if any; a new one will be published."""
        now = time.monotonic()
        entry = self._entries.pop(database, None)
        if entry is None:
            if database in self._absent or not self._make_room(now):
                return None
            entry = _Entry(due=now, asked_at=now)
        elif stale and entry.due == math.inf:
            entry.stale = True
        elif stale and entry.snapshot is not None:
            entry.due = min(entry.due, time.monotonic() + DEBOUNCE_S)
        if stale and entry.snapshot is not None and entry.snapshot.catalog.hazard != CHANGING:
            # Nobody is to decide by what may be wrong by now.
            self._publish_as(entry, Catalog(database, 0, hazard=CHANGING), time.monotonic())
        entry.asked_at = now
        self._entries[database] = entry
        self._changed.set()
        return entry.snapshot

    def suspected(self, database: str) -> None:
        """Something ran of which nobody can see whether it changed the catalog: look sooner than usual."""
        entry = self._entries.get(database)
        if entry is not None and entry.due == math.inf:
            entry.suspected = True
        elif entry is not None and entry.snapshot is not None:
            entry.due = min(entry.due, time.monotonic() + SUSPECTED_S)
            self._changed.set()

    def topology_changed(self) -> None:
        """Databases that could not be read may be readable now."""
        now = time.monotonic()
        for entry in self._entries.values():
            if entry.snapshot is None and entry.due != math.inf:
                entry.due = now
        self._changed.set()

    def pauses_changed(self) -> None:
        """What was paused may have changed in many ways, unseen."""
        for database in list(self._held):
            if not self._paused(database):
                self._held.discard(database)
                self.suspected(database)
        self._held.update(database for database in self._entries if self._paused(database))
        self._changed.set()

    async def run(self) -> None:
        """Load what is due until cancelled."""
        limiter = anyio.CapacityLimiter(LOADS_AT_ONCE_MAX)
        async with anyio.create_task_group() as tasks:
            while True:
                now = time.monotonic()
                next_due = math.inf
                for database, entry in list(self._entries.items()):
                    if self._paused(database):
                        continue
                    if entry.due <= now:
                        entry.due = math.inf
                        tasks.start_soon(self._load, database, entry, limiter)
                    next_due = min(next_due, entry.due)
                with anyio.move_on_after(max(0.0, next_due - now)):
                    await self._changed.wait()
                self._changed = anyio.Event()

    async def _load(self, database: str, entry: _Entry, limiter: anyio.CapacityLimiter) -> None:
        async with limiter:
            entry.stale = entry.suspected = False
            failure = await self._try_load(database, entry)
        if failure:
            entry.failures += 1
            delay_s = min(RETRY_DELAY_FIRST_S * 2 ** min(entry.failures - 1, 16), RETRY_DELAY_MAX_S)
            if entry.failures == 1:
                log.warning("catalog not loaded, trying again", database=database, why=failure)
        else:
            if entry.failures:
                log.info("catalog loaded", database=database)
            entry.failures = 0
            delay_s = DEBOUNCE_S if entry.stale else SUSPECTED_S if entry.suspected else self._refresh_s
        entry.due = time.monotonic() + delay_s
        self._changed.set()

    async def _try_load(self, database: str, entry: _Entry) -> str:
        """Load and publish; why it failed, or nothing."""
        node = source(self._topology())
        if node is None:
            return "no node is up"
        try:
            with anyio.fail_after(self._timeout_s):
                read_at = time.monotonic()
                read = await read_catalog(node, database, self._credentials, self._overrides, self._texts)
        except TimeoutError:
            return f'no answer from node "{node.name}" within {self._timeout_s:g} s'
        except asyncpg.InvalidCatalogNameError:
            self._absent[database] = None
            if self._entries.get(database) is entry:
                del self._entries[database]
                self._take_back(entry, database)
            return ""
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            return reason(error)
        read = shared(read, self._known)
        known = entry.snapshot
        if entry.stale or self._entries.get(database) is not entry:
            return ""
        if known is None or msgspec.structs.replace(read, version=known.catalog.version) != known.catalog:
            self._publish_as(entry, read, read_at)
        if node.role is Role.PRIMARY and entry.snapshot is not None:
            self._found(database, entry.snapshot.catalog.version, read_at)
        return ""

    def _publish_as(self, entry: _Entry, catalog: Catalog, read_at: float) -> None:
        # One count for all: a database that is forgotten and comes back keeps growing.
        self._version += 1
        numbered = msgspec.structs.replace(catalog, version=self._version)
        entry.snapshot = SetCatalog(numbered, read_at, time.monotonic())
        self._publish(entry.snapshot)

    def _make_room(self, now: float) -> bool:
        """Whether one more may be kept; forgets the one that was asked for longest ago, if it must be."""
        if len(self._entries) < DATABASES_MAX:
            return True
        database, entry = next(iter(self._entries.items()))
        if now - entry.asked_at < KEPT_S:
            if now - self._told_full_at >= KEPT_S:
                self._told_full_at = now
                log.warning("too many databases: the reads of some stay on the primary", most=DATABASES_MAX)
            return False
        del self._entries[database]
        log.info("catalog forgotten, too many databases", database=database, most=DATABASES_MAX)
        self._take_back(entry, database)
        return True

    def _take_back(self, entry: _Entry, database: str) -> None:
        """A worker would go by its last copy for ever."""
        if entry.snapshot is not None:
            self._publish_as(entry, Catalog(database, 0, hazard=FORGOTTEN), time.monotonic())


async def read_catalog(
    node: Node, database: str, credentials: Credentials, overrides: Overrides, texts: FactsTable | None = None
) -> Catalog:
    """A database's catalog as `node` has it, with version 0. Raises OSError and asyncpg's errors.

    `texts` remembers the views and policies that were read before: give the same one each time.
    """
    connection = await line.connect(node.host, node.port, credentials.elsewhere(database), CONNECT_TIMEOUT_S)
    try:
        rows = await read_rows(connection)
    finally:
        connection.terminate()
    return await anyio.to_thread.run_sync(assemble, database, 0, rows, texts or FactsTable(), overrides)


def source(topology: Topology) -> Node | None:
    """The primary if it is up: a standby may not have replayed the DDL that made a catalog stale."""
    return topology.primary() or next(iter(topology.standbys()), None)
