"""What the oracle asks about: one statement, and where it may run."""

from enum import Enum
from typing import Final, NamedTuple

APP: Final = "app"
SUPERUSER: Final = "postgres"


class Where(Enum):
    """Where a statement may run, as known before it is routed."""

    PRIMARY = "primary"
    """On the primary alone: on a standby it is a misroute, even when nothing goes wrong this time."""
    STANDBY = "standby"
    """On a standby: on the primary it counts as stayed."""
    EITHER = "either"
    """Harmless on a standby, and yet nobody's loss on the primary."""
    JUDGED = "judged"
    """Not known: the nodes tell."""


class Statement(NamedTuple):
    """A string of SQL with what is known of it."""

    sql: str
    where: Where
    group: str
    """What it is an example of; findings are listed by it."""
    user: str = APP
    arguments: tuple[str, ...] = ()
    """Values of $1, $2, ..: it runs by the extended protocol then."""
    varies: bool = False
    """Its rows differ from one run to the next, or tell of the session: they are not compared."""
    callable: bool = True
    """False for what must never run here: it would end the transaction around it, or act on a node."""
