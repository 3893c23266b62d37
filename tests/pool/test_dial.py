"""Opening connections: what is set on their sockets, and names whose addresses change."""

import asyncio
import socket
from typing import Any

import pytest

from middleware.config import NetworkSettings
from middleware.pool.dial import Dialer, set_options


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (NetworkSettings(keepalive=False), {"SO_KEEPALIVE": 0}),
        (NetworkSettings(), {"SO_KEEPALIVE": 1}),
        (NetworkSettings(keepalive_idle_s=7), {"TCP_KEEPIDLE": 7}),
        (NetworkSettings(keepalive_interval_s=3), {"TCP_KEEPINTVL": 3}),
        (NetworkSettings(keepalive_count=2), {"TCP_KEEPCNT": 2}),
        (NetworkSettings(user_timeout_s=1.5), {"TCP_USER_TIMEOUT": 1500}),
    ],
    ids=["tcp_keepalive_off", "tcp_keepalive", "tcp_keepidle", "tcp_keepintvl", "tcp_keepcnt", "tcp_user_timeout"],
)
def test_options_of_listening_sockets_and_of_those_accepted_there(
    network: NetworkSettings, expected: dict[str, int]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        set_options(listener, network)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            for name, value in expected.items():
                level = socket.SOL_SOCKET if name.startswith("SO") else socket.IPPROTO_TCP
                for one in (listener, accepted):
                    assert one.getsockopt(level, getattr(socket, name)) == value


def test_dns_max_ttl(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(addresses_that_change(monkeypatch))


async def addresses_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name resolved when its time is over, and not before."""
    loop = asyncio.get_running_loop()
    asked, moved = [], []
    address = "127.0.0.1"

    async def resolve(host: str, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    dialer = Dialer(loop, NetworkSettings(dns_max_ttl_s=0.3), lambda host, now: moved.append((host, now)))
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    peers: list[str] = []

    class Seen(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            peers.append(transport.get_extra_info("peername")[0])

    async with server:
        for _ in range(3):
            await dialer.open("db.example", port, Seen)
        assert (peers, asked, moved) == (["127.0.0.1"] * 3, ["db.example"], [])
        address = "127.0.0.2"
        dialer.refresh("db.example")
        assert asked == ["db.example"]
        await asyncio.sleep(0.35)
        dialer.refresh("db.example")
        await asyncio.sleep(0.05)
        assert moved == [("db.example", frozenset(["127.0.0.2"]))]
        await dialer.open("db.example", port, Seen)
        assert peers[-1] == "127.0.0.2"
        # Who has to do with a backend there goes where that is, whatever the name has become.
        await dialer.open("db.example", port, Seen, address="127.0.0.1")
        assert peers[-1] == "127.0.0.1"
