"""`pointsman serve`: run the proxy in the foreground."""

import anyio
import typer

from middleware import supervisor
from middleware.cli.common import CONFIG_DEFAULT, EXIT_FAILED, ConfigOption, settings_or_exit
from middleware.logs import set_up_logs


def serve(config: ConfigOption = CONFIG_DEFAULT) -> None:
    """Serve clients until SIGTERM or Ctrl-C.

    Then no new clients are taken, and open transactions have shutdown_timeout to end; a second signal ends at once.
    """
    settings = settings_or_exit(config)
    set_up_logs(settings.log.level, settings.log.format)
    try:
        anyio.run(supervisor.serve, settings)
    except supervisor.StartError as error:
        typer.echo(f"pointsman: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
