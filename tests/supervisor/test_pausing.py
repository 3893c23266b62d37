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
        # It goes on writing meanwhile.
        acknowledged = set(made.acknowledged)
        found = await in_thread(lambda: kept.query("SELECT writer, number FROM ledger"))
        assert acknowledged <= {(int(writer), int(number)) for writer, number in found}
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
        pointsman(kept, routes=routes, workers=1, default_pool_size=1, consistency="primary") as supervisor,
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
        async with later(lambda: supervisor.pausing.pause(None, "somebody", told.append)) as pause:
            await all_know(supervisor)
            async with later(lambda: value(idle)) as waiting:
                await until(lambda: bool(told), supervisor)
                assert told == ["waiting for 1 server with transactions or statements under way"]
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
                assert told == ["waiting for 1 server that clients keep because their session is there"]
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
            worker = supervisor._crew.workers[0]
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
            assert told[0].startswith("waiting for 1 server")
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


async def test_resume_before_the_node_is_back_is_no_error_either(kept: Sandbox) -> None:
    """Work for a primary then waits for it, as it does whenever there is none."""
    async with pointsman(kept, failover="follow") as supervisor, crowd(supervisor, kept) as made:
        await supervisor.pausing.pause(None, "somebody")
        await in_thread(kept.node("db1").stop)
        await until(lambda: primary_of(supervisor) == "", supervisor)
        await supervisor.pausing.resume(None, "somebody")
        await anyio.sleep(0.5)
        await in_thread(kept.node("db1").start)
        await in_thread(made.wait_for_a_round)
        assert made.errors == []


async def test_resume_while_the_node_is_believed_to_be_up_and_is_not(kept: Sandbox) -> None:
    """Its probes have not found out yet: what cannot be opened there is waited for."""
    checks = {
        "user": "pointsman",
        "password": kept.passwords["pointsman"],
        "period": 5.0,
        "timeout": 5.0,
        "max_retries": 20,
    }
    async with (
        pointsman(kept, failover="follow", health_check=checks) as supervisor,
        crowd(supervisor, kept) as made,
    ):
        await supervisor.pausing.pause(None, "somebody")
        await in_thread(kept.node("db1").stop)
        await supervisor.pausing.resume(None, "somebody")
        assert primary_of(supervisor) == "db1"
        await anyio.sleep(0.5)
        await in_thread(kept.node("db1").start)
        await in_thread(made.wait_for_a_round)
        assert made.errors == []


async def test_what_replicates_is_waited_for_and_who_comes_meanwhile_waits(kept: Sandbox) -> None:
    told: list[str] = []
    async with pointsman(kept, workers=1) as supervisor:
        host, port = supervisor.addresses[0]
        replicates = f"host={host} port={port} user=postgres password={kept.passwords['postgres']} replication=database"
        walsenders = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND usename = 'postgres'"
        before = await in_thread(lambda: kept.query(walsenders))

        async def ask(name: str) -> Any:
            async with await psycopg.AsyncConnection.connect(f"{replicates} dbname={name}", autocommit=True) as one:
                await one.execute("IDENTIFY_SYSTEM")

        one = await psycopg.AsyncConnection.connect(f"{replicates} dbname=app", autocommit=True)
        await one.execute("IDENTIFY_SYSTEM")
        # Another database's is none of its business.
        await supervisor.pausing.pause("other", "somebody")
        async with later(lambda: ask("other")) as newcomer:
            await waits(newcomer)
            async with later(lambda: supervisor.pausing.pause("app", "somebody", told.append)) as pause:
                await until(lambda: bool(told), supervisor)
                assert told == ["waiting for 1 replication connection"]
                await one.close()
            assert pause.error is None
            assert not newcomer.ended()
            assert await in_thread(lambda: kept.query(walsenders)) == before
            await supervisor.pausing.resume("other", "somebody")
        assert newcomer.error is None


async def test_no_cached_answer_is_given_while_a_database_is_paused(kept: Sandbox) -> None:
    """Whoever has paused it may be about to change it where nobody sees that."""
    await in_thread(lambda: kept.query("CREATE TABLE IF NOT EXISTS seen (a int); TRUNCATE seen", user="app"))
    await in_thread(lambda: kept.query("INSERT INTO seen VALUES (1)", user="app"))
    await in_thread(kept.wait_for_replay)
    asked = "SELECT sum(a) FROM seen"
    async with (
        pointsman(kept, workers=1, query_cache="on", cache_watch="off") as supervisor,
        client(supervisor, kept) as one,
    ):

        async def hits() -> bool:
            before = supervisor.cache_counters().hits
            assert await value(one, asked) == 1
            await anyio.sleep(1.2)
            return supervisor.cache_counters().hits > before

        with anyio.fail_after(DEADLINE_S):
            while not await hits():
                pass
        for database in (None, "app"):
            await supervisor.pausing.pause(database, "somebody")
            async with later(lambda: value(one, asked)) as waiting:
                await waits(waiting)
                await in_thread(lambda: kept.query("UPDATE seen SET a = a + 1"))
                await in_thread(kept.wait_for_replay)
                await supervisor.pausing.resume(database, "somebody")
            if database is None:
                # All that was kept is gone with the pause of all.
                assert waiting.came_to == 2
                assert await value(one, asked) == 2


async def test_nothing_of_ours_is_connected_to_a_database_that_is_paused(kept: Sandbox) -> None:
    """It can be renamed, or be a template: the watcher of others' writes has let go of it, no catalog is read."""
    await in_thread(lambda: kept.query("CREATE DATABASE third OWNER app"))
    async with (
        pointsman(kept, query_cache="on", cache_watch="poll") as supervisor,
        client(supervisor, kept, "third") as one,
    ):
        watched = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'third' AND usename = 'pointsman'"
        await value(one, "SELECT 1")
        await until(lambda: kept.query(watched) == [["1"]], supervisor)
        await supervisor.pausing.pause("third", "somebody")
        await until(lambda: kept.query(watched) == [["0"]], supervisor)
        await in_thread(lambda: kept.query("ALTER DATABASE third RENAME TO fourth"))
        await in_thread(lambda: kept.query("ALTER DATABASE fourth RENAME TO third"))
        await supervisor.pausing.resume("third", "somebody")
        assert await value(one, "SELECT 1") == 1
        await until(lambda: kept.query(watched) == [["1"]], supervisor)
    await in_thread(lambda: kept.query("DROP DATABASE third WITH (FORCE)"))


def read_to_the_end(talk: psycopg.pq.abc.PGconn) -> None:
    """All answers. Raises OperationalError where the connection ends before."""
    result = True
    while result:
        while talk.is_busy():
            talk.consume_input()
        result = talk.get_result() is not None


async def test_who_does_not_take_what_it_is_sent_is_closed_after_suspend_timeout(kept: Sandbox) -> None:
    async with pointsman(kept, workers=1, suspend_timeout=1.0) as supervisor:
        # A reader that reads nothing.
        talk = psycopg.pq.PGconn.connect(conninfo(supervisor, kept).encode())
        talk.send_query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 100)")
        sent = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND usename = 'app'"
        await until(lambda: kept.query(sent) == [["1"]], supervisor)
        async with client(supervisor, kept) as other:
            await value(other)
            began = time.monotonic()
            with anyio.fail_after(DEADLINE_S):
                await supervisor.pausing.suspend("somebody")
            assert time.monotonic() - began > 0.5
            await supervisor.pausing.resume(None, "somebody")
            assert await value(other, "SELECT 1") == 1
        with pytest.raises(psycopg.OperationalError):
            read_to_the_end(talk)
        assert talk.status == psycopg.pq.ConnStatus.BAD
        talk.finish()
