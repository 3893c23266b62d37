"""`pointsman demo`: a cluster and the proxy in one command, and `--tour`, the scripted walk."""

import signal
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import anyio
import typer
from rich.console import Console

from middleware import supervisor
from middleware.cli.common import EXIT_CONFIG, EXIT_FAILED
from middleware.config import ConfigError
from middleware.demo import live, stage, tour
from middleware.logs import LogOptions, set_up_logs
from middleware.sandbox import Sandbox, SandboxError
from middleware.sandbox.door import Door

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def demo(
    walk: Annotated[bool, typer.Option("--tour", help="Walk through what it does, and exit.")] = False,
    port: Annotated[int | None, typer.Option(help="Where to listen; 6432 or any free port by default.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    standbys: Annotated[int, typer.Option(min=1, max=8, help="Streaming standbys.")] = 2,
    pg_version: Annotated[int, typer.Option(help="Major version of PostgreSQL, 16 or 18.")] = 18,
    http_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Where the dashboard is; 6480 or any free port by default, 0 for none."),
    ] = None,
    load: Annotated[float, typer.Option(min=0, help="Transactions a second of demonstration traffic.")] = 0,
) -> None:
    """Start a primary, standbys and Pointsman in front of them; remove it all at the end.

    Everything lives in a temporary directory and on loopback ports of this machine.
    """
    console = Console(highlight=False)
    # Until the proxy minds them itself: a signal while the cluster starts must still remove it.
    for number in STOP_SIGNALS:
        signal.signal(number, _give_up)
    began = time.monotonic()
    console.print(f"starting a primary and {standbys} standby{'s' if standbys > 1 else ''} ...", end=" ")
    try:
        # Here and not in a thread: the servers end when the thread that started them does.
        with Sandbox(standbys=standbys, version=pg_version) as sandbox:
            console.print(f"PostgreSQL {sandbox.version}, {time.monotonic() - began:.1f} s")
            where = stage.port_or_free(port)
            if walk:
                settings = stage.proxy_settings(sandbox, port=where, workers=workers)
                set_up_logs(LogOptions(level="warning"))
                anyio.run(tour.walk, sandbox, settings, console)
                console.print("\nall as it should be; `make demo` keeps it running for your own psql")
            else:
                with tempfile.TemporaryDirectory(prefix="pointsman-demo-") as scratch:
                    door = Path(scratch) / "door"
                    http = stage.http_port_or_free(http_port)
                    settings = stage.proxy_settings(sandbox, port=where, workers=workers, http_port=http, door=door)
                    with Door(sandbox, door):
                        anyio.run(live.show, sandbox, settings, console, load)
    except ConfigError as error:
        for line in error.lines:
            typer.echo(line, err=True)
        raise typer.Exit(EXIT_CONFIG) from None
    except (SandboxError, supervisor.ListenError, tour.Surprise) as error:
        typer.echo(f"pointsman: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None


def _give_up(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
