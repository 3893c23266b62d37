"""Opening connections: what is set on their sockets, and names whose addresses change."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
import uvloop

from middleware.config import NetworkSettings, TlsMaterial
from middleware.config.tls import server_context
from middleware.errors import ConnectionLost, LoginRefused
from middleware.pool.dial import NEXT_ADDRESS_S, SSL_REQUEST, Dialer, other_kind, set_options


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


class Peers(asyncio.Protocol):
    """Notes whom it is connected to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.transports: list[asyncio.Transport] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.seen.append(transport.get_extra_info("peername")[0])
        self.transports.append(cast(asyncio.Transport, transport))

    def close(self) -> None:
        for transport in self.transports:
            transport.close()


@contextlib.contextmanager
def deaf(address: str) -> Iterator[int]:
    """A port at which an address takes no connection and refuses none: its backlog is full."""
    with socket.socket() as listener, contextlib.ExitStack() as queue:
        listener.bind((address, 0))
        listener.listen(0)
        for _ in range(2):
            knock = queue.enter_context(socket.socket())
            knock.setblocking(False)
            knock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_an_address_that_does_not_answer_keeps_nobody_from_the_next(run: Any) -> None:
    async def connect() -> None:
        loop = asyncio.get_running_loop()
        dialer = Dialer(loop, NetworkSettings(), lambda _host, _now: None)
        # What getaddrinfo() would say; the second refuses at once.
        known = [(int(socket.AF_INET), address) for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3")]
        peers = Peers()
        with deaf("127.0.0.1") as port:
            async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.3", port):
                dialer._known["db.example"] = known, loop.time() + 100.0
                async with asyncio.timeout(20 * NEXT_ADDRESS_S):
                    await dialer.open("db.example", port, lambda: peers)
                assert peers.seen == ["127.0.0.3"]
            # It is waited for until the caller's time is over, and then nothing is left behind.
            dialer._known["db.example"] = known[:2], loop.time() + 100.0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3 * NEXT_ADDRESS_S):
                    await dialer.open("db.example", port, lambda: peers)
            assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(ConnectionRefusedError):
            await dialer.open("db.example", port, lambda: peers)
        peers.close()

    run(connect())


class Balky:
    """A node that takes an SSLRequest and then no TLS: it says something else, or closes the connection."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.startups = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(8) == SSL_REQUEST:
            writer.write(self.answer)
            if self.answer:
                await reader.read(65536)
                writer.write(b"not TLS at all")
        else:
            self.startups += 1
        writer.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("answer", [b"S", b"", b"E"], ids=["a handshake that fails", "closed", "an error"])
def test_with_prefer_it_goes_on_without_tls_where_there_can_be_none(run: Any, answer: bytes) -> None:
    async def connect() -> None:
        loop = asyncio.get_running_loop()
        node = Balky(answer)
        server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        dialer = Dialer(loop, NetworkSettings(), lambda _host, _now: None)
        peers = Peers()

        async def attempt(sslmode: str, encrypted: bool | None) -> None:
            dialer.use(sslmode, False, server_context(TlsMaterial(sslmode)))
            await dialer.open("127.0.0.1", port, lambda: peers, encrypted=encrypted)

        async with server:
            for sslmode, encrypted in (("require", None), ("prefer", True)):
                with pytest.raises((ConnectionLost, OSError)):
                    await attempt(sslmode, encrypted)
                assert peers.seen == []
            await attempt("prefer", None)
            peers.transports[0].write(b"startup!")
            while not node.startups:
                await asyncio.sleep(0)
            assert peers.seen == ["127.0.0.1"]
            peers.close()

    run(connect())


@pytest.mark.parametrize(
    ("sslmode", "asked", "encrypted", "other"),
    [
        ("allow", None, False, True),
        ("allow", True, False, None),
        ("prefer", None, True, False),
        ("prefer", None, False, None),
        ("prefer", False, False, None),
        ("require", None, True, None),
        ("disable", None, False, None),
    ],
)
def test_what_a_refused_login_is_tried_on(
    sslmode: str, asked: bool | None, encrypted: bool, other: bool | None
) -> None:
    assert other_kind(sslmode, asked, encrypted, LoginRefused("no entry", sqlstate="28000")) is other
    assert other_kind(sslmode, asked, encrypted, LoginRefused("wrong password", sqlstate="28P01")) is None
