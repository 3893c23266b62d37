"""Why reads stayed on the primary, counted: what an operator could offload, and how.

A *read* is a statement that only reads by its text: what its names mean, its session or the standbys' lag may keep it
on the primary all the same. Statements that write by their text are not counted.
"""

from typing import Final

REASONS_MAX: Final = 200
"""Reasons name functions and relations, of which there may be any number; beyond the bound they count as OTHERS."""

OTHERS: Final = "other reasons"
NOT_FRESH: Final = "no standby was fresh enough for its client"
NO_STANDBY: Final = "no standby takes reads now"
LEVEL_PRIMARY: Final = 'its consistency is "primary"'
KEEPS_UP: Final = 'its consistency is "global", and each statement of its transaction must see what was told of by then'


class Reasons:
    """One worker's."""

    __slots__ = ("counts", "on_standbys")

    def __init__(self) -> None:
        self.counts: Final[dict[str, int]] = {}
        self.on_standbys = 0
        """Reads that standbys served."""

    def count(self, reason: str) -> None:
        """A read goes to the primary for this reason."""
        have = self.counts.get(reason, 0)
        if not have and len(self.counts) >= REASONS_MAX:
            reason = OTHERS
            have = self.counts.get(reason, 0)
        self.counts[reason] = have + 1


class SharedReasons:
    """All workers' together, as the control plane last told."""

    __slots__ = ("counts", "on_standbys")

    def __init__(self, counts: dict[str, int], on_standbys: int) -> None:
        self.counts: Final = counts
        self.on_standbys: Final = on_standbys

    def table(self) -> list[tuple[str, int, str, str]]:
        """What SHOW pointsman.reasons tells: reason, statements, their share of all reads, and what would help."""
        total = self.on_standbys + sum(self.counts.values())
        kept = sorted(self.counts.items(), key=lambda entry: (-entry[1], entry[0]))
        return [
            ("standbys served it", self.on_standbys, _share(self.on_standbys, total), ""),
            *((reason, count, _share(count, total), advice(reason)) for reason, count in kept),
        ]


def _share(count: int, total: int) -> str:
    return f"{100 * count / max(1, total):.1f} %"


def advice(reason: str) -> str:
    """What would let such reads go to a standby; "" where nothing simple would."""
    if reason == NOT_FRESH:
        return "allow them to wait (consistency_wait), or to miss something (consistency)"
    if reason == KEEPS_UP:
        return "begin it with REPEATABLE READ, READ ONLY, or allow it to miss something (consistency)"
    calls, found, verdict = reason.partition("(), which ")
    if not found or not calls.startswith("it calls "):
        return ""
    name = calls.removeprefix("it calls ")
    if verdict == "is volatile":
        return f"if {name}() only reads, declare it STABLE, or put it on safe_functions"
    if verdict.startswith("mentions "):
        return f"if {name}() only reads, put it on safe_functions"
    return ""
