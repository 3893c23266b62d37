"""`pointsman settings`: the reference of all settings."""

import typer

from middleware.config.reference import reference


def show_settings() -> None:
    """Print the reference of all settings, with their defaults and their names elsewhere, as Markdown."""
    typer.echo(reference(), nl=False)
