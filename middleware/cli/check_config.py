"""`pointsman check-config`: whether `serve` would take the settings, without starting anything."""

import typer

from middleware.cli.common import CONFIG_DEFAULT, ConfigOption, settings_or_exit


def check_config(config: ConfigOption = CONFIG_DEFAULT) -> None:
    """Check a settings file: say "ok", or list each mistake on a line of its own and exit with status 2."""
    settings_or_exit(config)
    typer.echo(f"{config}: ok")
