"""The report for a browser: one page that needs nothing else, for light and dark, and for a person who was woken.

First whether it passed, then what it cost, then what happened when. All text that is not ours is escaped.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.metadata import version
from typing import Final

from middleware.drill.figures import Mark
from middleware.drill.report_chart import chart
from middleware.drill.report_text import COLUMNS, figure_lines, finding_lines, limit_of, row_of, value_of
from middleware.drill.result import Result

FINDINGS_MAX: Final = 50
_STYLE: Final = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --dim: #57606a; --line: #d0d7de; --card: #f6f8fa;
  --writes: #0969da; --reads: #2da44e; --errors: #cf222e; --outage: #cf222e22; --good: #1a7f37; --bad: #cf222e;
  --warn: #9a6700; --mark: #57606a; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #e6edf3; --dim: #8d96a0; --line: #30363d;
  --card: #161b22; --writes: #4493f8; --reads: #3fb950; --errors: #f85149; --outage: #f8514933; --good: #3fb950;
  --bad: #f85149; --warn: #d29922; --mark: #8d96a0; } }
body { margin: 0 auto; max-width: 1020px; padding: 1.5rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .2rem; } h3 { font-size: 1rem;
  margin: 1.2rem 0 .3rem; }
p { margin: .3rem 0; } .dim { color: var(--dim); } code, pre { font: 13px/1.45 ui-monospace, monospace; }
.verdict { display: inline-block; padding: 0 .5em; border-radius: .3em; color: #fff; font-weight: 600; }
.pass { background: var(--good); } .fail { background: var(--bad); } .not { background: var(--warn); }
table { border-collapse: collapse; margin: .5rem 0; } th { text-align: left; color: var(--dim); font-weight: 500; }
th, td { padding: .15rem 1rem .15rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.wide { overflow-x: auto; } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
svg { width: 100%; height: auto; margin: .6rem 0; font: 11px system-ui, sans-serif; }
svg text { fill: var(--dim); } svg .title, svg .label { fill: var(--text); }
rect.writes { fill: var(--writes); } rect.reads { fill: var(--reads); } rect.errors { fill: var(--errors); }
rect.outage { fill: var(--outage); } svg line { stroke: var(--line); } svg line.mark { stroke: var(--mark);
  stroke-dasharray: 3 3; } svg line.broken { stroke: var(--bad); stroke-dasharray: none; } svg line.all-well {
  stroke: var(--good); stroke-dasharray: none; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .3em; padding: .6rem; overflow-x: auto; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--dim); }
"""


def page(results: Sequence[Result]) -> str:
    """The whole page."""
    passed = all(result.passed for result in results)
    title = f"Drill: {results[0].drill}" if len(results) == 1 else f"{len(results)} drills"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}: {'passed' if passed else 'failed'}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="dim">Pointsman {escape(version("pointsman"))}, {_date(results[0].began_at)}</p>',
    ]
    if len(results) > 1:
        parts.extend(_summary(results))
    for number, result in enumerate(results):
        parts.extend(_drill(number, result))
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(moment))


def _word(result: Result) -> str:
    if result.figures is None:
        return '<span class="verdict not">NOT PLAYED</span>'
    return '<span class="verdict pass">PASS</span>' if result.passed else '<span class="verdict fail">FAIL</span>'


def _summary(results: Sequence[Result]) -> Iterator[str]:
    yield '<div class="wide"><table><tr><th>drill</th><th></th>'
    yield "".join(f'<th class="number">{escape(heading)}</th>' for heading in COLUMNS) + "</tr>"
    for number, result in enumerate(results):
        cells = "".join(f'<td class="number">{escape(cell)}</td>' for cell in row_of(result))
        yield f'<tr><td><a href="#drill-{number}">{escape(result.drill)}</a></td><td>{_word(result)}</td>{cells}</tr>'
    yield "</table></div>"


def _drill(number: int, result: Result) -> Iterator[str]:
    yield f'<section id="drill-{number}"><h2>{_word(result)} {escape(result.drill)}</h2>'
    yield f"<p>{escape(result.about)}</p>"
    yield f'<p class="dim">{escape(result.stage)}; {_date(result.began_at)}; seed {result.seed}</p>'
    if result.trouble:
        yield f'<p class="bad">{escape(result.trouble)}</p>'
    missed = [f"{one.what} {value_of(one)} ({limit_of(one)})" for one in result.verdicts if not one.passed]
    if missed:
        yield f'<p class="bad">Missed: {escape("; ".join(missed))}</p>'
    if result.figures is not None:
        yield chart(result)
        yield from _verdicts(result)
        yield from _list("What it cost", figure_lines(result.figures))
        yield from _list("What the clients saw", result.failures)
        yield from _list("Rows and reads", finding_lines(result, FINDINGS_MAX))
        yield from _served(result)
        yield from _events(result)
    if result.log:
        yield f"<details><summary>Pointsman's log, its last lines</summary><pre>{escape(result.log)}</pre></details>"
    yield "</section>"


def _verdicts(result: Result) -> Iterator[str]:
    yield '<table><tr><th></th><th></th><th class="number">measured</th><th>target</th></tr>'
    for verdict in result.verdicts:
        word = '<span class="good">pass</span>' if verdict.passed else '<span class="bad">FAIL</span>'
        yield (
            f'<tr><td>{word}</td><td>{escape(verdict.what)}</td><td class="number">{escape(value_of(verdict))}</td>'
            f"<td>{escape(limit_of(verdict))}</td></tr>"
        )
    yield "</table>"


def _list(title: str, lines: Iterable[str]) -> Iterator[str]:
    items = [f"<li>{escape(line)}</li>" for line in lines]
    if items:
        yield f"<h3>{escape(title)}</h3><ul>"
        yield from items
        yield "</ul>"


def _served(result: Result) -> Iterator[str]:
    served = ", ".join(f"{node or '(no cluster_name)'} {count}" for node, count in result.served.items())
    if served:
        yield f'<p class="dim">Reads by node: {escape(served)}</p>'


def _events(result: Result) -> Iterator[str]:
    """What the drill has done and what Pointsman has told, in one list."""
    zero = result.marks.get(Mark.BROKEN.value, result.began_at)
    rows = [(note.at, note.node, "drill", note.text, False) for note in result.notes]
    rows += [(event.at, event.node, event.what, event.text, event.bad) for event in result.events]
    yield '<h3>What happened</h3><div class="wide"><table>'
    yield '<tr><th class="number">after the break</th><th>node</th><th>what</th><th></th></tr>'
    for at, node, what, text, bad in sorted(rows):
        kind = ' class="bad"' if bad else ""
        yield (
            f'<tr><td class="number">{at - zero:+.2f} s</td><td>{escape(node)}</td><td>{escape(what)}</td>'
            f"<td{kind}>{escape(text)}</td></tr>"
        )
    yield "</table></div>"
