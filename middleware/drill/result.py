"""What comes of a drill."""

import msgspec

from middleware.drill.checks import Findings
from middleware.drill.figures import Bucket, Figures, Mark
from middleware.drill.verdicts import Verdict
from middleware.drill.views import Event


class Note(msgspec.Struct, frozen=True):
    """Something that the drill has done."""

    at: float
    text: str
    node: str = ""


class Result(msgspec.Struct, frozen=True):
    """A drill that was played, to its end or not."""

    drill: str
    about: str
    stage: str
    seed: int
    began_at: float
    """time.time(), as all moments here."""
    ended_at: float
    trouble: str = ""
    """Why it was not played to its end; then the rest is what was known by then."""
    marks: dict[str, float] = {}
    notes: tuple[Note, ...] = ()
    events: tuple[Event, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    figures: Figures | None = None
    findings: Findings | None = None
    verdicts: tuple[Verdict, ...] = ()
    served: dict[str, int] = {}
    """Reads by the node that answered them."""
    failures: tuple[str, ...] = ()
    """Each kind of failure that clients saw, with how often."""
    log: str = ""
    """Pointsman's last lines, of a drill that has not passed."""

    @property
    def passed(self) -> bool:
        return not self.trouble and all(verdict.passed for verdict in self.verdicts)

    def mark(self, mark: Mark) -> float | None:
        return self.marks.get(mark.value)
