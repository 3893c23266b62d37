"""Buttons: the commands they are, and what becomes of those that take long."""

import asyncio
from typing import get_args, get_type_hints

import pytest

from middleware.admin.grammar import command_of as parsed
from middleware.admin.table import Done, Table
from middleware.admin.words import statements_of
from middleware.errors import PointsmanError
from middleware.supervisor.pausing import Tell
from middleware.web import actions
from middleware.web.actions import COMMANDS, ON_A_NODE, UNDER_WAY_MAX, Action, Desk, Outcome, command_of
from middleware.web.snapshot import UnderWay

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_each_button_is_a_command_that_the_console_knows() -> None:
    assert set(get_args(get_type_hints(Action)["do"])) == set(COMMANDS)
    for do in COMMANDS:
        action = Action(do, "db-2" if do in ON_A_NODE else "")  # type: ignore[arg-type]
        (statement,) = statements_of(command_of(action, lambda: {"db-2"}))
        parsed(statement)


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (Action("drain"), "42704"),
        (Action("attach", "db9"), "42704"),
        (Action("switchover", "db9"), "42704"),
        (Action("pause", "db1"), "42601"),
        (Action("cache_clear", "db1"), "42601"),
    ],
)
def test_a_button_that_fits_no_node_is_refused(action: Action, code: str) -> None:
    with pytest.raises(PointsmanError) as refused:
        command_of(action, lambda: {"db1"})
    assert refused.value.sqlstate == code


class Run:
    """A console whose commands end when they are told to, or not at all."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def __call__(self, text: str, tell: Tell) -> Table | Done:
        match text:
            case "FAIL":
                raise PointsmanError("it does not go", detail="Here.", hint="Go there.", sqlstate="55000")
            case "BREAK":
                raise ZeroDivisionError
            case "WAIT":
                tell("waiting for a friend")
                await self.may_end.wait()
        return Done(text, ("One.", "Two."))


async def test_what_ends_soon_is_answered_at_once() -> None:
    told: list[Outcome] = []
    desk = Desk(Run(), told.append)
    assert await desk.carry_out("GO") == Outcome(1, "GO", True, "One.\nTwo.")
    assert await desk.carry_out("FAIL") == Outcome(2, "FAIL", False, "it does not go", "Here.", "Go there.", "55000")
    assert (told, desk.under_way()) == ([], ())


async def test_a_bug_is_an_internal_error_and_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = await Desk(Run(), print).carry_out("BREAK")
    assert isinstance(outcome, Outcome)
    assert (outcome.ok, outcome.sqlstate) == (False, "XX000")
    assert "ZeroDivisionError" in capsys.readouterr().out


async def test_what_takes_long_goes_on_is_seen_and_tells_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "ANSWER_S", 0.01)
    told: list[Outcome] = []
    run = Run()
    desk = Desk(run, told.append)
    begun = await desk.carry_out("WAIT")
    assert isinstance(begun, UnderWay)
    assert [(one.command, one.waits) for one in desk.under_way()] == [("WAIT", "waiting for a friend")]
    # Who asked for another may hang up: it goes on all the same.
    hung_up = asyncio.create_task(desk.carry_out("WAIT"))
    await asyncio.sleep(0)
    hung_up.cancel()
    await asyncio.gather(hung_up, return_exceptions=True)
    assert len(desk.under_way()) == 2
    run.may_end.set()
    await asyncio.sleep(0.05)
    assert told == [Outcome(begun.id, "WAIT", True, "One.\nTwo.")]
    assert desk.under_way() == ()


async def test_what_is_under_way_can_be_cancelled_and_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "ANSWER_S", 0.0)
    told: list[Outcome] = []
    desk = Desk(Run(), told.append)
    begun = [await desk.carry_out("WAIT") for _ in range(UNDER_WAY_MAX)]
    with pytest.raises(PointsmanError, match="too many commands"):
        await desk.carry_out("WAIT")
    assert desk.cancel(begun[0].id) == "WAIT"
    await asyncio.sleep(0.01)
    assert [(one.id, one.ok, one.sqlstate) for one in told] == [(begun[0].id, False, "57014")]
    assert desk.cancel(begun[0].id) == ""
    assert isinstance(await desk.carry_out("WAIT"), UnderWay)
    await desk.stop()
    assert desk.under_way() == ()
