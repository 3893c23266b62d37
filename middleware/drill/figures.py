"""From books and marks to figures: outages, and what a timeline shows. No I/O."""

import math
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final

import msgspec

from middleware.drill.books import Books, Failure, Outcome

BUCKET_S: Final = 0.1
TAIL_S: Final = 1.0
"""What is missing at the very end for no longer than this is only the load's stop."""
SHOWN_S: Final = 0.2
"""An outage shorter than this is a pause of the load, and gets no mark."""


class Mark(Enum):
    """Moments that a timeline shows, in the order in which they use to come."""

    BROKEN = "broken"
    DETECTED = "detected"
    PROMOTED = "promoted"
    WRITES_BACK = "writes back"
    READS_BACK = "reads back"
    HEALED = "healed"
    ALL_WELL = "all well"


class Gap(msgspec.Struct, frozen=True):
    """The longest time without something."""

    begin: float
    end: float
    """When it came again; or, if it did not, when nobody looked any more."""
    over: bool = True
    """It came again."""

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def longest_gap(moments: Iterable[float], since: float, until: float) -> Gap:
    """The longest gap between moments that reaches into [since, until].

    The one that `since` falls into counts from the last moment before it: what was under way then is part of it. With
    no moment at all it is the whole time.
    """
    before = -math.inf
    inside: list[float] = []
    for moment in moments:
        if moment < since:
            before = max(before, moment)
        elif moment <= until:
            inside.append(moment)
    last = before if before > -math.inf else since
    longest = Gap(last, last)
    for moment in sorted(inside):
        if moment - last > longest.seconds:
            longest = Gap(last, moment)
        last = moment
    if until - last > max(longest.seconds, TAIL_S):
        longest = Gap(last, until, over=False)
    return longest


class Bucket(msgspec.Struct, frozen=True):
    """What happened within BUCKET_S."""

    begin: float
    writes: int = 0
    reads: int = 0
    errors: int = 0


def buckets(books: Books, since: float, until: float) -> tuple[Bucket, ...]:
    """The whole time, in steps of BUCKET_S. What succeeded or failed counts when its client heard of it."""
    count = max(1, math.ceil((until - since) / BUCKET_S))

    def counted(moments: Iterable[float]) -> list[int]:
        counts = [0] * count
        for moment in moments:
            place = int((moment - since) / BUCKET_S)
            if 0 <= place < count:
                counts[place] += 1
        return counts

    writes = counted(one.ended_at for one in books.attempts if one.outcome is Outcome.ACKNOWLEDGED)
    reads = counted(one.at for one in books.reads)
    errors = counted(one.at for one in books.failures)
    return tuple(
        Bucket(since + place * BUCKET_S, *numbers)
        for place, numbers in enumerate(zip(writes, reads, errors, strict=True))
    )


class Figures(msgspec.Struct, frozen=True):
    """What a drill has cost. Seconds; None where there is no such moment."""

    detect_s: float | None
    """From the break to the first notice of it."""
    promote_s: float | None
    """From the break to a promotion that was accepted."""
    write_outage: Gap
    read_outage: Gap
    slowest_write_s: float
    """Whatever has become of it."""
    slowest_read_s: float
    failed_writes: int
    """Told that they did not happen."""
    unknown_writes: int
    failed_reads: int
    failed_connects: int
    disconnected: int
    retried: int
    writes: int
    reads: int
    sqlstates: dict[str, int]
    """Of what failed."""


def figures_of(books: Books, marks: dict[Mark, float], until: float) -> Figures:
    """All of them, from the break on."""
    broken = marks[Mark.BROKEN]
    failures = [one for one in books.failures if one.at >= broken]
    attempts = [one for one in books.attempts if one.ended_at >= broken]
    reads = [one for one in books.reads if one.at >= broken]
    sqlstates: dict[str, int] = {}
    for failure in failures:
        code = failure.sqlstate or "none"
        sqlstates[code] = sqlstates.get(code, 0) + 1
    told = [one for one in attempts if one.outcome is Outcome.ACKNOWLEDGED]
    return Figures(
        detect_s=_after(broken, marks.get(Mark.DETECTED)),
        promote_s=_after(broken, marks.get(Mark.PROMOTED)),
        write_outage=longest_gap((one.ended_at for one in books.acknowledged()), broken, until),
        read_outage=longest_gap((one.at for one in books.reads), broken, until),
        slowest_write_s=max((one.ended_at - one.begun_at for one in attempts), default=0.0),
        slowest_read_s=max((one.took_s for one in reads), default=0.0),
        failed_writes=sum(one.outcome is Outcome.FAILED for one in attempts),
        unknown_writes=sum(one.outcome is Outcome.UNKNOWN for one in attempts),
        failed_reads=_count(failures, "read"),
        failed_connects=_count(failures, "connect"),
        disconnected=sum(one.disconnected for one in failures),
        retried=books.retries,
        writes=len(told),
        reads=len(reads),
        sqlstates=dict(sorted(sqlstates.items())),
    )


def marks_back(figures: Figures) -> dict[Mark, float]:
    """When writes and reads were back, where they had been away."""
    outages = {Mark.WRITES_BACK: figures.write_outage, Mark.READS_BACK: figures.read_outage}
    return {mark: gap.end for mark, gap in outages.items() if gap.over and gap.seconds >= SHOWN_S}


def _after(broken: float, moment: float | None) -> float | None:
    return None if moment is None else moment - broken


def _count(failures: Sequence[Failure], doing: str) -> int:
    return sum(one.doing == doing for one in failures)
