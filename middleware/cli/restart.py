"""`pointsman restart`: a new process takes over from the one that runs, and no client notices."""

import msgspec
import typer

from middleware.cli.common import CONFIG_DEFAULT, ConfigOption
from middleware.cli.remote import last_word
from middleware.supervisor.commands import RestartWanted
from middleware.supervisor.restarting import Restarted


def restart(config: ConfigOption = CONFIG_DEFAULT) -> None:
    """Have a new process take over from the Pointsman that runs, with the program and the settings there are now.

    No connection is refused and no transaction fails: the process before serves the clients it has until they go, for
    up to restart_timeout. Returns when the new one serves. Exit status 1 when it cannot; then all is as before.
    """
    done = msgspec.json.decode(last_word(config, RestartWanted()), type=Restarted)
    typer.echo(f"process {done.pid} has taken over; the process before has {done.clients_before} clients left")
