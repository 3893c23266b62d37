"""Connections of asyncpg's that are given up."""

import asyncio
import contextlib
import gc
import socket
from typing import Any

import pytest

from healthcheck.line import Credentials, connect, overlook_given_up

MOMENTS = 60
"""Turns of the loop, far more than a connection on this machine needs to come about."""


async def given_up_at_each_moment() -> None:
    """A connection to somebody who takes it and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        for moment in range(MOMENTS):
            connecting = asyncio.ensure_future(connect("127.0.0.1", port, Credentials("a", "b", "c"), timeout_s=5))
            for _ in range(moment):
                await asyncio.sleep(0)
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connecting
            del connecting
    # Its transport is closed in the loop's next turns.
    await asyncio.sleep(0.01)
    gc.collect()


async def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("overlooked", [False, True])
def test_who_gives_up_as_the_connection_comes_about_hears_nothing_more_of_it(overlooked: bool) -> None:
    heard: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: heard.append(context))
        if overlooked:
            overlook_given_up(loop)
        await given_up_at_each_moment()

    asyncio.run(main())
    assert bool(heard) is not overlooked


@pytest.mark.parametrize("error", [OSError("of a task"), ValueError("none of the network's")])
def test_what_went_wrong_elsewhere_is_still_told(error: Exception) -> None:
    heard: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: heard.append(context.get("exception")))
        overlook_given_up(loop)
        task = asyncio.ensure_future(fail(error))
        await asyncio.sleep(0)
        del task
        future = loop.create_future()
        future.set_exception(ValueError("of a future"))
        del future
        gc.collect()

    asyncio.run(main())
    assert [str(one) for one in heard] == [str(error), "of a future"]
