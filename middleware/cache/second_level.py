"""The Redis (or Valkey) in which several instances share answers: asked before a node is, and told in passing.

In: keys to ask for, and values to keep, as bytes. Out: values, or that there is none in time. Which answers those are,
and whether they hold, is for sharing.py to say. Nobody waits for what is told, and nobody waits longer than the timeout
for what is asked: then, or after an error, its connection is dropped, and nothing is asked until a new one has answered
a PING: first after a second, then after two, and so on up to half a minute. So one that is away costs one timeout for
those who asked at that moment, and nothing after.

Two connections, and a task for each: what is told, up to a megabyte a piece, is not to be in the way of what is asked.
All that was asked while an answer was due goes out together, as one transaction of Redis: the value with its remaining
time.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from middleware.cache.counts import Counts
from middleware.cache.sharing import Found, Told

log: Final = structlog.get_logger("cache")

ASKS_MAX: Final = 256
"""Questions that wait for an answer; beyond it the nodes are asked."""
BATCH_MAX: Final = 16
"""Questions, or values, that go out together."""
PUTS_MAX: Final = 1000
PUTS_BYTES_MAX: Final = 16 * 1024 * 1024
"""What waits to be told; beyond it, it is forgotten."""
CONNECT_S: Final = 1.0
"""For a new connection, which nobody waits for."""
PUT_S: Final = 2.0
"""For a batch of values to be taken."""
LATE_S: Final = 0.002
"""The loop itself may have been late: what has come by then is read before it is given up."""
AGAIN_FIRST_S: Final = 1.0
AGAIN_MAX_S: Final = 30.0
KEPT_MAX_S: Final = 86_400
"""What has no TTL is kept in Redis for a day: nobody else would remove what is not asked for any more."""

LOST: Final = "the second level of the query cache is not there: nodes are asked instead"


class _Ask(NamedTuple):
    key: bytes
    deadline: float
    told: Told


class _Put(NamedTuple):
    key: bytes
    value: bytes
    ttl_ms: int


class SecondLevel:
    """One worker's way to it. `start` it within the loop."""

    def __init__(self, url: str, timeout_s: float, counts: Counts) -> None:
        self._url: Final = url
        self._timeout_s: Final = timeout_s
        self._counts: Final = counts
        self._up = False
        self._takes = False
        """The same, of the connection for what is told."""
        self._asks: Final[deque[_Ask]] = deque()
        self._due: list[_Ask] = []
        """Those whose answers are due."""
        self._asked: Final = asyncio.Event()
        self._puts: Final[deque[_Put]] = deque()
        self._puts_bytes = 0
        self._put: Final = asyncio.Event()
        self._back: Final = asyncio.Event()
        """It has answered again: set for whoever waits for that."""
        self._tasks: list[asyncio.Task[None]] = []
        self._again_s = AGAIN_FIRST_S
        self._mourned = False
        """Its loss was logged."""
        self._refused = False
        """And that it takes no values."""

    def start(self) -> None:
        """Connect, and go on doing so."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_asking()), loop.create_task(self._keep_telling())]

    async def stop(self) -> None:
        """End. Who still waits is told."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ready(self) -> bool:
        """Whether it may be asked now."""
        return self._up and len(self._asks) < ASKS_MAX

    def ask(self, key: bytes, told: Told) -> None:
        """Have `told` called with what is kept under a key: never from within, and soon in any case."""
        assert self._up
        self._asks.append(_Ask(key, time.monotonic() + self._timeout_s, told))
        self._asked.set()

    def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Have a value kept, for `ttl_s` if that is not 0. At the bounds it is not."""
        if not self._takes:
            return
        if len(self._puts) >= PUTS_MAX or self._puts_bytes + len(value) > PUTS_BYTES_MAX:
            self._counts.second_level_errors += 1
            return
        self._puts_bytes += len(value)
        self._puts.append(_Put(key, value, max(1, int(min(ttl_s or KEPT_MAX_S, KEPT_MAX_S) * 1000))))
        self._put.set()

    # What is asked

    async def _keep_asking(self) -> None:
        while True:
            client = self._open()
            try:
                async with asyncio.timeout(CONNECT_S):
                    await client.ping()
                # Connecting may take its time, answering may not.
                await self._within(client.ping(), time.monotonic() + self._timeout_s)
                self._found()
                await self._answer(client)
            except (RedisError, OSError, TimeoutError) as error:
                self._lost(_why(error, self._timeout_s))
            except Exception as error:
                log.exception("a bug, or a stranger, at the second level of the query cache")
                self._lost(type(error).__name__)
            finally:
                self._leave()
                await _close(client)
            delay_s, self._again_s = self._again_s, min(2 * self._again_s, AGAIN_MAX_S)
            await asyncio.sleep(delay_s)

    async def _answer(self, client: Redis) -> None:
        """Have what is asked answered, until that fails."""
        while True:
            if not self._asks:
                self._asked.clear()
                await self._asked.wait()
            self._due = [self._asks.popleft() for _ in range(min(BATCH_MAX, len(self._asks)))]
            # The first was asked first.
            batch = client.pipeline(transaction=True)
            batch.mget([one.key for one in self._due])
            for one in self._due:
                batch.pttl(one.key)
            values, *left_ms = await self._within(batch.execute(), self._due[0].deadline)
            self._again_s = AGAIN_FIRST_S
            due, self._due = self._due, []
            for one, value, ms in zip(due, values, left_ms, strict=True):
                one.told(Found(value, KEPT_MAX_S if ms < 0 else ms / 1000) if isinstance(value, bytes) else None)

    async def _within(self, answer: Awaitable[Any], deadline: float) -> Any:
        """An answer, if it comes in time. Raises TimeoutError."""
        task = asyncio.ensure_future(answer)
        try:
            for until in (deadline, time.monotonic() + LATE_S):
                done, _ = await asyncio.wait({task}, timeout=max(0.0, until - time.monotonic()))
                if done:
                    return task.result()
        finally:
            if not task.done():
                task.cancel()
        raise TimeoutError

    def _found(self) -> None:
        self._up = True
        self._back.set()
        if self._mourned:
            self._mourned = False
            log.info("the second level of the query cache is there again")

    def _lost(self, why: str) -> None:
        self._counts.second_level_errors += max(1, len(self._due) + len(self._asks)) if self._up else 0
        if not self._mourned:
            self._mourned = True
            log.warning(LOST, why=why)

    def _leave(self) -> None:
        """Nobody waits any more."""
        self._up = False
        waiting = [*self._due, *self._asks]
        self._due = []
        self._asks.clear()
        for one in waiting:
            one.told(None)

    # What is told

    async def _keep_telling(self) -> None:
        again_s = AGAIN_FIRST_S
        while True:
            client = self._open()
            try:
                async with asyncio.timeout(CONNECT_S):
                    await client.ping()
                self._takes = True
                while True:
                    if not self._puts:
                        self._put.clear()
                        await self._put.wait()
                    await self._tell(client)
                    again_s = AGAIN_FIRST_S
            except (RedisError, OSError, TimeoutError):
                # Who asks finds out by himself, and says so.
                self._counts.second_level_errors += len(self._puts)
            finally:
                self._takes = False
                self._puts.clear()
                self._puts_bytes = 0
                await _close(client)
            delay_s, again_s = again_s, min(2 * again_s, AGAIN_MAX_S)
            self._back.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._back.wait()

    async def _tell(self, client: Redis) -> None:
        batch = client.pipeline(transaction=False)
        told = 0
        while self._puts and told < BATCH_MAX:
            one = self._puts.popleft()
            self._puts_bytes -= len(one.value)
            told += 1
            batch.set(one.key, one.value, px=one.ttl_ms)
        async with asyncio.timeout(PUT_S):
            answers = await batch.execute(raise_on_error=False)
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        self._counts.second_level_errors += len(refused)
        if refused and not self._refused:
            # With maxmemory-policy noeviction it refuses what is new once it is full.
            log.warning("the second level of the query cache takes no answers", why=str(refused[0]))
        self._refused = bool(refused)

    def _open(self) -> Redis:
        """A client, for one connection, that does not try again: who asks has no time for that."""
        client: Redis = Redis.from_url(
            self._url,
            max_connections=2,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
            decode_responses=False,
        )
        return client


async def _close(client: Redis) -> None:
    """Drop its connection: it may be one that nobody answers on."""
    try:
        async with asyncio.timeout(CONNECT_S):
            await client.connection_pool.disconnect(inuse_connections=True)
            await client.aclose()
    except (RedisError, OSError, TimeoutError) as error:
        log.debug("a connection to the second level was not closed", why=type(error).__name__)


def _why(error: BaseException, timeout_s: float) -> str:
    return str(error) or f"no answer within {timeout_s * 1000:g} ms"
