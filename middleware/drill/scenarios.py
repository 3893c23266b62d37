"""The drills, as data: what is broken, what Pointsman is to notice and do, and which targets count."""

from enum import Enum
from typing import Final

import msgspec

from middleware.drill.acts import Act


class Whom(Enum):
    """The node that an act is done to."""

    PRIMARY = "the primary"
    STANDBY = "a standby"
    EACH_STANDBY = "each standby in turn"
    FORMER = "who was the primary when the drill began"
    WORKER = "a worker of Pointsman that has clients of ours"


class Step(msgspec.Struct, frozen=True):
    """An act, and whether a hand must undo it."""

    act: Act
    whom: Whom
    heals: bool = True
    """False: it is over by itself."""

    @property
    def noticeable(self) -> bool:
        """The node is gone until it is healed."""
        return self.act in (Act.CRASH, Act.HANG, Act.PARTITION)


class Kind(Enum):
    """What the outages and failures of a drill are held against."""

    DEATH = "the primary dies at once"
    SILENCE = "the primary falls silent"
    HANDOVER = "the primary is changed by plan"
    BYSTANDER = "the primary stays"
    WORKER = "a worker dies"


class Drill(msgspec.Struct, frozen=True):
    """A drill by its name."""

    name: str
    about: str
    kind: Kind
    steps: tuple[Step, ...]
    harmless: str = ""
    """Why it may be played on a cluster in use; "" where it may not."""

    @property
    def fails_over(self) -> bool:
        """A primary is lost, and another is to be promoted without a hand."""
        return self.kind in (Kind.DEATH, Kind.SILENCE)

    @property
    def noticeable(self) -> bool:
        """Pointsman is to notice that a node is gone."""
        return any(step.noticeable for step in self.steps)

    @property
    def forwarded(self) -> bool:
        """It cuts a network."""
        return any(step.act is Act.PARTITION for step in self.steps)


DRILLS: Final[tuple[Drill, ...]] = (
    Drill(
        "primary-crash",
        "All processes of the primary are killed; a standby is to take its place.",
        Kind.DEATH,
        (Step(Act.CRASH, Whom.PRIMARY),),
    ),
    Drill(
        "primary-hang",
        "All processes of the primary stand still: its sockets stay open and nobody answers.",
        Kind.SILENCE,
        (Step(Act.HANG, Whom.PRIMARY),),
    ),
    Drill(
        "primary-partition",
        "The primary lives, and neither Pointsman nor a standby reaches it; nothing is reset or refused.",
        Kind.SILENCE,
        (Step(Act.PARTITION, Whom.PRIMARY),),
    ),
    Drill(
        "replica-crash",
        "All processes of a standby are killed.",
        Kind.BYSTANDER,
        (Step(Act.CRASH, Whom.STANDBY),),
    ),
    Drill(
        "replica-lag",
        "A standby receives WAL and shows nothing new.",
        Kind.BYSTANDER,
        (Step(Act.LAG, Whom.STANDBY),),
    ),
    Drill(
        "switchover",
        "A standby becomes the primary by plan, and the primary a standby.",
        Kind.HANDOVER,
        (Step(Act.SWITCHOVER, Whom.STANDBY, heals=False),),
    ),
    Drill(
        "rolling-restart",
        "Each standby is restarted, one after the other; then the primary hands over, and is restarted.",
        Kind.HANDOVER,
        (
            Step(Act.RESTART, Whom.EACH_STANDBY, heals=False),
            Step(Act.SWITCHOVER, Whom.STANDBY, heals=False),
            Step(Act.RESTART, Whom.FORMER, heals=False),
        ),
    ),
    Drill(
        "worker-crash",
        "A worker of Pointsman is killed; its clients connect again.",
        Kind.WORKER,
        (Step(Act.WORKER_CRASH, Whom.WORKER, heals=False),),
        harmless="it touches no node and no data: the clients of one worker lose their connection, and get a new one",
    ),
)

BY_NAME: Final = {drill.name: drill for drill in DRILLS}
