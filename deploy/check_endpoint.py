"""The container's health check: a login and a query through the endpoint, as any client would do.

Who and where is told by libpq's variables (PGUSER, PGPASSWORD, PGDATABASE, PGHOST, PGPORT). Status 0 when the query was
answered; otherwise 1, and the reason in one line.
"""

import asyncio
import os
import sys

import asyncpg

TIMEOUT_S = 4.0


async def check() -> None:
    connection = await asyncpg.connect(
        host=os.environ.get("PGHOST", "127.0.0.1"), port=int(os.environ.get("PGPORT", "6432"))
    )
    try:
        await connection.fetchval("SELECT 1")
    finally:
        await connection.close()


async def main() -> None:
    await asyncio.wait_for(check(), TIMEOUT_S)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
