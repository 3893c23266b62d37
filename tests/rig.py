"""What the control plane's tests do to a cluster of a primary `db1` and a standby `db2`."""

from signal import Signals
from typing import Any, Protocol

from healthcheck.probe import Credentials


class Rig(Protocol):
    """A cluster of its own for one test, which may break it."""

    addresses: dict[str, tuple[str, int]]
    credentials: Credentials
    """A role of pg_monitor."""

    async def fetch(self, name: str, sql: str, database: str = "postgres") -> list[Any]:
        """Run a statement as superuser."""

    async def kill(self, name: str) -> None:
        """Stop the node as a crash would."""

    async def start(self, name: str) -> None:
        """Start a node that was killed, as what its files make it."""

    async def promote(self, name: str) -> None:
        """Promote a standby."""

    def signal_all(self, name: str, number: Signals) -> None:
        """Send a signal to each of the node's processes."""
