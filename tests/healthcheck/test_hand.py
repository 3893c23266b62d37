"""What a switchover asks of nodes: whether one that was told to stop has, and how far others have come."""

import contextlib
import os
import signal
from pathlib import Path

import anyio
import psycopg
import pytest

from healthcheck.line import Credentials, ProbeError
from healthcheck.promote import Hand
from healthcheck.topology import Node
from middleware.sandbox import Sandbox
from middleware.sandbox.node import SandboxNode

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

DEADLINE_S = 30.0


def hand(sandbox: Sandbox, password: str = "") -> Hand:
    credentials = Credentials("postgres", password or sandbox.passwords["postgres"], "postgres")
    return Hand(lambda: credentials, 5.0)


def seen(node: SandboxNode) -> Node:
    return Node(node.name, node.host, node.port)


async def test_only_one_that_cannot_be_reached_has_stopped(sandbox: Sandbox) -> None:
    node = sandbox.node("db1")
    with pytest.raises(ProbeError, match="it still runs"):
        await hand(sandbox).stopped(seen(node))
    # It does not let us in, and so it runs.
    with pytest.raises(ProbeError, match="it still runs: password authentication failed"):
        await hand(sandbox, "wrong").stopped(seen(node))
    data_directory = sandbox.query("SHOW data_directory", node)[0][0]
    postmaster = int((Path(data_directory) / "postmaster.pid").read_text().split()[0])
    with contextlib.closing(psycopg.connect(sandbox.url(node))) as open_session:
        # A smart shutdown waits for this one, and takes nobody else.
        os.kill(postmaster, signal.SIGTERM)
        with anyio.fail_after(DEADLINE_S):
            while True:
                try:
                    assert not await hand(sandbox).stopped(seen(node))
                    break
                except ProbeError:
                    await anyio.sleep(0.02)
        assert open_session.execute("SELECT 1").fetchone() == (1,)
    with anyio.fail_after(DEADLINE_S):
        while not await hand(sandbox).stopped(seen(node)):
            await anyio.sleep(0.02)
        while node.running:
            await anyio.sleep(0.02)


async def test_who_may_do_what(sandbox: Sandbox) -> None:
    primary, standby = seen(sandbox.node("db1")), seen(sandbox.node("db2"))
    ours = hand(sandbox)
    before = await ours.position(primary)
    with pytest.raises(ProbeError, match="it is not a primary"):
        await ours.position(standby)
    assert await ours.may_shut_down(primary)
    monitor = Credentials("pointsman", sandbox.passwords["pointsman"], "postgres")
    assert not await Hand(lambda: monitor, 5.0).may_shut_down(primary)
    await ours.checkpoint(primary)
    with pytest.raises(ProbeError, match="CHECKPOINT"):
        await Hand(lambda: monitor, 5.0).checkpoint(primary)
    assert await ours.follows(standby, primary)
    assert not await ours.follows(standby, standby)
    with anyio.fail_after(DEADLINE_S):
        while (progress := await ours.progress(standby)).replayed <= before:
            await anyio.sleep(0.02)
    assert progress.received >= progress.replayed
    assert progress.upstream == f"{primary.host}:{primary.port}"
