"""The command `pointsman`: one module per subcommand, registered here."""

from importlib.metadata import version
from typing import Annotated

import typer

from middleware.cli import orders
from middleware.cli.cache import cache
from middleware.cli.check_config import check_config
from middleware.cli.console import console, show
from middleware.cli.demo import demo
from middleware.cli.doctor import doctor
from middleware.cli.drill import drill
from middleware.cli.events import events
from middleware.cli.explain import explain_statement
from middleware.cli.import_settings import import_settings
from middleware.cli.log_events import log_events
from middleware.cli.metrics import show_metrics
from middleware.cli.restart import restart
from middleware.cli.serve import serve
from middleware.cli.settings import show_settings
from middleware.cli.status import status
from middleware.cli.switchover import switchover

app = typer.Typer(
    name="pointsman",
    help="SQL-aware PostgreSQL middleware: one endpoint for a primary and its replicas.",
    no_args_is_help=True,
    add_completion=False,
    # Tracebacks with local variables would print passwords.
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pointsman {version('pointsman')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("serve")(serve)
app.command("restart")(restart)
app.command("status")(status)
app.command("events")(events)
app.command("switchover")(switchover)
app.add_typer(cache)
app.command("show")(show)
app.command("console")(console)
for name, order in orders.ALL.items():
    app.command(name)(order)
app.command("check-config")(check_config)
app.command("settings")(show_settings)
app.command("log-events")(log_events)
app.command("metrics")(show_metrics)
app.command("import")(import_settings)
app.command("explain")(explain_statement)
app.command("doctor")(doctor)
app.command("demo")(demo)
app.command("drill")(drill)


def main() -> None:
    """The entry point."""
    app()
