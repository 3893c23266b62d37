"""What a client has left behind that is gone while a server still carries out its writes.

The server was told to stop, and to go, and goes on answering what it was sent before. Its last answer says that nothing
more can come of that: until then a commit is under way as it was with its client, and nobody is given cached answers
that it may change. Only if the server is lost without that answer the commit is in doubt.

In: the last answer, or that there will be none. Out: what all workers are told of the writes.
"""

import time
from typing import TYPE_CHECKING, Final

from middleware.relay.writes import Writes
from parser.facts import CHANGES, UNCHANGED

if TYPE_CHECKING:
    from middleware.relay.relay import Relay


class Unheard:
    """Of one client; see middleware/pool/server_connection.py's Outcome."""

    __slots__ = ("_changes", "_database", "_relay", "_writes")

    def __init__(self, relay: "Relay", writes: Writes, database: str, changes: int) -> None:
        """`changes`: whether the catalog is among what may change, as StatementFacts have it."""
        self._relay: Final = relay
        self._writes: Final = writes
        self._database: Final = database
        self._changes: Final = changes

    def ended(self, answered: bool) -> None:
        """The server has `answered` all that it was sent, or is gone."""
        now = time.monotonic()
        if self._changes != UNCHANGED:
            # What has been read since its client has gone may be from before.
            self._relay.catalog_changed(self._database, certain=self._changes == CHANGES)
        self._writes.lost(now, busy=not answered)
