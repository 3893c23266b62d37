"""`pointsman doctor`: what will go wrong, and what to change."""

from functools import partial
from typing import Annotated

import anyio
import typer
from rich.console import Console

from middleware.auth import FileMistake
from middleware.cli.common import CONFIG_DEFAULT, EXIT_CONFIG, EXIT_FAILED, ConfigOption, settings_or_exit
from middleware.config.tls import TlsError
from middleware.doctor.ask import look
from middleware.doctor.checks import diagnose, reference
from middleware.doctor.finding import Severity
from middleware.doctor.report import as_json, show
from middleware.doctor.units import bytes_of


def _bytes(text: str) -> int:
    count = bytes_of(text)
    if count <= 0:
        raise ValueError
    return count


def _list_checks(wanted: bool) -> None:
    if wanted:
        typer.echo(reference(), nl=False)
        raise typer.Exit


def doctor(
    config: ConfigOption = CONFIG_DEFAULT,
    instances: Annotated[int, typer.Option(min=1, help="Pointsmans in front of these nodes, with these settings.")] = 1,
    database: Annotated[
        list[str] | None,
        typer.Option("--database", "-d", help="A database that clients use; repeat it. Else all but postgres count."),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(parser=_bytes, metavar="SIZE", help="Each node's memory, such as 16GB. Else this machine's."),
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Each node's cores. Else this machine's.")] = None,
    spindles: Annotated[int, typer.Option(min=0, help="Each node's disks that seek; 1 stands for one SSD.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    _checks: Annotated[
        bool, typer.Option("--checks", callback=_list_checks, is_eager=True, help="List the checks, and exit.")
    ] = False,
) -> None:
    """Hold the settings against what the nodes are set to, and list what to change.

    Asks each node once, as health checks do, and changes nothing. Nodes on this machine are taken to share its memory
    and cores equally; --memory and --cores tell of others.

    Exit status: 0 when nothing is worse than advice, 1 with errors or warnings, 2 when the settings cannot be used.
    """
    settings = settings_or_exit(config)
    try:
        case = anyio.run(
            partial(
                look,
                settings,
                instances=instances,
                databases=tuple(database or ()),
                memory_bytes=memory,
                cores=cores,
                spindles=spindles,
            )
        )
    except (FileMistake, TlsError) as error:
        # A file was changed since the settings were read.
        typer.echo(f"{config}: {error}", err=True)
        raise typer.Exit(EXIT_CONFIG) from None
    findings = diagnose(case)
    if json:
        typer.echo(as_json(case, findings))
    else:
        show(Console(highlight=False, markup=False), case, findings)
    if any(finding.severity is not Severity.ADVICE for finding in findings):
        raise typer.Exit(EXIT_FAILED)
