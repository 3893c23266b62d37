"""DRAIN NODE, DETACH NODE, ATTACH NODE over a real cluster: what clients notice, and what is left on the nodes."""

import os
from collections.abc import Iterator
from functools import partial

import anyio
import psycopg
import pytest

from healthcheck.line import Credentials
from healthcheck.monitor import Target
from healthcheck.state import Rhythm
from healthcheck.topology import Condition
from middleware.errors import PointsmanError
from middleware.sandbox import Sandbox
from middleware.supervisor import Supervisor
from middleware.supervisor.node_orders import NodeOrder
from tests.supervisor.clients import backends, client, conninfo, crowd, in_thread, later, pointsman, value, waits
from tests.supervisor.quick import DEADLINE_S, happened, primary_of, until

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture(scope="module")
def kept() -> Iterator[Sandbox]:
    """A cluster whose roles stay as they are."""
    with Sandbox(standbys=2, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


def why(supervisor: Supervisor, name: str) -> tuple[Condition, str]:
    node = next(node for node in supervisor.topology.nodes if node.name == name)
    return node.condition, node.why


def it_is(supervisor: Supervisor, condition: Condition) -> bool:
    """db2 is."""
    return why(supervisor, "db2")[0] is condition


async def test_a_standby_is_drained_under_load_and_nothing_is_left_there(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor, crowd(supervisor, kept) as made:
        await until(lambda: len(supervisor.topology.standbys()) == 2, supervisor)
        await in_thread(made.wait_for_a_round)
        orders = supervisor.node_orders
        for _ in range(2):
            with anyio.fail_after(DEADLINE_S):
                told: list[str] = []
                await orders.drain("db2", "somebody", told.append)
            # There is another standby.
            assert not any("last standby" in text for text in told)
            assert (await in_thread(lambda: backends(kept)))[1] == 0
            assert why(supervisor, "db2") == (Condition.DETACHED, "detached by somebody")
            assert [(one.node, one.order, one.who) for one in orders.orders()] == [("db2", "detached", "somebody")]
            await in_thread(made.wait_for_a_round)
            assert (await in_thread(lambda: backends(kept)))[1] == 0
            await orders.attach("db2", "somebody")
            assert orders.orders() == ()
            await until(lambda: why(supervisor, "db2")[0] is Condition.UP, supervisor)
            await in_thread(made.wait_for_a_round)
            await until(lambda: backends(kept)[1] > 0, supervisor)
        assert made.errors == []
    wanted = ["node_drain_begun", "node_drained", "node_attached"]
    assert happened(supervisor, *wanted) == wanted * 2


async def test_an_order_outlives_the_node_and_a_change_of_the_primary(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor:
        await supervisor.node_orders.detach("db2", "somebody")
        await in_thread(kept.node("db2").stop)
        await until(lambda: why(supervisor, "db2")[0] is Condition.DOWN, supervisor)
        await in_thread(kept.node("db2").start)
        await until(lambda: why(supervisor, "db2") == (Condition.DETACHED, "detached by somebody"), supervisor)
        assert await supervisor.node_orders.attach("db2", "somebody") == ()
        await until(lambda: len(supervisor.topology.standbys()) == 2, supervisor)


async def test_drain_waits_for_what_is_lent_there_and_can_be_called_off(kept: Sandbox) -> None:
    told: list[str] = []
    async with pointsman(kept) as supervisor, client(supervisor, kept) as reader:
        orders = supervisor.node_orders
        await supervisor.node_orders.detach("db3", "somebody")
        await reader.execute("SET pointsman.route = 'standby'")
        await reader.execute("BEGIN READ ONLY")
        await value(reader, "SELECT count(*) FROM pg_class")
        for calls_off in (True, False):
            told.clear()
            async with later(lambda: orders.drain("db2", "somebody", told.append)) as drain:
                await until(lambda: len(told) == 2, supervisor)
                assert told == [
                    'node "db2" was the last standby in use: reads go to the primary, if they may',
                    "waiting for 1 server with transactions or statements under way",
                ]
                assert why(supervisor, "db2") == (Condition.DRAINING, "draining by somebody")
                with pytest.raises(PointsmanError, match="is draining already") as refused:
                    await orders.drain("db2", "another")
                assert (refused.value.sqlstate, refused.value.detail) == ("55000", "By somebody.")
                assert await value(reader, "SELECT count(*) FROM pg_class") > 0
                if calls_off:
                    drain.scope.cancel()
                else:
                    await reader.execute("COMMIT")
            await until(partial(it_is, supervisor, Condition.UP if calls_off else Condition.DETACHED), supervisor)
        for name in ("db2", "db3"):
            await orders.attach(name, "somebody")


async def test_a_node_that_dies_while_it_is_drained_is_detached(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor, client(supervisor, kept) as reader:
        await supervisor.node_orders.detach("db3", "somebody")
        await reader.execute("SET pointsman.route = 'standby'")
        await reader.execute("BEGIN READ ONLY")
        await value(reader, "SELECT count(*) FROM pg_class")
        async with later(lambda: supervisor.node_orders.drain("db2", "somebody")) as drain:
            await waits(drain, 0.3)
            await in_thread(lambda: kept.node("db2").stop("immediate"))
        assert drain.error is None
        await in_thread(kept.node("db2").start)
        await until(lambda: why(supervisor, "db2")[0] is Condition.DETACHED, supervisor)
        await reader.close()


async def test_the_primary_is_drained_and_writes_wait(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor, client(supervisor, kept) as writer:
        await writer.execute("CREATE TABLE IF NOT EXISTS t (a int)")
        told: list[str] = []
        await supervisor.node_orders.drain("db1", "somebody", told.append)
        assert told[0].startswith('node "db1" is the primary')
        assert primary_of(supervisor) == ""
        async with later(lambda: writer.execute("INSERT INTO t VALUES (1)")) as waiting:
            # Longer than a failover takes.
            await waits(waiting, 1.5)
            await supervisor.node_orders.attach("db1", "somebody")
        assert waiting.error is None
    assert happened(supervisor, "promoted", "failover_begun") == []


async def test_what_is_said_must_make_sense(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor:
        orders = supervisor.node_orders
        for act in (orders.detach, orders.attach, orders.drain):
            with pytest.raises(PointsmanError, match='node "db9" does not exist') as refused:
                await act("db9", "somebody")
            assert (refused.value.sqlstate, refused.value.hint) == ("42704", "There are db1, db2, db3.")
        with pytest.raises(PointsmanError, match="is not detached") as refused:
            await orders.attach("db2", "somebody")
        assert refused.value.sqlstate == "55000"
        await orders.detach("db2", "somebody")
        with pytest.raises(PointsmanError, match="is detached already"):
            await orders.detach("db2", "another")
        await in_thread(kept.node("db2").stop)
        await until(lambda: why(supervisor, "db2")[0] is Condition.DOWN, supervisor)
        (notice,) = await orders.attach("db2", "somebody")
        assert notice.startswith('node "db2" is not used all the same: ')
        await in_thread(kept.node("db2").start)


async def test_a_client_whose_session_is_there_is_waited_for(kept: Sandbox) -> None:
    told: list[str] = []
    async with pointsman(kept) as supervisor:
        async with await psycopg.AsyncConnection.connect(conninfo(supervisor, kept), autocommit=True) as pinned:
            await pinned.execute("CREATE TEMPORARY TABLE here (a int)")
            async with later(lambda: supervisor.node_orders.drain("db1", "somebody", told.append)) as drain:
                await until(lambda: len(told) == 2, supervisor)
                assert told[1] == "waiting for 1 server that clients keep because their session is there"
                await pinned.execute("INSERT INTO here VALUES (1)")
                await pinned.close()
        assert drain.error is None
        await supervisor.node_orders.attach("db1", "somebody")


async def test_nothing_is_said_of_nodes_while_a_switchover_goes_on(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor:
        orders = supervisor.node_orders
        supervisor._handover._going_on = True
        for act in (orders.detach, orders.attach, orders.drain):
            with pytest.raises(PointsmanError, match="a switchover is going on") as refused:
                await act("db2", "somebody")
            assert refused.value.sqlstate == "55006"


async def test_what_was_said_to_another_pointsman_holds_here(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor:
        orders = supervisor.node_orders
        orders.restore((NodeOrder("db2", "detached", "root", 1.0), NodeOrder("db9", "draining", "root", 2.0)))
        assert orders.orders() == (NodeOrder("db2", "detached", "root", 1.0),)
        assert why(supervisor, "db2") == (Condition.DETACHED, "detached by root")


async def test_a_node_that_is_taken_out_of_the_settings_and_put_in_again_is_used(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor:
        await supervisor.node_orders.detach("db2", "somebody")
        monitor = supervisor._monitor
        targets = [Target(node.name, node.host, node.port) for node in kept.nodes]
        checks = supervisor.settings.health_check
        asks = Credentials(checks.user, kept.passwords["pointsman"], checks.database, lambda: False), Rhythm(0.2, 1.0)
        monitor.use([one for one in targets if one.name != "db2"], *asks)
        assert supervisor.node_orders.orders() == ()
        with pytest.raises(PointsmanError, match='node "db2" does not exist'):
            await supervisor.node_orders.attach("db2", "somebody")
        monitor.use(targets, *asks)
        await until(lambda: it_is(supervisor, Condition.UP), supervisor)
