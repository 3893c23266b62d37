"""The outcome of a load for people, and what is wrong with it."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tests.cachecheck.checker import Findings, Violation
from tests.cachecheck.history import Operation, Read
from tests.cachecheck.plan import Watch
from tests.cachecheck.run import Run
from tests.consistency.report import percentile

HITS_LEAST: Final = 0.2
"""Of answers that could come from the cache: with fewer little is proved."""
HITS_LEAST_WATCHED: Final = 0.02
"""The same where others write, too: an answer is given only once the watcher has told of all until its client's last
read, and kept only if a standby was fresh as of when the watcher told."""
SHOWN_MAX: Final = 5
"""Violations shown with what was done around them."""
FAILED_MOST: Final = 0.05
"""Of statements, where nothing was killed."""


def failures(run: Run) -> list[str]:
    """What is wrong, a sentence each. With a planted bug it is wrong not to find it."""
    wrong = [f"{number} reads are {kind}." for kind, number in run.findings.count().most_common()]
    if run.plan.plant:
        return [] if wrong else [f'The planted bug "{run.plan.plant}" was not found.']
    if not run.findings.reads:
        wrong.append("Nothing was read.")
    least = HITS_LEAST_WATCHED if run.plan.watch is not Watch.OFF else HITS_LEAST
    if run.hits is not None and run.hits.ratio < least:
        why = dict(run.hits.not_stored), dict(run.hits.invalidations)
        wrong.append(f"{run.hits.ratio:.1%} of the answers were hits: this proves little {why}.")
    if len(run.world.history.failovers) < run.plan.failovers:
        wrong.append(f"{len(run.world.history.failovers)} failovers of {run.plan.failovers} were done.")
    failed = run.world.failures.total()
    calm = not (run.plan.failovers or run.plan.worker_kills)
    if calm and failed > FAILED_MOST * len(run.world.history.operations):
        wrong.append(f"{failed} statements failed: {dict(run.world.failures.most_common())}.")
    return wrong


def summary(run: Run) -> RenderableType:
    """The figures, and the first violations with the operations around each."""
    parts: list[RenderableType] = [_figures(run)]
    parts += [_counts("read", run.world.looks), _counts("written by way of", run.world.ways)]
    parts += [_counts("what became of a write", run.world.forms)]
    if run.hits is not None:
        parts += [_counts("not stored", run.hits.not_stored), _counts("invalidated", run.hits.invalidations)]
    if run.world.failures:
        parts.append(_counts("statements that failed, by SQLSTATE", run.world.failures))
    parts += [Text(text) for text in violations(run.findings)]
    return Group(*parts)


def violations(findings: Findings) -> list[str]:
    """The first of each kind, with what was done around it."""
    shown: list[str] = []
    for kind in findings.count():
        of_kind = [violation for violation in findings.violations if violation.kind == kind]
        shown += [_told(violation) for violation in of_kind[:SHOWN_MAX]]
    return shown


def _told(violation: Violation) -> str:
    read = violation.read
    head = f"\n{violation.kind}: {violation.text}; session {read.session}, {read.way}"
    return "\n".join([head, *(_line(operation, read) for operation in violation.around)])


def _line(operation: Operation, around: Read) -> str:
    """One operation, its times in milliseconds from the beginning of the read that is wrong."""
    begin, end = (1000 * (moment - around.begin) for moment in (operation.begin, operation.end))
    mark = ">" if operation is around else " "
    if isinstance(operation, Read):
        what = f"read {', '.join(str(version) for _, version in operation.seen)} ({operation.way})"
        what += f", snapshot {operation.snapshot}" if operation.snapshot else ""
        what += ", within its own transaction" if operation.own else ""
    else:
        commit = 1000 * (operation.commit - around.begin)
        what = f"write {operation.version} ({operation.way}), commit {commit:.2f}, {operation.outcome.value}"
    return f" {mark} {begin:10.2f} .. {end:9.2f} ms  session {operation.session}: {what}"


def _figures(run: Run) -> Table:
    figures = Table(show_header=False, box=None, pad_edge=False)
    figures.add_column()
    figures.add_column(justify="right")
    figures.add_column()
    findings, disturbance = run.findings, run.disturbance
    writes = ", ".join(f"{count:,} {outcome}" for outcome, count in findings.writes.most_common())
    pauses = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in disturbance.paused_s.items())
    hits = "no cache" if run.hits is None else f"{run.hits.ratio:.1%}"
    rows: Sequence[tuple[str, str, str]] = [
        ("reads", f"{findings.reads:,}", f"{findings.reads / run.took_s:,.0f} a second"),
        ("versions seen in them", f"{findings.seen:,}", ""),
        ("writes", f"{findings.writes.total():,}", writes),
        ("sessions", f"{run.world.sessions:,}", ""),
        ("answers from the cache", hits, "" if run.hits is None else f"{run.hits.hits:,} hits"),
        ("violations", f"{len(findings.violations):,}", ", ".join(f"{k} {n}" for k, n in findings.count().items())),
        ("reads that went back in what is written elsewhere", f"{findings.foreign_backwards:,}", "not promised"),
        ("old answers, of what is written here", f"{len(findings.lag_s['same']):,}", _lag(findings.lag_s["same"])),
        (
            "old answers, of what is elsewhere",
            f"{len(findings.lag_s['elsewhere']):,}",
            _lag(findings.lag_s["elsewhere"]),
        ),
        ("pauses of replay", f"{disturbance.pauses:,}", pauses),
        ("failovers", f"{len(run.world.history.failovers)}", f"{findings.lost} acknowledged writes lost"),
        ("reads in the midst of a failover", f"{findings.straddling:,}", ""),
        ("workers killed", f"{disturbance.workers_killed}", ""),
    ]
    for row in rows:
        figures.add_row(*row)
    return figures


def _lag(lags_s: list[float]) -> str:
    if not lags_s:
        return ""
    return f"for p50 {percentile(lags_s, 50):.3f} s, p99 {percentile(lags_s, 99):.3f} s, at most {max(lags_s):.3f} s"


def _counts(what: str, counter: Counter[str]) -> Text:
    told = ", ".join(f"{name} {count:,}" for name, count in counter.most_common())
    return Text(f"{what}: {told}")
