"""PAUSE and its kin by what workers say: who is told what, when an order ends, and what is taken back."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest

from middleware.config import build_settings
from middleware.control import Down, Kill, KillClient, Left, Obeyed, PauseProgress, Reconnect, SetPauses, process_id_of
from middleware.errors import PointsmanError
from middleware.supervisor import pausing as module
from middleware.supervisor.pausing import DatabaseState, PauseState, Pausing

pytestmark = pytest.mark.anyio

RULES: Final = [
    {"name": "jobs", "database": "jobs", "server_database": "app"},
    {"name": "reports", "database": "reports", "user": "boss", "server_database": "numbers"},
    {"name": "none", "database": "secret", "refuse": "on"},
]


class Stage:
    """A Pausing over workers that say what a test has them say."""

    def __init__(self, workers: int = 2) -> None:
        settings = build_settings(
            {
                "health_check": {"user": "monitor", "password": "secret"},
                "nodes": {"db1": {"host": "127.0.0.1", "port": 1}},
                "users": {"app": {"password": "secret"}},
                "routes": RULES,
            }
        )
        self.running = list(range(workers))
        self.sent: list[tuple[int, Down]] = []
        self.happened: list[str] = []
        self.changed: list[bool] = []
        self.pausing = Pausing(
            settings.policies(),
            lambda worker, message: self.sent.append((worker, message)),
            lambda: self.running,
            lambda happening: self.happened.append(happening.text),
            self.changed.append,
        )

    def told(self) -> SetPauses:
        """What was said last, to all of them."""
        last = {worker: message for worker, message in self.sent if isinstance(message, SetPauses)}
        (said,) = set(last.values())
        assert sorted(last) == self.running
        return said

    def say(self, worker: int, *left: Left) -> None:
        self.pausing.reported(worker, PauseProgress(self.told().serial, left))

    def say_all(self, *left: Left) -> None:
        for worker in self.running:
            self.say(worker, *left)


class Order:
    """One that is being carried out."""

    def __init__(self) -> None:
        self.ended = False
        self.error: PointsmanError | None = None
        self.scope = anyio.CancelScope()


@asynccontextmanager
async def order(act: Callable[[], Coroutine[Any, Any, Any]]) -> AsyncIterator[Order]:
    made = Order()

    async def carry_out() -> None:
        with made.scope:
            try:
                await act()
            except PointsmanError as error:
                made.error = error
            made.ended = True

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(carry_out)
            await anyio.wait_all_tasks_blocked()
            yield made
            await anyio.wait_all_tasks_blocked()


async def settled(one: Order) -> bool:
    await anyio.wait_all_tasks_blocked()
    return one.ended


async def test_pause_ends_when_all_have_said_that_nothing_is_left() -> None:
    stage = Stage()
    async with order(lambda: stage.pausing.pause(None, "root")) as pause:
        assert stage.told() == SetPauses(1, "paused")
        assert stage.pausing.state() == PauseState("paused", by="root")
        stage.say(0, Left(None))
        assert not await settled(pause)
        stage.say(1, Left(None, busy=1, servers=1))
        assert not await settled(pause)
        # What is being closed still is a connection; and so is one that replicates.
        stage.say(1, Left(None, servers=1))
        assert not await settled(pause)
        stage.say(1, Left(None, replicating=1))
        assert not await settled(pause)
        stage.say(1, Left(None))
        assert await settled(pause)
    assert pause.error is None
    assert stage.changed == [False]
    assert stage.happened == ["all databases were paused by root"]
    assert await stage.pausing.resume(None, "root") == ()
    assert stage.told() == SetPauses(2)
    assert stage.changed == [False, True]


async def test_what_a_worker_said_of_something_else_does_not_count() -> None:
    stage = Stage(1)
    stage.pausing.reported(0, PauseProgress(0))
    async with order(lambda: stage.pausing.pause("app", "root")) as pause:
        assert not await settled(pause)
        # Of what was said then it knows nothing.
        stage.pausing.reported(0, PauseProgress(0, (Left("app"),)))
        assert not await settled(pause)
        await stage_disables(stage, "other")
        stage.say(0, Left("app"))
        assert await settled(pause)
    assert stage.pausing.state().databases == (
        DatabaseState("app", paused=True),
        DatabaseState("other", disabled=True),
    )


async def stage_disables(stage: Stage, name: str) -> None:
    """Which is answered at once, though something of the other is left."""
    async with order(lambda: stage.pausing.disable(name, "root")) as disable:
        stage.say_all(Left("app", servers=1))
    assert disable.error is None
    assert disable.ended


async def test_a_worker_that_ends_is_not_waited_for_and_the_next_one_is_told() -> None:
    stage = Stage()
    async with order(lambda: stage.pausing.pause("app", "root")) as pause:
        stage.say(0, Left("app"))
        stage.say(1, Left("app", busy=3, servers=3))
        stage.running.remove(1)
        stage.pausing.ended(1)
        assert await settled(pause)
    stage.running.append(1)
    assert stage.pausing.greeting() == SetPauses(1, "active", ("app",))
    # What it was before it is not.
    async with order(lambda: stage.pausing.pause("app", "root")) as again:
        stage.say(0, Left("app"))
        assert not await settled(again)
        stage.say(1, Left("app"))
        assert await settled(again)


@pytest.mark.parametrize("database", [None, "app"])
async def test_a_pause_that_is_called_off_is_taken_back(database: str | None) -> None:
    stage = Stage(1)
    async with order(lambda: stage.pausing.pause(database, "root")) as pause:
        stage.say(0, Left(database, busy=1, servers=1))
        pause.scope.cancel()
    assert not pause.ended
    assert stage.told() == SetPauses(2)
    assert stage.happened[-1].endswith("resumed: the PAUSE of root was called off")


async def test_who_waits_for_what_another_has_begun_takes_nothing_back() -> None:
    stage = Stage(1)
    async with order(lambda: stage.pausing.pause("app", "first")) as first:
        async with order(lambda: stage.pausing.pause("app", "second")) as second:
            second.scope.cancel()
        assert stage.pausing.state().paused("app")
        stage.say(0, Left("app"))
        assert await settled(first)
    assert stage.happened == ['database "app" was paused by first']


async def test_a_pause_ends_with_an_error_where_somebody_resumes_it() -> None:
    stage = Stage(1)
    async with order(lambda: stage.pausing.pause("app", "first")) as pause:
        await stage.pausing.resume("app", "second")
    assert pause.error is not None
    assert pause.error.sqlstate == "55000"


async def test_resume_of_all_leaves_what_was_paused_by_its_name() -> None:
    stage = Stage(0)
    await stage.pausing.pause("app", "root")
    await stage.pausing.pause(None, "root")
    for again in (None, "jobs"):
        with pytest.raises(PointsmanError, match="already suspended/paused") as refused:
            await stage.pausing.pause(again, "another")
        assert refused.value.detail == "All are paused, by root."
    assert stage.pausing.stays() == "all databases are paused by root"
    assert await stage.pausing.resume(None, "root") == ("app",)
    assert stage.pausing.stays() == ""
    assert stage.pausing.state() == PauseState("active", (DatabaseState("app", paused=True),))
    with pytest.raises(PointsmanError, match="is not paused") as refused:
        await stage.pausing.resume("jobs", "root")
    assert refused.value.sqlstate == "55000"


async def test_kill_pauses_first_and_then_closes() -> None:
    stage = Stage()
    async with order(lambda: stage.pausing.kill("app", "root")) as kill:
        kinds = [type(message) for worker, message in stage.sent if worker == 0]
        assert kinds == [SetPauses, Kill]
        assert stage.told().paused == ("app",)
        stage.pausing.obeyed(0, Obeyed(1, 5))
        assert not await settled(kill)
        stage.pausing.obeyed(1, Obeyed(1, 0))
        assert await settled(kill)
    # A pause that lasts is no obstacle: some transaction may be the reason.
    await_all = Stage(0)
    await await_all.pausing.pause(None, "root")
    await await_all.pausing.kill(None, "root")
    assert await_all.pausing.state().everything == "paused"


async def test_only_the_worker_of_a_client_is_asked_for_it() -> None:
    stage = Stage()
    client = process_id_of(1, 7)
    for count, error in ((1, None), (0, "42704")):
        stage.sent.clear()
        async with order(lambda: stage.pausing.kill_client(client, "root")) as kill:
            ((worker, message),) = stage.sent
            assert worker == 1
            assert isinstance(message, KillClient)
            assert message.process_id == client
            stage.pausing.obeyed(0, Obeyed(message.serial, 1))
            assert not await settled(kill)
            stage.pausing.obeyed(1, Obeyed(message.serial, count))
        assert (kill.error.sqlstate if kill.error else None) == error
    assert stage.happened == [f"client {client} was killed by root"]


async def test_a_worker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    stage = Stage(3)
    async with order(lambda: stage.pausing.reconnect("app", "root")) as reconnect:
        serials = [message.serial for _, message in stage.sent if isinstance(message, Reconnect)]
        assert len(serials) == 3
        stage.pausing.obeyed(1, Obeyed(serials[0], 2))
        while not reconnect.ended:
            await anyio.sleep(0.01)
    assert reconnect.error is not None
    assert reconnect.error.message == "workers 0, 2 have not answered within 0.05 s"


async def test_wait_close_has_workers_look_for_as_long_as_somebody_waits() -> None:
    stage = Stage(1)
    async with order(lambda: stage.pausing.wait_close("app")) as first:
        assert stage.told().closing == ("app",)
        stage.say(0, Left("app", servers=3, to_close=1))
        async with order(lambda: stage.pausing.wait_close("app")) as second:
            second.scope.cancel()
        assert stage.told().closing == ("app",)
        stage.say(0, Left("app", servers=3))
        assert await settled(first)
    assert stage.told().closing == ()


async def test_suspend_waits_for_what_was_read_to_be_passed_on() -> None:
    stage = Stage(1)
    async with order(lambda: stage.pausing.suspend("root")) as suspend:
        stage.say(0, Left(None, servers=5, unsent=1))
        assert not await settled(suspend)
        stage.say(0, Left(None, servers=5))
        assert await settled(suspend)
    assert stage.pausing.state().everything == "suspended"
    # It is no reason not to fail over: it is short, and nobody restarts a node meanwhile.
    assert stage.pausing.stays() == ""
    with pytest.raises(PointsmanError, match="Pointsman is suspended"):
        await stage.pausing.kill("app", "root")
    await stage.pausing.resume(None, "root")
    await Stage(0).pausing.pause("app", "root")
    paused = Stage(0)
    await paused.pausing.pause("app", "root")
    with pytest.raises(PointsmanError, match="cannot suspend with paused databases"):
        await paused.pausing.suspend("root")


async def test_what_was_said_to_another_pointsman_holds_here() -> None:
    before = Stage(0)
    await before.pausing.disable("jobs", "root")
    await before.pausing.pause("app", "root")
    await before.pausing.pause(None, "root")
    after = Stage(1)
    after.pausing.restore(before.pausing.state())
    assert after.pausing.state() == before.pausing.state()
    assert after.pausing.greeting() == SetPauses(1, "paused", ("app",), ("jobs",))
    assert after.pausing.stays() == "all databases are paused by root"
    assert after.happened == []


async def test_a_pause_until_the_end_cannot_be_ended() -> None:
    stage = Stage(0)
    stage.pausing.end("root")
    assert stage.pausing.state().everything == "paused"
    with pytest.raises(PointsmanError, match="shutting down"):
        await stage.pausing.resume(None, "root")


async def test_which_databases_of_the_nodes_nothing_is_connected_to() -> None:
    stage = Stage(0)
    await stage.pausing.pause("mine", "root")
    await stage.pausing.pause("jobs", "root")
    await stage.pausing.pause("app", "root")
    await stage.pausing.pause("reports", "root")
    lets_go = stage.pausing.lets_go
    assert lets_go("mine")
    # Rules lead clients of others there, or these elsewhere as well.
    assert not any(lets_go(name) for name in ("app", "jobs", "numbers", "reports", "other"))
    await stage.pausing.pause(None, "root")
    assert all(lets_go(name) for name in ("app", "other"))


async def test_what_does_not_exist_cannot_be_paused() -> None:
    stage = Stage(0)
    for act in (stage.pausing.pause, stage.pausing.kill):
        with pytest.raises(PointsmanError, match="does not exist") as refused:
            await act("secret", "root")
        assert refused.value.sqlstate == "3D000"


async def test_it_is_said_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_S", 0.01)
    stage = Stage()
    notices: list[str] = []
    async with order(lambda: stage.pausing.pause(None, "root", notices.append)):
        while len(notices) < 1:
            await anyio.sleep(0.01)
        stage.say(0, Left(None, 2, 1, 1, 5))
        stage.say(1, Left(None))
        while len(notices) < 2:
            await anyio.sleep(0.01)
        await anyio.sleep(0.05)
        stage.say_all(Left(None))
    assert notices == [
        "waiting for answers: workers 0, 1 have not answered",
        "waiting for 2 servers with transactions or statements under way, 1 server that clients keep because their "
        "session is there, 1 replication connection, 2 servers to be closed",
    ]
