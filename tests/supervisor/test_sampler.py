"""The sampler over a real cluster: a standby that lags, one that hangs, and one that is promoted."""

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import msgspec
import pytest

from healthcheck.line import Credentials
from healthcheck.topology import Condition, Node, Role, Topology
from middleware.sandbox import Sandbox, SandboxError
from middleware.supervisor.sampler import Freshness, Sampler
from routing.freshness import NEVER

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

DEADLINE_S = 20.0
TIMEOUT_S = 2.0


@pytest.fixture
def two_standbys() -> Iterator[Sandbox]:
    """A primary and two standbys for one test, which may break them."""
    with Sandbox(standbys=2, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


def topology_of(sandbox: Sandbox, version: int = 1, without: str = "") -> Topology:
    """The sandbox's nodes as monitors would find them."""
    roles = {node.name: Role.STANDBY for node in sandbox.standbys} | {sandbox.primary.name: Role.PRIMARY}
    nodes = tuple(
        Node(node.name, node.host, node.port, roles.get(node.name, Role.UNKNOWN), node.name in roles)
        for node in sandbox.nodes
        if node.name != without
    )
    return Topology(version, nodes, 1, version)


class Watch:
    """A sampler, and what it has published."""

    def __init__(self, sandbox: Sandbox, period_s: float) -> None:
        self.published: list[Freshness] = []
        self.sampler = Sampler(
            Credentials("pointsman", sandbox.passwords["pointsman"], "postgres"),
            self.published.append,
            period_s=period_s,
            timeout_s=TIMEOUT_S,
        )

    def fresh_as_of(self, name: str) -> float:
        """What was last published of a standby; NEVER while nothing was."""
        known = {node: fresh for node, fresh, _ in self.published[-1]} if self.published else {}
        return known.get(name, NEVER)

    def lag_bytes(self, name: str) -> int | None:
        return {node: lag for node, _, lag in self.published[-1]}[name]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it is so."""
        with anyio.move_on_after(DEADLINE_S):
            while not condition():
                await anyio.sleep(0.005)
            return
        pytest.fail(f"waited for {what}: {self.published[-1:]}")

    async def until_fresh(self, name: str, moment: float) -> None:
        await self.until(lambda: self.fresh_as_of(name) >= moment, f"{name} to be fresh as of {moment}")


@asynccontextmanager
async def sampling(sandbox: Sandbox, period_s: float = 0.05) -> AsyncIterator[Watch]:
    """A sampler over the sandbox's nodes while the block runs."""
    watch = Watch(sandbox, period_s)
    watch.sampler.topology_changed(topology_of(sandbox))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.sampler.run)
        yield watch
        tasks.cancel_scope.cancel()


async def query(sandbox: Sandbox, sql: str, node: str = "") -> None:
    """psql, while the sampler goes on."""
    await anyio.to_thread.run_sync(sandbox.query, sql, sandbox.node(node) if node else None)


async def commit(sandbox: Sandbox) -> float:
    """When a commit was acknowledged."""
    await query(sandbox, "CREATE TABLE IF NOT EXISTS written (a int); INSERT INTO written VALUES (1)")
    return time.monotonic()


async def test_a_standby_whose_replay_is_paused_stays_stale_while_the_other_goes_on(two_standbys: Sandbox) -> None:
    async with sampling(two_standbys) as watch:
        written = await commit(two_standbys)
        await watch.until_fresh("db2", written)
        await watch.until_fresh("db3", written)
        await query(two_standbys, "SELECT pg_wal_replay_pause()", "db2")
        written = await commit(two_standbys)
        await watch.until_fresh("db3", written)
        count = len(watch.published)
        await watch.until(lambda: len(watch.published) > count + 10, "ten more rounds")
        assert NEVER < watch.fresh_as_of("db2") < written
        assert (watch.lag_bytes("db2") or 0) > 0
        await query(two_standbys, "SELECT pg_wal_replay_resume()", "db2")
        await watch.until_fresh("db2", written)
        # At no time was anything taken back.
        for name in ("db2", "db3"):
            moments = [fresh for freshness in watch.published for node, fresh, _ in freshness if node == name]
            assert moments == sorted(moments)


async def test_a_primary_that_drains_is_sampled_on(sandbox: Sandbox) -> None:
    """Who has written goes on reading from standbys until it has ended."""
    async with sampling(sandbox) as watch:
        await watch.until_fresh("db2", await commit(sandbox))
        before = watch.fresh_as_of("db2")
        known = topology_of(sandbox)
        nodes = tuple(
            msgspec.structs.replace(node, up=False, condition=Condition.DRAINING) if node.name == "db1" else node
            for node in known.nodes
        )
        drained = msgspec.structs.replace(known, version=2, nodes=nodes)
        assert drained.primary() is None
        count = len(watch.published)
        watch.sampler.topology_changed(drained)
        await watch.until_fresh("db2", await commit(sandbox))
        # Nor was what was known before taken back.
        assert all(fresh >= before for freshness in watch.published[count:] for _, fresh, _ in freshness)


async def test_a_standby_has_all_of_an_idle_primary_that_has_begun_a_segment(sandbox: Sandbox) -> None:
    """Where nothing stands behind the header of its first page."""
    async with sampling(sandbox) as watch:
        await watch.until_fresh("db2", await commit(sandbox))
        await query(sandbox, "CHECKPOINT; SELECT pg_switch_wal()")
        begun = time.monotonic()
        await watch.until_fresh("db2", begun)
        assert watch.lag_bytes("db2") == 0
        # Before PostgreSQL writes something of its own, which is a matter of 15 s.
        assert time.monotonic() - begun < 10


async def test_what_is_said_to_be_there_can_be_read(sandbox: Sandbox) -> None:
    await query(sandbox, "CREATE TABLE numbered (a int)")
    async with sampling(sandbox, period_s=10.0) as watch:
        for number in range(5):
            await query(sandbox, f"INSERT INTO numbered VALUES ({number})")
            written = time.monotonic()
            while watch.fresh_as_of("db2") < written:
                assert time.monotonic() < written + DEADLINE_S
                watch.sampler.wanted()
                await anyio.sleep(0.005)
            answer = await anyio.to_thread.run_sync(sandbox.query, "SELECT max(a) FROM numbered", sandbox.node("db2"))
            assert answer == [[str(number)]]


async def test_a_sample_that_is_wanted_does_not_wait_for_the_period(sandbox: Sandbox) -> None:
    times: list[float] = []
    async with sampling(sandbox, period_s=10.0) as watch:
        await watch.until(lambda: watch.fresh_as_of("db2") > NEVER, "the first sample")
        for _ in range(10):
            begun = time.monotonic()
            while watch.fresh_as_of("db2") < begun:
                assert time.monotonic() < begun + DEADLINE_S
                watch.sampler.wanted()
                await anyio.sleep(0.001)
            times.append(time.monotonic() - begun)
    # The best of them: the machine may be busy with something else.
    assert min(times) < 0.1


async def test_what_nobody_flushes_is_flushed_for_those_who_wait(sandbox: Sandbox) -> None:
    """A transaction that reads sets hints, and writes them down; where it fails, nobody has them flushed."""
    (node,) = [one for one in sandbox.nodes if one is sandbox.primary]
    unflushed = "SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()"
    await query(sandbox, "CREATE TABLE hinted AS SELECT generate_series(1, 10000) AS a")
    async with sampling(sandbox) as watch:
        for _ in range(20):
            await query(sandbox, "INSERT INTO hinted SELECT generate_series(1, 300); CHECKPOINT")
            with pytest.raises(SandboxError, match="division by zero"):
                await query(sandbox, "SELECT 1 / (count(*) - count(*)) FROM hinted")
            await anyio.sleep(1.0)
            # Chance may have somebody else flush it.
            if sandbox.query(unflushed, node) == [["t"]]:
                break
        else:
            raise AssertionError("it was flushed each time")
        begun = time.monotonic()
        assert watch.fresh_as_of("db2") < begun
        while watch.fresh_as_of("db2") < begun:
            # Without us it takes 10 to 20 s.
            assert time.monotonic() < begun + 5
            watch.sampler.wanted()
            await anyio.sleep(0.01)


async def test_nobody_samples_before_the_period_unless_wanted(sandbox: Sandbox) -> None:
    async with sampling(sandbox, period_s=10.0) as watch:
        await watch.until(lambda: watch.fresh_as_of("db2") > NEVER, "the first sample")
        count = len(watch.published)
        await anyio.sleep(0.3)
        assert len(watch.published) <= count + 1


async def test_a_standby_that_hangs_does_not_hold_up_the_other(two_standbys: Sandbox) -> None:
    async with sampling(two_standbys, period_s=10.0) as watch:
        written = await commit(two_standbys)
        watch.sampler.wanted()
        await watch.until_fresh("db2", written)
        await watch.until_fresh("db3", written)
        node = two_standbys.node("db2")
        node.pause()
        try:
            paused = time.monotonic()
            times: list[float] = []
            # Long enough for a connection that is given up, and for the next one that is not answered either.
            while time.monotonic() < paused + 1.5 * TIMEOUT_S:
                begun = time.monotonic()
                while watch.fresh_as_of("db3") < begun:
                    assert time.monotonic() < begun + DEADLINE_S
                    watch.sampler.wanted()
                    await anyio.sleep(0.001)
                times.append(time.monotonic() - begun)
            assert watch.fresh_as_of("db2") < paused
            # Half of the rounds; a round that waited for db2 would take TIMEOUT_S, so there would be one or two.
            assert sorted(times)[len(times) // 2] < TIMEOUT_S / 4
        finally:
            node.resume()
        resumed = time.monotonic()
        while watch.fresh_as_of("db2") < resumed:
            assert time.monotonic() < resumed + DEADLINE_S
            watch.sampler.wanted()
            await anyio.sleep(0.01)


async def test_a_standby_that_dies_costs_the_other_nothing_and_comes_back(two_standbys: Sandbox) -> None:
    async with sampling(two_standbys) as watch:
        await watch.until(lambda: watch.fresh_as_of("db2") > NEVER, "db2")
        node = two_standbys.node("db2")
        await anyio.to_thread.run_sync(node.kill)
        written = await commit(two_standbys)
        await watch.until_fresh("db3", written)
        assert watch.fresh_as_of("db2") < written
        await anyio.to_thread.run_sync(node.start)
        await watch.until_fresh("db2", written)


async def test_a_promotion_voids_what_was_known(two_standbys: Sandbox) -> None:
    async with sampling(two_standbys) as watch:
        written = await commit(two_standbys)
        await watch.until_fresh("db3", written)
        await anyio.to_thread.run_sync(two_standbys.promote, "db2")
        await query(two_standbys, "SELECT pg_wal_replay_pause()", "db3")
        await commit(two_standbys)
        before = watch.fresh_as_of("db3")
        assert before >= written
        changed = time.monotonic()
        watch.sampler.topology_changed(topology_of(two_standbys, version=2, without="db1"))
        count = len(watch.published)
        await watch.until(lambda: len(watch.published) > count + 5, "rounds under the new primary")
        assert [name for name, _, _ in watch.published[-1]] == ["db3"]
        assert watch.fresh_as_of("db3") == NEVER
        await query(two_standbys, "SELECT pg_wal_replay_resume()", "db3")
        await watch.until_fresh("db3", changed)


async def test_without_a_primary_standbys_are_as_fresh_as_they_were(sandbox: Sandbox) -> None:
    async with sampling(sandbox) as watch:
        await watch.until(lambda: watch.fresh_as_of("db2") > NEVER, "db2")
        lost = time.monotonic()
        watch.sampler.topology_changed(topology_of(sandbox, version=2, without="db1"))
        count = len(watch.published)
        await watch.until(lambda: len(watch.published) > count + 5, "rounds without a primary")
        assert NEVER < watch.fresh_as_of("db2") <= lost
        changed = time.monotonic()
        watch.sampler.topology_changed(topology_of(sandbox, version=3))
        await watch.until_fresh("db2", changed)


async def test_a_standby_that_comes_back_is_said_to_have_what_it_has(sandbox: Sandbox) -> None:
    async with sampling(sandbox) as watch:
        await watch.until(lambda: watch.fresh_as_of("db2") > NEVER, "db2")
        await query(sandbox, "SELECT pg_wal_replay_pause()", "db2")
        written = await commit(sandbox)
        watch.sampler.topology_changed(topology_of(sandbox, without="db2"))
        await watch.until(lambda: watch.published[-1] == (), "no standby")
        watch.sampler.topology_changed(topology_of(sandbox))
        await watch.until(lambda: watch.published[-1] != (), "db2 to be back")
        assert watch.fresh_as_of("db2") < written
        await query(sandbox, "SELECT pg_wal_replay_resume()", "db2")
        await watch.until(lambda: watch.fresh_as_of("db2") > written, "db2 to catch up")
