"""What our own exchanges with a server do to what its client has there."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from middleware.auth import ServerCredentials
from middleware.config import build_settings
from middleware.pool.server_connection import ServerConnection
from middleware.session.batch import Batch
from middleware.session.client import ClientSession
from middleware.session.prepared import StatementRegistry
from middleware.session.server import IDLE, IN_FAILED_TRANSACTION, ServerSession
from middleware.session.server_login import ServerLogin
from middleware.wire.frontend import Bind, Parse, Sync
from parser.shapes import FactsTable
from tests.pool.made import pool_of

TEXT = b"select 'q'"
SETTINGS = {
    "health_check": {"user": "pointsman"},
    "nodes": {"db1": {"host": "127.0.0.1"}},
    "users": {"u": {"password": "x"}},
}


@pytest.fixture
def server() -> Iterator[ServerConnection]:
    loop = asyncio.new_event_loop()
    pool = pool_of("db1", build_settings(SETTINGS).worker_settings(), loop)
    one = ServerConnection(pool, ServerLogin(b"u", b"d", ServerCredentials("u", None)), 10, 0.0, 0.0)
    one.session = ServerSession(10, {})
    yield one
    loop.close()


@pytest.mark.parametrize(
    "ask", [lambda one: one.unseen(b"reset all"), lambda one: one.behind(b"select 1")], ids=["in front", "behind"]
)
def test_a_query_of_ours_drops_the_unnamed_statement(
    server: ServerConnection, ask: Callable[[ServerConnection], bytes]
) -> None:
    client = client_session()
    sent(client, server.session, Parse(b"", TEXT).encode() + Sync().encode())
    assert TEXT not in sent(client, server.session, Bind().encode() + Sync().encode())
    ask(server)
    assert TEXT in sent(client, server.session, Bind().encode() + Sync().encode())


def test_what_a_failed_transaction_may_have_refused_is_parsed_again() -> None:
    client, here, there = client_session(), ServerSession(10, {}), ServerSession(10, {})
    sent(client, here, Parse(b"q", TEXT).encode() + Sync().encode())
    client.unsettled.clear()
    used = Bind(b"", b"q").encode() + Sync().encode()
    there.status = IN_FAILED_TRANSACTION
    assert [TEXT in sent(client, there, used) for _ in range(2)] == [True, True]
    there.feed(b"1\0\0\0\x04" + b"Z\0\0\0\x05I")
    there.feed(b"3\0\0\0\x04" + b"1\0\0\0\x04" + b"Z\0\0\0\x05I")
    assert there.status == IDLE
    assert TEXT not in sent(client, there, used)


def client_session() -> ClientSession:
    return ClientSession(FactsTable(), StatementRegistry(), 100_000, 2**30 - 1)


def sent(client: ClientSession, server: ServerSession, data: bytes) -> bytes:
    """What the server gets for it."""
    batch = Batch(0)
    client.scan(batch, data)
    return client.emit(batch, data, server)
