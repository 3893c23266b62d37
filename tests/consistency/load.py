"""The clients: they write in every way there is, and look at once whether their writes can be read.

Three kinds of rows: `pairs`, each written once and then read; a counter per client, that it alone raises; and one
counter that a single writer raises for all to read. All answers name the node that gave them.
"""

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final

from tests.conftest import Endpoint
from tests.consistency.drivers import CONNECTS, Client
from tests.consistency.tally import Floor, Tally

SCHEMA: Final = """
CREATE TABLE pairs (id bigint PRIMARY KEY, v bigint NOT NULL);
CREATE TABLE counters (id bigint PRIMARY KEY, n bigint NOT NULL);
CREATE FUNCTION put(bigint, bigint) RETURNS void LANGUAGE sql AS 'INSERT INTO pairs VALUES ($1, $2)';
"""
DROP: Final = "DROP TABLE IF EXISTS pairs, counters; DROP FUNCTION IF EXISTS put"
SHARED: Final = 0
"""The id of the counter that all read."""

# A sub-select: a stale answer, too, tells its node.
READ: Final = "SELECT current_setting('cluster_name'), (SELECT v FROM pairs WHERE id = $1)"
COUNT: Final = "SELECT current_setting('cluster_name'), (SELECT n FROM counters WHERE id = $1)"
RAISE: Final = "UPDATE counters SET n = n + 1 WHERE id = $1 RETURNING n, current_setting('cluster_name')"
INSERT: Final = "INSERT INTO pairs VALUES ($1, $2)"

TURN_TIMEOUT_S: Final = 60.0
"""For a write and what is read behind it. What takes longer is a fault, not lag."""
RAISE_SHARE: Final = 0.3
OWN_SHARE: Final = 0.6
SHARED_SHARE: Final = 0.4
SPELL_SHARE: Final = 0.02
"""Of the turns behind which a client only reads for a while: time for standbys to have what it wrote."""
SPELL_READS: Final = 10
SPELL_PAUSE_MAX_S: Final = 0.1
SHARED_PAUSE_MAX_S: Final = 0.005
READER_PAUSE_MAX_S: Final = 0.01

Way = Callable[[Client, int, int], Awaitable[None]]


async def _insert(client: Client, key: int, value: int) -> None:
    await client.rows(INSERT, key, value)


async def _with(client: Client, key: int, value: int) -> None:
    await client.rows("WITH w AS (INSERT INTO pairs VALUES ($1, $2) RETURNING id) SELECT id FROM w", key, value)


async def _function(client: Client, key: int, value: int) -> None:
    await client.rows("SELECT put($1, $2)", key, value)


async def _transaction(client: Client, key: int, value: int) -> None:
    await client.rows("BEGIN")
    await client.rows(INSERT, key, value)
    await client.rows("COMMIT")


async def _asynchronous(client: Client, key: int, value: int) -> None:
    """The commit is acknowledged before its WAL is flushed, and only flushed WAL is sent to standbys."""
    await client.rows("BEGIN")
    await client.rows("SET LOCAL synchronous_commit = off")
    await client.rows(INSERT, key, value)
    await client.rows("COMMIT")


async def _copy(client: Client, key: int, value: int) -> None:
    await client.copy_in("COPY pairs FROM STDIN", f"{key}\t{value}\n")


async def _string(client: Client, key: int, value: int) -> None:
    await client.script(f"BEGIN; INSERT INTO pairs VALUES ({key}, {value}); COMMIT")


async def _do(client: Client, key: int, value: int) -> None:
    await client.script(f"DO $$BEGIN INSERT INTO pairs VALUES ({key}, {value}); END$$")


PIPELINE: Final = "pipeline"
"""The INSERT and the SELECT in one write, a Sync behind each. It is a way to read, too: see Writer."""
WAYS: Final[Mapping[str, tuple[Way, int]]] = {
    "INSERT": (_insert, 8),
    "WITH": (_with, 2),
    "function": (_function, 2),
    "transaction": (_transaction, 3),
    "asynchronous commit": (_asynchronous, 1),
    "COPY": (_copy, 2),
    "string of statements": (_string, 2),
    "DO": (_do, 1),
    PIPELINE: (_insert, 2),
}
"""How a row is written, and how often in relation to each other."""


class Shared:
    """What the clients of a load share: the keys left to write, the counter for all, and the writes to be witnessed."""

    def __init__(self, pairs: int, written: Callable[[], None]) -> None:
        self.written = written
        """Called after each pair."""
        self.acknowledged = 0
        """The value of the shared counter that its writer knows to be committed."""
        self.stop = asyncio.Event()
        self.handed: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()
        """Rows to be looked for; never more than `idle`, and a None for each witness at the end."""
        self.idle = 0
        """Witnesses that wait for a row."""
        self._keys: Iterator[int] = iter(range(1, pairs + 1))

    def key(self) -> int | None:
        """A key nobody has written yet, or None at the end of the load."""
        return next(self._keys, None)

    def hand_over(self, key: int, value: int) -> None:
        """Let another client look for a row that was just acknowledged, if one is idle: later it proves little."""
        if self.handed.qsize() < self.idle:
            self.handed.put_nowait((key, value))


class Reader:
    """A client that reads the counter for all, and never finds it lower than before."""

    def __init__(self, client: Client, shared: Shared, tally: Tally, rng: random.Random) -> None:
        self._client = client
        self._shared = shared
        self._tally = tally
        self._rng = rng
        self._seen = Floor(0)

    async def read_shared(self) -> None:
        acknowledged = self._shared.acknowledged
        node, value = (await self._client.rows(COUNT, SHARED))[0]
        self._tally.grown(self._client.style, "the counter for all", node, value, self._seen)
        self._tally.other(value >= acknowledged)

    async def run(self) -> None:
        while not self._shared.stop.is_set():
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await self.read_shared()
            await asyncio.sleep(self._rng.uniform(0, READER_PAUSE_MAX_S))


class Witness:
    """A client that looks for rows which other clients were just told are committed."""

    def __init__(self, client: Client, shared: Shared, tally: Tally) -> None:
        self._client = client
        self._shared = shared
        self._tally = tally

    async def run(self) -> None:
        while (row := await self._next()) is not None:
            key, value = row
            async with asyncio.timeout(TURN_TIMEOUT_S):
                node, found = (await self._client.rows(READ, key))[0]
            assert found in (value, None), f"row {key} is {found}, not {value}"
            self._tally.reads[node] += 1
            self._tally.other(found is not None)

    async def _next(self) -> tuple[int, int] | None:
        self._shared.idle += 1
        try:
            return await self._shared.handed.get()
        finally:
            self._shared.idle -= 1


class Writer(Reader):
    """A client that writes a row and reads it; and its own counter, and that for all."""

    def __init__(self, client: Client, own: int, shared: Shared, tally: Tally, rng: random.Random) -> None:
        super().__init__(client, shared, tally, rng)
        self._own = own
        self._counted = Floor(0)
        self._names = [name for name in WAYS if client.pipelines or name != PIPELINE]
        self._weights = [WAYS[name][1] for name in self._names]
        self._written: deque[tuple[int, int, str]] = deque(maxlen=SPELL_READS)

    async def run(self) -> None:
        while (key := self._shared.key()) is not None:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await self._pair(key)
                await self._counters()
            self._shared.written()
            if self._rng.random() < SPELL_SHARE:
                await self._spell()

    async def _pair(self, key: int) -> None:
        way = self._rng.choices(self._names, self._weights)[0]
        value = self._rng.getrandbits(31)
        latency_s = None
        if way == PIPELINE:
            rows = await self._client.rows_after(INSERT, READ, first_arguments=(key, value), arguments=(key,))
        else:
            await WAYS[way][0](self._client, key, value)
            self._shared.hand_over(key, value)
            began = time.perf_counter()
            rows = await self._client.rows(READ, key)
            latency_s = time.perf_counter() - began
        node, found = rows[0]
        assert found in (value, None), f"row {key} is {found}, not {value}"
        self._tally.pair(self._client.style, way, node, found is not None, latency_s)
        self._written.append((key, value, way))

    async def _counters(self) -> None:
        if self._rng.random() < RAISE_SHARE:
            value, node = (await self._client.rows(RAISE, self._own))[0]
            assert value == self._counted.value + 1, f"counter {self._own} was raised to {value} by someone else"
            self._counted = Floor(value, node)
        if self._rng.random() < OWN_SHARE:
            await self._read_own()
        if self._rng.random() < SHARED_SHARE:
            await self.read_shared()

    async def _read_own(self) -> None:
        node, value = (await self._client.rows(COUNT, self._own))[0]
        assert value <= self._counted.value, f"counter {self._own} is {value}: nobody has written that"
        self._tally.grown(self._client.style, "a client's own counter", node, value, self._counted)

    async def _spell(self) -> None:
        """Reads without writes, more and more of which a standby can answer."""
        for _ in range(SPELL_READS):
            await asyncio.sleep(self._rng.uniform(0, SPELL_PAUSE_MAX_S))
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await self._read_own()
                await self.read_shared()
                await self._read_again(*self._rng.choice(self._written))

    async def _read_again(self, key: int, value: int, way: str) -> None:
        node, found = (await self._client.rows(READ, key))[0]
        assert found in (value, None), f"row {key} is {found}, not {value}"
        self._tally.own(self._client.style, way, node, found is not None)


async def raise_shared(client: Client, shared: Shared, rng: random.Random) -> None:
    """The one writer of the counter for all."""
    while not shared.stop.is_set():
        async with asyncio.timeout(TURN_TIMEOUT_S):
            value, _ = (await client.rows(RAISE, SHARED))[0]
        assert value == shared.acknowledged + 1, f"the counter for all was raised to {value} by someone else"
        shared.acknowledged = value
        await asyncio.sleep(rng.uniform(0, SHARED_PAUSE_MAX_S))


def counters(clients: int) -> str:
    """SQL that makes the counters of a load."""
    return f"INSERT INTO counters SELECT n, 0 FROM generate_series({SHARED}, {clients}) n"


async def run(endpoint: Endpoint, pairs: int, clients: int, rng: random.Random, shared: Shared, tally: Tally) -> None:
    """All clients at once, until all pairs are written. Ends at the first error of a driver, and with it."""
    extras = max(1, clients // 10)
    connects = itertools.cycle(CONNECTS)
    connected: list[Client] = []
    try:
        for _ in range(clients + 2 * extras + 1):
            connected.append(await next(connects)(endpoint))  # noqa: PERF401 - those before an error are to be closed
        await _work(connected, extras, rng, shared, tally)
    finally:
        for client in connected:
            await client.close()


async def _work(connected: Sequence[Client], extras: int, rng: random.Random, shared: Shared, tally: Tally) -> None:
    raiser, readers, witnesses = connected[0], connected[1 : extras + 1], connected[extras + 1 : 2 * extras + 1]
    seeds = iter(lambda: random.Random(rng.getrandbits(64)), None)
    async with asyncio.TaskGroup() as background:
        background.create_task(raise_shared(raiser, shared, next(seeds)))
        for client in readers:
            background.create_task(Reader(client, shared, tally, next(seeds)).run())
        for client in witnesses:
            background.create_task(Witness(client, shared, tally).run())
        async with asyncio.TaskGroup() as writers:
            for own, client in enumerate(connected[2 * extras + 1 :], SHARED + 1):
                writers.create_task(Writer(client, own, shared, tally, next(seeds)).run())
        shared.stop.set()
        for _ in witnesses:
            shared.handed.put_nowait(None)
