"""Clients of a supervisor in this process: a crowd of them, or one at a time; and what they wait for."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.to_thread
import psycopg

from middleware.errors import PointsmanError
from middleware.sandbox import Sandbox
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.supervisor.crowd import Crowd
from tests.supervisor.quick import DEADLINE_S, primary_of, promoting, until

BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"


@contextlib.asynccontextmanager
async def pointsman(sandbox: Sandbox, **more: object) -> AsyncIterator[Supervisor]:
    settings = await anyio.to_thread.run_sync(
        lambda: promoting(sandbox, **{"workers": 2, "default_pool_size": 10, **more})
    )
    async with running(settings) as supervisor:

        def well() -> bool:
            return primary_of(supervisor) == "db1" and bool(supervisor.topology.standbys())

        await until(well, supervisor)
        yield supervisor


@contextlib.asynccontextmanager
async def crowd(supervisor: Supervisor, sandbox: Sandbox, clients: int = 60) -> AsyncIterator[Crowd]:
    host, port = supervisor.addresses[0]
    made = Crowd(host, port, sandbox.passwords["app"], clients=clients)
    await anyio.to_thread.run_sync(made.start)
    try:
        await anyio.to_thread.run_sync(made.wait_for_a_round)
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(made.stop)


def backends(sandbox: Sandbox) -> list[int]:
    """How many of clients' there are on each node."""
    return [int(sandbox.query(BACKENDS, node)[0][0]) for node in sandbox.nodes]


async def in_thread(act: Callable[[], Any]) -> Any:
    return await anyio.to_thread.run_sync(act)


def conninfo(supervisor: Supervisor, sandbox: Sandbox, database: str = "app") -> str:
    host, port = supervisor.addresses[0]
    return f"host={host} port={port} user=app password={sandbox.passwords['app']} dbname={database} connect_timeout=30"


@contextlib.asynccontextmanager
async def client(
    supervisor: Supervisor, sandbox: Sandbox, database: str = "app"
) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(
        conninfo(supervisor, sandbox, database), autocommit=True, prepare_threshold=None
    ) as connected:
        yield connected


async def value(connection: psycopg.AsyncConnection[Any], sql: str = "SELECT pg_backend_pid()") -> Any:
    cursor = await connection.execute(sql.encode())
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


class Later:
    """Something that is awaited in a task, and what has become of it."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act
        self.scope = anyio.CancelScope()
        self.begun = anyio.Event()
        self.done = anyio.Event()
        self.came_to: Any = None
        self.error: Exception | None = None

    async def run(self) -> None:
        self.begun.set()
        with self.scope:
            try:
                self.came_to = await self._act()
            except (psycopg.Error, PointsmanError) as error:
                self.error = error
        self.done.set()

    def ended(self) -> bool:
        return self.done.is_set()


@contextlib.asynccontextmanager
async def later(act: Callable[[], Any]) -> AsyncIterator[Later]:
    """It goes on while the block runs, and has ended behind it."""
    made = Later(act)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.run)
        # And up to where it waits.
        await made.begun.wait()
        yield made
        with anyio.fail_after(DEADLINE_S):
            await made.done.wait()


async def waits(one: Later, seconds: float = 0.6) -> None:
    """It has not ended, and does not soon."""
    with anyio.move_on_after(seconds):
        await one.done.wait()
    assert not one.ended(), (one.came_to, one.error)
