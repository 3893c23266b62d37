"""PAUSE, RESUME and their kin over a real cluster: what clients notice of it, and what is left on the nodes."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anyio
import psycopg
import pytest

from middleware.errors import PointsmanError
from middleware.sandbox import Sandbox
from middleware.supervisor import Supervisor
from tests.supervisor.clients import backends, client, conninfo, crowd, in_thread, later, pointsman, value, waits
from tests.supervisor.quick import DEADLINE_S, happened, primary_of, until

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture(scope="module")
def kept() -> Iterator[Sandbox]:
    """A cluster whose roles stay as they are."""
    with Sandbox(standbys=1, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        own.query("CREATE DATABASE other OWNER app")
        own.wait_for_replay()
        yield own


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


async def all_know(supervisor: Supervisor) -> None:
    """Every worker goes by what was said."""
    pausing = supervisor.pausing
    known = pausing._progress

    def told() -> bool:
        return len(known) == len(supervisor.worker_pids) and all(
            one.serial >= pausing._told.serial for one in known.values()
        )

    await until(told, supervisor)


async def test_a_database_that_is_paused_leaves_the_others_alone(kept: Sandbox) -> None:
    async with (
        pointsman(kept) as supervisor,
        client(supervisor, kept) as mine,
        client(supervisor, kept, "other") as others,
    ):
        await value(mine)
        await value(others)
        await supervisor.pausing.pause("app", "somebody")
        assert supervisor.pausing.state().paused("app")
        assert not supervisor.pausing.state().paused("other")
        left = "SELECT datname FROM pg_stat_activity WHERE usename = 'app'"
        assert {name for [name] in await in_thread(lambda: kept.query(left))} == {"other"}
        async with later(lambda: value(mine, "SELECT 'mine'")) as waiting:
            assert await value(others, "SELECT 'others'") == "others"
            async with client(supervisor, kept, "other") as newcomer:
                assert await value(newcomer, "SELECT 1") == 1
            await waits(waiting)
            assert await supervisor.pausing.resume("app", "somebody") == ()
        assert waiting.came_to == "mine"


async def test_a_rule_may_call_a_database_otherwise(kept: Sandbox) -> None:
    """Clients are paused by what they call it; a pool that others use as well stays open for them."""
    routes = [
        {"name": "jobs", "database": "jobs", "server_database": "app"},
        {"name": "batch", "database": "batch", "server_database": "app", "pool_size": 3},
    ]
    left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
    async with (
        pointsman(kept, routes=routes, workers=1, default_pool_size=1) as supervisor,
        client(supervisor, kept) as app,
        client(supervisor, kept, "jobs") as jobs,
        client(supervisor, kept, "batch") as batch,
    ):
        pids = {name: await value(one) for name, one in (("app", app), ("jobs", jobs), ("batch", batch))}
        assert pids["app"] == pids["jobs"] != pids["batch"]
        await supervisor.pausing.pause("batch", "somebody")
        assert await in_thread(lambda: kept.query(left)) == [["1"]]
        await supervisor.pausing.pause("jobs", "somebody")
        assert await value(app) == pids["app"]
        async with later(lambda: value(jobs)) as first, later(lambda: value(batch)) as second:
            await waits(first)
            assert not second.ended()
            await supervisor.pausing.resume("jobs", "somebody")
            await supervisor.pausing.resume("batch", "somebody")
        assert first.came_to == pids["app"]
        assert second.came_to not in pids.values()
        # With nobody there who calls it otherwise, it is closed as well.
        await app.close()
        await supervisor.pausing.pause("jobs", "somebody")
        await supervisor.pausing.pause("batch", "somebody")
        assert await in_thread(lambda: kept.query(left)) == [["0"]]
        async with client(supervisor, kept) as newcomer:
            assert await value(newcomer, "SELECT 1") == 1


async def test_a_transaction_that_is_open_ends_and_then_all_is_closed(kept: Sandbox) -> None:
    told: list[str] = []
    async with pointsman(kept) as supervisor, client(supervisor, kept) as busy, client(supervisor, kept) as idle:
        await busy.execute("BEGIN")
        pid = await value(busy)
        async with (
            later(lambda: supervisor.pausing.pause(None, "somebody", told.append)) as pause,
            later(lambda: value(idle)) as waiting,
        ):
            await until(lambda: bool(told), supervisor)
            assert told == ["waiting for 1 servers with transactions or statements under way"]
            assert await value(busy) == pid
            assert not pause.ended()
            await busy.execute("COMMIT")
            with anyio.fail_after(DEADLINE_S):
                await pause.done.wait()
            assert pause.error is None
            assert await in_thread(lambda: backends(kept)) == [0, 0]
            await waits(waiting, 0.1)
            await supervisor.pausing.resume(None, "somebody")
        assert waiting.error is None


async def test_a_pause_that_is_called_off_is_taken_back(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor, client(supervisor, kept) as busy, client(supervisor, kept) as idle:
        await busy.execute("BEGIN")
        for database in (None, "app"):
            async with later(partial(supervisor.pausing.pause, database, "somebody")) as pause:
                await all_know(supervisor)
                async with later(lambda: value(idle)) as waiting:
                    await waits(waiting)
                    pause.scope.cancel()
                assert waiting.error is None
            assert not supervisor.pausing.state().paused("app")
        # Who only waits for what another has begun takes nothing back.
        async with later(lambda: supervisor.pausing.pause("app", "first")) as first:
            await until(lambda: supervisor.pausing.state().paused("app"), supervisor)
            async with later(lambda: supervisor.pausing.pause("app", "second")) as second:
                await waits(second, 0.1)
                second.scope.cancel()
            assert supervisor.pausing.state().paused("app")
            await busy.execute("COMMIT")
        assert first.error is None
        with pytest.raises(PointsmanError) as refused:
            await supervisor.pausing.resume(None, "somebody")
        assert (refused.value.sqlstate, refused.value.hint) == ("55000", "Paused by their names: app.")
        await supervisor.pausing.resume("app", "somebody")


async def test_a_client_whose_session_is_on_its_server_keeps_it_until_it_is_gone(kept: Sandbox) -> None:
    told: list[str] = []
    async with pointsman(kept) as supervisor:
        async with client(supervisor, kept) as pinned:
            await pinned.execute("CREATE TEMPORARY TABLE here (a int)")
            async with later(lambda: supervisor.pausing.pause(None, "somebody", told.append)) as pause:
                await until(lambda: bool(told), supervisor)
                assert told == ["waiting for 1 servers that clients keep because their session is there"]
                await pinned.execute("INSERT INTO here VALUES (1)")
                assert await value(pinned, "SELECT count(*) FROM here") == 1
                assert not pause.ended()
                await pinned.close()
        assert pause.error is None
        assert await in_thread(lambda: backends(kept)) == [0, 0]


async def test_who_waits_for_too_long_hears_so_and_goes_on(kept: Sandbox) -> None:
    async with pointsman(kept, query_wait_timeout=1.0) as supervisor, client(supervisor, kept) as one:
        await value(one)
        await supervisor.pausing.pause("app", "somebody")
        began = time.monotonic()
        with pytest.raises(psycopg.errors.CannotConnectNow, match="the database is paused"):
            await value(one)
        assert 0.5 < time.monotonic() - began < 10
        await supervisor.pausing.resume("app", "somebody")
        assert await value(one, "SELECT 1") == 1


async def test_a_statement_that_waits_can_be_cancelled(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor, client(supervisor, kept) as one:
        await value(one)
        await supervisor.pausing.pause("app", "somebody")
        async with later(lambda: value(one)) as waiting:
            await waits(waiting, 0.2)
            await one.cancel_safe()
        assert isinstance(waiting.error, psycopg.errors.QueryCanceled)
        await supervisor.pausing.resume("app", "somebody")
        assert await value(one, "SELECT 1") == 1


def restarted(supervisor: Supervisor, before: int) -> bool:
    return supervisor.worker_pids not in ((before,), (None,))


async def test_a_worker_that_is_killed_while_all_is_paused_is_paused_again(kept: Sandbox) -> None:
    async with pointsman(kept, workers=1) as supervisor:
        async with client(supervisor, kept) as one:
            await value(one)
        for database in (None, "app"):
            await supervisor.pausing.pause(database, "somebody")
            (pid,) = supervisor.worker_pids
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(partial(restarted, supervisor, pid), supervisor)
            worker = supervisor._workers[0]
            with anyio.fail_after(DEADLINE_S):
                await worker.ready.wait()

            async def ask() -> Any:
                async with client(supervisor, kept) as newcomer:
                    return await value(newcomer, "SELECT 1")

            async with later(ask) as waiting:
                await waits(waiting)
                assert await in_thread(lambda: backends(kept)) == [0, 0]
                await supervisor.pausing.resume(database, "somebody")
            assert waiting.came_to == 1


async def test_a_worker_that_is_killed_is_not_waited_for(kept: Sandbox) -> None:
    async with pointsman(kept, workers=1) as supervisor:
        busy = await psycopg.AsyncConnection.connect(conninfo(supervisor, kept), autocommit=True)
        await busy.execute("BEGIN")
        async with later(lambda: supervisor.pausing.pause(None, "somebody")) as pause:
            await waits(pause, 0.2)
            (pid,) = supervisor.worker_pids
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        assert pause.error is None
        await busy.close()


async def test_kill_closes_all_and_leaves_it_paused(kept: Sandbox) -> None:
    async with (
        pointsman(kept) as supervisor,
        client(supervisor, kept, "other") as others,
        await psycopg.AsyncConnection.connect(conninfo(supervisor, kept), autocommit=True) as busy,
        await psycopg.AsyncConnection.connect(conninfo(supervisor, kept), autocommit=True) as idle,
    ):
        other_pid = await value(others)
        await value(idle)
        async with later(lambda: value(busy, "SELECT pg_sleep(60)")) as sleeping:
            await until(
                lambda: (
                    kept.query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'")
                    != [["0"]]
                ),
                supervisor,
            )
            await supervisor.pausing.kill("app", "somebody")
        assert isinstance(sleeping.error, psycopg.errors.AdminShutdown)
        with pytest.raises(psycopg.errors.AdminShutdown):
            await value(idle)
        assert await value(others) == other_pid
        left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND datname = 'app'"
        await until(lambda: kept.query(left) == [["0"]], supervisor)

        async def ask() -> Any:
            async with client(supervisor, kept) as newcomer:
                return await value(newcomer, "SELECT 1")

        async with later(ask) as waiting:
            await waits(waiting)
            await supervisor.pausing.resume("app", "somebody")
        assert waiting.came_to == 1
        await supervisor.pausing.kill(None, "somebody")
        with pytest.raises(psycopg.errors.AdminShutdown):
            await value(others)
        await supervisor.pausing.resume(None, "somebody")


async def test_kill_client_closes_one(kept: Sandbox) -> None:
    async with (
        pointsman(kept) as supervisor,
        await psycopg.AsyncConnection.connect(conninfo(supervisor, kept), autocommit=True) as one,
        client(supervisor, kept) as two,
    ):
        async with later(lambda: value(one, "SELECT pg_sleep(60)")) as sleeping:
            await waits(sleeping, 0.2)
            await supervisor.pausing.kill_client(one.info.backend_pid, "somebody")
        assert isinstance(sleeping.error, psycopg.errors.AdminShutdown)
        assert await value(two, "SELECT 1") == 1
        sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND state = 'active'"
        await until(lambda: kept.query(sleeps) == [["0"]], supervisor)
        for nobody in (one.info.backend_pid, 0, -1, 1 << 30):
            with pytest.raises(PointsmanError) as refused:
                await supervisor.pausing.kill_client(nobody, "somebody")
            assert refused.value.sqlstate == "42704"


async def test_a_database_that_is_disabled_takes_no_new_clients(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor, client(supervisor, kept) as one:
        await supervisor.pausing.disable("app", "somebody")
        assert supervisor.pausing.state().disabled("app")
        # As many as it takes to come by each worker.
        for _ in range(10):
            with pytest.raises(psycopg.OperationalError, match='database "app" is disabled'):
                await psycopg.AsyncConnection.connect(conninfo(supervisor, kept))
        assert await value(one, "SELECT 1") == 1
        async with client(supervisor, kept, "other") as others:
            assert await value(others, "SELECT 1") == 1
        await supervisor.pausing.enable("app", "somebody")
        for _ in range(10):
            async with client(supervisor, kept) as newcomer:
                assert await value(newcomer, "SELECT 1") == 1


async def test_reconnect_renews_all_servers_under_load(kept: Sandbox) -> None:
    pids = "SELECT pid FROM pg_stat_activity WHERE usename = 'app'"
    async with pointsman(kept) as supervisor, crowd(supervisor, kept) as made:
        for database in (None, "app"):
            before = await in_thread(lambda: [kept.query(pids, node) for node in kept.nodes])
            await supervisor.pausing.reconnect(database, "somebody")
            with anyio.fail_after(DEADLINE_S):
                await supervisor.pausing.wait_close(database)
            after = await in_thread(lambda: [kept.query(pids, node) for node in kept.nodes])
            assert not {pid for rows in before for [pid] in rows} & {pid for rows in after for [pid] in rows}
            await in_thread(made.wait_for_a_round)
        assert made.errors == []


async def test_wait_close_waits_for_what_a_client_has(kept: Sandbox) -> None:
    told: list[str] = []
    async with pointsman(kept) as supervisor, client(supervisor, kept) as busy:
        await supervisor.pausing.wait_close(None)
        await busy.execute("BEGIN")
        pid = await value(busy)
        await supervisor.pausing.reconnect("app", "somebody")
        # Of another database nothing is to be waited for.
        await supervisor.pausing.wait_close("other")
        async with later(lambda: supervisor.pausing.wait_close("app", told.append)) as closing:
            await waits(closing)
            assert await value(busy) == pid
            await until(lambda: bool(told), supervisor)
            assert told[0].startswith("waiting for 1 servers")
            await busy.execute("COMMIT")
        assert closing.error is None
        assert await value(busy) != pid


async def test_all_is_suspended_under_load_and_goes_on(kept: Sandbox) -> None:
    async with pointsman(kept) as supervisor, crowd(supervisor, kept) as made:
        for _ in range(3):
            with anyio.fail_after(DEADLINE_S):
                await supervisor.pausing.suspend("somebody")
            assert supervisor.pausing.state().everything == "suspended"
            # What was on its way to clients when it was read has arrived.
            await anyio.sleep(0.2)
            rounds = dict(made.rounds)
            await anyio.sleep(0.5)
            assert made.rounds == rounds
            with pytest.raises(PointsmanError) as refused:
                await supervisor.pausing.pause(None, "somebody")
            assert refused.value.sqlstate == "55000"
            await supervisor.pausing.resume(None, "somebody")
            await in_thread(made.wait_for_a_round)
        assert made.errors == []


async def test_what_is_named_must_be_there(kept: Sandbox) -> None:
    routes = [{"name": "none", "database": "secret", "refuse": "on"}]
    async with pointsman(kept, routes=routes) as supervisor:
        pausing = supervisor.pausing
        with pytest.raises(PointsmanError, match="does not exist") as refused:
            await pausing.pause("secret", "somebody")
        assert refused.value.sqlstate == "3D000"
        acts: list[Callable[[str, str], Any]] = [pausing.pause, pausing.resume, pausing.reconnect, pausing.kill]
        for act in (*acts, pausing.disable, pausing.enable):
            for name in ("pointsman", "pgbouncer"):
                with pytest.raises(PointsmanError, match="console"):
                    await act(name, "somebody")
        with pytest.raises(PointsmanError, match="is not paused") as refused:
            await pausing.resume("app", "somebody")
        assert refused.value.sqlstate == "55000"
        with pytest.raises(PointsmanError, match="is not paused or suspended"):
            await pausing.resume(None, "somebody")
