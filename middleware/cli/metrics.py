"""`pointsman metrics`: the reference of all metrics."""

import typer

from middleware.web.metrics_page import reference


def show_metrics() -> None:
    """Print the reference of all metrics, with their types and labels, as Markdown."""
    typer.echo(reference(), nl=False)
