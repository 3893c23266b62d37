"""What a load does to connections beyond running statements: it breaks them, cancels on them, and reads their errors.

The drivers are those of `make consistency`.
"""

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final

import asyncpg
import psycopg

from middleware.drill.books import Outcome as Told
from middleware.drill.books import outcome_of
from middleware.drill.ledger import sqlstate_of as asyncpg_sqlstate_of
from tests.cachecheck.history import DIRECT, Outcome
from tests.consistency.drivers import Asyncpg, Client, Psycopg

FAILURES: Final = (
    OSError,
    TimeoutError,
    psycopg.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What a statement may raise that does not succeed."""
_GONE: Final = ("08", "57P")
"""Classes of what PostgreSQL says, or leaves unsaid, when it goes."""
CANCEL_TIMEOUT_S: Final = 10.0


def sqlstate_of(error: BaseException) -> str:
    """Of what a server said; "" where it said nothing."""
    if isinstance(error, psycopg.Error):
        return error.sqlstate or ""
    return asyncpg_sqlstate_of(error)


def outcome(error: BaseException, instance: str, committing: bool) -> Outcome:
    """What is known of a write after an error, if what may commit it had been sent or not.

    Pointsman tells whether it may have been committed; PostgreSQL itself does not when it goes.
    """
    sqlstate = sqlstate_of(error)
    if instance == DIRECT and committing and sqlstate.startswith(_GONE):
        return Outcome.UNKNOWN
    return Outcome.UNKNOWN if outcome_of(sqlstate, committing) is Told.UNKNOWN else Outcome.FAILED


def alive(client: Client) -> bool:
    """Whether it can go on after an error."""
    if isinstance(client, Psycopg):
        return not client._connection.closed
    assert isinstance(client, Asyncpg)
    return not client._connection.is_closed()


def sever(client: Client) -> None:
    """Cut it off, whatever it waits for: its peer sees the end of the stream."""
    if isinstance(client, Psycopg):
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(client._connection.fileno())) as own,
        ):
            own.shutdown(socket.SHUT_RDWR)
    else:
        assert isinstance(client, Asyncpg)
        client._connection.terminate()


async def cancel(client: Client) -> None:
    """Send a CancelRequest for what it runs; a client that cannot is left alone."""
    if isinstance(client, Psycopg):
        with contextlib.suppress(psycopg.Error, OSError):
            await client._connection.cancel_safe(timeout=CANCEL_TIMEOUT_S)


async def leave(client: Client) -> None:
    """End its session, without waiting for a peer that may be gone."""
    if isinstance(client, Psycopg):
        with contextlib.suppress(psycopg.Error, OSError):
            await client.close()
    else:
        assert isinstance(client, Asyncpg)
        client._connection.terminate()


def listen(client: Client, heard: Callable[[str], None]) -> None:
    """Hand on each notice that it gets."""
    if isinstance(client, Psycopg):
        client._connection.add_notice_handler(lambda diagnostic: heard(diagnostic.message_primary or ""))
    else:
        assert isinstance(client, Asyncpg)
        client._connection.add_log_listener(lambda _, notice: heard(notice.message))
