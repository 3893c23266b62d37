"""A client that costs little, so that thousands of them fit into one process: the protocol over a bare transport.

It knows login (trust, SCRAM, over TLS), one simple query at a time, and many ways to leave. A password is derived once
for each salt, whoever logs in with it: what SCRAM costs a client is not what is measured here.
"""

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, cast

from middleware.auth.scram import PLAIN, ClientExchange, Keys, keys_of
from middleware.wire import codes
from middleware.wire.backend import DataRow, ErrorResponse
from middleware.wire.build import TERMINATE_MESSAGE
from middleware.wire.frontend import Query, SASLInitialResponse, SASLResponse, SSLRequest, StartupMessage

RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: on, and for no time: closing sends RST."""
SSL_REQUEST: Final = SSLRequest().encode()
LOGINS_MAX: Final = 200
"""Clients that log in at once, where they are in no hurry."""
GOODBYE_S: Final = 5.0
POLL_S: Final = 0.02
PORTS_MAX: Final = 20_000
"""Clients that come from one address: there are some 28,000 ports."""


class Lost(Exception):
    """The connection has ended, and not by the client's doing; the message is a SQLSTATE, if one was told."""


class Account:
    """Who logs in, and where; with what is kept of the password between logins."""

    def __init__(
        self, host: str, port: int, user: str, database: str, password: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self.host: Final = host
        self.port: Final = port
        self.tls: Final = tls
        self.startup: Final = StartupMessage(
            ((b"user", user.encode()), (b"database", database.encode()), (b"application_name", b"load"))
        ).encode()
        self._password: Final = password
        self._keys: Final[dict[tuple[bytes, int], Keys]] = {}

    def keys(self, salt: bytes, iterations: int) -> Keys:
        known = self._keys.get((salt, iterations))
        if known is None:
            known = self._keys[salt, iterations] = keys_of(self._password, salt, iterations)
        return known


class Answer(NamedTuple):
    """What came up to ReadyForQuery."""

    row: tuple[bytes | None, ...]
    """The last one."""
    error: str
    """A SQLSTATE, or nothing."""
    status: bytes


class Client(asyncio.Protocol):
    """One connection. Made by connect()."""

    __slots__ = ("_account", "_answer", "_error", "_pending", "_row", "_scram", "gone", "process_id", "transport")

    def __init__(self, account: Account) -> None:
        self._account: Final = account
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending = b""
        self._row: tuple[bytes | None, ...] = ()
        self._error = ""
        self._scram: ClientExchange | None = None
        self.process_id = 0
        self.gone = False
        """Its connection is closed on both sides."""
        self.transport: asyncio.Transport

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._pending:
            data = self._pending + data
        position, end = 0, len(data)
        while position + 5 <= end:
            behind = position + 1 + int.from_bytes(data[position + 1 : position + 5], "big")
            if behind > end:
                break
            self._take(data[position], data[position + 5 : behind])
            position = behind
        self._pending = data[position:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if not self._answer.done():
            self._answer.set_exception(Lost(self._error))
            # Who has left does not ask.
            self._answer.exception()

    def _take(self, code: int, body: bytes) -> None:
        if code == codes.READY_FOR_QUERY:
            if not self._answer.done():
                self._answer.set_result(Answer(self._row, self._error, body))
        elif code == codes.DATA_ROW:
            self._row = DataRow.decode(body).values
        elif code == codes.ERROR_RESPONSE:
            self._error = ErrorResponse.decode(body).field(b"C").decode()
        elif code == codes.AUTHENTICATION:
            self._authenticate(int.from_bytes(body[:4], "big"), body[4:])
        elif code == codes.BACKEND_KEY_DATA:
            self.process_id = int.from_bytes(body[:4], "big")

    def _authenticate(self, request: int, details: bytes) -> None:
        if request == codes.AUTHENTICATION_SASL:
            self._scram = ClientExchange(b"")
            self.transport.write(SASLInitialResponse(PLAIN, self._scram.first()).encode())
        elif request == codes.AUTHENTICATION_SASL_CONTINUE:
            assert self._scram is not None
            keys = self._account.keys(*self._scram.challenge(details))
            self.transport.write(SASLResponse(self._scram.final(details, keys)).encode())
        elif request == codes.AUTHENTICATION_SASL_FINAL:
            assert self._scram is not None
            self._scram.verify(details)

    # What it does

    async def log_in(self) -> None:
        """Until ReadyForQuery. Raises Lost."""
        self.transport.write(self._account.startup)
        await self._answer

    def begin(self, sql: bytes) -> asyncio.Future[Answer]:
        """Send a Query; the answer to it. Raises Lost."""
        self.send(Query(sql).encode())
        return self._answer

    async def query(self, sql: bytes) -> Answer:
        """The answer to a Query. Raises Lost."""
        return await self.begin(sql)

    def send(self, data: bytes) -> None:
        """Send anything, and expect an answer to it."""
        if self.transport.is_closing():
            raise Lost(self._error)
        self._answer = asyncio.get_running_loop().create_future()
        self._row, self._error = (), ""
        self.transport.write(data)

    # How it leaves

    def terminate(self) -> None:
        """As it should."""
        if not self.transport.is_closing():
            self.transport.write(TERMINATE_MESSAGE)
        self.transport.close()

    def vanish(self, reset: bool = False) -> None:
        """Without a word: a FIN, or a RST."""
        if reset:
            connection = self.transport.get_extra_info("socket")
            if connection is not None and not self.transport.is_closing():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


async def all_gone(clients: Iterable[Client]) -> None:
    """Until those that have left are gone: uvloop does not close a loop with connections that are saying goodbye."""
    left = [client for client in clients if not client.gone]
    until = time.monotonic() + GOODBYE_S
    while left and time.monotonic() < until:
        await asyncio.sleep(POLL_S)
        left = [client for client in left if not client.gone]
    for client in left:
        client.vanish()
    await asyncio.sleep(POLL_S)


async def connect(account: Account, source: str | None = None) -> Client:
    """A client that is logged in; `source`: the address it comes from. Raises Lost, and OSError."""
    loop = asyncio.get_running_loop()
    local = None if source is None else (source, 0)
    if account.tls is None:
        _, client = await loop.create_connection(lambda: Client(account), account.host, account.port, local_addr=local)
    else:
        client = await _connect_tls(account, account.tls, local)
    try:
        await client.log_in()
    except BaseException:
        client.vanish()
        raise
    return client


async def log_in_all(accounts: Sequence[Account]) -> list[Client]:
    """A client of each account that is logged in and has run a statement. Raises Lost, and OSError."""
    turns = asyncio.Semaphore(LOGINS_MAX)

    async def come(number: int, account: Account) -> Client:
        async with turns:
            client = await connect(account, f"127.0.0.{1 + number // PORTS_MAX}")
            await client.query(b"SELECT 1")
            return client

    return await asyncio.gather(*[come(number, account) for number, account in enumerate(accounts)])


class _Upgrade(asyncio.Protocol):
    """Asks for TLS, and waits for the one byte."""

    def __init__(self) -> None:
        self.answered: Final[asyncio.Future[bytes]] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(Lost(""))


async def _connect_tls(account: Account, tls: ssl.SSLContext, local: tuple[str, int] | None) -> Client:
    loop = asyncio.get_running_loop()
    transport, upgrade = await loop.create_connection(_Upgrade, account.host, account.port, local_addr=local)
    transport.write(SSL_REQUEST)
    if await upgrade.answered != b"S":
        transport.abort()
        raise Lost("no TLS")
    client = Client(account)
    encrypted = await loop.start_tls(transport, client, tls, server_hostname="localhost")
    assert encrypted is not None
    client.connection_made(encrypted)
    return client
