"""A pool's dealings with those who wait."""

import asyncio
import socket
from typing import Any

import pytest

from middleware.config import ClientPolicy, WorkerSettings, build_settings
from middleware.errors import ConnectionLost, PointsmanError
from middleware.pool import pool
from middleware.pool.plan import Waiter
from middleware.pool.server_connection import IDLE, Borrower, ServerConnection
from middleware.session.parameters import NONE
from middleware.session.server import ServerSession
from middleware.session.server_login import ServerLogin
from tests.pool.made import pool_of

CLIENTS = 5000

interpreted = pytest.mark.skipif(
    not pool.__file__.endswith(".py"), reason="a compiled class has no subclass in Python, such as Fleeting"
)


class Fleeting(Borrower):
    """A client that gives back at once what it is lent, as a login does that has nothing to ask."""

    def __init__(self, served: "list[Fleeting]") -> None:
        self._served = served
        self.limits = ClientPolicy()
        self.admin = False
        self.again = b""
        self.waiting_since = 0.0
        self.told: list[PointsmanError] = []

    def lent(self, server: ServerConnection) -> None:
        self._served.append(self)
        server.lend(self, None)
        server.pool.give_back(server)

    def not_lent(self, error: PointsmanError) -> None:
        self.told.append(error)

    def keep_time(self, now: float) -> None: ...
    def note_write(self) -> None: ...
    def pause_reading(self, reason: int) -> None: ...
    def resume_reading(self, reason: int) -> None: ...
    def still_waiting(self, what: str) -> None: ...
    def server_answered(self, server: ServerConnection, events: int) -> None: ...
    def server_lost(self, server: ServerConnection, error: PointsmanError) -> None: ...


def settled(**settings: Any) -> WorkerSettings:
    return build_settings(
        {
            "health_check": {"user": "monitor", "password": "secret"},
            "nodes": {"db1": {"host": "127.0.0.1", "port": 1}},
            "users": {"u": {"password": "secret"}},
            **settings,
        }
    ).worker_settings()


@interpreted
@pytest.mark.parametrize(("host", "why"), [("a..b", "not the name of a host."), ("db.example", "KeyError.")])
def test_whatever_ends_an_opening_its_place_is_free_again(monkeypatch: pytest.MonkeyPatch, host: str, why: str) -> None:
    async def open_one() -> None:
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def fail(name: str, *args: Any, **keys: Any) -> Any:
            if name == "db.example":
                raise KeyError(name)
            return await resolve(name, *args, **keys)

        monkeypatch.setattr(loop, "getaddrinfo", fail)
        pool = pool_of("db1", settled(), loop, host)
        client = Fleeting([])
        assert pool.lease(client, NONE) is None
        assert (pool.plan.size(), pool._all_limits.total(pool)) == (1, 1)
        async with asyncio.timeout(10):
            while not client.told:
                await asyncio.sleep(0)
        assert [error.detail for error in client.told] == [why]
        assert (pool.plan.size(), pool._all_limits.total(pool), pool.state.logins.in_flight) == (0, 0, 0)

    asyncio.run(open_one())


@interpreted
def test_many_who_wait_may_give_back_at_once() -> None:
    settings = settled()
    loop = asyncio.new_event_loop()
    theirs = pool_of("db1", settings, loop)
    loop.close()
    server = ServerConnection(theirs, ServerLogin(b"u", b"d", theirs._authority.credentials("u")), 10, 0.0, 0.0)
    server.session = ServerSession(10, {})
    served: list[Fleeting] = []
    clients = [Fleeting(served) for _ in range(CLIENTS)]
    theirs.plan.waiting.extend(Waiter[Borrower](client, 0.0, 60.0, 0.0) for client in clients)
    theirs.plan.lent.add(server)
    theirs.give_back(server)
    assert served == clients
    assert server.state == IDLE
    assert [one for one, _ in theirs.plan.idle] == [server]
    assert not theirs.plan.lent


@interpreted
@pytest.mark.parametrize(("drawn", "lives_s"), [(0.0, 100.0), (0.5, 87.5), (1.0, 75.0)])
def test_server_lifetime_jitter(drawn: float, lives_s: float) -> None:
    async def open_one() -> float:
        settings = settled(server_lifetime=100.0, server_lifetime_jitter=0.25, server_tls_sslmode="disable")
        # Connections to it are made, and nobody takes them up.
        with socket.create_server(("127.0.0.1", 0)) as node:
            port = node.getsockname()[1]
            pool = pool_of("db1", settings, asyncio.get_running_loop(), port=port, drawn=drawn)
            pool.lease(Fleeting([]), NONE)
            async with asyncio.timeout(10):
                while not pool._on_the_way:
                    await asyncio.sleep(0)
                (server,) = pool._on_the_way
                server.fail(ConnectionLost("it has told enough"))
                while pool._openings:
                    await asyncio.sleep(0)
            return server.expires_at

    assert asyncio.run(open_one()) == lives_s
