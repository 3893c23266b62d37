"""The admin console: a line of text in, what it has come to out.

One for all who ask: a client of the database `pointsman` (through its worker), the control socket, the dashboard's
buttons.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol

import anyio
import msgspec
import structlog

from healthcheck.handover import Switched
from healthcheck.switchover import Reason, Refused
from middleware import sqlstate
from middleware.admin.grammar import (
    CacheClear,
    CacheOrder,
    Command,
    DatabaseOrder,
    KillClient,
    NodeOrder,
    OnDatabases,
    OnNode,
    Promote,
    Reload,
    SetSetting,
    Show,
    Shutdown,
    Suspend,
    command_of,
)
from middleware.admin.show_settings import CONSOLES
from middleware.admin.table import Done, Table
from middleware.admin.words import statements_of
from middleware.errors import PointsmanError
from middleware.supervisor.cache_control import CacheControl
from middleware.supervisor.node_orders import NodeOrders
from middleware.supervisor.pausing import Tell, unheard
from middleware.supervisor.reloading import Reloaded
from middleware.supervisor.showing import Known, Showing
from middleware.supervisor.stopping import ShutdownMode, Stopping

log = structlog.get_logger("console")

REFUSALS: Final = {
    Reason.NOT_READY: sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE,
    Reason.UNKNOWN: sqlstate.UNDEFINED_OBJECT,
    Reason.BUSY: sqlstate.OBJECT_IN_USE,
    Reason.TIMED_OUT: sqlstate.QUERY_CANCELED,
    Reason.FAILED: sqlstate.EXTERNAL_ROUTINE_EXCEPTION,
}
"""What a switchover that is refused is told with."""


SHUTDOWN_MODES: Final[dict[str, ShutdownMode]] = {
    "": "now",
    "WAIT_FOR_SERVERS": "wait_for_servers",
    "WAIT_FOR_CLIENTS": "wait_for_clients",
}
LOGGED_CHARS: Final = 200
"""Of a command."""


class Who(msgspec.Struct, frozen=True):
    """Who asks."""

    name: str
    admin: bool
    """May change something; else may only look."""
    via: Literal["console", "socket", "http"]


class Operated(Known, Protocol):
    """What the console needs of the Pointsman whose it is."""

    @property
    def cache(self) -> CacheControl: ...
    async def switch(self, node: str = "") -> Switched: ...
    @property
    def node_orders(self) -> NodeOrders: ...
    @property
    def stopping(self) -> Stopping: ...
    def elsewhere(self) -> str: ...
    async def reload(self, who: str) -> Reloaded: ...
    async def set(self, key: str, text: str, who: str) -> Reloaded: ...


class _Latest:
    """The latest word of several."""

    def __init__(self) -> None:
        self._text = ""
        self._changed = anyio.Event()

    def tell(self, text: str) -> None:
        self._text = text
        self._changed.set()

    async def pass_on(self, say: Callable[[str], Awaitable[None]]) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            await say(self._text)


class Console:
    """Carries commands out."""

    def __init__(self, operated: Operated) -> None:
        self._operated: Final = operated
        self._showing: Final = Showing(operated)

    async def run(self, text: str, who: Who, tell: Tell = unheard) -> Table | Done:
        """Do as `who` has said; `tell` hears what it waits for meanwhile. Cancelled, it takes back what can be.

        Raises PointsmanError: 42601 for what is no command, 42501 where it may not."""
        statements = statements_of(text)
        if len(statements) != 1:
            raise PointsmanError("one command is expected", hint="Try SHOW HELP.", sqlstate=sqlstate.SYNTAX_ERROR)
        command = command_of(statements[0])
        if isinstance(command, Show) and (who.admin or command.subject != "fds"):
            return await self._showing.show(command)
        if not who.admin:
            raise PointsmanError(
                "admin access needed",
                detail=f'User "{who.name}" is one of stats_users, who may SHOW.',
                sqlstate=sqlstate.INSUFFICIENT_PRIVILEGE,
            )
        if not isinstance(command, Shutdown) and (why := self._operated.elsewhere()):
            raise PointsmanError(
                why,
                hint="Connect again, and say it to the process that takes over.",
                sqlstate=sqlstate.OBJECT_IN_USE,
            )
        log.info("command", command=logged(text), user=who.name, via=who.via)
        return await self._carry_out(command, who.name, tell)

    async def run_aloud(self, text: str, who: Who, say: Callable[[str], Awaitable[None]]) -> Table | Done:
        """The same, with what is waited for told as fast as `say` takes it: what is not news any more is left out.
        Raises what `say` raises, too."""
        latest = _Latest()
        outcome: Table | Done | None = None
        failure: Exception | None = None

        async def pass_on() -> None:
            nonlocal failure
            try:
                await latest.pass_on(say)
            except Exception as error:
                failure = error
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pass_on)
            try:
                outcome = await self.run(text, who, latest.tell)
            except Exception as error:
                # Not out of the block, which would wrap it.
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        assert outcome is not None
        return outcome

    async def _carry_out(self, command: Command, who: str, tell: Tell) -> Done:
        operated = self._operated
        match command:
            case Reload():
                return Done("RELOAD", tuple((await operated.reload(who)).words()))
            case DatabaseOrder(verb=verb, database=database):
                return Done(verb, await self._order_databases(verb, database or None, who, tell))
            case KillClient(client=client):
                await operated.pausing.kill_client(client, who)
                return Done("KILL_CLIENT")
            case Suspend():
                await operated.pausing.suspend(who, tell)
                return Done("SUSPEND")
            case NodeOrder(verb=verb, node=node):
                return Done(f"{verb} NODE", await self._order_node(verb, node, who, tell))
            case Shutdown(mode=mode):
                operated.stopping.shutdown(SHUTDOWN_MODES[mode], who)
                return Done("SHUTDOWN")
            case CacheOrder(mode=mode, route=route):
                await operated.cache.switch(mode, route, who)
                return Done("CACHE")
            case CacheClear():
                operated.cache.clear(who)
                return Done("CACHE")
            case Promote(verb=verb, node=node):
                return await self._switch(verb, node, tell)
            case SetSetting(key=key, value=value):
                return Done("SET", tuple((await operated.set(key, value, who)).words()))
            case Show():
                raise AssertionError("it was shown")

    async def _order_databases(self, verb: OnDatabases, database: str | None, who: str, tell: Tell) -> tuple[str, ...]:
        """What is to be noticed of it."""
        if database is not None and database in CONSOLES:
            raise PointsmanError(
                f'"{database}" is the admin console', sqlstate=sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE
            )
        # Before, since nobody may be left after KILL. It may be that it is to be used only from now on, so it is done.
        strange = database is not None and not await self._showing.knows(database)
        notices = await self._carry_out_for(verb, database, who, tell)
        return (*notices, f'no rule names database "{database}", and nobody has used it') if strange else notices

    async def _carry_out_for(self, verb: OnDatabases, database: str | None, who: str, tell: Tell) -> tuple[str, ...]:
        pausing = self._operated.pausing
        match verb:
            case "PAUSE":
                await pausing.pause(database, who, tell)
            case "RESUME":
                left = await pausing.resume(database, who)
                return (f"still paused: {', '.join(left)}",) if left else ()
            case "RECONNECT":
                await pausing.reconnect(database, who)
            case "KILL":
                await pausing.kill(database, who)
            case "WAIT_CLOSE":
                await pausing.wait_close(database, tell)
            case "DISABLE":
                assert database is not None
                await pausing.disable(database, who)
            case "ENABLE":
                assert database is not None
                await pausing.enable(database, who)
        return ()

    async def _order_node(self, verb: OnNode, node: str, who: str, tell: Tell) -> tuple[str, ...]:
        """What is to be noticed of it."""
        orders = self._operated.node_orders
        match verb:
            case "DETACH":
                return await orders.detach(node, who)
            case "ATTACH":
                return await orders.attach(node, who)
            case "DRAIN":
                return await orders.drain(node, who, tell)

    async def _switch(self, verb: str, node: str, tell: Tell) -> Done:
        """What the journal is told meanwhile is passed on."""
        journal = self._operated.journal
        switched: Switched | None = None
        refused: PointsmanError | None = None

        async def pass_on() -> None:
            last = journal.last
            while True:
                await journal.wait_beyond(last)
                for event in journal.beyond(last):
                    last = event.seq
                    tell(f"{event.node}: {event.text}" if event.node else event.text)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pass_on)
            try:
                switched = await self._operated.switch(node)
            except Refused as why:
                refused = PointsmanError(str(why), detail=why.detail, hint=why.hint, sqlstate=REFUSALS[why.reason])
            tasks.cancel_scope.cancel()
        if refused is not None:
            raise refused
        assert switched is not None
        return Done(verb, (f"{switched.primary} is the primary; writes were held for {switched.held_s:.2f} s",))


def logged(text: str) -> str:
    """A command as the log tells it: a setting may be a secret."""
    words = statements_of(text)[0].words
    return f"SET {words[1].text}" if words[0].upper() == "SET" and len(words) > 1 else text[:LOGGED_CHARS]
