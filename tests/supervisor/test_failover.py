"""Failover over a real cluster: what is done to nodes, in which order, and what is not done."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import psycopg
import pytest

from middleware.sandbox import Sandbox
from middleware.service import running
from tests.supervisor.quick import DEADLINE_S, happened, primary_of, promoting, until

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def three() -> Iterator[Sandbox]:
    with Sandbox(standbys=2, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


async def test_a_dead_primary_is_fenced_another_promoted_and_the_others_follow(three: Sandbox, tmp_path: Path) -> None:
    told = tmp_path / "told"
    commands = {
        "fence_command": f"sh -c 'echo fence %n %o %N:%S >> {told}'",
        "failover_command": f"sh -c 'echo failover %n %o %H:%r >> {told}'",
        "follow_primary_command": f"sh -c 'echo follow %n %o >> {told}'",
    }
    async with running(promoting(three, **commands)) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        three.node("db1").kill()
        await until(lambda: "failover_done" in happened(supervisor), supervisor)
        new = primary_of(supervisor)
        assert new in ("db2", "db3")
        assert happened(supervisor, "primary_lost", "failover_begun", "fenced", "promoted", "failover_done") == [
            "primary_lost",
            "failover_begun",
            "fenced",
            "promoted",
            "failover_done",
        ]
        other = three.node("db3" if new == "db2" else "db2")
        streams = "SELECT count(*) FROM pg_stat_replication"
        await until(lambda: three.query(streams, three.node(new)) == [["1"]], supervisor)
        old, chosen = three.node("db1"), three.node(new)
        assert told.read_text().splitlines() == [
            f"fence db1 {new} {old.host}:{old.port}",
            f"failover db1 {new} {chosen.host}:{chosen.port}",
        ]
        # What was primary comes back as one, and is not used; a command is to see to it.
        old.start()
        await until(lambda: "follow" in told.read_text(), supervisor)
        assert told.read_text().splitlines()[2] == f"follow db1 {new}"
        assert primary_of(supervisor) == new
        (back,) = [node for node in supervisor.topology.nodes if node.name == "db1"]
        assert (back.up, back.condition.value) == (False, "detached")
        assert [node.name for node in supervisor.topology.standbys()] == [other.name]


async def test_a_primary_that_dies_while_a_node_is_made_to_follow_is_replaced(three: Sandbox, tmp_path: Path) -> None:
    began = tmp_path / "began"
    # It has stopped the node, and copies for hours.
    follow = f"sh -c 'kill -INT $(head -n 1 %D/postmaster.pid); touch {began}; sleep 600'"
    nodes = {
        node.name: {
            "host": node.host,
            "port": node.port,
            "data_directory": three.query("SHOW data_directory", node)[0][0],
        }
        for node in three.nodes
    }
    commands = {"follow_primary_command": follow, "command_timeout": 600, "nodes": nodes}
    async with running(promoting(three, **commands)) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        three.node("db1").kill()
        await until(lambda: "failover_done" in happened(supervisor), supervisor)
        three.node("db1").start()
        await until(began.exists, supervisor)
        new = primary_of(supervisor)
        last = "db3" if new == "db2" else "db2"
        await until(lambda: supervisor._monitor.observations()[last].timeline == 2, supervisor)
        three.node(new).kill()
        await until(lambda: primary_of(supervisor) == last, supervisor)


def fail_and_go_on(conninfo: str, hang: Callable[[], None]) -> list[str | None]:
    """A client whose statement hangs: the SQLSTATEs it hears until one is carried out, on the connection it has."""
    heard: list[str | None] = []
    with contextlib.closing(psycopg.connect(conninfo, autocommit=True)) as client:
        client.execute("SELECT 1")
        hang()
        until_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < until_s:
            try:
                client.execute("CREATE TABLE IF NOT EXISTS hung (a int)")
            except psycopg.Error as error:
                heard.append(error.sqlstate)
                time.sleep(0.05)
            else:
                return heard
    return [*heard, "and no more"]


async def test_a_hung_primary_is_replaced_and_who_waits_for_it_hears_of_it(three: Sandbox) -> None:
    async with running(promoting(three)) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        host, port = supervisor.addresses[0]
        conninfo = f"host={host} port={port} user=app password={three.passwords['app']} dbname=app"
        try:
            heard = await anyio.to_thread.run_sync(fail_and_go_on, conninfo, three.node("db1").pause)
            assert heard == ["08007"], heard
            assert primary_of(supervisor) in ("db2", "db3")
        finally:
            three.node("db1").resume()
        new = primary_of(supervisor)

        def refused() -> bool:
            (old,) = [node for node in supervisor.topology.nodes if node.name == "db1"]
            return old.condition.value == "detached" and not old.up

        await until(refused, supervisor)
        assert primary_of(supervisor) == new


async def test_a_fence_that_fails_promotes_nobody(three: Sandbox) -> None:
    async with running(promoting(three, fence_command="false")) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        three.node("db1").kill()
        await until(lambda: "failover_abandoned" in happened(supervisor), supervisor)
        assert [node.name for node in supervisor.topology.nodes if node.role.value == "primary"] == ["db1"]
        assert three.query("SELECT pg_is_in_recovery()", three.node("db2")) == [["t"]]
        # It may come back, and is used again.
        three.node("db1").start()
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        assert "promoted" not in happened(supervisor)


@pytest.mark.parametrize("failover", ["off", "follow"])
async def test_nobody_is_promoted_unless_asked_for(three: Sandbox, failover: str) -> None:
    async with running(promoting(three, failover=failover)) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        three.node("db1").kill()
        await until(lambda: "failover_held" in happened(supervisor), supervisor)
        assert primary_of(supervisor) == ""
        # By another's hand.
        three.promote("db2")
        if failover == "follow":
            await until(lambda: primary_of(supervisor) == "db2", supervisor)
        else:

            def refused() -> bool:
                return any("failover is off" in node.why for node in supervisor.topology.nodes)

            await until(refused, supervisor)
            assert primary_of(supervisor) == ""


async def test_a_primary_that_others_hear_is_not_replaced(three: Sandbox) -> None:
    """We cannot reach it, its standbys can: what it has written since would be lost."""
    async with running(promoting(three)) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        pid = three.node("db1").pid
        assert pid is not None
        with psycopg.connect(three.url(user="postgres"), autocommit=True) as direct:
            # Nobody takes new connections; those that there are go on, replication among them.
            os.kill(pid, signal.SIGSTOP)
            try:
                direct.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pointsman'")
                await until(lambda: primary_of(supervisor) == "", supervisor)

                def held() -> bool:
                    # It writes: its standbys have messages from it.
                    direct.execute("SELECT pg_logical_emit_message(true, 'a', 'b')")
                    return any("still heard by" in one.text for one in supervisor.happenings)

                await until(held, supervisor)
                assert "promoted" not in happened(supervisor)
            finally:
                os.kill(pid, signal.SIGCONT)
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
