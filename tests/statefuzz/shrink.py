"""The fewest steps that still lead to a difference: pieces are left out, ever smaller ones, for as long as it comes."""

from typing import Final

from tests.statefuzz.pair import Difference
from tests.statefuzz.play import Players
from tests.statefuzz.step import Step

TRIALS_MAX: Final = 250
NO_SERVER: Final = "53300"
"""Too many clients keep a server once the ends of their transactions are left out: another matter."""


def shrink(players: Players, steps: list[Step], wanted: Difference) -> list[Step]:
    """Steps that lead to a difference, be it another one; none if it does not come again."""
    trials = 0

    def leads_there(some: list[Step]) -> bool:
        nonlocal trials
        trials += 1
        found = players.again(some)
        return (
            found is not None
            and found.kind == wanted.kind
            and (NO_SERVER in str(found.here)) == (NO_SERVER in str(wanted.here))
        )

    if not leads_there(steps):
        return []
    size = len(steps) // 2
    while size and trials < TRIALS_MAX:
        position = 0
        while position < len(steps) and trials < TRIALS_MAX:
            fewer = steps[:position] + steps[position + size :]
            if fewer and leads_there(fewer):
                steps = fewer
            else:
                position += size
        size //= 2
    return steps
