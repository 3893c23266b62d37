"""The load of a drill: clients that write numbered commits, read them back, and keep books of all they were told.

In: an endpoint. Out: Books. A client that is told of a failure goes on: on its connection while it has one, else on a
new one. The rows of one writer are numbered from 1, and no number is asked for twice, so that a row says whose it is.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NamedTuple

import asyncpg

from middleware.drill.books import Attempt, Books, Failure, Outcome, Served, Suspect, outcome_of
from middleware.drill.clock import Clock

SCHEMA: Final = "pointsman_drill"
TABLE: Final = f"{SCHEMA}.ledger"
# No unique index: a row that came twice is to be found, not prevented.
MAKE: Final = (
    f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
    f"CREATE SCHEMA {SCHEMA}",
    f"CREATE TABLE {TABLE}"
    " (writer int NOT NULL, number int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())",
    f"CREATE INDEX ON {TABLE} (writer, number)",
)
DROP: Final = f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"
ROWS: Final = f"SELECT writer, number, count(*) FROM {TABLE} GROUP BY 1, 2"

_INSERT: Final = f"INSERT INTO {TABLE} (writer, number) VALUES ($1, $2)"
_INSERT_PLAIN: Final = f"INSERT INTO {TABLE} (writer, number) VALUES ({{}}, {{}})"
# The answer, and who gives it. In a sub-select, so that one without rows tells its node too.
_NEWEST: Final = (
    f"SELECT current_setting('cluster_name'), (SELECT coalesce(max(number), 0) FROM {TABLE} WHERE writer = $1)"
)
_OWN: Final = (
    f"SELECT current_setting('cluster_name'), (SELECT count(*) FROM {TABLE} WHERE writer = $1 AND number = $2)"
)

WAYS: Final = ("simple", "extended", "transaction")
"""How a row is written: by a simple query, by a prepared statement, between BEGIN and COMMIT."""


class Login(NamedTuple):
    """Where clients connect, and as whom."""

    host: str
    port: int
    user: str
    password: str
    database: str
    ssl: str = "disable"
    """As libpq's sslmode."""


class Size(NamedTuple):
    """How much load."""

    writers: int = 4
    readers: int = 4
    pause_s: float = 0.01
    """Between two turns of a client, on average."""
    patience_s: float = 30.0
    """For one statement: then its client gives up, and knows nothing."""
    again_s: float = 0.02
    """Behind a failure."""


class _Lost(Exception):
    """The connection is gone: a new one is needed."""


# What asyncpg raises when a statement does not succeed, or its connection ends.
FAILURES: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError)


def _said(error: BaseException) -> asyncpg.PostgresError | None:
    """What the server said, if anything. A FATAL error is the cause of asyncpg's own, that the connection is gone."""
    broken = isinstance(error, asyncpg.ConnectionDoesNotExistError) and "in the middle" in str(error)
    said = error.__cause__ if broken else error
    return said if isinstance(said, asyncpg.PostgresError) else None


def sqlstate_of(error: BaseException) -> str:
    """Of what a server said; "" where it said nothing."""
    said = _said(error)
    return "" if said is None or said.sqlstate is None else str(said.sqlstate)


class Load:
    """Clients of an endpoint, while `run` runs. `written(writer)` is the last number a writer had acknowledged."""

    def __init__(self, login: Login, size: Size, clock: Clock, rng: random.Random) -> None:
        self.books: Final = Books()
        self._login: Final = login
        self._size: Final = size
        self._clock: Final = clock
        self._rng: Final = rng
        self._stop: Final = asyncio.Event()
        self.process_ids: Final[set[int]] = set()
        """The clients' own, as of BackendKeyData."""

    def stop(self) -> None:
        """Let each client end with its turn."""
        self._stop.set()

    async def run(self) -> None:
        """Until `stop`; then each client has ended."""
        async with asyncio.TaskGroup() as clients:
            for writer in range(self._size.writers):
                clients.create_task(self._client(f"writer {writer}", Writer(self, writer).turn))
            for reader in range(self._size.readers):
                clients.create_task(self._client(f"reader {reader}", Reader(self, reader).turn))

    async def _client(self, name: str, turn: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
        """One client: a connection, its turns, and another connection when that is lost."""
        while not self._over():
            try:
                async with connected(self._login, self._size.patience_s) as connection:
                    await self._turns(connection, turn)
            except _Lost:
                pass
            except FAILURES as error:
                self.books.failed(Failure(self.now(), name, "connect", sqlstate_of(error), _text(error)))
            if not self._over():
                self.books.retries += 1
                await asyncio.sleep(self._size.again_s)

    async def _turns(
        self, connection: asyncpg.Connection, turn: Callable[[asyncpg.Connection], Awaitable[None]]
    ) -> None:
        own = connection.get_server_pid()
        self.process_ids.add(own)
        try:
            while not self._over():
                await turn(connection)
                await asyncio.sleep(self._rng.uniform(0.5, 1.5) * self._size.pause_s)
        finally:
            self.process_ids.discard(own)

    def _over(self) -> bool:
        return self._stop.is_set() or self.books.full

    def now(self) -> float:
        return self._clock.now()

    @property
    def patience_s(self) -> float:
        return self._size.patience_s

    @property
    def writers(self) -> int:
        return self._size.writers

    async def failed(
        self, client: str, doing: str, error: BaseException, connection: asyncpg.Connection, *, unknown: bool = False
    ) -> None:
        """Write it down, and wait a moment. Raises _Lost with a connection that is no more."""
        at = self.now()
        # A FATAL error comes before the end of its connection.
        await asyncio.sleep(self._size.again_s)
        if connection.is_in_transaction() and not connection.is_closed():
            try:
                await connection.execute("ROLLBACK", timeout=self.patience_s)
            except FAILURES:
                connection.terminate()
        lost = bool(connection.is_closed())
        self.books.failed(Failure(at, client, doing, sqlstate_of(error), _text(error), unknown, lost))
        if lost:
            raise _Lost
        if not self._over():
            self.books.retries += 1


class Session:
    """What one client has seen, and how it reads."""

    def __init__(self, load: Load, name: str) -> None:
        self.load: Final = load
        self.name: Final = name
        self._seen: Final[dict[int, int]] = {}
        """The highest number of each writer that this session has read."""

    async def _read(self, connection: asyncpg.Connection, sql: str, *arguments: int) -> asyncpg.Record | None:
        """A row; None behind a failure, which is written down."""
        began = self.load.now()
        try:
            row = await connection.fetchrow(sql, *arguments, timeout=self.load.patience_s)
        except FAILURES as error:
            await self.load.failed(self.name, "read", error, connection)
            return None
        now = self.load.now()
        self.load.books.read(Served(now, now - began), row[0])
        return row

    async def read_newest(self, connection: asyncpg.Connection, writer: int) -> None:
        """A writer's highest number: never lower than what this session has read before."""
        row = await self._read(connection, _NEWEST, writer)
        if row is None:
            return
        node, number = row
        before = self._seen.get(writer, 0)
        if number < before:
            self.load.books.suspects.append(Suspect(self.load.now(), self.name, node, "seen", writer, before, number))
        else:
            self._seen[writer] = number

    async def read_own(self, connection: asyncpg.Connection, writer: int, number: int) -> None:
        """The row that this session was told is committed."""
        row = await self._read(connection, _OWN, writer, number)
        if row is not None and not row[1]:
            self.load.books.suspects.append(Suspect(self.load.now(), self.name, row[0], "own", writer, number, 0))


class Reader(Session):
    """Reads what the writers have written."""

    def __init__(self, load: Load, reader: int) -> None:
        super().__init__(load, f"reader {reader}")
        self._turns = reader

    async def turn(self, connection: asyncpg.Connection) -> None:
        self._turns += 1
        await self.read_newest(connection, self._turns % max(1, self.load.writers))


class Writer(Session):
    """Writes a row, reads it at once, and once more before the next."""

    def __init__(self, load: Load, writer: int) -> None:
        super().__init__(load, f"writer {writer}")
        self._writer: Final = writer
        self._number = 0
        self._acknowledged = 0

    async def turn(self, connection: asyncpg.Connection) -> None:
        if self._acknowledged:
            # By now a standby may have it.
            await self.read_own(connection, self._writer, self._acknowledged)
        self._number += 1
        way = WAYS[self._number % len(WAYS)]
        if await self._write(connection, self._number, way):
            self._acknowledged = self._number
            await self.read_own(connection, self._writer, self._number)

    async def _write(self, connection: asyncpg.Connection, number: int, way: str) -> bool:
        """Whether it was acknowledged. Each outcome is written down."""
        load, began = self.load, self.load.now()
        step = ""
        try:
            for step, arguments in self._statements(number, way):
                await connection.execute(step, *arguments, timeout=load.patience_s)
        except FAILURES as error:
            now, sqlstate = load.now(), sqlstate_of(error)
            outcome = outcome_of(sqlstate, commits=way != "transaction" or step == "COMMIT")
            verb = step.split(" ", 1)[0]
            load.books.attempted(Attempt(self._writer, number, way, began, now, outcome, sqlstate, verb, _text(error)))
            unknown = outcome is Outcome.UNKNOWN
            await load.failed(self.name, "write", error, connection, unknown=unknown)
            return False
        load.books.attempted(Attempt(self._writer, number, way, began, load.now(), Outcome.ACKNOWLEDGED))
        return True

    def _statements(self, number: int, way: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
        if way == "simple":
            return ((_INSERT_PLAIN.format(self._writer, number), ()),)
        insert = (_INSERT, (self._writer, number))
        return (insert,) if way == "extended" else (("BEGIN", ()), insert, ("COMMIT", ()))


def _text(error: BaseException) -> str:
    """What it says, in one line."""
    said = _said(error)
    lines = (said.message if said is not None and said.message else str(error)).split()
    return " ".join(lines) or type(error).__name__


@contextlib.asynccontextmanager
async def connected(login: Login, timeout_s: float) -> AsyncIterator[asyncpg.Connection]:
    """A connection to an endpoint. Raises what asyncpg raises."""
    connection = await asyncpg.connect(
        host=login.host,
        port=login.port,
        user=login.user,
        password=login.password,
        database=login.database,
        timeout=timeout_s,
        ssl=login.ssl,
        server_settings={"application_name": "pointsman drill"},
    )
    try:
        yield connection
    finally:
        # Not close(): that waits for an answer, which may never come.
        connection.terminate()
