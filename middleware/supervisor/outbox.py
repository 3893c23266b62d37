"""What waits to be sent to a worker: the newest of each snapshot, and a bounded number of cancels.

A worker that does not read (stopped, or deep in work) must not make the supervisor wait nor grow: a snapshot replaces
the older one of its kind, and cancels beyond the bound are dropped, as PostgreSQL promises nothing for them.
"""

from collections import deque
from typing import Final

from middleware.control import (
    Configure,
    Down,
    Drain,
    ForwardCancel,
    SetCatalog,
    SetChanges,
    SetFreshness,
    SetReasons,
    SetTopology,
)

CANCELS_MAX: Final = 1000


class Outbox:
    """The messages for one worker. Configure goes first, then Topology, so that both are known before the rest."""

    def __init__(self) -> None:
        self._snapshots: dict[str, Configure | SetTopology | SetChanges | SetFreshness | SetReasons | Drain] = {}
        self._catalogs: dict[str, SetCatalog] = {}
        self._cancels: deque[ForwardCancel] = deque(maxlen=CANCELS_MAX)

    def put(self, message: Down) -> None:
        """Have `message` sent, in place of what it makes obsolete."""
        if isinstance(message, ForwardCancel):
            self._cancels.append(message)
        elif isinstance(message, SetCatalog):
            self._catalogs[message.catalog.database] = message
        else:
            self._snapshots[type(message).__name__] = message

    def take(self) -> list[Down]:
        """All that waits, in the order to send it."""
        first = [self._snapshots.pop(kind) for kind in _ORDER if kind in self._snapshots]
        # Changes of catalogs are told of when the catalogs themselves were.
        last = [self._snapshots.pop(kind) for kind in (SetChanges.__name__,) if kind in self._snapshots]
        taken: list[Down] = [*first, *self._catalogs.values(), *last, *self._cancels]
        self._catalogs.clear()
        self._cancels.clear()
        return taken


_ORDER: Final = tuple(kind.__name__ for kind in (Configure, SetTopology, SetFreshness, SetReasons, Drain))
