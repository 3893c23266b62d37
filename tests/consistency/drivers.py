"""One client, as different drivers and protocols make it: what is asked is the same, what goes over the wire is not.

SQL has PostgreSQL's placeholders ($1, $2), arguments are whole numbers.
"""

import contextlib
import io
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Literal, Protocol, Self

import asyncpg
from psycopg import AsyncConnection, AsyncRawCursor

from tests.conftest import Endpoint

CONNECT_TIMEOUT_S: Final = 30

Row = tuple[Any, ...]


class Client(Protocol):
    """A session with autocommit."""

    style: str
    """Driver and protocol, for people."""
    pipelines: bool
    """Whether a statement can be sent before the one ahead of it is answered."""

    async def rows(self, sql: str, *arguments: int) -> list[Row]:
        """Run one statement."""

    async def script(self, sql: str) -> None:
        """Run a string of statements as one Query message."""

    async def copy_in(self, sql: str, line: str) -> None:
        """Run a COPY FROM STDIN with one line of text."""

    async def rows_after(self, first: str, sql: str, *, first_arguments: Row, arguments: Row) -> list[Row]:
        """Send `first`, Sync, `sql`, Sync without a wait between, and return the rows of `sql`."""

    async def close(self) -> None:
        """End the session."""


class Psycopg:
    """psycopg: Query messages, unnamed prepared statements, or named ones."""

    def __init__(self, connection: AsyncConnection[Row], protocol: Literal["simple", "extended", "prepared"]) -> None:
        self.style = f"psycopg, {protocol}"
        self.pipelines = protocol != "simple"
        self._connection = connection
        self._simple = protocol == "simple"
        self._prepare = protocol == "prepared"

    @classmethod
    async def connect(cls, endpoint: Endpoint, protocol: Literal["simple", "extended", "prepared"]) -> Self:
        connection = await AsyncConnection.connect(
            endpoint.url(), autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, cursor_factory=AsyncRawCursor
        )
        return cls(connection, protocol)

    async def rows(self, sql: str, *arguments: int) -> list[Row]:
        cursor = self._connection.cursor()
        await self._execute(cursor, sql, arguments)
        return await cursor.fetchall() if cursor.description else []

    async def script(self, sql: str) -> None:
        # Without arguments psycopg sends a Query message.
        await self._connection.execute(sql.encode(), prepare=False)

    async def copy_in(self, sql: str, line: str) -> None:
        async with self._connection.cursor().copy(sql.encode()) as copy:
            await copy.write(line)

    async def rows_after(self, first: str, sql: str, *, first_arguments: Row, arguments: Row) -> list[Row]:
        cursor = self._connection.cursor()
        async with self._connection.pipeline() as pipeline:
            await self._execute(self._connection.cursor(), first, first_arguments)
            await pipeline.sync()
            await self._execute(cursor, sql, arguments)
        return await cursor.fetchall()

    async def close(self) -> None:
        await self._connection.close()

    async def _execute(self, cursor: AsyncRawCursor[Row] | Any, sql: str, arguments: Row) -> None:
        if self._simple:
            for number, argument in enumerate(arguments, 1):
                sql = sql.replace(f"${number}", str(argument))
            await cursor.execute(sql.encode(), prepare=False)
        else:
            await cursor.execute(sql.encode(), arguments, prepare=self._prepare)


class Asyncpg:
    """asyncpg: Parse, Describe and Flush ahead of Bind and Execute; with or without its cache of named statements."""

    pipelines = False

    def __init__(self, connection: Any, style: str) -> None:
        self.style = style
        self._connection = connection

    @classmethod
    async def connect(cls, endpoint: Endpoint, *, cache: bool) -> Self:
        size = {} if cache else {"statement_cache_size": 0}
        connection = await asyncpg.connect(endpoint.url(), timeout=CONNECT_TIMEOUT_S, **size)
        return cls(connection, "asyncpg" if cache else "asyncpg, no cache")

    @contextlib.contextmanager
    def _as_a_loss(self) -> Iterator[None]:
        """What asyncpg runs into when its connection is lost between two messages of a statement."""
        try:
            yield
        except AttributeError:
            if not self._connection.is_closed():
                raise
            raise ConnectionResetError("the connection was lost in the middle of a statement") from None

    async def rows(self, sql: str, *arguments: int) -> list[Row]:
        with self._as_a_loss():
            return [tuple(row) for row in await self._connection.fetch(sql, *arguments)]

    async def script(self, sql: str) -> None:
        with self._as_a_loss():
            await self._connection.execute(sql)

    async def copy_in(self, sql: str, line: str) -> None:
        table = sql.split()[1]
        with self._as_a_loss():
            await self._connection.copy_to_table(table, source=io.BytesIO(line.encode()))

    async def rows_after(self, first: str, sql: str, *, first_arguments: Row, arguments: Row) -> list[Row]:
        raise NotImplementedError("asyncpg has no pipelines")

    async def close(self) -> None:
        await self._connection.close()


Connect = Callable[[Endpoint], Awaitable[Client]]

CONNECTS: Final[tuple[Connect, ...]] = (
    lambda endpoint: Psycopg.connect(endpoint, "simple"),
    lambda endpoint: Psycopg.connect(endpoint, "extended"),
    lambda endpoint: Psycopg.connect(endpoint, "prepared"),
    lambda endpoint: Asyncpg.connect(endpoint, cache=True),
    lambda endpoint: Asyncpg.connect(endpoint, cache=False),
)
"""How clients connect; they take turns."""
