"""What is done to a running Pointsman from the shell: the admin console's commands, one subcommand each."""

from collections.abc import Callable
from typing import Annotated, Final, Literal

import typer

from middleware.cli.common import CONFIG_DEFAULT, ConfigOption
from middleware.cli.console import JsonOption, print_outcome, run

DatabaseArgument = Annotated[
    str, typer.Argument(metavar="[DATABASE]", help="As clients call it; all without one.", show_default=False)
]
NeededDatabase = Annotated[str, typer.Argument(metavar="DATABASE", help="As clients call it.", show_default=False)]
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="By its name in the settings.", show_default=False)]


def quoted(name: str) -> str:
    """A name within a command."""
    return '"' + name.replace('"', '""') + '"'


def _words(verb: str, name: str) -> str:
    return f"{verb} {quoted(name)}" if name else verb


def pause(database: DatabaseArgument = "", config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Give out no server, and return when none is lent any more and all are closed.

    Clients wait until `resume`. Ctrl-C while it waits takes it back.
    """
    print_outcome(run(config, _words("PAUSE", database)), json=json)


def resume(database: DatabaseArgument = "", config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Go on after `pause`, `kill` or `suspend`."""
    print_outcome(run(config, _words("RESUME", database)), json=json)


def suspend(config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Read nothing from clients and servers until `resume`; return when what was read has been passed on."""
    print_outcome(run(config, "SUSPEND"), json=json)


def disable(database: NeededDatabase, config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Let no new client in to a database."""
    print_outcome(run(config, _words("DISABLE", database)), json=json)


def enable(database: NeededDatabase, config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Let clients in to it again."""
    print_outcome(run(config, _words("ENABLE", database)), json=json)


def reconnect(database: DatabaseArgument = "", config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Close each server when it comes back, and open new ones as they are needed."""
    print_outcome(run(config, _words("RECONNECT", database)), json=json)


def wait_close(
    database: DatabaseArgument = "", config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False
) -> None:
    """Return when the servers are closed that `reconnect` or `reload` will have closed."""
    print_outcome(run(config, _words("WAIT_CLOSE", database)), json=json)


def kill(
    database: DatabaseArgument = "",
    all_databases: Annotated[bool, typer.Option("--all", help="Those of all databases.")] = False,
    config: ConfigOption = CONFIG_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Drop the clients and servers of a database at once; it is paused then, until `resume`."""
    if bool(database) == all_databases:
        raise typer.BadParameter("name a database, or say --all")
    print_outcome(run(config, _words("KILL", database)), json=json)


def kill_client(
    client: Annotated[int, typer.Argument(metavar="ID", min=1, help="In `pointsman show clients`.")],
    config: ConfigOption = CONFIG_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Drop one client, and end what it has under way."""
    print_outcome(run(config, f"KILL_CLIENT {client}"), json=json)


def reload(config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Read the settings and the files they name again, and say what has changed.

    Exit status 1 where they cannot be used: then nothing has changed, and standard error says why.
    """
    print_outcome(run(config, "RELOAD"), json=json)


def set_setting(
    key: Annotated[str, typer.Argument(help="As in `pointsman show config`.", show_default=False)],
    value: Annotated[str, typer.Argument(help="As it would stand in the file, without quotes.", show_default=False)],
    config: ConfigOption = CONFIG_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Change one setting until the next start or `reload`."""
    text = value.replace("'", "''")
    print_outcome(run(config, f"SET {quoted(key)} = '{text}'"), json=json)


def detach(node: NodeArgument, config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Give a node nothing new until `attach`; what is under way there may end."""
    print_outcome(run(config, f"DETACH NODE {quoted(node)}"), json=json)


def attach(node: NodeArgument, config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Use a node again."""
    print_outcome(run(config, f"ATTACH NODE {quoted(node)}"), json=json)


def drain(node: NodeArgument, config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Give a node nothing new, and return when nothing is under way there: it is detached then.

    Ctrl-C while it waits has it used again.
    """
    print_outcome(run(config, f"DRAIN NODE {quoted(node)}"), json=json)


def shutdown(
    wait_for: Annotated[
        Literal["servers", "clients"] | None,
        typer.Option(
            "--wait-for", help="No new clients, and stop when no server is lent, or the last client has gone."
        ),
    ] = None,
    config: ConfigOption = CONFIG_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Stop it: transactions have shutdown_timeout to end."""
    mode = f" WAIT_FOR_{wait_for.upper()}" if wait_for else ""
    print_outcome(run(config, f"SHUTDOWN{mode}"), json=json)


ALL: Final[dict[str, Callable[..., None]]] = {
    "pause": pause,
    "resume": resume,
    "suspend": suspend,
    "disable": disable,
    "enable": enable,
    "reconnect": reconnect,
    "wait-close": wait_close,
    "kill": kill,
    "kill-client": kill_client,
    "reload": reload,
    "set": set_setting,
    "detach": detach,
    "attach": attach,
    "drain": drain,
    "shutdown": shutdown,
}
"""By their names in the shell."""
