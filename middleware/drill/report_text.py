"""A drill's result for a terminal, and for programs."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version

import msgspec
from rich.console import Console
from rich.text import Text

from middleware.drill.figures import Figures, Mark
from middleware.drill.result import Result
from middleware.drill.verdicts import Verdict

SHOWN_MAX = 5
"""Of each kind of failure and finding; the JSON has all."""
NAME_WIDTH = 19


def as_json(results: Sequence[Result]) -> str:
    """One object: whether all have passed, and each result with all that is known."""
    document = {
        "pointsman": version("pointsman"),
        "passed": all(result.passed for result in results),
        "results": [{"passed": result.passed, **msgspec.to_builtins(result)} for result in results],
    }
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def show(console: Console, result: Result) -> None:
    """One drill: its targets, its marks, and what went wrong."""
    console.print()
    told = f"  on {result.stage or 'no stage'}, seed {result.seed}"
    console.print(Text.assemble(_word(result), "  ", (result.drill, "bold"), told), soft_wrap=True)
    if result.trouble:
        console.print(Text(f"      {result.trouble}", "red"), soft_wrap=True)
    if result.figures is None:
        return
    for verdict in result.verdicts:
        word = ("pass", "green") if verdict.passed else ("FAIL", "bold red")
        told = f"  {verdict.what:<34}{value_of(verdict):>9}   {limit_of(verdict)}"
        console.print(Text.assemble("      ", word, told), soft_wrap=True)
    for line in lines_of(result):
        console.print(Text(f"      {line}"), soft_wrap=True)


def summary(console: Console, results: Sequence[Result]) -> None:
    """All drills, a line each."""
    console.print()
    heads = "".join(f"{heading:>{len(heading) + 2}}" for heading in COLUMNS)
    console.print(Text(f"{'drill':<{NAME_WIDTH}}    {heads}", "dim"), soft_wrap=True)
    for result in results:
        pairs = zip(COLUMNS, row_of(result), strict=True)
        cells = "".join(f"{cell:>{len(heading) + 2}}" for heading, cell in pairs)
        console.print(Text.assemble(f"{result.drill:<{NAME_WIDTH}}", _word(result), cells), soft_wrap=True)


COLUMNS = ("detected", "promoted", "no writes", "no reads", "failed", "unknown", "failed reads", "lost", "stale")
"""Of a summary, beside its drill's name and verdict."""


def row_of(result: Result) -> tuple[str, ...]:
    """The cells of COLUMNS."""
    figures, findings = result.figures, result.findings
    if figures is None:
        return ("",) * len(COLUMNS)
    counts = (figures.failed_writes, figures.unknown_writes, figures.failed_reads)
    found = ("?", "?") if findings is None else (str(len(findings.lost)), str(len(findings.stale)))
    outages = (figures.write_outage.seconds, figures.read_outage.seconds)
    return (_time(figures.detect_s), _time(figures.promote_s), *map(_time, outages), *map(str, counts), *found)


def value_of(verdict: Verdict) -> str:
    return f"{verdict.value:.2f} s" if verdict.unit == "s" else f"{verdict.value:g}"


def limit_of(verdict: Verdict) -> str:
    """What it is held against, and why."""
    if verdict.limit is None:
        return verdict.note
    unit = " s" if verdict.unit == "s" else ""
    named = f", {verdict.setting}" if verdict.setting else ""
    return "; ".join(filter(None, (f"at most {verdict.limit:g}{unit}{named}", verdict.note)))


def lines_of(result: Result) -> Iterator[str]:
    """Marks, figures and what clients saw, for people."""
    assert result.figures is not None
    broken = result.marks[Mark.BROKEN.value]
    marks = sorted((at, name) for name, at in result.marks.items() if name != Mark.BROKEN.value)
    if marks:
        yield "after the break: " + ", ".join(f"{name} {at - broken:.2f} s" for at, name in marks)
    yield from figure_lines(result.figures)
    yield from result.failures[:SHOWN_MAX]
    if len(result.failures) > SHOWN_MAX:
        yield f"and {len(result.failures) - SHOWN_MAX} other kinds of failures"
    yield from finding_lines(result, SHOWN_MAX)


def figure_lines(figures: Figures) -> Iterator[str]:
    """The figures that no target is about."""
    yield (
        f"since the break: {figures.writes} writes and {figures.reads} reads succeeded, {figures.failed_writes} writes "
        f"and {figures.failed_reads} reads failed, {figures.unknown_writes} writes ended in doubt; {figures.retried} "
        f"statements were tried again, {figures.disconnected} connections lost"
    )
    yield f"slowest write {figures.slowest_write_s:.2f} s, slowest read {figures.slowest_read_s:.2f} s"


def finding_lines(result: Result, most: int) -> Iterator[str]:
    """Each row that is not as it should be."""
    found = result.findings
    if found is None:
        return
    doubt = len(found.unknown_there), len(found.unknown_gone)
    if any(doubt):
        yield f"of the writes in doubt {doubt[0]} are there, {doubt[1]} are not"
    kinds = {"lost": found.lost, "there twice": found.doubled, "failed, but there": found.phantoms}
    kinds["taken by the former primary"] = found.astray or ()
    for what, attempts in kinds.items():
        for one in attempts[:most]:
            told = " ".join(filter(None, (one.sqlstate, one.message)))
            yield f"{what}: number {one.number} of writer {one.writer} ({one.way}), {one.outcome.value} {told}".rstrip()
        if len(attempts) > most:
            yield f"{what}: and {len(attempts) - most} more"
    for read in found.stale[:most]:
        yield (
            f"stale: {read.client} at {read.node or '?'} did not find number {read.number} of writer {read.writer}, "
            f"which it had {'written' if read.kind == 'own' else 'seen'}"
        )
    for writer, number in found.strangers[:most]:
        yield f"nobody wrote: number {number} of writer {writer}"


def _word(result: Result) -> Text:
    if result.figures is None:
        return Text("NONE", "bold yellow")
    return Text("PASS", "bold green") if result.passed else Text("FAIL", "bold red")


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"
