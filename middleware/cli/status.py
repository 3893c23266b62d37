"""`pointsman status`: what the nodes and the workers of a running Pointsman are."""

import time
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from middleware.cli.common import CONFIG_DEFAULT, ConfigOption
from middleware.cli.remote import last_word
from middleware.supervisor.commands import StatusWanted
from middleware.supervisor.status import NodeStatus, Status


def status(
    config: ConfigOption = CONFIG_DEFAULT,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what each node is, and since when, as the running Pointsman sees it.

    Asks it by its control_socket, as the user that it runs as. Exit status 1 when none with these settings runs.
    """
    raw = last_word(config, StatusWanted())
    if json:
        typer.echo(msgspec.json.format(bytes(raw)).decode())
        return
    known = msgspec.json.decode(raw, type=Status)
    console = Console(highlight=False, markup=False)
    console.print(_table(known))
    console.print()
    for node in known.nodes:
        if node.why:
            console.print(f"{node.name}: {node.why}", soft_wrap=True)
    before = f" and {known.clients_before} of the process before" if known.clients_before else ""
    workers = ", ".join(f"{worker.pid or 'being started'}" for worker in known.workers)
    console.print(
        f"primary {known.primary or 'none'}, failover {known.failover}, topology {known.topology_version}; "
        f"{known.clients} clients{before}, {known.waiting} waiting; workers: {workers}; Pointsman {known.version}",
        soft_wrap=True,
    )


def _table(known: Status) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("node", "address", "role", "condition", "since"):
        table.add_column(heading)
    for heading in ("timeline", "lag", "connections"):
        table.add_column(heading, justify="right")
    for node in known.nodes:
        style = "green" if node.used and not node.why else "yellow" if node.used else "red"
        table.add_row(
            node.name,
            f"{node.host}:{node.port}",
            node.role,
            Text(node.condition, style=style),
            _since(node),
            "" if node.timeline is None else str(node.timeline),
            _lag(node),
            f"{node.connections}/{node.max_connections}" if node.used and node.max_connections else "",
        )
    return table


def _since(node: NodeStatus) -> str:
    if node.since is None:
        return ""
    seconds = max(0, round(time.time() - node.since))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _lag(node: NodeStatus) -> str:
    if node.replay_lag_bytes is None:
        return ""
    late = f", {node.replay_lag_s:.1f} s" if node.replay_lag_s else ""
    return f"{node.replay_lag_bytes} bytes{late}"
