"""One session of a load: statements run, and written into the history as they end."""

import asyncio
import random
import time
from typing import Final

from tests.cachecheck.connections import FAILURES, alive, listen, sqlstate_of
from tests.cachecheck.history import Read
from tests.cachecheck.registers import TOTAL, Look, literal
from tests.cachecheck.world import Spot, World
from tests.consistency.drivers import Client, Row

TURN_TIMEOUT_S: Final = 90.0
"""For one statement: longer than a failover takes. What takes longer is a fault."""


class Lost(Exception):
    """The session is over: its client needs a new one."""


class Session:
    """A client that is connected, and its name in the history."""

    def __init__(self, world: World, client: Client, instance: str, rng: random.Random) -> None:
        world.sessions += 1
        self.name: Final = f"{world.sessions} ({client.style}, {instance})"
        self.world: Final = world
        self.client: Final = client
        self.instance: Final = instance
        self.rng: Final = rng
        self._node = ""

    async def tell(self) -> None:
        """Have Pointsman say with each statement where it went: it is shown with a violation."""
        listen(self.client, self._heard)
        await self.script("SET pointsman.notice_route = on")

    def _heard(self, notice: str) -> None:
        if notice.startswith("statement"):
            self._node = notice

    async def rows(self, sql: str, *arguments: int) -> list[Row]:
        """Run a statement, in time."""
        async with asyncio.timeout(TURN_TIMEOUT_S):
            return await self.client.rows(sql, *arguments)

    async def script(self, sql: str) -> None:
        """Run a string of statements, in time."""
        async with asyncio.timeout(TURN_TIMEOUT_S):
            await self.client.script(sql)

    async def look(self, spot: Spot, look: Look, *, snapshot: int = 0, as_of: float = 0.0, own: int = 0) -> None:
        """Read a register. Raises what drivers raise."""
        begin = time.monotonic()
        self._node = ""
        rows = await self.rows(look.sql, spot.key)
        self.seen(spot, look, rows, begin, snapshot=snapshot, as_of=as_of, own=own)

    def seen(
        self,
        spot: Spot,
        look: Look,
        rows: list[Row],
        begin: float,
        *,
        snapshot: int = 0,
        as_of: float = 0.0,
        own: int = 0,
    ) -> None:
        """Write down what an answer has shown, now that it has come."""
        versions, wrong = understood(spot, look, rows)
        read = Read(
            session=self.name,
            instance=self.instance,
            way=f"{spot.kind.name}: {look.name}" + (f"; {self._node}" if self._node else ""),
            begin=begin,
            end=time.monotonic(),
            seen=tuple((spot.register, version) for version in versions),
            snapshot=snapshot,
            as_of=as_of,
            own=own,
            wrong=wrong,
        )
        self.world.looks[spot.kind.name] += 1
        self.world.record(read)

    async def recover(self, error: BaseException) -> None:
        """Count an error, and be outside a transaction again. Raises Lost where that is not to be had."""
        self.world.failures[sqlstate_of(error) or type(error).__name__] += 1
        # A FATAL error comes before the end of its connection.
        await asyncio.sleep(0.01)
        if isinstance(error, TimeoutError) or not alive(self.client):
            raise Lost
        try:
            await self.script("ROLLBACK")
        except FAILURES:
            raise Lost from None

    async def put(self, spot: Spot, sql: str, version: int, *, as_literal: bool, copy: bool) -> None:
        """Run one statement of a write."""
        async with asyncio.timeout(TURN_TIMEOUT_S):
            if copy:
                await self.client.copy_in(sql, f"{spot.key}\t{version}\n")
            elif as_literal:
                await self.client.script(literal(sql, spot.key, version))
            else:
                await self.client.rows(sql, *([spot.key, version] if "$" in sql else []))


def understood(spot: Spot, look: Look, rows: list[Row]) -> tuple[list[int], str]:
    """The versions that an answer shows, and what is wrong with it apart from those."""
    if not rows or None in rows[0]:
        # A snapshot from before such a table was made anew sees it empty.
        return [], f"{spot.register} is not there ({look.name})" if spot.kind.mvcc else ""
    versions, wrong = [], ""
    for column, value in zip(look.columns, rows[0], strict=True):
        if column == "total":
            wrong = "" if value == TOTAL else f"{spot.register} sums up to {value}, not {TOTAL} ({look.name})"
        else:
            versions.append(int(value) if column == "version" else TOTAL - int(value))
    return versions, wrong
