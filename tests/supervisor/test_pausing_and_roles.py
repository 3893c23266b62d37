"""PAUSE and changes of the primary: a switchover while all is paused, and a primary that is dead when it goes on."""

import sys
from pathlib import Path

import anyio
import pytest

from middleware.sandbox import Sandbox
from middleware.sandbox.door import Door
from tests.supervisor.clients import crowd, in_thread, pointsman
from tests.supervisor.quick import happened, primary_of, until

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


def stops(sandbox: Sandbox) -> str:
    """A demote_command."""
    file = "%D/postmaster.pid"
    return f"sh -c 'kill -INT $(head -n 1 {file}) && while [ -e {file} ]; do sleep 0.01; done'"


async def test_the_role_is_handed_over_while_all_is_paused(sandbox: Sandbox, tmp_path: Path) -> None:
    """As runbooks have it: PAUSE, switchover, RESUME."""
    nodes = {
        node.name: {"host": node.host, "port": node.port, "data_directory": str(node.data_directory)}
        for node in sandbox.nodes
    }
    with Door(sandbox, tmp_path / "door") as door:
        orders = {
            "nodes": nodes,
            "demote_command": stops(sandbox),
            "follow_primary_command": f"{sys.executable} -m middleware.sandbox rejoin {door.path} %n %o",
        }
        async with pointsman(sandbox, **orders) as supervisor, crowd(supervisor, sandbox) as made:
            await supervisor.pausing.pause(None, "somebody")
            switched = await supervisor.switch("db2")
            assert (switched.primary, switched.old) == ("db2", "db1")
            await supervisor.pausing.resume(None, "somebody")
            await in_thread(made.wait_for_a_round)
            assert made.errors == []
            acknowledged = set(made.acknowledged)
            found = await in_thread(lambda: sandbox.query("SELECT writer, number FROM ledger", sandbox.node("db2")))
            assert acknowledged <= {(int(writer), int(number)) for writer, number in found}


async def test_a_primary_that_is_dead_when_all_goes_on_is_replaced(sandbox: Sandbox) -> None:
    async with pointsman(sandbox) as supervisor, crowd(supervisor, sandbox) as made:
        await supervisor.pausing.pause(None, "somebody")
        await in_thread(sandbox.node("db1").stop)
        await until(lambda: "failover_held" in happened(supervisor), supervisor)
        held = next(one for one in supervisor.happenings if one.what == "failover_held")
        assert (held.text, held.bad) == ("no failover: all databases are paused by somebody", False)
        # Longer than failover_after.
        await anyio.sleep(1.0)
        assert happened(supervisor, "promoted") == []
        await supervisor.pausing.resume(None, "somebody")
        await until(lambda: primary_of(supervisor) == "db2", supervisor)
        await in_thread(made.wait_for_a_round)
        assert made.errors == []
        acknowledged = set(made.acknowledged)
        found = await in_thread(lambda: sandbox.query("SELECT writer, number FROM ledger", sandbox.node("db2")))
        assert acknowledged <= {(int(writer), int(number)) for writer, number in found}
