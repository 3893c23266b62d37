"""`pointsman log-events`: every event that may be logged."""

import typer

from middleware.logs.reference import reference


def log_events() -> None:
    """Print every event that may be logged, with its level and fields, as Markdown."""
    typer.echo(reference(), nl=False)
