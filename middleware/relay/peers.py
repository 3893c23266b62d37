"""Who is at the other end of a connection: its address, its TLS, what it calls itself; and bytes of it that were read
too early."""

import asyncio
import pwd
import socket
import struct
from typing import Any, Final

from middleware.session.parameters import StartupParameters

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


def address_of(transport: asyncio.BaseTransport, what: str) -> tuple[str, int]:
    """Address and port of "peername" or "sockname"; "unix" for a unix socket, and the port in its file's name."""
    address = transport.get_extra_info(what)
    if isinstance(address, tuple):
        return str(address[0]), int(address[1])
    for end in ("sockname", "peername"):
        _, _, port = str(transport.get_extra_info(end)).rpartition(".")
        if port.isdecimal():
            return "unix", int(port)
    return "unix", 0


def descriptor_of(transport: asyncio.BaseTransport) -> int:
    """Its socket's; -1 for none."""
    one = transport.get_extra_info("socket")
    return -1 if one is None else int(one.fileno())


def tls_of(transport: asyncio.BaseTransport) -> str:
    """Version and cipher, where it has TLS."""
    ssl_object = transport.get_extra_info("ssl_object")
    cipher = None if ssl_object is None else ssl_object.cipher()
    return "" if cipher is None else f"{ssl_object.version()}/{cipher[0]}"


def application_name(parameters: StartupParameters) -> str:
    """What a client calls itself."""
    for name, value in parameters.values:
        if name == b"application_name":
            return value.decode(errors="replace")
    return ""
