"""`pointsman import`: settings made of PgBouncer's or pgpool-II's."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from middleware.cli.common import EXIT_CONFIG
from middleware.config import ConfigError, build_settings
from middleware.config.from_pgbouncer import from_pgbouncer
from middleware.config.from_pgpool import from_pgpool
from middleware.config.imported import Imported


def import_settings(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A pgbouncer.ini, or a pgpool.conf.")],
) -> None:
    """Write the equivalent of another pooler's settings to standard output.

    What has no equivalent, and what is to be looked at, is listed on standard error. A file that ends in .ini is taken
    for PgBouncer's, any other for pgpool-II's.
    """
    try:
        imported = _read(file)
    except OSError as error:
        _fail(f"{file}: {(error.strerror or 'cannot be read').lower()}")
    except ValueError as error:
        _fail(f"{file}: {error}")
    for note in imported.notes:
        typer.echo(f"{file}: {note}", err=True)
    try:
        build_settings(imported.as_mapping(), origin="to be completed")
    except ConfigError as error:
        for line in error.lines:
            typer.echo(line, err=True)
    typer.echo(imported.as_toml(), nl=False)


def _read(file: Path) -> Imported:
    text = file.read_text(encoding="utf-8")
    return from_pgbouncer(file, text) if file.suffix == ".ini" else from_pgpool(text)


def _fail(line: str) -> NoReturn:
    typer.echo(line, err=True)
    raise typer.Exit(EXIT_CONFIG)
