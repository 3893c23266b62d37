"""`pointsman import`: settings made of PgBouncer's or pgpool-II's."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from middleware.cli.common import EXIT_CONFIG
from middleware.config import ConfigError, build_settings
from middleware.config.from_pgbouncer import from_pgbouncer
from middleware.config.from_pgpool import from_pgpool
from middleware.config.imported import Imported
from middleware.config.pgbouncer_ini import is_pgbouncer_ini


def import_settings(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A pgbouncer.ini, or a pgpool.conf.")],
) -> None:
    """Write the equivalent of another pooler's settings to standard output.

    What has no equivalent, and what is to be looked at, is listed on standard error. A file with a section [databases]
    or [pgbouncer] is taken for PgBouncer's, any other for pgpool-II's.
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
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    # The files it names are looked for beside it, from wherever ours is used.
    at = file.absolute()
    return from_pgbouncer(at, text) if file.suffix == ".ini" or is_pgbouncer_ini(text) else from_pgpool(at, text)


def _fail(line: str) -> NoReturn:
    typer.echo(line, err=True)
    raise typer.Exit(EXIT_CONFIG)
