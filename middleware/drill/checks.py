"""The books against the table: what was lost, doubled, there although it had failed, or read too late.

In: what the clients were told, and how often each row is in the table when all is over. Out: Findings. No I/O.

A commit that was acknowledged must be there once. One that was reported as failed must not be there. Of one whose
outcome is unknown both are right. A read that missed a row was stale if the row is there at the end: if it is not, the
row was lost, and is counted as that.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from middleware.drill.books import Attempt, Outcome, Suspect

Rows = Mapping[tuple[int, int], int]
"""(writer, number) to how many rows there are of it."""


class Findings(msgspec.Struct, frozen=True):
    """What is wrong, and what was only unknown."""

    acknowledged: int = 0
    lost: tuple[Attempt, ...] = ()
    """Acknowledged, and not there."""
    doubled: tuple[Attempt, ...] = ()
    """There more than once."""
    phantoms: tuple[Attempt, ...] = ()
    """Reported as failed, and there."""
    strangers: tuple[tuple[int, int], ...] = ()
    """There, and asked for by nobody."""
    unknown_there: tuple[Attempt, ...] = ()
    unknown_gone: tuple[Attempt, ...] = ()
    stale: tuple[Suspect, ...] = ()
    astray: tuple[Attempt, ...] | None = None
    """Taken by a former primary after it had been fenced; None where nobody could look."""


def check(attempts: Sequence[Attempt], suspects: Iterable[Suspect], rows: Rows) -> Findings:
    """Hold the books against the table."""
    by_outcome: dict[Outcome, list[Attempt]] = {outcome: [] for outcome in Outcome}
    for attempt in attempts:
        by_outcome[attempt.outcome].append(attempt)
    asked = {attempt.key for attempt in attempts}
    unknown = by_outcome[Outcome.UNKNOWN]
    return Findings(
        acknowledged=len(by_outcome[Outcome.ACKNOWLEDGED]),
        lost=tuple(one for one in by_outcome[Outcome.ACKNOWLEDGED] if not rows.get(one.key)),
        doubled=tuple(one for one in attempts if rows.get(one.key, 0) > 1),
        phantoms=tuple(one for one in by_outcome[Outcome.FAILED] if rows.get(one.key)),
        strangers=tuple(sorted(key for key, count in rows.items() if count and key not in asked)),
        unknown_there=tuple(one for one in unknown if rows.get(one.key)),
        unknown_gone=tuple(one for one in unknown if not rows.get(one.key)),
        stale=tuple(one for one in suspects if rows.get((one.writer, one.number))),
    )


def astray(attempts: Iterable[Attempt], fenced_at: float, rows_of_former: Rows) -> tuple[Attempt, ...]:
    """What a former primary has taken although it was begun after the fence.

    `rows_of_former` is its table before it follows anybody: what it has then, it was sent itself.
    """
    return tuple(one for one in attempts if one.begun_at > fenced_at and rows_of_former.get(one.key))
