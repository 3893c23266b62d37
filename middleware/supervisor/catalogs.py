"""The catalogs of the databases clients use, loaded from a node and kept fresh.

In: which databases workers ask for, and that DDL was seen on one. Out: `publish(catalog)` when one is new or has
changed. Without a catalog routing knows no function and sends what calls one to the primary, so a database that cannot
be read costs speed, not correctness: it is logged once and tried again with growing delays.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Final

import anyio
import asyncpg
import msgspec
import structlog

from healthcheck.probe import APPLICATION_NAME, Credentials, reason
from healthcheck.topology import Node, Topology
from routing.catalog import Catalog

DATABASES_MAX: Final = 100
"""Beyond it the database asked for longest ago is forgotten: workers are told that nothing is known of it."""
LOADS_AT_ONCE_MAX: Final = 4
DEBOUNCE_S: Final = 0.2
"""DDL comes in bursts: wait this long for more of it before reading the catalog."""
RETRY_DELAY_FIRST_S: Final = 1.0
RETRY_DELAY_MAX_S: Final = 60.0

# A name is readable when all functions of that name are: a call does not tell which one it means. A procedure has no
# business in a read, whatever it is marked as.
_QUERY: Final = """
SELECT proname
  FROM pg_catalog.pg_proc
 GROUP BY proname
HAVING bool_and(provolatile IN ('s', 'i') AND prokind IN ('f', 'w', 'a'))
"""

log = structlog.get_logger()


class _Entry(msgspec.Struct):
    due: float
    """When to load next; infinite while it is being loaded."""
    catalog: Catalog | None = None
    failures: int = 0
    stale: bool = False
    """DDL was seen while it was being loaded: what is read may be from before."""


class Catalogs:
    """Loads, refreshes and remembers catalogs. `run` does the work; `wanted` may be called at any time."""

    def __init__(
        self,
        credentials: Credentials,
        topology: Callable[[], Topology],
        publish: Callable[[Catalog], None],
        *,
        refresh_s: float,
        timeout_s: float,
    ) -> None:
        self._credentials = credentials
        self._topology = topology
        self._publish = publish
        self._refresh_s = refresh_s
        self._timeout_s = timeout_s
        self._entries: dict[str, _Entry] = {}
        """By when they were last asked for, the longest ago first."""
        self._changed = anyio.Event()
        self._version = 0

    def known(self) -> dict[str, Catalog]:
        """The catalogs loaded so far, by database."""
        return {name: entry.catalog for name, entry in self._entries.items() if entry.catalog is not None}

    def wanted(self, database: str, *, stale: bool) -> Catalog | None:
        """A worker asks for a catalog, or saw DDL: the catalog known now, if any; a new one will be published."""
        entry = self._entries.pop(database, None)
        if entry is None:
            entry = _Entry(due=time.monotonic())
            if len(self._entries) >= DATABASES_MAX:
                self._forget(next(iter(self._entries)))
        elif stale and entry.due == math.inf:
            entry.stale = True
        elif stale and entry.catalog is not None:
            entry.due = min(entry.due, time.monotonic() + DEBOUNCE_S)
        self._entries[database] = entry
        self._changed.set()
        return entry.catalog

    def topology_changed(self) -> None:
        """Databases that could not be read may be readable now."""
        now = time.monotonic()
        for entry in self._entries.values():
            if entry.catalog is None and entry.due != math.inf:
                entry.due = now
        self._changed.set()

    async def run(self) -> None:
        """Load what is due until cancelled."""
        limiter = anyio.CapacityLimiter(LOADS_AT_ONCE_MAX)
        async with anyio.create_task_group() as tasks:
            while True:
                now = time.monotonic()
                for database, entry in list(self._entries.items()):
                    if entry.due <= now:
                        entry.due = math.inf
                        tasks.start_soon(self._load, database, entry, limiter)
                next_due = min((entry.due for entry in self._entries.values()), default=math.inf)
                with anyio.move_on_after(max(0.0, next_due - now)):
                    await self._changed.wait()
                self._changed = anyio.Event()

    async def _load(self, database: str, entry: _Entry, limiter: anyio.CapacityLimiter) -> None:
        async with limiter:
            entry.stale = False
            failure = await self._try_load(database, entry)
        if failure:
            entry.failures += 1
            delay_s = min(RETRY_DELAY_FIRST_S * 2 ** min(entry.failures - 1, 16), RETRY_DELAY_MAX_S)
            if entry.failures == 1:
                log.warning("catalog not loaded, trying again", database=database, error=failure)
        else:
            if entry.failures:
                log.info("catalog loaded", database=database)
            entry.failures = 0
            delay_s = DEBOUNCE_S if entry.stale else self._refresh_s
        entry.due = time.monotonic() + delay_s
        self._changed.set()

    async def _try_load(self, database: str, entry: _Entry) -> str:
        """Load and publish; why it failed, or nothing."""
        node = _source(self._topology())
        if node is None:
            return "no node is up"
        try:
            with anyio.fail_after(self._timeout_s):
                readable = await self._read(node, database)
        except TimeoutError:
            return f'no answer from node "{node.name}" within {self._timeout_s:g} s'
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            return reason(error)
        if self._entries.get(database) is entry and (
            entry.catalog is None or entry.catalog.readable_functions != readable
        ):
            entry.catalog = self._next(database, readable)
            self._publish(entry.catalog)
        return ""

    async def _read(self, node: Node, database: str) -> frozenset[str]:
        connection: Any = await asyncpg.connect(
            host=node.host,
            port=node.port,
            user=self._credentials.user,
            password=self._credentials.password,
            database=database,
            # One timeout, the caller's, covers connecting and reading.
            timeout=self._timeout_s * 2,
            statement_cache_size=0,
            server_settings={"application_name": APPLICATION_NAME},
        )
        try:
            return frozenset(row["proname"] for row in await connection.fetch(_QUERY))
        finally:
            connection.terminate()

    def _next(self, database: str, readable: frozenset[str]) -> Catalog:
        # One count for all: a database that is forgotten and comes back keeps growing.
        self._version += 1
        return Catalog(database, self._version, readable)

    def _forget(self, database: str) -> None:
        entry = self._entries.pop(database)
        log.info("catalog forgotten, too many databases", database=database, most=DATABASES_MAX)
        if entry.catalog is not None:
            # A worker would go by its last copy for ever.
            self._publish(self._next(database, frozenset()))


def _source(topology: Topology) -> Node | None:
    """The primary if it is up: a standby may not have replayed the DDL that made a catalog stale."""
    return topology.primary() or next(iter(topology.standbys()), None)
