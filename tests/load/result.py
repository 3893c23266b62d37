"""What a run has come to, for people (a table) and for programs (a JSON file)."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from rich.table import Table

Say = Callable[[str], None]
"""Told how a run is going, a line at a time."""


class Result(msgspec.Struct, frozen=True):
    """Of one run, or of one variant of it."""

    run: str
    variant: str
    figures: dict[str, float]
    """By name, which holds the unit; in the order shown."""
    failures: list[str] = []
    """The bounds it has missed."""


class Results(msgspec.Struct, frozen=True):
    """The content of the JSON file."""

    began: str
    machine: str
    results: list[Result]


def save(results: Sequence[Result], machine: str, began: float, path: Path) -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(began))
    content = msgspec.json.encode(Results(moment, machine, list(results)))
    path.write_bytes(msgspec.json.format(content, indent=1) + b"\n")


def table(results: Sequence[Result]) -> Table:
    """The variants of one run side by side."""
    shown = Table(title=results[0].run, title_justify="left")
    shown.add_column("")
    for result in results:
        shown.add_column(result.variant, justify="right")
    for name in dict.fromkeys(name for result in results for name in result.figures):
        shown.add_row(name, *(_number(result.figures.get(name)) for result in results))
    shown.add_row(
        "bounds", *("[red]missed[/]" if result.failures else "[green]kept[/]" for result in results), end_section=True
    )
    return shown


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
