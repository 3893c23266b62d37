"""A client that begins TLS without asking, and is gone before that is looked at."""

import asyncio
import socket

import uvloop

from middleware.relay.arrival import TLS_HANDSHAKE
from middleware.relay.peers import feed


def test_what_a_client_said_before_it_went_is_given_to_nobody() -> None:
    async def leave() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            transport.abort()
            # Until the transport has let go of its protocol.
            async with asyncio.timeout(10):
                while transport.get_protocol() is not None:
                    await asyncio.sleep(0)
            feed(transport, bytes([TLS_HANDSHAKE]))

    uvloop.run(leave())
