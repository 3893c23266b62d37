"""Passing a CancelRequest on to the node whose statement it is to stop."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, cast

from middleware.errors import ConnectionLost
from middleware.pool.server_connection import ServerConnection
from middleware.relay.relay import Relay
from middleware.wire.codes import CANCEL_REQUEST

CANCELS_MAX: Final = 1000
"""Under way at once in one worker; more are dropped: PostgreSQL promises nothing for them."""

_under_way: Final[set[asyncio.Task[None]]] = set()
"""asyncio keeps only weak references to its tasks."""


class _Request(asyncio.Protocol):
    """Sends one, and waits for the node to close the connection, which it does when it has sent the signal."""

    def __init__(self, body: bytes) -> None:
        self._body: Final = body
        self.transport: asyncio.Transport | None = None
        self.done: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has transports of its own kind.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write((len(self._body) + 4).to_bytes(4, "big") + self._body)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Target(NamedTuple):
    """A backend, and where the request for it goes."""

    node: str
    host: str
    port: int
    address: str
    """Of the backend's machine, where the name may stand for several; "" for a unix socket."""
    encrypted: bool
    process_id: int
    secret: bytes


def send_cancel(relay: Relay, server: ServerConnection) -> None:
    """Ask the server's node to cancel what the server is doing.

    Until the node has taken the request, the server is lent to nobody else: it must hit no other client's statement.
    """
    pool = server.pool
    target = Target(pool.node, pool.host, pool.port, server.address, server.encrypted(), *server.cancel_key)
    if cancel_at(relay, target, lambda: pool.cancel_arrived(server)):
        server.cancels += 1


def cancel_at(relay: Relay, target: Target, arrived: Callable[[], None]) -> bool:
    """Send a request; `arrived` is called, and not before this returns, when it was taken or could not be sent.

    False where too many are under way.
    """
    if len(_under_way) >= CANCELS_MAX:
        return False
    task = relay.loop.create_task(_send(relay, target, arrived))
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return True


async def _send(relay: Relay, target: Target, arrived: Callable[[], None]) -> None:
    request = _Request(CANCEL_REQUEST.to_bytes(4, "big") + target.process_id.to_bytes(4, "big") + target.secret)
    try:
        async with asyncio.timeout(relay.settings.cancel_wait_timeout_s):
            await relay.dialer.open(
                target.host, target.port, lambda: request, encrypted=target.encrypted, address=target.address
            )
            await request.done
    except (OSError, ConnectionLost) as error:
        relay.control.node_trouble(target.node, f"could not send a cancel request: {error}")
    finally:
        if request.transport is not None:
            request.transport.abort()
        arrived()
