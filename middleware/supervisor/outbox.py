"""What waits to be sent to a worker: the newest of each snapshot, and a bounded number of what other workers
say. And, all of them, the answers to console clients: each waits to be taken before it goes on.

A worker that does not read (stopped, or deep in work) must not make the supervisor wait nor grow: a snapshot replaces
the older one of its kind, and of the rest the oldest is dropped beyond the bound: PostgreSQL promises nothing for
cancels, a server that is wanted is asked for again, and a node that answers is tried again anyway.
"""

from collections import deque
from typing import Final

from middleware.control import (
    Ask,
    ClearCache,
    Configure,
    ConsoleTold,
    Down,
    Drain,
    Kill,
    KillClient,
    LetGo,
    NodeAnswers,
    Passed,
    Reconnect,
    SetAccess,
    SetCache,
    SetCatalog,
    SetChanges,
    SetFreshness,
    SetPauses,
    SetReasons,
    SetSecret,
    SetSettings,
    Settle,
    SetTls,
    SetTopology,
)

PASSED_MAX: Final = 1000
Said = Passed | SetSecret | NodeAnswers | Ask | Settle | Reconnect | Kill | KillClient
"""What is no snapshot."""


class Outbox:
    """The messages for one worker. Configure goes first, then newer settings, then who may come in, what is cached and
    what is paused, then the topology, by which the worker begins to listen: what it says of a node needs no more than
    these."""

    def __init__(self) -> None:
        self._snapshots: dict[
            str,
            Configure
            | SetSettings
            | SetAccess
            | SetCache
            | ClearCache
            | SetTopology
            | SetChanges
            | SetFreshness
            | SetPauses
            | SetReasons
            | SetTls
            | LetGo
            | Drain,
        ] = {}
        self._catalogs: dict[str, SetCatalog] = {}
        self._passed: deque[Said] = deque(maxlen=PASSED_MAX)
        self._answers: list[ConsoleTold] = []
        """Of each command at most a part and what has become of it: see console_clients.py."""

    def put(self, message: Down) -> None:
        """Have `message` sent, in place of what it makes obsolete."""
        if isinstance(message, Said):
            self._passed.append(message)
        elif isinstance(message, ConsoleTold):
            self._answers.append(message)
        elif isinstance(message, SetCatalog):
            self._catalogs[message.catalog.database] = message
        else:
            self._snapshots[type(message).__name__] = message

    def take(self) -> list[Down]:
        """All that waits, in the order to send it."""
        first = [self._snapshots.pop(kind) for kind in _ORDER if kind in self._snapshots]
        # Changes of catalogs are told of when the catalogs themselves were.
        last = [self._snapshots.pop(kind) for kind in (SetChanges.__name__,) if kind in self._snapshots]
        taken: list[Down] = [*first, *self._catalogs.values(), *last, *self._passed, *self._answers]
        self._catalogs.clear()
        self._passed.clear()
        self._answers.clear()
        return taken


_ORDER: Final = tuple(
    kind.__name__
    for kind in (
        Configure,
        SetSettings,
        SetAccess,
        SetTls,
        SetCache,
        ClearCache,
        SetPauses,
        SetTopology,
        SetFreshness,
        SetReasons,
        LetGo,
        Drain,
    )
)
