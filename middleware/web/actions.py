"""What the dashboard's buttons do: each is a command of the console.

In: an Action. Out: its text for the console, and what has come of it. One that takes longer than a request should (a
switchover, draining a node) goes on, is shown to all who look, and tells its end in the stream.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal

import msgspec
import structlog

from middleware import sqlstate
from middleware.admin.table import Done, Table
from middleware.errors import PointsmanError
from middleware.supervisor.pausing import Tell
from middleware.web.snapshot import UnderWay

ANSWER_S: Final = 5.0
"""What has ended by then is told in the answer itself."""
UNDER_WAY_MAX: Final = 10

log = structlog.get_logger("web")


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A button."""

    do: Literal[
        "drain",
        "attach",
        "detach",
        "switchover",
        "cache_on",
        "cache_hint",
        "cache_off",
        "cache_default",
        "cache_clear",
        "pause",
        "resume",
        "reload",
    ]
    node: str = ""


COMMANDS: Final = {
    "drain": "DRAIN NODE",
    "attach": "ATTACH NODE",
    "detach": "DETACH NODE",
    "switchover": "SWITCHOVER",
    "cache_on": "CACHE ON",
    "cache_hint": "CACHE HINT",
    "cache_off": "CACHE OFF",
    "cache_default": "CACHE DEFAULT",
    "cache_clear": "CACHE CLEAR",
    "pause": "PAUSE",
    "resume": "RESUME",
    "reload": "RELOAD",
}
ON_A_NODE: Final = frozenset({"drain", "attach", "detach"})


def command_of(action: Action, nodes: Callable[[], set[str]]) -> str:
    """What it is in the console's words. Raises PointsmanError where it names no node, or needs none."""
    command = COMMANDS[action.do]
    if action.do in ON_A_NODE or (action.do == "switchover" and action.node):
        # Names of nodes are letters, digits, _ and -: they need no quotes.
        if action.node not in nodes():
            raise PointsmanError(f'node "{action.node[:63]}" does not exist', sqlstate=sqlstate.UNDEFINED_OBJECT)
        return f"{command} {action.node}"
    if action.node:
        raise PointsmanError(f"{command} is said of no node", sqlstate=sqlstate.SYNTAX_ERROR)
    return command


class Outcome(msgspec.Struct, frozen=True, tag_field="kind", tag="outcome"):
    """What has come of a command."""

    id: int
    command: str
    ok: bool
    message: str = ""
    """Of an error, as PostgreSQL would say it; else notices."""
    detail: str = ""
    hint: str = ""
    sqlstate: str = ""


class Desk:
    """Carries out what buttons ask for, and keeps what is under way."""

    def __init__(
        self, run: Callable[[str, Tell], Coroutine[Any, Any, Table | Done]], tell: Callable[[Outcome], None]
    ) -> None:
        """`run` carries a command out, and says what it waits for; `tell` is told an end that the answer has not
        waited for."""
        self._run: Final = run
        self._tell: Final = tell
        self._ids: Final = itertools.count(1)
        self._tasks: Final[dict[int, asyncio.Task[Outcome]]] = {}
        self._under_way: Final[dict[int, UnderWay]] = {}

    def under_way(self) -> tuple[UnderWay, ...]:
        """Those that have not ended, the oldest first."""
        return tuple(self._under_way.values())

    async def carry_out(self, command: str) -> Outcome | UnderWay:
        """What has come of it, where it ends soon; or that it goes on. Raises PointsmanError for one too many."""
        if len(self._tasks) >= UNDER_WAY_MAX:
            raise PointsmanError(
                "too many commands are under way", hint="Cancel one.", sqlstate=sqlstate.TOO_MANY_CONNECTIONS
            )
        number = next(self._ids)
        begun = self._under_way[number] = UnderWay(number, command, time.time())
        task = self._tasks[number] = asyncio.create_task(self._one(number, command))
        # Whoever asked may hang up, and what was begun goes on: it is seen, and can be cancelled, in any page.
        done, _ = await asyncio.wait([task], timeout=ANSWER_S)
        if done:
            return task.result()
        task.add_done_callback(lambda ended: self._tell(ended.result()))
        return begun

    def cancel(self, number: int) -> str:
        """Take it back, as far as that can be. Its command; "" where it is not under way any more."""
        task = self._tasks.get(number)
        return self._under_way[number].command if task is not None and task.cancel() else ""

    async def stop(self) -> None:
        """Cancel all."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _waits(self, number: int, text: str) -> None:
        if number in self._under_way:
            self._under_way[number] = msgspec.structs.replace(self._under_way[number], waits=text)

    async def _one(self, number: int, command: str) -> Outcome:
        try:
            answer = await self._run(command, lambda text: self._waits(number, text))
            return Outcome(number, command, True, "\n".join(answer.notices))
        except PointsmanError as error:
            return Outcome(number, command, False, error.message, error.detail, error.hint, error.sqlstate)
        except asyncio.CancelledError:
            # Whoever cancels wants this one to end, not who waits for it.
            return Outcome(
                number, command, False, "canceling statement due to user request", sqlstate=sqlstate.QUERY_CANCELED
            )
        except Exception:
            log.exception("a bug has ended a command of the dashboard", command=command)
            return Outcome(number, command, False, "internal error", "The log has more.", "", sqlstate.INTERNAL_ERROR)
        finally:
            del self._tasks[number], self._under_way[number]
