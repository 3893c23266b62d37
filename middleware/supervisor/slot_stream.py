"""The changes of one database, streamed from a temporary logical replication slot as they are flushed.

In: a node, a database, an output plugin. Out: what has committed, in order, and up to which WAL position that is all.
A stream and not rounds of pg_logical_slot_get_changes(): that reads all WAL anew since the slot's restart position
each time it is called (half a second after a bulk load), and writes six lines into the server's log.

The login is asyncpg's, as for all our own connections; what it does not know is streaming, so its transport is taken
over once the slot is made. The slot ends with the connection.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio

from middleware.errors import ProtocolViolation
from middleware.session.server import error_fields
from middleware.supervisor.copy_frames import (
    KEEPALIVE,
    KEEPALIVE_BYTES,
    XLOG_DATA,
    XLOG_DATA_HEADER_BYTES,
    CopyFrames,
    status_update,
)
from middleware.supervisor.decoding import Committed, Decoder
from middleware.wire.build import message
from middleware.wire.codes import COPY_BOTH_RESPONSE, COPY_DATA, COPY_DONE, ERROR_RESPONSE, QUERY

UNTAKEN_MAX: Final = 10_000
"""Transactions that wait to be taken; with more of them nothing is read from the server."""


class StreamLost(Exception):
    """It has ended; the text says why."""


class SlotStream(asyncio.Protocol):
    """One slot's."""

    def __init__(self, connection: Any, decoder: Decoder, arrived: Callable[[], None]) -> None:
        """`connection` is asyncpg's, with replication=database, where the slot was made; it is ours from now on.

        `arrived` is called when something has committed, and when the stream has ended.
        """
        self._connection = connection
        # There is no public way to it; tests hold this to the versions of asyncpg that are allowed.
        self._transport: Any = connection._transport  # noqa: SLF001
        self._decoder: Final = decoder
        self._arrived: Final = arrived
        self._frames: Final = CopyFrames()
        self._committed: list[Committed] = []
        self._reading = True
        self._lost = ""
        self._started = False
        self._moved = anyio.Event()
        self.position = 0
        """All that has committed up to here has come."""
        self._transport.set_protocol(self)

    async def start(self, slot: str, options: Mapping[str, str]) -> None:
        """Begin to stream. Raises StreamLost."""
        listed = ", ".join(f"\"{name}\" '{value.replace(chr(39), 2 * chr(39))}'" for name, value in options.items())
        command = f'START_REPLICATION SLOT "{slot}" LOGICAL 0/0' + (f" ({listed})" if listed else "")
        self._transport.write(message(QUERY, command.encode() + b"\0"))
        while not self._started:
            await self.moved()

    async def moved(self) -> None:
        """Until something has come. Raises StreamLost once it has ended."""
        if not self._lost:
            await self._moved.wait()
        if self._lost:
            raise StreamLost(self._lost)

    def take(self) -> list[Committed]:
        """What has committed since it was last asked."""
        taken, self._committed = self._committed, []
        if not self._reading and not self._lost:
            self._reading = True
            self._transport.resume_reading()
        return taken

    def ask(self) -> None:
        """Have the server tell how far it is, and let it forget what has come."""
        if not self._lost:
            self._transport.write(status_update(self.position, time.time(), reply=True))

    def close(self) -> None:
        """Drop the connection, and with it the slot."""
        self._lost = self._lost or "closed"
        self._connection.terminate()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        try:
            for code, body in self._frames.feed(data):
                self._take(code, body)
        except ProtocolViolation as error:
            self._end(str(error))
        if len(self._committed) > UNTAKEN_MAX and self._reading and not self._lost:
            self._reading = False
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("server closed the connection" if exc is None else str(exc))
        self._wake()

    def _take(self, code: int, body: bytes) -> None:
        if code == COPY_DATA and len(body) >= KEEPALIVE_BYTES:
            position = int.from_bytes(body[1:9], "big")
            if body[0] == XLOG_DATA and len(body) >= XLOG_DATA_HEADER_BYTES:
                committed = self._decoder.take(body[XLOG_DATA_HEADER_BYTES:], position)
                if committed is not None:
                    self._committed.append(committed)
            elif body[0] == KEEPALIVE:
                self.position = max(self.position, position)
                if body[17]:
                    self._transport.write(status_update(self.position, time.time(), reply=False))
        elif code == COPY_BOTH_RESPONSE:
            self._started = True
        elif code == ERROR_RESPONSE:
            self._end(error_fields(body).get(b"M", b"an error without a message").decode(errors="replace"))
        elif code == COPY_DONE:
            self._end("server has ended the stream")

    def _end(self, why: str) -> None:
        if not self._lost:
            self._lost = why
            self._transport.abort()

    def _wake(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()
        if self._committed or self._lost:
            self._arrived()
