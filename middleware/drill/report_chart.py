"""The timeline of a drill as inline SVG: writes, reads and errors per tenth of a second, with marks. No I/O.

Colours are classes: the page's style sheet has them, for light and for dark.
"""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from middleware.drill.figures import BUCKET_S, SHOWN_S, Bucket, Gap, Mark
from middleware.drill.result import Result

WIDTH: Final = 960.0
LEFT: Final = 54.0
RIGHT: Final = 12.0
LABEL_HEIGHT: Final = 15.0
LABEL_WIDTH: Final = 6.6
"""Of a letter of a mark's label."""
BARS_MAX: Final = 480
TICKS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
TICKS_MAX: Final = 16


class Panel(NamedTuple):
    """One of the three curves."""

    title: str
    kind: str
    height: float


PANELS: Final = (Panel("writes", "writes", 96.0), Panel("reads", "reads", 96.0), Panel("errors", "errors", 56.0))
GAP: Final = 12.0


class _Scale:
    """Moments to places, left to right."""

    def __init__(self, begin: float, end: float, zero: float) -> None:
        self.begin: Final = begin
        self.end: Final = max(end, begin + BUCKET_S)
        self.zero: Final = zero
        self._per_s: Final = (WIDTH - LEFT - RIGHT) / (self.end - begin)

    def x(self, moment: float) -> float:
        return LEFT + (min(max(moment, self.begin), self.end) - self.begin) * self._per_s


def chart(result: Result) -> str:
    """The whole of it; "" for a drill of which nothing is known."""
    if not result.buckets or result.figures is None:
        return ""
    zero = result.marks.get(Mark.BROKEN.value, result.began_at)
    scale = _Scale(result.began_at, result.ended_at, zero)
    marks = sorted((at, name) for name, at in result.marks.items())
    levels = _levels([(scale.x(at), _label(at, name, zero)) for at, name in marks])
    top = (max(levels, default=0) + 1) * LABEL_HEIGHT + 6
    bottom = top + sum(panel.height + GAP for panel in PANELS)
    parts = [
        f'<svg viewBox="0 0 {WIDTH:g} {bottom + 18:g}" role="img" aria-label="{escape(_spoken(result))}">',
        *_outage("writes", result.figures.write_outage, scale, top, 0),
        *_outage("reads", result.figures.read_outage, scale, top, 1),
        *_panels(_merged(result.buckets), scale, top),
        *_axis(scale, bottom),
        *(
            line
            for (at, name), level in zip(marks, levels, strict=True)
            for line in _mark(scale.x(at), _label(at, name, zero), name, level, bottom - GAP)
        ),
        "</svg>",
    ]
    return "\n".join(parts)


def _spoken(result: Result) -> str:
    assert result.figures is not None
    return (
        f"Timeline of {result.drill}: no writes for {result.figures.write_outage.seconds:.2f} s, "
        f"no reads for {result.figures.read_outage.seconds:.2f} s"
    )


def _label(at: float, name: str, zero: float) -> str:
    return name if name == Mark.BROKEN.value else f"{name} {at - zero:+.2f} s"


def _levels(labels: Sequence[tuple[float, str]]) -> list[int]:
    """A row for each label, the first in which it covers no other."""
    ends: list[float] = []
    chosen = []
    for x, label in labels:
        begin, end = _span(x, label)
        level = next((level for level, taken in enumerate(ends) if taken < begin), len(ends))
        if level == len(ends):
            ends.append(end)
        else:
            ends[level] = end
        chosen.append(level)
    return chosen


def _span(x: float, label: str) -> tuple[float, float]:
    """From where to where a label goes: to the right of its mark, or to the left at the right end."""
    width = len(label) * LABEL_WIDTH + 10
    return (x, x + width) if x + width <= WIDTH else (x - width, x)


def _mark(x: float, label: str, name: str, level: int, bottom: float) -> Iterator[str]:
    y = level * LABEL_HEIGHT + 12
    left = x + len(label) * LABEL_WIDTH + 10 <= WIDTH
    kind = name.replace(" ", "-")
    yield f'<line class="mark {kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10:.1f}" y2="{bottom:.1f}"/>'
    anchor, at = ("start", x + 4) if left else ("end", x - 4)
    yield f'<text class="label {kind}" x="{at:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(label)}</text>'


def _merged(buckets: Sequence[Bucket]) -> list[Bucket]:
    """At most BARS_MAX of them."""
    factor = -(-len(buckets) // BARS_MAX)
    groups = (buckets[place : place + factor] for place in range(0, len(buckets), factor))
    return [
        Bucket(
            group[0].begin,
            sum(one.writes for one in group),
            sum(one.reads for one in group),
            sum(one.errors for one in group),
        )
        for group in groups
    ]


def _panels(buckets: Sequence[Bucket], scale: _Scale, top: float) -> Iterator[str]:
    step = buckets[1].begin - buckets[0].begin if len(buckets) > 1 else BUCKET_S
    for panel in PANELS:
        counts = [int(getattr(bucket, panel.kind)) for bucket in buckets]
        most = max(counts) or 1
        base = top + panel.height
        yield f'<line class="base" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{base:.1f}" y2="{base:.1f}"/>'
        yield f'<text class="title" x="{LEFT - 6:g}" y="{top + 10:.1f}" text-anchor="end">{panel.title}</text>'
        unit = f"per {step:.1f} s"
        yield f'<text class="most" x="{LEFT - 6:g}" y="{top + 24:.1f}" text-anchor="end">{max(counts)}</text>'
        for bucket, count in zip(buckets, counts, strict=True):
            if count:
                x, after = scale.x(bucket.begin), scale.x(bucket.begin + step)
                height = panel.height * count / most
                told = f"{bucket.begin - scale.zero:+.1f} s: {count} {panel.title} {unit}"
                width = max(0.6, after - x - 0.4)
                yield (
                    f'<rect class="{panel.kind}" x="{x:.1f}" y="{base - height:.1f}" width="{width:.1f}" '
                    f'height="{height:.1f}"><title>{told}</title></rect>'
                )
        top = base + GAP


def _outage(kind: str, gap: Gap, scale: _Scale, top: float, panel: int) -> Iterator[str]:
    """A shade where nothing succeeded, if one would see it."""
    if gap.seconds < SHOWN_S:
        return
    y = top + sum(one.height + GAP for one in PANELS[:panel])
    x, width = scale.x(gap.begin), scale.x(gap.end) - scale.x(gap.begin)
    yield (
        f'<rect class="outage" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{PANELS[panel].height:.1f}">'
        f"<title>no {kind} for {gap.seconds:.2f} s</title></rect>"
    )


def _axis(scale: _Scale, bottom: float) -> Iterator[str]:
    """Seconds from the break on."""
    length = scale.end - scale.begin
    step = next((step for step in TICKS if length / step <= TICKS_MAX), TICKS[-1])
    number = -int((scale.zero - scale.begin) / step)
    while (moment := scale.zero + number * step) <= scale.end:
        x = scale.x(moment)
        yield f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom - GAP:.1f}" y2="{bottom - GAP + 4:.1f}"/>'
        yield f'<text class="axis" x="{x:.1f}" y="{bottom + 6:.1f}" text-anchor="middle">{number * step:g} s</text>'
        number += 1
