"""`pointsman switchover`: hand the primary's role to a standby, while clients wait."""

from typing import Annotated

import msgspec
import typer

from healthcheck.handover import Switched
from middleware.cli.common import CONFIG_DEFAULT, ConfigOption
from middleware.cli.events import show
from middleware.cli.remote import ask
from middleware.supervisor.commands import SwitchoverWanted


def switchover(
    node: Annotated[
        str, typer.Argument(help="Which standby; else the one that has the most.", show_default=False)
    ] = "",
    config: ConfigOption = CONFIG_DEFAULT,
    json: Annotated[bool, typer.Option("--json", help="For programs: an object a line.")] = False,
) -> None:
    """Make a standby the primary, and the primary a standby. Clients wait meanwhile, and get no error.

    Needs failover = "promote" and demote_command. Open transactions have switchover_timeout to end; if they do not, all
    is as before. Until the old primary is told to stop, Ctrl-C takes it back.

    Exit status 1 when the role has not changed, and standard error says why.
    """
    for answer in ask(config, SwitchoverWanted(node)):
        if answer.event is not None:
            show(answer.event, json=json)
        elif json:
            typer.echo(bytes(answer.done).decode())
        else:
            done = msgspec.json.decode(answer.done, type=Switched)
            typer.echo(f"{done.primary} is the primary; writes were held for {done.held_s:.2f} s; {_old(done)}")


def _old(done: Switched) -> str:
    if done.follows is None:
        return f"{done.old} is stopped, and is left to others"
    return f"{done.old} follows it" if done.follows else f"{done.old} does not follow it yet: see above"
