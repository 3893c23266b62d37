"""What subcommands share: the option that names the settings file, and how its mistakes end a command."""

from pathlib import Path
from typing import Annotated, Final

import typer

from middleware.config import ConfigError, Settings, load_settings

EXIT_CONFIG: Final = 2
"""The settings cannot be used; the same as for a wrong option."""
EXIT_FAILED: Final = 1

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", metavar="FILE", help="The settings file. POINTSMAN_* variables override it."),
]
CONFIG_DEFAULT: Final = Path("pointsman.toml")


def settings_or_exit(path: Path) -> Settings:
    """The settings, or the mistakes on standard error and exit status 2."""
    try:
        return load_settings(path)
    except ConfigError as error:
        for line in error.lines:
            typer.echo(line, err=True)
        raise typer.Exit(EXIT_CONFIG) from None
