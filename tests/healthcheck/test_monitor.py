"""The monitor over a real cluster: roles, a standby that dies and comes back, promotion, lag, and who may not ask."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from healthcheck.line import APPLICATION_NAME, Credentials, ProbeError
from healthcheck.monitor import Monitor, Target
from healthcheck.probe import Probe
from healthcheck.state import Rhythm
from healthcheck.topology import Condition, Role, Topology
from middleware.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

RHYTHM = Rhythm(period_s=0.1, timeout_s=2.0, max_retries=2, retry_delay_s=0.1)
DEADLINE_S = 30.0


def credentials(sandbox: Sandbox) -> Credentials:
    """The sandbox's role for health checks."""
    return Credentials("pointsman", sandbox.passwords["pointsman"], "postgres")


class Watch:
    """A running monitor and what it has published."""

    def __init__(self, sandbox: Sandbox, rhythm: Rhythm) -> None:
        self.published: list[Topology] = []
        targets = [Target(node.name, node.host, node.port) for node in sandbox.nodes]
        self.well_again: list[str] = []
        self.monitor = Monitor(
            targets, credentials(sandbox), rhythm, self.published.append, well_again=self.well_again.append
        )

    def seen(self) -> dict[str, str]:
        """The nodes in use, and their roles."""
        return {node.name: node.role.value for node in self.monitor.topology.nodes if node.up}

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for the topology to be so."""
        with anyio.move_on_after(DEADLINE_S):
            while not condition():
                await anyio.sleep(0.02)
            return
        pytest.fail(f"waited for {what}: {self.monitor.topology}")

    async def until_seen(self, **roles: str) -> None:
        """Wait for exactly these nodes to be in use, in these roles."""
        await self.until(lambda: self.seen() == roles, f"{roles}")


@asynccontextmanager
async def watching(sandbox: Sandbox, rhythm: Rhythm = RHYTHM) -> AsyncIterator[Watch]:
    """A monitor over the rig's nodes while the block runs."""
    watch = Watch(sandbox, rhythm)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.monitor.run)
        yield watch
        tasks.cancel_scope.cancel()


async def test_roles_are_asked_of_the_nodes(sandbox: Sandbox) -> None:
    async with watching(sandbox) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        # One view, published once all nodes were asked, not one per node.
        assert [topology.version for topology in watch.published] == [1]
        assert watch.monitor.topology.timeline == 1
        assert watch.monitor.topology.system_identifier


async def test_one_connection_is_kept_and_named(sandbox: Sandbox) -> None:
    async with watching(sandbox) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        query = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{APPLICATION_NAME}'"
        before = sandbox.query(query, sandbox.node("db2"))
        assert len(before) == 1
        # Each probe moves the query's start.
        started = f"SELECT query_start FROM pg_stat_activity WHERE pid = {before[0][0]}"
        first = sandbox.query(started, sandbox.node("db2"))

        async def probed_again() -> bool:
            return sandbox.query(started, sandbox.node("db2")) != first

        await wait_for(probed_again, "another probe")
        assert sandbox.query(query, sandbox.node("db2")) == before


async def wait_for(condition: Callable[[], Awaitable[Any]], what: str) -> None:
    """Wait for what only a query tells."""
    with anyio.move_on_after(DEADLINE_S):
        while not await condition():
            await anyio.sleep(0.02)
        return
    pytest.fail(f"waited for {what}")


async def test_a_standby_killed_is_down_and_comes_back(sandbox: Sandbox) -> None:
    async with watching(sandbox) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        sandbox.node("db2").kill()
        await watch.until_seen(db1="primary")
        assert watch.monitor.topology.nodes[1].why
        assert watch.monitor.topology.nodes[1].replay_lag_bytes is None
        sandbox.node("db2").start()
        await watch.until_seen(db1="primary", db2="standby")


async def test_a_node_that_hangs_is_down(sandbox: Sandbox) -> None:
    rhythm = msgspec.structs.replace(RHYTHM, timeout_s=0.3)
    async with watching(sandbox, rhythm) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        sandbox.node("db2").pause()
        try:
            await watch.until_seen(db1="primary")
            assert watch.monitor.topology.nodes[1].why == "no answer within 0.3 s"
        finally:
            sandbox.node("db2").resume()
        await watch.until_seen(db1="primary", db2="standby")


async def test_a_promotion_changes_the_roles_and_the_old_primary_is_not_taken_back(sandbox: Sandbox) -> None:
    async with watching(sandbox) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        sandbox.node("db1").kill()
        await watch.until_seen(db2="standby")
        assert watch.monitor.topology.primary() is None
        sandbox.promote("db2")
        await watch.until_seen(db2="primary")
        assert watch.monitor.topology.timeline == 2
        sandbox.node("db1").start()
        refused = "primary on timeline 1, but timeline 2 has been seen"
        await watch.until(lambda: watch.monitor.topology.nodes[0].why == refused, "the old primary to be refused")
        assert watch.seen() == {"db2": "primary"}
        # At no time were there two, nor did a version come twice.
        versions = [topology.version for topology in watch.published]
        assert versions == sorted(set(versions))
        for topology in watch.published:
            assert sum(node.up and node.role is Role.PRIMARY for node in topology.nodes) <= 1


async def test_a_promotion_beside_a_living_primary_takes_over_at_once(sandbox: Sandbox) -> None:
    async with watching(sandbox) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        sandbox.promote("db2")
        await watch.until_seen(db2="primary")


async def test_lag_grows_while_replay_is_paused_and_goes_without_a_new_version(sandbox: Sandbox) -> None:
    def lag() -> int:
        return watch.monitor.topology.nodes[1].replay_lag_bytes or 0

    async with watching(sandbox) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        sandbox.query("SELECT pg_wal_replay_pause()", sandbox.node("db2"))
        sandbox.query("CREATE TABLE lagging AS SELECT generate_series(1, 10000) AS i")
        await watch.until(lambda: lag() > 100_000, "lag")
        sandbox.query("SELECT pg_wal_replay_resume()", sandbox.node("db2"))
        await watch.until(lambda: lag() < 10_000, "no lag")
        assert len(watch.published) == 1


async def test_a_probe_wanted_now_does_not_wait_for_the_period(sandbox: Sandbox) -> None:
    slow = Rhythm(period_s=3600.0, timeout_s=2.0, max_retries=0)
    async with watching(sandbox, slow) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        sandbox.node("db2").kill()
        watch.monitor.probe_now("db2")
        watch.monitor.probe_now("a name that is not watched")
        await watch.until_seen(db1="primary")


async def test_a_wrong_password_is_told_without_telling_it(sandbox: Sandbox) -> None:
    node = sandbox.primary
    wrong = Credentials("pointsman", "not-the-password", "postgres")
    probe = Probe(node.name, node.host, node.port, wrong, 5.0)
    with pytest.raises(ProbeError, match="password authentication failed for user") as caught:
        await probe.ask()
    assert "not-the-password" not in f"{caught.value} {wrong}"


async def test_who_answers_again_is_told_of_also_where_it_was_never_down(sandbox: Sandbox) -> None:
    patient = Rhythm(period_s=0.1, timeout_s=0.3, max_retries=1000, retry_delay_s=0.1)
    async with watching(sandbox, patient) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        watch.well_again.clear()
        standby = sandbox.node("db2")
        standby.pause()
        try:
            await watch.until(lambda: watch.monitor.observations()["db2"].condition is Condition.SUSPECT, "doubts")
            version = watch.monitor.topology.version
            assert watch.well_again == []
        finally:
            standby.resume()
        await watch.until(lambda: watch.well_again == ["db2"], "db2 to answer")
        assert watch.monitor.topology.version == version


async def test_nodes_come_and_go_while_others_are_watched(sandbox: Sandbox) -> None:
    primary, standby = [Target(node.name, node.host, node.port) for node in sandbox.nodes]
    async with watching(sandbox) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        monitor = watch.monitor
        monitor.detach("db2")
        monitor.use([primary], credentials(sandbox), RHYTHM)
        # At once, and not by a probe.
        assert watch.seen() == {"db1": "primary"}
        assert [node.name for node in monitor.topology.nodes] == ["db1"]
        assert watch.published[-1] is monitor.topology
        asked = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{APPLICATION_NAME}'"

        async def left_alone() -> bool:
            return sandbox.query(asked, sandbox.node("db2")) == [["0"]]

        await wait_for(left_alone, "nobody to ask db2")
        # One that does not answer keeps nobody waiting, not even for the news of others.
        silent = Target("db9", "203.0.113.1", 1)
        monitor.use([silent, standby, primary], credentials(sandbox), RHYTHM)
        assert watch.seen() == {"db1": "primary"}
        await watch.until_seen(db1="primary", db2="standby")
        assert [node.name for node in monitor.topology.nodes] == ["db9", "db2", "db1"]
        versions = [topology.version for topology in watch.published]
        assert versions == sorted(set(versions))


async def test_an_order_stays_where_its_node_moves(sandbox: Sandbox) -> None:
    primary, standby = [Target(node.name, node.host, node.port) for node in sandbox.nodes]
    async with watching(sandbox) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        watch.monitor.detach("db2", "somebody")
        watch.monitor.use([primary, Target("db2", "localhost", standby.port)], credentials(sandbox), RHYTHM)
        await watch.until(lambda: watch.monitor.observations()["db2"].up, "db2 to be seen at its new place")
        assert watch.seen() == {"db1": "primary"}
        assert watch.monitor.topology.nodes[1].why == "detached by somebody"
        watch.monitor.attach("db2")
        await watch.until_seen(db1="primary", db2="standby")


async def test_who_was_given_up_as_primary_is_so_under_another_name(sandbox: Sandbox) -> None:
    primary, standby = [Target(node.name, node.host, node.port) for node in sandbox.nodes]
    async with watching(sandbox) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        watch.monitor.fence("db1")
        assert watch.seen() == {"db2": "standby"}
        watch.monitor.use([Target("first", primary.host, primary.port), standby], credentials(sandbox), RHYTHM)
        await watch.until(lambda: watch.monitor.observations()["first"].up, "it to be seen under its new name")
        assert watch.seen() == {"db2": "standby"}
        assert watch.monitor.topology.primary() is None


async def test_the_only_primary_is_so_under_another_name(sandbox: Sandbox) -> None:
    primary, standby = [Target(node.name, node.host, node.port) for node in sandbox.nodes]
    who, renamed = credentials(sandbox), Target("first", primary.host, primary.port)
    async with watching(sandbox) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        watch.monitor.use([primary, standby], who, RHYTHM, roles_change=False)
        assert watch.monitor.topology.only_primary == "db1"
        watch.monitor.use([renamed, standby], who, RHYTHM, roles_change=False)
        await watch.until_seen(first="primary", db2="standby")
        assert watch.monitor.topology.only_primary == "first"
        watch.monitor.use([renamed, standby], who, RHYTHM, roles_change=True)
        assert watch.monitor.topology.only_primary == ""


async def test_others_may_ask_with_another_rhythm_from_the_next_probe_on(sandbox: Sandbox) -> None:
    targets = [Target(node.name, node.host, node.port) for node in sandbox.nodes]
    slow = Rhythm(period_s=3600.0, timeout_s=2.0, max_retries=0)
    wrong = Credentials("pointsman", "not-the-password", "postgres")
    async with watching(sandbox, slow) as watch:
        await watch.until_seen(db1="primary", db2="standby")
        watch.monitor.use(targets, wrong, RHYTHM)
        failed = "password authentication failed"
        await watch.until(
            lambda: all(failed in one.why for one in watch.monitor.observations().values()), "the wrong password"
        )
        watch.monitor.use(targets, credentials(sandbox), RHYTHM)
        await watch.until_seen(db1="primary", db2="standby")
        await watch.until(lambda: not any(one.why for one in watch.monitor.observations().values()), "the right one")
