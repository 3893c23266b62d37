"""What two generations say to each other: of any version, in any pieces, and however slow the other is."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import msgspec
import pytest

from healthcheck.memory import Remembered
from healthcheck.topology import Observation, Role
from middleware import control
from middleware.control import Kill, KillClient, NodeLeases, Obeyed, PauseProgress, Reconnect, SetPauses
from middleware.supervisor import link
from middleware.supervisor.link import (
    CancelElsewhere,
    Carried,
    CatalogChanged,
    CatalogSuspected,
    Done,
    End,
    EndWithServers,
    Handed,
    HandedSocket,
    Left,
    LetGo,
    Link,
    Nodes,
    Ordered,
    Pauses,
    PausesLeft,
    Said,
    ServerFreedElsewhere,
    ServerWantedElsewhere,
    Serving,
    Standing,
    Taken,
    UnderWay,
    read,
)
from middleware.supervisor.node_orders import NodeOrder
from middleware.supervisor.pausing import DatabaseState, PauseState
from tests.supervisor.conftest import DEADLINE_S

pytestmark = pytest.mark.anyio

STANDING = Standing(
    Remembered(2**62, 7),
    ("db1",),
    {"": "off"},
    "on",
    PauseState("paused", (DatabaseState("a", paused=True),), "somebody"),
    (NodeOrder("db2", "detached", "somebody", 1.5),),
    Observation(
        "db1", "::1", 5432, True, Role.PRIMARY, 2**62, 7, insert_lsn=2**40, sync_standbys=("db2",), sync_needed=1
    ),
)
EVERY_MESSAGE: list[Said] = [
    Handed("1", 7, (HandedSocket("clients"), HandedSocket("http", True)), True, ((0, 2), (5, 1)), STANDING),
    Serving(8, ((2, 2),), (0, 1)),
    LetGo(STANDING),
    Taken(),
    Done(),
    CancelElsewhere(5, b"\xff\0key"),
    ServerWantedElsewhere(bytes(range(16))),
    ServerFreedElsewhere(),
    CatalogChanged("ä\n", 3, 1.5),
    CatalogSuspected("d"),
    Nodes(7, ("db1",), ("db2",), (), Remembered(1, 2)),
    UnderWay(7, (NodeLeases("db1", 1, 2, 3),)),
    Pauses(SetPauses(3, "active", ("a",), ("b",), (None,))),
    PausesLeft(PauseProgress(3, (control.Left("a", 1, 2, 3, 4, 5, 6),))),
    Ordered(Reconnect(1, None)),
    Ordered(Kill(2, "a")),
    Ordered(KillClient(3, 7)),
    Carried(Obeyed(3, 1)),
    Left(4),
    End(),
    EndWithServers(),
]


def test_every_message_comes_back() -> None:
    assert {type(message) for message in EVERY_MESSAGE} == set(Said.__args__)
    for message in EVERY_MESSAGE:
        line = msgspec.json.encode(message)
        assert b"\n" not in line
        assert read(line) == message


def test_a_later_version_may_say_more() -> None:
    assert read(b'{"say": "something new", "what": [1]}') is None
    assert read(b'{"say": "left", "clients": 3, "since": 1.5}') == Left(3)
    with pytest.raises(msgspec.MsgspecError):
        read(b'{"say": "left"}')


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, anyio.abc.UNIXSocketStream, list[Said]]]:
    """One end of a link that runs, the other end, and what is heard."""
    one, other = socket.socketpair()
    heard: list[Said] = []
    stream = await anyio.abc.UNIXSocketStream.from_socket(one)
    async with stream, await anyio.abc.UNIXSocketStream.from_socket(other) as far, anyio.create_task_group() as tasks:
        own = Link(stream, lambda _, said: heard.append(said))
        tasks.start_soon(own.run)
        yield own, far, heard
        tasks.cancel_scope.cancel()


async def test_pieces_of_any_size_are_the_same_messages() -> None:
    text = b"".join(msgspec.json.encode(message) + b"\n" for message in EVERY_MESSAGE)
    with anyio.fail_after(DEADLINE_S):
        async with linked() as (own, far, heard):
            for start in range(0, len(text), 7):
                await far.send(text[start : start + 7])
            await far.aclose()
            await own.over.wait()
    assert heard == EVERY_MESSAGE


@pytest.mark.parametrize("nonsense", [b"nonsense\n", b'{"say": 7}\n', b"x" * 3000])
async def test_nonsense_is_the_end(monkeypatch: pytest.MonkeyPatch, nonsense: bytes) -> None:
    monkeypatch.setattr(link, "LINE_BYTES_MAX", 2000)
    with anyio.fail_after(DEADLINE_S):
        async with linked() as (own, far, heard):
            await far.send(nonsense)
            await own.over.wait()
    assert heard == []


async def test_one_that_does_not_read_costs_no_more_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(DEADLINE_S):
        async with linked() as (own, far, _):
            for number in range(20_000):
                own.send(CancelElsewhere(number, b"key"))
                own.send(Left(number))
            assert len(own._waiting) == link.WAITING_MAX
            assert list(own._latest.values()) == [Left(19_999)]
            came = b""
            while b'"clients":19999' not in came:
                came += await far.receive()
    said = [read(line) for line in came.splitlines()]
    assert CancelElsewhere(19_999, b"key") in said
    assert len(said) <= link.WAITING_MAX + 1
