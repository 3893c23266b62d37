"""Who is at the other end of a connection, and bytes of it that were read too early."""

import asyncio
import pwd
import socket
import struct
from typing import Any, Final

_UCRED: Final = struct.Struct("iII")
"""Linux's: process, user, group."""


def feed(transport: asyncio.Transport, data: bytes) -> None:
    """Give a transport's TLS, which has just begun, what was read before it was there."""
    # uvloop's, an asyncio.BufferedProtocol in all but name; compiled code would check the name.
    buffered: Any = transport.get_protocol()
    if transport.is_closing() or not hasattr(buffered, "get_buffer"):
        # Its client is gone, or the handshake has not begun.
        return
    while data:
        buffer = memoryview(buffered.get_buffer(len(data)))
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        buffered.buffer_updated(count)
        data = data[count:]


def peer_of(transport: asyncio.BaseTransport) -> str:
    """Which user of the system is at the other end of a unix socket; "" where the system does not say."""
    one = transport.get_extra_info("socket")
    try:
        _, uid, _ = _UCRED.unpack(one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return pwd.getpwuid(uid).pw_name
    except (OSError, KeyError):
        return ""
