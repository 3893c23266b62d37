"""The control plane of a relay in memory: it knows every catalog, and its standby has replayed everything."""

import time
from typing import Final

from middleware.control import ConsoleAsked, ConsoleGone, ConsoleMore
from middleware.relay.relay import Relay
from routing.catalog import Catalog
from tests.wirefuzz.memory import MemoryLoop


class Control:
    """The control plane, as far as a relay asks it for something. `raises` plants a bug."""

    def __init__(self, loop: MemoryLoop) -> None:
        self._loop: Final = loop
        self.relay: Relay
        self.raises: type[Exception] | None = None

    def catalog_wanted(self, database: str, _changed_at: float) -> None:
        self._loop.call_soon(self._send, database)

    def _send(self, database: str) -> None:
        now = time.monotonic()
        self.relay.set_catalog(Catalog(database, 1), now, now)
        self.relay.commits.reported = (now,)

    def catalog_suspected(self, _database: str) -> None:
        """It would be read again, and be the same."""

    def secret_wanted(self, _user: str) -> None:
        """Nobody is asked for."""

    def freshness_wanted(self) -> None:
        self._loop.call_soon(self.freshen)

    def watch_wanted(self) -> None:
        """Nobody writes but through the relay."""

    def freshen(self) -> None:
        """The standby has replayed everything."""
        self.relay.set_freshness((("db2", time.monotonic(), 0),))

    def node_trouble(self, _node: str, _message: str) -> None:
        """The nodes are as they are."""

    def server_wanted(self, _key: bytes) -> None:
        """There is no other worker."""

    def server_freed(self) -> None:
        """Nor one that waits."""

    def console(self, _said: ConsoleAsked | ConsoleMore | ConsoleGone) -> None:
        """Nobody comes to the console."""

    def forward_cancel(self, _process_id: int, _secret: bytes) -> None:
        if self.raises is not None:
            raise self.raises("planted")
