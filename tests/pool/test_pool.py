"""A pool's dealings with those who wait."""

import asyncio

import pytest

from middleware.config import build_settings
from middleware.errors import PointsmanError
from middleware.pool import pool
from middleware.pool.plan import Waiter
from middleware.pool.server_connection import IDLE, Borrower, ServerConnection
from middleware.session.server import ServerSession
from middleware.session.server_login import ServerLogin
from tests.pool.made import pool_of

CLIENTS = 5000


class Fleeting(Borrower):
    """A client that gives back at once what it is lent, as a login does that has nothing to ask."""

    def __init__(self, served: "list[Fleeting]") -> None:
        self._served = served

    def lent(self, server: ServerConnection) -> None:
        self._served.append(self)
        server.lend(self, None)
        server.pool.give_back(server)

    def not_lent(self, error: PointsmanError) -> None: ...
    def keep_time(self, now: float) -> None: ...
    def note_write(self) -> None: ...
    def pause_reading(self, reason: int) -> None: ...
    def resume_reading(self, reason: int) -> None: ...
    def still_waiting(self, what: str) -> None: ...
    def server_answered(self, server: ServerConnection, events: int) -> None: ...
    def server_lost(self, server: ServerConnection, error: PointsmanError) -> None: ...


@pytest.mark.skipif(not pool.__file__.endswith(".py"), reason="a compiled class has no subclass in Python")
def test_many_who_wait_may_give_back_at_once() -> None:
    settings = build_settings(
        {
            "health_check": {"user": "monitor", "password": "secret"},
            "nodes": {"db1": {"host": "127.0.0.1", "port": 1}},
            "users": {"u": {"password": "secret"}},
        }
    ).worker_settings()
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
