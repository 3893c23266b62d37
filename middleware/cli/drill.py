"""`pointsman drill`: break something on purpose, and see what it costs."""

import os
import secrets
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final, NoReturn

import anyio
import typer
from rich.console import Console

from middleware.cli.common import EXIT_CONFIG, settings_or_exit
from middleware.config import ConfigError, Settings, build_settings
from middleware.config.drilling import DrillSettings
from middleware.drill import report_text
from middleware.drill.compose_stage import ComposeStage
from middleware.drill.errors import DrillError
from middleware.drill.ledger import Size
from middleware.drill.operator_stage import OperatorStage, login_of, refusal
from middleware.drill.report_html import page
from middleware.drill.result import Result
from middleware.drill.sandbox_stage import SandboxStage
from middleware.drill.scenarios import BY_NAME, DRILLS, Drill
from middleware.drill.series import MakeStage, exit_status, play_all

ALL: Final = "all"
DIRECTORY: Final = Path("drill-reports")
EXIT_INTERRUPTED: Final = 130
SEEDS: Final = 1 << 31


def _list_drills(wanted: bool) -> None:
    if wanted:
        for one in DRILLS:
            typer.echo(f"{one.name:<18} {one.about}")
            if one.harmless:
                typer.echo(f"{'':<18} Harmless: {one.harmless}.")
        raise typer.Exit


def drill(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"{', '.join(BY_NAME)} or {ALL}.")],
    sync: Annotated[bool, typer.Option("--sync", help="Sandbox: replicate synchronously.")] = False,
    standbys: Annotated[int, typer.Option(min=1, max=8, help="Sandbox: streaming standbys.")] = 2,
    pg_version: Annotated[int, typer.Option(help="Sandbox: major version of PostgreSQL, 16 or 18.")] = 18,
    compose: Annotated[
        bool, typer.Option("--compose", help="On the Compose project of this directory, which is up.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="On your own cluster, by the Pointsman that runs with this."
        ),
    ] = None,
    i_mean_it: Annotated[
        bool, typer.Option("--i-mean-it", help="With --config: also drills that break nodes.")
    ] = False,
    user: Annotated[
        str, typer.Option(help="With --config: who the load logs in as; else the first of its users.")
    ] = "",
    database: Annotated[
        str, typer.Option(help="With --config: where it may make a schema; else the user's name.")
    ] = "",
    writers: Annotated[int, typer.Option(min=1, max=200, help="Clients that write and read.")] = 4,
    readers: Annotated[int, typer.Option(min=0, max=200, help="Clients that only read.")] = 4,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Play it so often.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, max=SEEDS, help="Of what is drawn: nodes, pauses.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Where all that is known goes, as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the report goes, as a page.")] = None,
    no_reports: Annotated[bool, typer.Option("--no-reports", help="Write no files that were not named.")] = False,
    _list: Annotated[
        bool, typer.Option("--list", callback=_list_drills, is_eager=True, help="List the drills, and exit.")
    ] = False,
) -> None:
    """Break something on purpose, under a load that keeps books, and report what it cost.

    On a cluster of its own that is made for it, unless --compose or --config names another. Its targets are the
    settings' table drill. Reports go to drill-reports/, unless --json or --html names a file.

    Exit status: 0 when every target was met, 1 when one was missed, 2 when a drill could not be played.
    """
    console = Console(highlight=False, markup=False)
    if compose and config is not None:
        _refuse("--compose and --config are two clusters: name one")
    for path in (json, html):
        if path is not None and not path.parent.is_dir():
            _refuse(f"{path}: there is no directory {path.parent}")
    drills = list(DRILLS) if name == ALL else [BY_NAME[name]] if name in BY_NAME else []
    if not drills:
        _refuse(f'there is no drill "{name}": there are {", ".join(BY_NAME)} and {ALL}')
    make_stage: MakeStage
    if config is not None:
        settings = settings_or_exit(config)
        drills, targets = _allowed(drills, settings, meant=i_mean_it, all_of_them=name == ALL), settings.drill
        make_stage = _operators(settings, user, database)
    elif compose:
        targets, make_stage = _targets(), lambda _: ComposeStage()
    else:
        targets = _targets()
        make_stage = partial(_sandbox, sync=sync, standbys=standbys, version=pg_version)
    seed = secrets.randbelow(SEEDS) if seed is None else seed
    results = _play(drills * runs, make_stage, targets, Size(writers, readers), seed, console)
    if len(results) > 1:
        report_text.summary(console, results)
    _write(results, json, html, console, f"{name}{'-sync' if sync else ''}", default=not no_reports)
    raise typer.Exit(exit_status(results))


def _play(
    drills: Sequence[Drill], make_stage: MakeStage, targets: DrillSettings, size: Size, seed: int, console: Console
) -> list[Result]:
    """All of them; interrupted, what was made is removed first."""
    results: list[Result] = []

    async def play() -> None:
        async with anyio.create_task_group() as tasks:

            async def mind_signals() -> None:
                with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for _ in signals:
                        tasks.cancel_scope.cancel()

            def finished(result: Result) -> None:
                report_text.show(console, result)
                results.append(result)

            tasks.start_soon(mind_signals)
            await play_all(drills, make_stage, targets, size, seed, console, finished)
            tasks.cancel_scope.cancel()

    anyio.run(play)
    if len(results) < len(drills):
        typer.echo("pointsman: interrupted", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    return results


def _sandbox(drill: Drill, *, sync: bool, standbys: int, version: int) -> SandboxStage:
    return SandboxStage(synchronous=sync, standbys=standbys, version=version, forwarded=drill.forwarded)


def _targets() -> DrillSettings:
    """Those of no file: POINTSMAN_DRILL__* variables over the defaults."""
    try:
        others = {"health_check": {"user": "-"}, "nodes": {"db1": {"host": "-"}}, "auth_type": "trust"}
        return build_settings(others, origin="drill").drill
    except ConfigError as error:
        for line in error.lines:
            typer.echo(line, err=True)
        raise typer.Exit(EXIT_CONFIG) from None


def _allowed(drills: list[Drill], settings: Settings, *, meant: bool, all_of_them: bool) -> list[Drill]:
    """Those that may be played on an operator's cluster; of one that was named and may not, the reason, and exit 2."""
    refused = {one.name: why for one in drills if (why := refusal(one, settings, meant=meant))}
    for one, why in refused.items():
        typer.echo(f"pointsman: {one}: {why}", err=True)
    left = [one for one in drills if one.name not in refused]
    if not left or (refused and not all_of_them):
        raise typer.Exit(EXIT_CONFIG)
    return left


def _operators(settings: Settings, user: str, database: str) -> MakeStage:
    try:
        login = login_of(settings, user, database)
    except DrillError as error:
        _refuse(str(error))
    return lambda _: OperatorStage(settings, login)


def _write(
    results: Sequence[Result], json: Path | None, html: Path | None, console: Console, name: str, *, default: bool
) -> None:
    """The reports, and where they are."""
    if default and json is None and html is None:
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
        json, html = DIRECTORY / f"{stem}.json", DIRECTORY / f"{stem}.html"
    for path, content in ((json, report_text.as_json), (html, page)):
        if path is None:
            continue
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content(results))
        except OSError as error:
            _refuse(f"{os.fspath(path)}: {(error.strerror or str(error)).lower()}")
        console.print(f"report: {path}", soft_wrap=True)


def _refuse(why: str) -> NoReturn:
    typer.echo(f"pointsman: {why}", err=True)
    raise typer.Exit(EXIT_CONFIG)
