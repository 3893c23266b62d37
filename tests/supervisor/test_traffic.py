"""When nothing is under way any more at a node that drains, over workers that come and go."""

import anyio
import pytest

from middleware.control import Leases, NodeLeases
from middleware.supervisor.traffic import DrainingTraffic

pytestmark = pytest.mark.anyio


def leases(version: int, busy: int, resting: int) -> Leases:
    """What a worker says while db1 drains, and another node which nobody asks about here."""
    return Leases(version, (NodeLeases("db2", 5, 6, 7), NodeLeases("db1", busy, resting, 8)))


async def test_all_that_run_must_have_said_so_of_that_topology() -> None:
    running = [0, 1]
    traffic = DrainingTraffic(lambda: running)
    found: list[int] = []

    async def wait() -> None:
        found.append(await traffic.at_rest(7, "db1"))

    async def settled() -> list[int]:
        await anyio.wait_all_tasks_blocked()
        return found

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            assert await settled() == []
            assert traffic.under_way(7, "db1") == "workers have not answered: 0, 1"
            traffic.reported(0, leases(7, 2, 1))
            # What it says of an earlier topology says nothing.
            traffic.reported(1, leases(6, 0, 0))
            assert await settled() == []
            assert traffic.under_way(7, "db1") == "workers have not answered: 1"
            traffic.reported(1, leases(7, 1, 0))
            assert traffic.under_way(7, "db1") == "transactions or statements have not ended: 3"
            traffic.reported(0, leases(7, 0, 3))
            assert await settled() == []
            traffic.reported(1, leases(8, 0, 1))
            assert await settled() == [4]


async def test_a_worker_that_has_ended_is_not_waited_for_but_the_next_one_is() -> None:
    running = [0]
    traffic = DrainingTraffic(lambda: running)
    traffic.reported(0, leases(7, 1, 0))
    with anyio.fail_after(10):
        running.clear()
        traffic.ended(0)
        assert await traffic.at_rest(7, "db1") == 0
        running.append(0)
        with anyio.move_on_after(0.01) as waited:
            await traffic.at_rest(7, "db1")
        assert waited.cancelled_caught
        traffic.reported(0, leases(7, 0, 0))
        assert await traffic.at_rest(7, "db1") == 0
