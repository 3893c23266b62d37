"""`pointsman serve`: run the proxy in the foreground."""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from middleware.cli.common import CONFIG_DEFAULT, EXIT_CONFIG, EXIT_FAILED, ConfigOption
from middleware.config import ConfigError, load_settings
from middleware.logs import set_up_logs, tell_left_out
from middleware.service import Start
from middleware.service import serve as run
from middleware.supervisor import StartError


def serve(
    config: ConfigOption = CONFIG_DEFAULT,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Take the listening sockets and new clients over from the Pointsman that runs, if one does.",
        ),
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="PATH", help="Its control socket, where these settings have another."),
    ] = None,
    report: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve clients until SIGTERM or Ctrl-C; SIGHUP has the settings read again.

    Then no new clients are taken, and open transactions have shutdown_timeout to end; a second signal ends at once.
    """
    try:
        settings = load_settings(config)
        path = source or settings.control_socket_path()
        if take_over and path is None:
            raise ConfigError(["control_socket: there is none by these settings: name a path, or use --from"])
    except ConfigError as error:
        _end(error.lines, report, EXIT_CONFIG)
    set_up_logs(settings.log_options())
    command = (sys.executable, "-m", "middleware", "serve", "--config", str(config))
    start = Start(path if take_over else None, command, report)
    try:
        status = anyio.run(run, settings, start, partial(load_settings, config))
    except StartError as error:
        _end([f"pointsman: {error}"], report, EXIT_FAILED)
    finally:
        tell_left_out(at_once=True)
    raise typer.Exit(status)


def _end(lines: Sequence[str], report: int | None, status: int) -> None:
    """Say why, also to who has started us."""
    for line in lines:
        typer.echo(line, err=True)
    if report is not None:
        os.write(report, "\n".join(lines).encode())
    raise typer.Exit(status)
