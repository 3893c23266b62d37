"""What the ways of watching a database's tables have in common: how they ask, whom they tell, when they rest."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

import anyio
import asyncpg

from healthcheck import line
from healthcheck.line import Credentials
from healthcheck.topology import Node
from middleware.supervisor.slot_stream import StreamLost

ROUND_S: Final = 0.02
"""Between two rounds at least."""

FAILURES: Final = (
    OSError,
    TimeoutError,
    StreamLost,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What ends a watch: it is begun anew."""


class CannotWatch(Exception):
    """Not in this way, as things are on the node. The text says why, for people."""


class Told(Protocol):
    """Whom a watch of one database tells."""

    def using(self, mode: str, why: str) -> None:
        """In which way the database is watched from now on, and why not in a better one."""

    def changed(self, oids: Iterable[int], lsn: int = 0) -> None:
        """These tables have."""

    def all_changed(self, lsn: int = 0) -> None:
        """Any of the database's tables may have, by commits up to `lsn`."""

    def confirmed(self, until: float, lsn: int, vouched: int = 0, timeline: int = 0) -> None:
        """All changes before `until` have been told; `lsn` is 0 where that is by counters, which come late.

        What was committed up to `vouched`, on `timeline`, has been told of since others could see it.
        """

    def suspected(self) -> None:
        """The catalog has changed."""


class Pace:
    """When the next round is due."""

    def __init__(self) -> None:
        self._poked = anyio.Event()

    def poke(self) -> None:
        """Soon."""
        self._poked.set()

    def begin(self) -> None:
        """A round begins: what pokes from now on is for the next one."""
        self._poked = anyio.Event()

    async def rest(self, most_s: float) -> None:
        """Until the next one."""
        await anyio.sleep(min(ROUND_S, most_s))
        with anyio.move_on_after(most_s - ROUND_S):
            await self._poked.wait()


class Session:
    """One connection for questions, which is not opened again: who asks must know whom. Not for concurrent use."""

    def __init__(self, connection: Any, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self.version: int = connection.get_server_version().major

    async def rows(self, query: str, *arguments: object) -> list[Any]:
        """The answer. Raises one of FAILURES."""
        with anyio.fail_after(self._timeout_s):
            answer: list[Any] = await self._connection.fetch(query, *arguments)
            return answer

    async def row(self, query: str, *arguments: object) -> Any:
        """Its first row, of at least one."""
        return (await self.rows(query, *arguments))[0]

    def close(self) -> None:
        self._connection.terminate()


async def connect(
    node: Node, database: str, credentials: Credentials, timeout_s: float, settings: dict[str, str]
) -> Any:
    """A connection of asyncpg's, with `settings` in its startup message. Raises one of FAILURES."""
    with anyio.fail_after(timeout_s):
        return await line.connect(
            node.host, node.port, credentials.elsewhere(database), timeout_s * 2, statement_cache_size=20, **settings
        )


async def session(node: Node, database: str, credentials: Credentials, timeout_s: float) -> Session:
    """For questions. Raises one of FAILURES."""
    # What it commits is flushed, and waits for no standby.
    settings = {"synchronous_commit": "local", "jit": "off"}
    return Session(await connect(node, database, credentials, timeout_s, settings), timeout_s)
