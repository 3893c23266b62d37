"""SHUTDOWN over a real cluster: who may stay for how long, and what is left."""

import os
from collections.abc import Iterator

import anyio
import psycopg
import pytest

from middleware.errors import PointsmanError
from middleware.sandbox import Sandbox
from middleware.supervisor import Supervisor
from tests.supervisor.clients import backends, client, conninfo, in_thread, later, pointsman, value, waits
from tests.supervisor.quick import DEADLINE_S

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture(scope="module")
def kept() -> Iterator[Sandbox]:
    """A cluster whose roles stay as they are."""
    with Sandbox(standbys=1, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


async def ended(supervisor: Supervisor) -> None:
    """All workers are gone."""
    with anyio.fail_after(DEADLINE_S):
        while any(pid is not None for pid in supervisor.worker_pids):
            await anyio.sleep(0.02)


async def no_new_client(supervisor: Supervisor, sandbox: Sandbox) -> None:
    """Soon, and from then on."""
    with anyio.fail_after(DEADLINE_S):
        while True:
            try:
                async with client(supervisor, sandbox):
                    await anyio.sleep(0.05)
            except psycopg.OperationalError:
                return


async def test_clients_that_are_there_may_stay_for_as_long_as_they_like(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor, client(supervisor, kept) as one:
        await value(one)
        supervisor.stopping.shutdown("wait_for_clients", "somebody")
        await no_new_client(supervisor, kept)
        for _ in range(3):
            # Longer than shutdown_timeout.
            await anyio.sleep(0.5)
            assert await value(one, "SELECT 1") == 1
        with pytest.raises(PointsmanError) as refused:
            supervisor.stopping.shutdown("wait_for_clients", "another")
        assert (refused.value.sqlstate, refused.value.detail) == ("55000", "SHUTDOWN WAIT_FOR_CLIENTS was said.")
        await one.close()
        await ended(supervisor)
    assert await in_thread(lambda: backends(kept)) == [0, 0]


async def test_servers_are_waited_for_and_who_waits_for_one_is_sent_away(kept: Sandbox) -> None:
    async with (
        pointsman(kept) as supervisor,
        await psycopg.AsyncConnection.connect(conninfo(supervisor, kept), autocommit=True) as busy,
        await psycopg.AsyncConnection.connect(conninfo(supervisor, kept), autocommit=True) as idle,
    ):
        await value(idle)
        await busy.execute("BEGIN")
        pid = await value(busy)
        supervisor.stopping.shutdown("wait_for_servers", "somebody")
        await no_new_client(supervisor, kept)
        async with later(lambda: value(idle)) as sent:
            pass
        assert isinstance(sent.error, psycopg.errors.AdminShutdown)
        # Longer than shutdown_timeout.
        await anyio.sleep(1.5)
        assert await value(busy) == pid
        with pytest.raises(PointsmanError, match="shutting down"):
            await supervisor.pausing.resume(None, "somebody")
        await busy.execute("COMMIT")
        await ended(supervisor)
        with pytest.raises(psycopg.errors.AdminShutdown):
            await value(busy)
    assert await in_thread(lambda: backends(kept)) == [0, 0]


async def test_who_cannot_wait_says_so_again(kept: Sandbox) -> None:
    async with (
        pointsman(kept) as supervisor,
        await psycopg.AsyncConnection.connect(conninfo(supervisor, kept), autocommit=True) as busy,
    ):
        await busy.execute("BEGIN")
        supervisor.stopping.shutdown("wait_for_clients", "somebody")
        supervisor.stopping.shutdown("wait_for_servers", "somebody")
        async with later(lambda: ended(supervisor)) as end:
            await waits(end, 1.5)
            # As SIGTERM does: within shutdown_timeout.
            supervisor.stop()
        with pytest.raises(psycopg.errors.AdminShutdown):
            await value(busy)
