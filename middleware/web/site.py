"""What is shown over HTTP, and through whom things are done: the supervisor, as the web sees it."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from aiohttp import web

from healthcheck.leadership import Standing
from healthcheck.topology import Topology
from middleware.config import Settings
from middleware.control import CacheCounters
from middleware.reports import Subject
from middleware.supervisor.asking import Answers
from middleware.supervisor.cache_control import CacheState
from middleware.supervisor.cache_watch import WatchStatus
from middleware.supervisor.console import Console
from middleware.supervisor.counters import CountersSnapshot
from middleware.supervisor.journal import Journal
from middleware.supervisor.pausing import Pausing
from middleware.supervisor.status import Status
from middleware.supervisor.supervisor import Phase
from middleware.supervisor.workers import WorkerLife


class Asks(Protocol):
    """Asks all workers, as Asking does."""

    async def ask(self, subject: Subject, limit: int = 0) -> Answers: ...


class Site(Protocol):
    """A Pointsman that runs. Its settings may be replaced: ask for them each time. By its console everything
    is done, and shown what SHOW shows."""

    @property
    def settings(self) -> Settings: ...
    @property
    def console(self) -> Console: ...
    @property
    def asking(self) -> Asks: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def topology(self) -> Topology: ...
    def status(self) -> Status: ...
    def counters(self) -> CountersSnapshot: ...
    def cache_counters(self) -> CacheCounters: ...
    def cache_state(self) -> CacheState: ...
    def watch_status(self) -> Sequence[WatchStatus]: ...
    def leadership(self) -> Standing | None: ...
    def certificates_not_after(self) -> Mapping[str, float]: ...
    @property
    def phase(self) -> Phase: ...
    @property
    def pausing(self) -> Pausing: ...
    def lives(self) -> tuple[WorkerLife, ...]: ...


SITE: Final = web.AppKey("site", Site)
"""Where an application keeps the one that it shows."""
