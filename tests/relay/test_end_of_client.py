"""A client that is gone is freed at once, not when the garbage collector looks, which it seldom does in a worker."""

import asyncio
import contextlib
import gc
import socket
import tempfile
from collections.abc import Iterator
from typing import Final, cast

import pytest
import uvloop

from middleware.auth import Access, HbaRule
from middleware.cache.versions import Versions, bytes_for
from middleware.config import build_settings
from middleware.control import ConsoleAsked, ConsoleGone, ConsoleMore
from middleware.relay.arrival import Arrival
from middleware.relay.client_connection import ClientConnection
from middleware.relay.relay import Relay
from middleware.relay.shared import SHARED_BYTES, columns_of, commits_of, ledger_of
from middleware.session.parameters import gucs_of
from middleware.wire.build import READY_IDLE, TERMINATE_MESSAGE
from middleware.wire.frontend import StartupMessage

WHO: Final = {b"user": b"app", b"database": b"app"}


class Nobody:
    """A control plane that is told things and does nothing."""

    def catalog_wanted(self, database: str, changed_at: float) -> None: ...
    def catalog_suspected(self, database: str) -> None: ...
    def secret_wanted(self, user: str) -> None: ...
    def freshness_wanted(self) -> None: ...
    def watch_wanted(self) -> None: ...
    def node_trouble(self, node: str, message: str) -> None: ...
    def server_wanted(self, key: bytes) -> None: ...
    def server_freed(self) -> None: ...
    def forward_cancel(self, process_id: int, secret: bytes) -> None: ...
    def console(self, said: ConsoleAsked | ConsoleMore | ConsoleGone) -> None: ...


def relay(loop: asyncio.AbstractEventLoop) -> Relay:
    """One that believes its visitors, and knows what to tell them."""
    settings = build_settings(
        {
            "health_check": {"user": "monitor", "password": "secret"},
            "nodes": {"db1": {"host": "127.0.0.1", "port": 1}},
            "users": {"app": {"password": "secret"}},
        }
    )
    with tempfile.TemporaryFile() as file:
        file.truncate(SHARED_BYTES)
        columns_of(file.fileno())[0] = 1
        commits, ledger = commits_of(file.fileno(), 0), ledger_of(file.fileno(), 0)
    with tempfile.TemporaryFile() as file:
        file.truncate(bytes_for(1))
        versions = Versions(file.fileno(), 0, 1, 0)
    made = Relay(0, 0, settings.worker_settings(), loop, Nobody(), commits, ledger, versions)
    made.authority.use(Access((HbaRule("any", ("=all",), ("=all",), (), "trust"),), secrets={"app": "secret"}))
    made.welcomes.learn(b"app", b"app", made.parameters.of(gucs_of(WHO)), {})
    return made


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> int:
    # By their types: isinstance() asks objects for their classes, and those of other tests may answer with errors.
    return sum(type(one) in (ClientConnection, Arrival) for one in gc.get_objects())


@pytest.mark.parametrize("goodbye", [TERMINATE_MESSAGE, b""], ids=["Terminate", "closed"])
def test_a_client_is_freed_when_it_is_gone(goodbye: bytes) -> None:
    async def come_and_go() -> None:
        loop = asyncio.get_running_loop()
        around = relay(loop)
        before = alive()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            await loop.connect_accepted_socket(lambda: cast(asyncio.Protocol, Arrival(around)), ours)
            await loop.sock_sendall(theirs, StartupMessage(tuple(WHO.items())).encode())
            told = b""
            while not told.endswith(READY_IDLE):
                told += await loop.sock_recv(theirs, 1000)
            assert len(around.clients) == 1
            assert alive() == before + 1
            await loop.sock_sendall(theirs, goodbye)
        async with asyncio.timeout(10):
            # Its transport lets go of it when the loop comes round.
            while around.clients or alive() != before:
                await asyncio.sleep(0)

    with no_collector():
        uvloop.run(come_and_go())
