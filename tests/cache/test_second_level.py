"""What is asked of a real Redis and told to it, and what becomes of that when it is slow, gone, or full."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from middleware.cache.counts import Counts
from middleware.cache.second_level import ASKS_MAX, PUTS_BYTES_MAX, SecondLevel
from middleware.cache.sharing import Found
from tests.redis_server import PASSWORD, RedisServer

TIMEOUT_S = 0.2
"""Of the module under test: enough for a machine that does a lot beside it."""
SPARE_S = 0.3
"""What such a machine may add."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for again sooner."""
    monkeypatch.setattr("middleware.cache.second_level.AGAIN_FIRST_S", 0.05)
    monkeypatch.setattr("middleware.cache.second_level.AGAIN_MAX_S", 0.2)


class Level(SecondLevel):
    """With what it has counted, and ways to ask it that wait."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.counts = Counts()
        super().__init__(url, timeout_s, self.counts)

    async def found(self, key: bytes) -> Found | None:
        answer: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()
        self.ask(key, answer.set_result)
        return await answer

    async def kept(self, key: bytes) -> Found:
        """What was told, once it is there."""
        deadline = time.monotonic() + 10
        while (found := await self.found(key)) is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        return found


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@asynccontextmanager
async def level(url: str, timeout_s: float = TIMEOUT_S, connected: bool = True) -> AsyncIterator[Level]:
    before = asyncio.all_tasks()
    own = Level(url, timeout_s)
    own.start()
    try:
        if connected:
            await until(own.ready)
            await until(lambda: own._takes)
        yield own
    finally:
        await own.stop()
    assert asyncio.all_tasks() <= before


def run(test: Callable[[], Awaitable[None]]) -> list[Any]:
    """Returns what was logged."""
    with structlog.testing.capture_logs() as logged:
        asyncio.run(asyncio.wait_for(test(), 60))
    assert PASSWORD not in str(logged)
    return [entry for entry in logged if entry["log_level"] != "debug"]


def test_what_is_told_is_found_with_the_time_it_has_left(server: RedisServer) -> None:
    async def test() -> None:
        async with level(server.url) as one, level(server.url) as other:
            assert await other.found(b"k") is None
            one.put(b"k", b"\0\xff value", 50.0)
            found = await other.kept(b"k")
            assert found.value == b"\0\xff value"
            assert 45 < found.left_s <= 50
            one.put(b"short", b"v", 0.05)
            one.put(b"long", b"v", 0.0)
            assert (await other.kept(b"long")).left_s > 86_000
            await until(lambda: server.client().exists("short") == 0)
            assert await other.found(b"short") is None
            assert one.counts.second_level_errors == other.counts.second_level_errors == 0

    assert run(test) == []


def test_many_who_ask_at_once_each_get_their_own(server: RedisServer) -> None:
    async def test() -> None:
        async with level(server.url, timeout_s=5.0) as one:
            for number in range(0, 100, 2):
                one.put(b"k%d" % number, b"v%d" % number, 60.0)
            await one.kept(b"k98")
            found = await asyncio.gather(*(one.found(b"k%d" % number) for number in range(100)))
            for number, answer in enumerate(found):
                assert (answer is not None) == (number % 2 == 0)
                assert answer is None or answer.value == b"v%d" % number

    run(test)


def test_nothing_is_asked_beyond_the_bound(server: RedisServer) -> None:
    async def test() -> None:
        async with level(server.url, timeout_s=5.0) as one:
            answers: list[Found | None] = []
            for _ in range(ASKS_MAX):
                assert one.ready()
                one.ask(b"k", answers.append)
            assert not one.ready()
            await until(lambda: len(answers) == ASKS_MAX)
            assert one.ready()

    run(test)


def test_what_waits_to_be_told_is_bounded(server: RedisServer) -> None:
    async def test() -> None:
        async with level(server.url) as one:
            size = PUTS_BYTES_MAX // 4
            for number in range(6):
                one.put(b"k%d" % number, bytes(size), 60.0)
            assert one.counts.second_level_errors == 2
            await until(lambda: server.client().dbsize() == 4)
            one.put(b"k9", b"v", 60.0)
            await one.kept(b"k9")

    run(test)


def test_one_that_hangs_costs_the_timeout_and_then_nothing(server: RedisServer, quick: None) -> None:
    async def test() -> None:
        async with level(server.url) as one:
            one.put(b"k", b"v", 60.0)
            await one.kept(b"k")
            server.pause()
            begun = time.monotonic()
            assert await asyncio.gather(*(one.found(b"k") for _ in range(40))) == [None] * 40
            assert TIMEOUT_S <= time.monotonic() - begun < TIMEOUT_S + SPARE_S
            # It takes connections, and does not answer: nobody is to wait for that again.
            for _ in range(100):
                assert not one.ready()
                await asyncio.sleep(0.01)
            assert one.counts.second_level_errors == 40
            server.resume()
            await until(one.ready)
            assert (await one.kept(b"k")).value == b"v"

    logged = run(test)
    assert [entry["log_level"] for entry in logged] == ["warning", "info"]
    assert logged[0]["why"] == "no answer within 200 ms"


def test_one_that_is_killed_costs_less(server: RedisServer, quick: None) -> None:
    async def test() -> None:
        async with level(server.url) as one:
            server.kill()
            begun = time.monotonic()
            while one.ready():
                assert await one.found(b"k") is None
            assert time.monotonic() - begun < TIMEOUT_S + SPARE_S
            one.put(b"lost", b"v", 60.0)
            await asyncio.sleep(0.5)
            assert not one.ready()
            server.start()
            await until(one.ready)
            await until(lambda: one._takes)
            assert await one.found(b"k") is None
            one.put(b"k", b"v", 60.0)
            assert (await one.kept(b"k")).value == b"v"

    logged = run(test)
    assert [entry["log_level"] for entry in logged] == ["warning", "info"]


def test_one_that_was_never_there_is_waited_for_by_nobody(server: RedisServer, quick: None) -> None:
    async def test() -> None:
        server.kill()
        async with level(server.url, connected=False) as one:
            for _ in range(50):
                assert not one.ready()
                await asyncio.sleep(0.01)
            server.start()
            await until(one.ready)

    logged = run(test)
    assert [entry["log_level"] for entry in logged] == ["warning", "info"]


def test_a_wrong_password_is_told_and_not_shown(server: RedisServer, quick: None) -> None:
    async def test() -> None:
        async with level(server.url.replace(PASSWORD, "not-" + PASSWORD), connected=False) as one:
            await asyncio.sleep(0.5)
            assert not one.ready()

    logged = run(test)
    assert len(logged) == 1
    assert "password" in logged[0]["why"]


def test_what_is_slower_than_the_timeout_is_asked_seldom(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers a PING in time, and no question: between two tries passes twice the time."""
    monkeypatch.setattr("middleware.cache.second_level.AGAIN_FIRST_S", 0.1)

    async def test() -> None:
        async with level(server.url) as one:
            tries = []
            end = time.monotonic() + 3.0
            while time.monotonic() < end:
                if one.ready():
                    server.pause()
                    tries.append(time.monotonic())
                    assert await one.found(b"k") is None
                    server.resume()
                await asyncio.sleep(0.01)
            between = [later - earlier for earlier, later in itertools.pairwise(tries)]
            assert 2 <= len(between) <= 5
            assert between[-1] > 2 * 0.1

    run(test)


def test_a_full_one_costs_hits(quick: None) -> None:
    async def test(one_full: RedisServer) -> None:
        async with level(one_full.url) as one:
            for number in range(40):
                one.put(b"k%d" % number, bytes(100_000), 60.0)
                await asyncio.sleep(0.01)
            await until(lambda: not one._puts)
            await until(lambda: one.counts.second_level_errors > 10)
            assert one.ready()
            assert await one.found(b"never") is None

    with RedisServer("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as full:
        logged = run(lambda: test(full))
    assert [entry["event"] for entry in logged] == ["the second level of the query cache takes no answers"]
    assert "maxmemory" in logged[0]["why"]


def test_one_that_evicts_forgets(quick: None) -> None:
    async def test(evicting: RedisServer) -> None:
        async with level(evicting.url) as one:
            for number in range(60):
                one.put(b"k%d" % number, bytes(100_000), 60.0)
                await asyncio.sleep(0.01)
            await one.kept(b"k59")
            found = [await one.found(b"k%d" % number) for number in range(60)]
            assert 0 < sum(answer is not None for answer in found) < 60
            assert one.counts.second_level_errors == 0

    with RedisServer("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as evicting:
        assert run(lambda: test(evicting)) == []


def test_a_key_of_another_kind_is_a_miss(server: RedisServer) -> None:
    async def test() -> None:
        server.client().rpush("k", "a", "b")
        async with level(server.url) as one:
            assert await one.found(b"k") is None
            assert one.ready()

    assert run(test) == []


def test_what_is_no_redis_is_left_alone(quick: None) -> None:
    """Somebody else answers at that port: with nonsense, or with the end of the connection."""

    async def stranger(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        writer.close()

    async def test() -> None:
        async with await asyncio.start_server(stranger, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            own = Level(f"redis://127.0.0.1:{port}", TIMEOUT_S)
            own.start()
            for _ in range(50):
                assert not own.ready()
                await asyncio.sleep(0.01)
            await own.stop()

    logged = run(test)
    assert len(logged) == 1


def test_who_waits_when_it_ends_is_told(server: RedisServer) -> None:
    async def test() -> None:
        async with level(server.url, timeout_s=30.0) as one:
            server.pause()
            asked = [asyncio.ensure_future(one.found(b"k")) for _ in range(3)]
            await asyncio.sleep(0.1)
            await one.stop()
            assert await asyncio.gather(*asked) == [None] * 3

    run(test)
