"""An application that writes through the endpoint, one row after another, and remembers how each attempt went."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from typing import Any, NamedTuple, Self

import asyncpg

PAUSE_S = 0.05
#: An application's own patience: longer than any failover here, so that what it hears is Pointsman's word.
TIMEOUT_S = 25.0


class Attempt(NamedTuple):
    ended_at: float
    """time.monotonic()"""
    node: str | None
    """Which node wrote it, None where it failed."""
    row: int | None
    error: str
    """Its SQLSTATE, or what else ended it."""


class Writer:
    """A thread that runs while the context is open."""

    def __init__(self, port: int, password: str) -> None:
        self._where = {"host": "127.0.0.1", "port": port, "user": "app", "password": password, "database": "app"}
        self.attempts: list[Attempt] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def wrote(self, node: str) -> bool:
        """Whether the last attempt was written by the node."""
        return bool(self.attempts) and self.attempts[-1].node == node

    def failed(self) -> bool:
        """Whether the last attempt failed."""
        return bool(self.attempts) and self.attempts[-1].node is None

    def outage_s(self) -> float:
        """The longest time between two writes that succeeded."""
        ends = [attempt.ended_at for attempt in self.attempts if attempt.node is not None]
        return max(later - earlier for earlier, later in itertools.pairwise(ends))

    def errors(self) -> dict[str, int]:
        """How often each was seen."""
        seen = [attempt.error for attempt in self.attempts if attempt.node is None]
        return {error: seen.count(error) for error in sorted(set(seen))}

    async def _run(self) -> None:
        connection: asyncpg.Connection[Any] | None = None
        while not self._ending.is_set():
            row, node, error = None, None, ""
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    if connection is None or connection.is_closed():
                        connection = await asyncpg.connect(**self._where)
                    row, node = await connection.fetchrow(
                        "INSERT INTO visits DEFAULT VALUES RETURNING id, current_setting('cluster_name')"
                    )
            except asyncpg.PostgresError as refused:
                error = refused.sqlstate or type(refused).__name__
            except (OSError, TimeoutError, asyncpg.InterfaceError) as lost:
                error = type(lost).__name__
                if connection is not None:
                    connection.terminate()
            self.attempts.append(Attempt(time.monotonic(), node, row, error))
            await asyncio.sleep(PAUSE_S)
        if connection is not None:
            connection.terminate()
