"""Passing a CancelRequest on to the node whose statement it is to stop."""

import asyncio
from typing import Final

from middleware.pool.server_connection import ServerConnection
from middleware.relay.relay import Relay
from middleware.wire.codes import CANCEL_REQUEST

_under_way: Final[set[asyncio.Task[None]]] = set()
"""asyncio keeps only weak references to its tasks."""


def send_cancel(relay: Relay, server: ServerConnection) -> None:
    """Ask the server's node to cancel what the server is doing.

    Until the node has taken the request, the server is lent to nobody else: it must hit no other client's statement.
    """
    server.cancels += 1
    task = relay.loop.create_task(_send(relay, server))
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)


async def _send(relay: Relay, server: ServerConnection) -> None:
    pool = server.pool
    process_id, secret = server.cancel_key
    body = CANCEL_REQUEST.to_bytes(4, "big") + process_id.to_bytes(4, "big") + secret
    try:
        async with asyncio.timeout(relay.settings.cancel_wait_timeout_s):
            if pool.host.startswith("/"):
                reader, writer = await asyncio.open_unix_connection(f"{pool.host}/.s.PGSQL.{pool.port}")
            else:
                reader, writer = await asyncio.open_connection(pool.host, pool.port)
            try:
                writer.write((len(body) + 4).to_bytes(4, "big") + body)
                # The node closes the connection when it has sent the signal.
                await reader.read()
            finally:
                writer.close()
    except OSError as error:
        relay.control.node_trouble(pool.node, f"could not send a cancel request: {error}")
    finally:
        pool.cancel_arrived(server)
