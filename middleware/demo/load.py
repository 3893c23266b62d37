"""A little traffic through the endpoint: four reads to a write, at a steady rate."""

import contextlib
from typing import Final

import anyio
import asyncpg

from middleware.demo.stage import Endpoint

TABLE: Final = "demo_visits"
CLIENTS: Final = 4
RETRY_S: Final = 0.5
READS_PER_WRITE: Final = 4


async def run_load(endpoint: Endpoint, per_second: float) -> None:
    """Run until cancelled. A failure (a node killed to see what happens) is waited out."""
    async with anyio.create_task_group() as tasks:
        for number in range(CLIENTS):
            tasks.start_soon(_client, endpoint, CLIENTS / per_second, number == 0)


async def _client(endpoint: Endpoint, pause_s: float, creates: bool) -> None:
    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            connection = await asyncpg.connect(endpoint.url, timeout=5)
            try:
                if creates:
                    await connection.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (at timestamptz)")
                await _visit(connection, pause_s)
            finally:
                connection.terminate()
        await anyio.sleep(RETRY_S)


async def _visit(connection: asyncpg.Connection, pause_s: float) -> None:
    count = 0
    while True:
        count += 1
        if count % (READS_PER_WRITE + 1) == 0:
            await connection.execute(f"INSERT INTO {TABLE} VALUES (now())")
        else:
            await connection.fetchval(f"SELECT count(*) FROM {TABLE} WHERE at > now() - interval '1 second'")
        await anyio.sleep(pause_s)
