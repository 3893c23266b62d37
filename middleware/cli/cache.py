"""`pointsman cache`: turn the query cache of a running Pointsman on or off, clear it, and read its numbers."""

from typing import Annotated, Final, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from middleware.cli.common import CONFIG_DEFAULT, ConfigOption
from middleware.cli.remote import last_word
from middleware.control import CacheCounters, CacheDigest
from middleware.supervisor.cache_control import CacheState
from middleware.supervisor.cache_watch import WatchStatus
from middleware.supervisor.commands import CacheClearWanted, CacheStats, CacheStatsWanted, CacheWanted

DIGESTS_SHOWN: Final = 20
SHAPE_CHARS_SHOWN: Final = 60

cache = typer.Typer(
    name="cache",
    help="Turn the query cache on or off, clear it, and read its numbers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

RouteOption = Annotated[
    str | None,
    typer.Option("--route", metavar="NAME", help='For this rule alone; "" for whom no rule is for. Else for all.'),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


@cache.command("on")
def on(route: RouteOption = None, config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Keep all answers that can be kept, whatever the settings say. A session may have it otherwise.

    Until the next start, by which the settings hold again. Exit status 1 when it is not done, and standard error says
    why: where it was off, it stays off.
    """
    _switch("on", route, config, json)


@cache.command("hint")
def hint(route: RouteOption = None, config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Keep the answers to statements that ask for it, whatever the settings say. Else as `on`."""
    _switch("hint", route, config, json)


@cache.command("off")
def off(route: RouteOption = None, config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Give no cached answer, whatever settings, sessions and statements say. It then costs nothing.

    Until the next start, by which the settings hold again. Exit status 1 when a worker has not answered in time: the
    others give none all the same.
    """
    _switch("off", route, config, json)


@cache.command("default")
def default(route: RouteOption = None, config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Have it again as the settings say."""
    _switch("default", route, config, json)


@cache.command("clear")
def clear(config: ConfigOption = CONFIG_DEFAULT, json: JsonOption = False) -> None:
    """Give no answer again that is kept now, and free its memory."""
    raw = last_word(config, CacheClearWanted())
    if json:
        typer.echo(msgspec.json.format(bytes(raw)).decode())
    else:
        typer.echo("cleared")


@cache.command("stats")
def stats(
    digests: Annotated[
        bool, typer.Option("--digests", help=f"Also the {DIGESTS_SHOWN} statements that saved most.")
    ] = False,
    config: ConfigOption = CONFIG_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Show what the query cache has done since the start, in all workers together; it is up to a second old."""
    raw = last_word(config, CacheStatsWanted())
    if json:
        typer.echo(msgspec.json.format(bytes(raw)).decode())
        return
    known = msgspec.json.decode(raw, type=CacheStats)
    console = Console(highlight=False, markup=False)
    console.print(_routes(known.state))
    console.print()
    console.print(_totals(known.counters))
    if known.watch:
        console.print()
        console.print(_watch(known.watch))
    if digests:
        console.print()
        console.print(_digests(known.counters.digests[:DIGESTS_SHOWN]))


def _switch(mode: Literal["on", "hint", "off", "default"], route: str | None, config: ConfigOption, json: bool) -> None:
    raw = last_word(config, CacheWanted(mode, route))
    if json:
        typer.echo(msgspec.json.format(bytes(raw)).decode())
    else:
        Console(highlight=False, markup=False).print(_routes(msgspec.json.decode(raw, type=CacheState)))


def _table(*headings: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left")
    return table


def _routes(state: CacheState) -> Table:
    table = _table("route", "query cache", "by")
    for route in state.routes:
        table.add_row(route.name or "(all others)", route.mode, route.by)
    return table


def _totals(counters: CacheCounters) -> Table:
    asked = counters.hits + counters.misses
    second = counters.second_level_hits + counters.second_level_misses
    table = _table("", "")
    table.show_header = False
    for name, text in (
        ("hits", f"{counters.hits} of {asked}" + (f", {counters.hits / asked:.1%}" if asked else "")),
        ("time saved", _duration(counters.saved_s)),
        ("entries", f"{counters.entries}, {_size(counters.bytes)}"),
        ("stored", f"{counters.stored}"),
        ("not stored", _by(counters.not_stored)),
        ("invalidated", _by(counters.invalidations)),
        ("expired", f"{counters.expired}"),
        ("evicted", f"{counters.evictions}"),
        ("waited for another's miss", f"{counters.flights}"),
        ("hits in Redis", f"{counters.second_level_hits} of {second}, {counters.second_level_errors} errors"),
    ):
        table.add_row(name, text)
    return table


def _watch(databases: tuple[WatchStatus, ...]) -> Table:
    table = _table("database", "others' writes", "seen up to", "changes", "", right=("seen up to", "changes"))
    for one in databases:
        ago = "" if one.confirmed_s_ago is None else f"{_duration(one.confirmed_s_ago)} ago"
        table.add_row(one.database, one.mode or "not watched", ago, str(one.changes), one.why)
    return table


def _digests(digests: tuple[CacheDigest, ...]) -> Table:
    numbers = ("calls", "hits", "ratio", "stored", "size", "saved")
    table = _table("database", *numbers, "statement", right=numbers)
    for one in digests:
        shape = " ".join(one.shape.split())
        table.add_row(
            one.database,
            str(one.calls),
            str(one.hits),
            f"{one.hits / one.calls:.1%}" if one.calls else "",
            str(one.stored),
            _size(one.bytes),
            _duration(one.saved_s),
            shape if len(shape) <= SHAPE_CHARS_SHOWN else shape[: SHAPE_CHARS_SHOWN - 2] + "..",
        )
    return table


def _by(counts: dict[str, int]) -> str:
    """`12: write 10, clear 2`, the most first."""
    if not counts:
        return "0"
    most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return f"{sum(counts.values())}: " + ", ".join(f"{name} {count}" for name, count in most)


def _size(size_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GB"


def _duration(duration_s: float) -> str:
    if duration_s < 60:
        return f"{duration_s:.3f} s" if duration_s < 1 else f"{duration_s:.1f} s"
    return f"{duration_s / 60:.1f} min" if duration_s < 3600 else f"{duration_s / 3600:.1f} h"
