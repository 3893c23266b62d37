"""The query cache over all workers: never does one serve while another does not track, whatever happens to them."""

import tempfile
import tomllib
from collections import deque

import anyio
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from healthcheck.guard import Happening
from healthcheck.topology import Node, Role, Topology
from middleware.cache.toggle import wanted
from middleware.cache.versions import EVERYTHING, Versions, bytes_for
from middleware.config import build_settings
from middleware.control import ClearCache, Down, SetCache
from middleware.errors import PointsmanError
from middleware.supervisor import cache_control
from middleware.supervisor.cache_control import CacheControl, CacheRoute, CacheState

TEXT = """
auth_type = "trust"
[health_check]
user = "m"
[nodes.db1]
host = "h"
[[routes]]
name = "a"
user = "a"
query_cache = "MODE"
"""
WORKERS = 3


class Stage:
    """A CacheControl with workers that answer when they are told to."""

    def __init__(self, mode: str = "off", workers: int = WORKERS) -> None:
        with tempfile.TemporaryFile() as file:
            file.truncate(bytes_for(workers))
            self.versions = Versions(file.fileno(), 0, workers, mine=workers)
        self.happened: list[Happening] = []
        self.inboxes: list[deque[SetCache] | None] = [None] * workers
        """Of each worker what it has not read; None while it has no process."""
        self.does: list[SetCache | None] = [None] * workers
        """What each goes by; None before it may have clients."""
        self.answers: list[deque[int]] = [deque() for _ in range(workers)]
        """What each has said and was not heard yet."""
        self.cleared: list[str] = []
        policies = build_settings(tomllib.loads(TEXT.replace("MODE", mode))).policies()
        self.control = CacheControl(policies, self.versions, workers, self.tell, self.happened.append)

    def tell(self, message: Down) -> None:
        if isinstance(message, ClearCache):
            self.cleared.append(message.cause)
            return
        assert isinstance(message, SetCache)
        for inbox in self.inboxes:
            if inbox is not None:
                # The outbox keeps the newest; what is read already is not taken back.
                inbox.append(message)

    def start(self, worker: int) -> None:
        self.inboxes[worker] = deque((self.control.greeting(worker),))

    def read(self, worker: int) -> None:
        """It reads what is next, and answers."""
        inbox = self.inboxes[worker]
        if inbox:
            told = self.does[worker] = inbox.popleft()
            self.answers[worker].append(told.serial)

    def hear(self, worker: int) -> None:
        """All that it has said."""
        while self.answers[worker]:
            self.control.answered(worker, self.answers[worker].popleft())

    def read_all(self) -> None:
        while any(self.inboxes) or any(self.answers):
            for worker in range(len(self.inboxes)):
                self.read(worker)
                self.hear(worker)

    def end(self, worker: int) -> None:
        if self.inboxes[worker] is not None:
            # What it said last is heard first.
            self.hear(worker)
            self.inboxes[worker] = self.does[worker] = None
            self.control.ended(worker)

    def alive(self) -> list[SetCache]:
        return [one for one in self.does if one is not None]


def started(mode: str = "off", workers: int = 2) -> Stage:
    stage = Stage(mode, workers)
    for worker in range(workers):
        stage.start(worker)
    stage.read_all()
    return stage


class Machine(RuleBasedStateMachine):
    """Workers read late, die and come back; operators change their minds, and give up waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.undone: list[tuple[dict[str, str], str]] = []

    workers = st.integers(0, WORKERS - 1)

    @rule(worker=workers)
    def start(self, worker: int) -> None:
        if self.stage.inboxes[worker] is None:
            self.stage.start(worker)

    @rule(worker=workers)
    def read(self, worker: int) -> None:
        self.stage.read(worker)

    @rule(worker=workers)
    def hear(self, worker: int) -> None:
        self.stage.hear(worker)

    @rule(worker=workers)
    def end(self, worker: int) -> None:
        self.stage.end(worker)

    @rule(mode=st.sampled_from(["on", "hint", "off", "default"]), route=st.sampled_from([None, "a", ""]))
    def say(self, mode: str, route: str | None) -> None:
        control = self.stage.control
        self.undone.append((control._modes, control._forced))
        control._modes, control._forced = cache_control._said(control._modes, control._forced, mode, route)
        control._go()

    @precondition(lambda self: self.undone)
    @rule()
    def take_back(self) -> None:
        control = self.stage.control
        control._modes, control._forced = self.undone.pop()
        control._go()

    @rule()
    def all_read(self) -> None:
        """Nobody waits for ever."""
        self.stage.read_all()
        told = self.stage.control._told
        assert told.tracking == told.serving
        control = self.stage.control
        assert told.serving == wanted(control._policies, control._modes, control._forced)
        assert all(one == told for one in self.stage.alive())

    @invariant()
    def nobody_serves_beside_one_that_does_not_track(self) -> None:
        alive = self.stage.alive()
        if any(one.serving for one in alive):
            assert all(one.tracking for one in alive)


TestNobodyServesBesideOneThatDoesNotTrack = Machine.TestCase


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_control, "TOGGLE_S", 0.2)


def told(stage: Stage) -> list[tuple[bool, bool]]:
    """What each goes by: whether it tracks, and serves."""
    return [(one.tracking, one.serving) for one in stage.alive()]


async def switch(stage: Stage, mode: str, route: str | None = None) -> CacheState:
    """With workers that answer."""
    async with anyio.create_task_group() as tasks:

        async def answer() -> None:
            while True:
                await anyio.sleep(0.001)
                stage.read_all()

        tasks.start_soon(answer)
        state = await stage.control.switch(mode, route, "me")
        tasks.cancel_scope.cancel()
    return state


@pytest.mark.anyio
async def test_on_and_off() -> None:
    stage = started()
    assert told(stage) == [(False, False)] * 2
    before = stage.versions.version((EVERYTHING,))
    state = await switch(stage, "hint", "a")
    assert state == CacheState(True, True, (CacheRoute("a", "hint", "operator"), CacheRoute("", "off", "settings")))
    assert told(stage) == [(True, True)] * 2
    # Of what was written before nobody knows.
    assert stage.versions.version((EVERYTHING,)) > before
    state = await switch(stage, "off")
    assert state == CacheState(False, False, (CacheRoute("a", "off", "operator"), CacheRoute("", "off", "operator")))
    assert told(stage) == [(False, False)] * 2
    assert [one.text for one in stage.happened] == [
        'the query cache is "hint" for rule "a", by me',
        'the query cache is "off" for all, by me',
    ]


@pytest.mark.anyio
async def test_by_the_settings_it_is_on_from_the_first_moment_and_default_goes_back_to_them() -> None:
    stage = started("on")
    assert told(stage) == [(True, True)] * 2
    await switch(stage, "off")
    assert told(stage) == [(False, False)] * 2
    state = await switch(stage, "default")
    assert state.routes == (CacheRoute("a", "on", "settings"), CacheRoute("", "off", "settings"))
    assert told(stage) == [(True, True)] * 2
    # One rule is off, for another it goes on.
    state = await switch(stage, "on", "")
    state = await switch(stage, "off", "a")
    assert state.routes == (CacheRoute("a", "off", "operator"), CacheRoute("", "on", "operator"))
    assert told(stage) == [(True, True)] * 2


@pytest.mark.anyio
async def test_a_rule_that_there_is_not() -> None:
    stage = started("on")
    with pytest.raises(PointsmanError, match='there is no rule "b"') as refused:
        await stage.control.switch("on", "b", "me")
    assert refused.value.hint == 'There are "a", ""; the last is for whom no rule is for.'
    assert refused.value.sqlstate == "42704"
    assert told(stage) == [(True, True)] * 2


@pytest.mark.anyio
@pytest.mark.usefixtures("quick")
async def test_on_is_taken_back_where_a_worker_does_not_answer() -> None:
    stage = started()
    async with anyio.create_task_group() as tasks:

        async def answer() -> None:
            while True:
                await anyio.sleep(0.001)
                stage.read(0)
                stage.hear(0)

        tasks.start_soon(answer)
        with pytest.raises(PointsmanError, match="worker 1 does not answer within") as refused:
            await stage.control.switch("on", None, "me")
        assert refused.value.detail == "The query cache stays off, as it was."
        tasks.cancel_scope.cancel()
    stage.read(0)
    assert told(stage)[0] == (False, False)
    stage.read_all()
    assert told(stage) == [(False, False)] * 2
    assert stage.control.state().routes[0] == CacheRoute("a", "off", "settings")
    assert [one.what for one in stage.happened] == ["cache_not_switched"]
    assert stage.happened[0].bad
    # And can be tried again.
    assert (await switch(stage, "on")).serving


@pytest.mark.anyio
@pytest.mark.usefixtures("quick")
async def test_off_is_not_taken_back_and_writes_are_tracked_until_all_have_answered() -> None:
    stage = started("on")
    with pytest.raises(PointsmanError, match="workers 0, 1 do not answer") as refused:
        await stage.control.switch("off", None, "me")
    assert "their commits are tracked until all have answered" in refused.value.detail
    stage.read(0)
    assert told(stage) == [(True, False), (True, True)]
    stage.read(1)
    stage.read_all()
    assert told(stage) == [(False, False)] * 2
    assert stage.control.state().routes[0] == CacheRoute("a", "off", "operator")


@pytest.mark.anyio
async def test_who_gives_up_waiting_takes_it_back() -> None:
    stage = started()
    with anyio.move_on_after(0.05):
        await stage.control.switch("on", None, "me")
    stage.read_all()
    assert told(stage) == [(False, False)] * 2


@pytest.mark.anyio
async def test_the_dead_are_not_waited_for_and_what_they_left_is_in_doubt_where_they_did_not_track() -> None:
    stage = started()
    now = 0.0
    assert stage.versions.settled((EVERYTHING,), now)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.control.switch, "on", None, "me")
        await anyio.wait_all_tasks_blocked()
        stage.read(0)
        stage.hear(0)
        assert told(stage)[0] == (True, False)
        stage.end(1)
        stage.read_all()
    assert told(stage) == [(True, True)]
    assert not stage.versions.settled((EVERYTHING,), now)
    stage.start(1)
    stage.read_all()
    assert told(stage) == [(True, True)] * 2


def test_one_that_tracked_leaves_its_column_to_its_successor() -> None:
    stage = started("on")
    stage.end(0)
    assert stage.versions.settled((EVERYTHING,), 0.0)


def test_another_primary_or_timeline_makes_all_stale_and_so_does_clear() -> None:
    stage = started("on")

    def stale_after(topology: Topology | None) -> bool:
        before = stage.versions.version((EVERYTHING,))
        if topology is None:
            stage.control.clear("me")
        else:
            stage.control.topology_changed(topology)
        return stage.versions.version((EVERYTHING,)) > before

    one, other = (Node(name, "h", 1, Role.PRIMARY, True) for name in ("db1", "db2"))
    assert not stale_after(Topology(1, (one,), timeline=1))
    assert not stale_after(Topology(2, (one,), timeline=1))
    assert stale_after(Topology(3, (other,), timeline=1))
    assert stale_after(Topology(4, (other,), timeline=2))
    assert stale_after(Topology(5, (), timeline=2))
    assert stage.cleared == ["failover"] * 3
    assert stale_after(None)
    assert stage.cleared[3:] == ["clear"]
    assert [one.text for one in stage.happened] == ["the query cache was cleared by me"]
