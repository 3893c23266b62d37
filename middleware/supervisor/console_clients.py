"""The commands of console clients, which their workers pass on: carried out, and answered in parts.

In: ConsoleAsked, ConsoleMore and ConsoleGone. Out: ConsoleTold. Behind each part but the last one nothing is sent until
the worker asks for more, and what is noticed meanwhile is told by its latest word: so for each command at most one
part is under way, however slow its reader. A command whose client has gone is cancelled, and takes back what can be.
"""

from collections.abc import Callable, Iterator
from typing import Final

import anyio
import anyio.abc
import structlog

from middleware.admin.show_settings import CONSOLE
from middleware.admin.table import Table, Value
from middleware.control import ConsoleAsked, ConsoleGone, ConsoleMore, ConsoleTold
from middleware.errors import Canceled, PointsmanError, ShuttingDown
from middleware.reports import TrafficReport
from middleware.supervisor.console import Console, Who, logged

PART_ROWS_MAX: Final = 50
"""What a worker turns into messages between two things that its clients wait for: some tenths of a millisecond."""
PART_BYTES_MAX: Final = 65_536
"""Of a part's text, by its longest rows' measure."""

log = structlog.get_logger("console")

Row = tuple[Value, ...]


class _Command:
    """One that is carried out, or whose answer is being taken."""

    def __init__(self, worker: int, asked: ConsoleAsked, send: Callable[[int, ConsoleTold], None]) -> None:
        self.worker: Final = worker
        self.asked: Final = asked
        self.scope: Final = anyio.CancelScope()
        self._send: Final = send
        self._may_send = anyio.Event()
        self._may_send.set()

    def more(self) -> None:
        """What was sent has been taken."""
        self._may_send.set()

    async def send_notice(self, text: str) -> None:
        """Beside the rows."""
        await self._may_send.wait()
        self.send((), text)

    def send(self, rows: tuple[Row, ...], *notices: str) -> None:
        self._may_send = anyio.Event()
        self._send(self.worker, ConsoleTold(self.asked.client, self.asked.serial, rows, last=False, notices=notices))

    async def send_rows(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """All but the last part, which is returned."""
        parts = parts_of(rows)
        last = next(parts)
        for part in parts:
            await self._may_send.wait()
            self.send(last)
            last = part
        await self._may_send.wait()
        return last

    def finish(self, rows: tuple[Row, ...], tag: str, notices: tuple[str, ...]) -> None:
        asked = self.asked
        self._send(self.worker, ConsoleTold(asked.client, asked.serial, rows, tag=tag, notices=notices))

    def fail(self, error: PointsmanError) -> None:
        told = error.message, error.detail, error.hint, error.sqlstate
        self._send(self.worker, ConsoleTold(self.asked.client, self.asked.serial, error=told))


class ConsoleClients:
    """Those of all workers."""

    def __init__(self, console: Console, send: Callable[[int, ConsoleTold], None]) -> None:
        self._console: Final = console
        self._send: Final = send
        self._commands: Final[dict[tuple[int, int], _Command]] = {}
        """By client and serial."""
        self._heard = 0
        """Commands, since the start."""
        self._tasks: anyio.abc.TaskGroup | None = None

    async def run(self) -> None:
        """Carry commands out until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None

    def heard(self, worker: int, said: ConsoleAsked | ConsoleMore | ConsoleGone) -> None:
        """What a worker says of its clients."""
        command = self._commands.get((said.client, said.serial))
        if isinstance(said, ConsoleAsked):
            self._heard += 1
            command = _Command(worker, said, self._send)
            if self._tasks is None:
                command.fail(ShuttingDown())
            else:
                self._commands[said.client, said.serial] = command
                self._tasks.start_soon(self._carry_out, command)
        elif command is not None and isinstance(said, ConsoleMore):
            command.more()
        elif command is not None:
            command.scope.cancel()

    def traffic(self) -> TrafficReport:
        """What SHOW STATS has of the console: as in PgBouncer each command is a query and a transaction of no time, and
        there is a row of it when nothing else has gone through. Exporters take a table without rows for a failure."""
        return TrafficReport(CONSOLE, "", "", xacts=self._heard, queries=self._heard)

    def ended(self, worker: int) -> None:
        """Its process is gone, and its clients with it."""
        for command in list(self._commands.values()):
            if command.worker == worker:
                command.scope.cancel()

    async def _carry_out(self, command: _Command) -> None:
        asked = command.asked
        try:
            with command.scope:
                await self._answer(command)
            if command.scope.cancelled_caught:
                command.fail(Canceled())
        finally:
            del self._commands[asked.client, asked.serial]

    async def _answer(self, command: _Command) -> None:
        asked = command.asked
        who = Who(asked.user, asked.admin, "console")
        try:
            outcome = await self._console.run_aloud(asked.text, who, command.send_notice)
        except PointsmanError as error:
            command.fail(error)
            return
        except Exception:
            log.exception("a bug has ended a command of the console", command=logged(asked.text))
            command.fail(PointsmanError("internal error"))
            return
        rows = await command.send_rows(outcome.rows if isinstance(outcome, Table) else ())
        command.finish(rows, outcome.tag, outcome.notices)


def parts_of(rows: tuple[Row, ...]) -> Iterator[tuple[Row, ...]]:
    """The rows in parts of a bounded size; one at least, be it empty."""
    start = size = 0
    for at, row in enumerate(rows):
        bytes_of_row = sum(len(value) if isinstance(value, str) else 8 for value in row)
        if at > start and (at - start >= PART_ROWS_MAX or size + bytes_of_row > PART_BYTES_MAX):
            yield rows[start:at]
            start, size = at, 0
        size += bytes_of_row
    yield rows[start:]
