"""`pointsman events`: what has become of the nodes since a running Pointsman was started."""

import sys
import time
from typing import Annotated

import msgspec
import typer

from middleware.cli.common import CONFIG_DEFAULT, ConfigOption
from middleware.cli.remote import ask
from middleware.supervisor.commands import EventsWanted
from middleware.supervisor.journal import Event


def events(
    config: ConfigOption = CONFIG_DEFAULT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    after: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Only those behind this one.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="For programs: an object a line.")] = False,
) -> None:
    """List what has become of the nodes: lost, fenced, promoted, back. The last 1000 are kept.

    Asks the running Pointsman by its control_socket, as the user that it runs as. Exit status 1 when none with these
    settings runs.
    """
    try:
        for answer in ask(config, EventsWanted(after, follow)):
            if answer.event is not None:
                show(answer.event, json=json)
    except KeyboardInterrupt:
        raise typer.Exit from None


def show(event: Event, *, json: bool = False) -> None:
    """One line, at once: it may go through a pipe."""
    if json:
        typer.echo(msgspec.json.encode(event).decode())
    else:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
        line = f"{event.seq:>5}  {at}  {event.node or '-':<12} {event.what:<20} {event.text}"
        typer.secho(line, fg="red" if event.bad else None)
    sys.stdout.flush()
