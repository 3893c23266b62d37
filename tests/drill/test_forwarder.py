"""The forwarder: bytes both ways, silence while it is cut, and what was on its way afterwards."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from middleware.drill.forwarder import HOST, Forwarder

pytestmark = pytest.mark.anyio

DEADLINE_S = 60.0
QUIET_S = 0.2
LARGE = 4_000_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionResetError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def forwarded() -> AsyncIterator[Forwarder]:
    """A forwarder in front of a server that echoes."""
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.ensure_future(echo(reader, writer)))

    server = await asyncio.start_server(serve, HOST, 0)
    forwarder = Forwarder(*server.sockets[0].getsockname()[:2])
    await forwarder.open()
    try:
        yield forwarder
    finally:
        await forwarder.close()
        server.close()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*served)


@asynccontextmanager
async def client(forwarder: Forwarder) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, forwarder.port)
    try:
        yield reader, writer
    finally:
        await close(writer)


async def hears(reader: asyncio.StreamReader, expected: bytes) -> bool:
    """Whether these bytes come next."""
    async with asyncio.timeout(DEADLINE_S):
        return await reader.readexactly(len(expected)) == expected


async def quiet(reader: asyncio.StreamReader) -> bool:
    """Nothing comes, not even an end. (That it would have come later is what the tests go on to show.)"""
    try:
        async with asyncio.timeout(QUIET_S):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def test_both_ways_and_to_the_end() -> None:
    async with forwarded() as forwarder, client(forwarder) as (reader, writer):
        large = bytes(range(256)) * (LARGE // 256)
        writer.write(large)
        assert await hears(reader, large)
        writer.write_eof()
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""


async def test_cut_it_is_silent_and_mended_it_delivers() -> None:
    async with forwarded() as forwarder, client(forwarder) as (reader, writer):
        writer.write(b"before")
        assert await hears(reader, b"before")
        forwarder.part()
        writer.write(b"within")
        assert await quiet(reader)
        # Who comes now is not refused, and hears nothing.
        async with client(forwarder) as (new_reader, new_writer):
            new_writer.write(b"new")
            assert await quiet(new_reader)
            forwarder.mend()
            assert await hears(reader, b"within")
            assert await hears(new_reader, b"new")


async def test_a_node_that_is_down_ends_its_clients() -> None:
    with socket.socket() as nobody:
        nobody.bind((HOST, 0))
        forwarder = Forwarder(*nobody.getsockname())
        await forwarder.open()
        try:
            async with client(forwarder) as (reader, _):
                async with asyncio.timeout(DEADLINE_S):
                    assert await reader.read() == b""
        finally:
            await forwarder.close()
