"""What to run, as a value."""

from enum import Enum
from typing import NamedTuple

from tests.cachecheck.checker import Promises


class Level(Enum):
    """The setting `consistency` of the endpoints."""

    SESSION = "session"
    GLOBAL = "global"
    EVENTUAL = "eventual"
    PRIMARY = "primary"


class Watch(Enum):
    """The setting `cache_watch`."""

    LOGICAL = "logical"
    POLL = "poll"
    AUTO = "auto"
    OFF = "off"


class Plan(NamedTuple):
    """The same seed makes the same choices, in an order that is the machine's."""

    level: Level = Level.SESSION
    operations: int = 20_000
    """Reads and writes of the load; 0 if it ends by time."""
    seconds: float = 0.0
    clients: int = 24
    standbys: int = 2
    instances: int = 1
    workers: int = 2
    failovers: int = 0
    worker_kills: int = 0
    out_of_band: int = 0
    """Clients that write on the primary itself."""
    watch: Watch = Watch.OFF
    cache: bool = True
    plant: str = ""
    """A bug to be found."""
    lag: bool = True
    tell: bool = False
    """Have each session told where its statements went."""
    seed: int = 1
    version: int = 18

    def settings(self) -> dict[str, object]:
        """Of Pointsman."""
        chosen: dict[str, object] = {"consistency": self.level.value, "workers": self.workers, "default_pool_size": 15}
        if self.cache:
            chosen |= {"query_cache": "on", "cache_watch": self.watch.value, "cache_watch_interval": 0.2}
        return chosen

    def promises(self) -> Promises:
        """What is held against the history."""
        return Promises(
            session=self.level is not Level.EVENTUAL,
            everybody=self.level in (Level.GLOBAL, Level.PRIMARY),
            foreign=self.level is not Level.EVENTUAL and (self.watch is Watch.LOGICAL or not self.cache),
        )

    def parameters(self) -> dict[str, str]:
        """Of the nodes."""
        decoded = {"wal_level": "logical"} if self.watch is Watch.LOGICAL else {}
        return {"max_prepared_transactions": "100", **decoded}
