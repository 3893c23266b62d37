"""`pointsman console` and `pointsman show`: commands of the admin console from the shell, by the control socket."""

import contextlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from middleware.admin.table import Column, Value
from middleware.admin.values import text_of
from middleware.cli.common import CONFIG_DEFAULT, ConfigOption
from middleware.cli.remote import ask
from middleware.supervisor.commands import Answered, ConsoleWanted

EXIT_INTERRUPTED: Final = 130
WIDTH_IN_PIPES: Final = 10_000
"""What goes through a pipe is not cut to a terminal's width."""
NUMBERS: Final = ("int4", "int8", "float8", "numeric")

JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


class Outcome(msgspec.Struct, frozen=True):
    """What a command has come to."""

    tag: str
    columns: tuple[Column, ...]
    rows: list[list[Value]]
    notices: tuple[str, ...]


def run(config: Path, command: str) -> Outcome:
    """Carry it out; what it waits for meanwhile is told on standard error. Ctrl-C takes back what can be. Whatever
    fails is said on standard error, and exits."""
    try:
        return _outcome(config, command)
    except KeyboardInterrupt:
        typer.echo("given up", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _outcome(config: Path, command: str) -> Outcome:
    rows: list[list[Value]] = []
    for answer in ask(config, ConsoleWanted(command)):
        if answer.notice is not None:
            typer.echo(answer.notice, err=True)
        elif answer.rows is not None:
            rows += answer.rows
        else:
            done = msgspec.json.decode(answer.done, type=Answered)
            return Outcome(done.tag, done.columns, rows, done.notices)
    raise AssertionError("an answer has a last line")


def print_outcome(outcome: Outcome, *, json: bool) -> None:
    """Rows as a table, or as an object each; what has none by its notices, or its name."""
    if outcome.columns:
        for notice in outcome.notices:
            typer.echo(notice, err=True)
        if json:
            names = [column.name for column in outcome.columns]
            objects = [dict(zip(names, row, strict=True)) for row in outcome.rows]
            typer.echo(msgspec.json.encode(objects).decode())
        else:
            _print_table(outcome)
    elif json:
        typer.echo(msgspec.json.encode({"tag": outcome.tag, "notices": outcome.notices}).decode())
    else:
        for line in outcome.notices or (outcome.tag,):
            typer.echo(line)
    sys.stdout.flush()


def _print_table(outcome: Outcome) -> None:
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH_IN_PIPES)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in outcome.columns:
        table.add_column(column.name, justify="right" if column.type in NUMBERS else "left", overflow="fold")
    for row in outcome.rows:
        table.add_row(*_cells(outcome.columns, row))
    console.print(table)


def _cells(columns: Iterable[Column], row: Iterable[Value]) -> list[Text]:
    return [
        Text("" if value is None else text_of(column.type, value)) for column, value in zip(columns, row, strict=True)
    ]


def console(
    command: Annotated[str, typer.Argument(help='Such as "SHOW POOLS" or "PAUSE app".', show_default=False)],
    config: ConfigOption = CONFIG_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Carry out a command of the admin console: SHOW HELP lists them.

    Asks the running Pointsman by its control_socket, as the user that it runs as. Exit status 1 when it was not done,
    and standard error says why.
    """
    print_outcome(run(config, command), json=json)


def show(
    what: Annotated[
        list[str], typer.Argument(help='Such as nodes, pools, clients, or "digests limit 5".', show_default=False)
    ],
    config: ConfigOption = CONFIG_DEFAULT,
    json: JsonOption = False,
    watch: Annotated[
        float, typer.Option("--watch", "-w", min=0.0, metavar="SECONDS", help="Again and again, until Ctrl-C.")
    ] = 0.0,
) -> None:
    """Show a table of the admin console: `pointsman show help` lists them.

    Asks the running Pointsman by its control_socket, as the user that it runs as. Exit status 1 when there is no such
    table, or none with these settings runs.
    """
    command = " ".join(("SHOW", *what))
    print_outcome(run(config, command), json=json)
    with contextlib.suppress(KeyboardInterrupt):
        while watch:
            time.sleep(watch)
            outcome = _outcome(config, command)
            if sys.stdout.isatty():
                Console().clear()
            elif not json:
                typer.echo()
            print_outcome(outcome, json=json)
