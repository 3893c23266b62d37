"""Clients that read and write as fast as they are served, many of them, through two drivers; and every error they see.

They run on an event loop in a thread of their own, so that whoever asks something of a supervisor is not slowed down by
them. Each notes what it has had acknowledged.
"""

import asyncio
import threading
import time
from typing import Any, Final

import asyncpg
import psycopg

from tests.supervisor.quick import DEADLINE_S

TABLE: Final = "CREATE TABLE IF NOT EXISTS ledger (writer int, number int, PRIMARY KEY (writer, number))"
_INSERT: Final = "INSERT INTO ledger VALUES ($1, $2)"
_COUNT: Final = "SELECT count(*) FROM ledger WHERE writer = $1"


class Crowd:
    """`clients` of them, a third of each kind: asyncpg's that write in transactions, asyncpg's that read with prepared
    statements, psycopg's that do both; of each kind one in five connects anew each time."""

    def __init__(self, host: str, port: int, password: str, database: str = "app", clients: int = 60) -> None:
        self.errors: list[str] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.rounds: Final[dict[int, int]] = dict.fromkeys(range(clients), 0)
        """How often each client has done what it does."""
        self._where: Final[dict[str, Any]] = {
            "host": host,
            "port": port,
            "user": "app",
            "password": password,
            "database": database,
        }
        self._clients: Final = clients
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def start(self) -> None:
        where = dict(self._where)
        with psycopg.connect(dbname=where.pop("database"), autocommit=True, **where) as client:
            client.execute(TABLE)
            client.execute("TRUNCATE ledger")
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def wait_for_a_round(self) -> None:
        """Until each client has done what it does once more, or has ended."""
        before = dict(self.rounds)
        deadline = time.monotonic() + DEADLINE_S
        while not self.errors and any(self.rounds[one] < before[one] + 2 for one in before):
            assert time.monotonic() < deadline, f"{self.rounds} was {before}"
            time.sleep(0.02)
        assert self.errors == []

    async def _all(self) -> None:
        kinds = (self._write, self._read, self._do_both)
        async with asyncio.TaskGroup() as tasks:
            for who in range(self._clients):
                tasks.create_task(self._go(kinds[who % 3], who, anew=who % 15 < 3))

    async def _go(self, act: Any, who: int, *, anew: bool) -> None:
        number = 0
        client: Any = None
        try:
            while not self._end.is_set():
                if client is None:
                    client = await (self._psycopg() if act == self._do_both else self._asyncpg())
                number += 1
                await act(client, who, number)
                self.rounds[who] += 1
                if anew:
                    await client.close()
                    client = None
                await asyncio.sleep(0.005)
        except (OSError, TimeoutError, psycopg.Error, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            state = getattr(error, "sqlstate", None)
            self.errors.append(f"{act.__name__} {who} {type(error).__name__} {state} {error}")
        finally:
            if client is not None:
                await client.close()

    async def _asyncpg(self) -> Any:
        return await asyncpg.connect(**self._where, timeout=DEADLINE_S)

    async def _psycopg(self) -> Any:
        where = dict(self._where)
        where["dbname"] = where.pop("database")
        client = await psycopg.AsyncConnection.connect(**where, autocommit=True, connect_timeout=int(DEADLINE_S))
        client.prepare_threshold = 2
        return client

    async def _write(self, client: Any, who: int, number: int) -> None:
        async with client.transaction():
            await client.execute(_INSERT, who, number)
            await asyncio.sleep(0.01)
            # Its own write, in its own transaction.
            assert await client.fetchval(_COUNT, who) >= 1
        self.acknowledged.append((who, number))

    async def _read(self, client: Any, who: int, _number: int) -> None:
        await client.fetchval(_COUNT, who)
        if who % 2:
            async with client.transaction(readonly=True):
                await client.fetchval(_COUNT, who)
                await client.fetchval(_COUNT, who + 1)

    async def _do_both(self, client: Any, who: int, number: int) -> None:
        await client.execute("INSERT INTO ledger VALUES (%s, %s)", (who, number))
        self.acknowledged.append((who, number))
        cursor = await client.execute("SELECT count(*) FROM ledger WHERE writer = %s", (who,))
        # What it has written it sees, wherever it reads.
        assert (await cursor.fetchone())[0] >= number
