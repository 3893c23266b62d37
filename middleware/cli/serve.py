"""`pointsman serve`: run the proxy in the foreground."""

from functools import partial

import anyio
import typer

from middleware.cli.common import CONFIG_DEFAULT, EXIT_FAILED, ConfigOption, settings_or_exit
from middleware.config import load_settings
from middleware.logs import set_up_logs, tell_left_out
from middleware.service import serve as run
from middleware.supervisor import StartError


def serve(config: ConfigOption = CONFIG_DEFAULT) -> None:
    """Serve clients until SIGTERM or Ctrl-C; SIGHUP has the settings read again.

    Then no new clients are taken, and open transactions have shutdown_timeout to end; a second signal ends at once.
    """
    settings = settings_or_exit(config)
    set_up_logs(settings.log_options())
    try:
        anyio.run(run, settings, partial(load_settings, config))
    except StartError as error:
        typer.echo(f"pointsman: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    finally:
        tell_left_out(at_once=True)
