"""PAUSE, RESUME and their kin over a real cluster: what clients notice of it, and what is left on the nodes."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from middleware.sandbox import Sandbox
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.supervisor.crowd import Crowd
from tests.supervisor.quick import happened, primary_of, promoting, until

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"


@pytest.fixture(scope="module")
def kept() -> Iterator[Sandbox]:
    """A cluster whose roles stay as they are."""
    with Sandbox(standbys=1, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        own.query("CREATE DATABASE other OWNER app")
        own.wait_for_replay()
        yield own


@contextlib.asynccontextmanager
async def pointsman(sandbox: Sandbox, **more: object) -> AsyncIterator[Supervisor]:
    settings = await anyio.to_thread.run_sync(
        lambda: promoting(sandbox, **{"workers": 2, "default_pool_size": 10, **more})
    )
    async with running(settings) as supervisor:

        def well() -> bool:
            return primary_of(supervisor) == "db1" and bool(supervisor.topology.standbys())

        await until(well, supervisor)
        yield supervisor


@contextlib.asynccontextmanager
async def crowd(supervisor: Supervisor, sandbox: Sandbox, clients: int = 60) -> AsyncIterator[Crowd]:
    host, port = supervisor.addresses[0]
    made = Crowd(host, port, sandbox.passwords["app"], clients=clients)
    await anyio.to_thread.run_sync(made.start)
    try:
        await anyio.to_thread.run_sync(made.wait_for_a_round)
        yield made
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(made.stop)


def backends(sandbox: Sandbox) -> list[int]:
    """How many of clients' there are on each node."""
    return [int(sandbox.query(BACKENDS, node)[0][0]) for node in sandbox.nodes]


async def in_thread(act: Callable[[], Any]) -> Any:
    return await anyio.to_thread.run_sync(act)


async def test_postgresql_is_restarted_under_load_and_nobody_notices(kept: Sandbox) -> None:
    """Both nodes, for longer than a failover would take, three times."""
    async with pointsman(kept) as supervisor, crowd(supervisor, kept) as made:
        for nodes in (("db1",), ("db1", "db2"), ("db2", "db1")):
            await supervisor.pausing.pause(None, "somebody")
            assert await in_thread(lambda: backends(kept)) == [0, 0]
            rounds = dict(made.rounds)
            for name in nodes:
                await in_thread(kept.node(name).stop)
            # Its probes find it dead, and it has been so for longer than failover_after.
            if "db1" in nodes:
                await until(lambda: primary_of(supervisor) == "", supervisor)
            await until(lambda: "failover_held" in happened(supervisor), supervisor)
            await anyio.sleep(1.0)
            for name in nodes:
                await in_thread(kept.node(name).start)
            moved = sum(made.rounds[one] - rounds[one] for one in rounds)
            assert moved == 0, "somebody was served while all was paused"
            assert await supervisor.pausing.resume(None, "somebody") == ()
            await in_thread(made.wait_for_a_round)
        assert made.errors == []
        found = await in_thread(lambda: kept.query("SELECT writer, number FROM ledger"))
        assert set(made.acknowledged) <= {(int(writer), int(number)) for writer, number in found}
    assert happened(supervisor, "promoted", "failover_begun") == []
