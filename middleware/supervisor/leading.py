"""Who has a say beside the nodes, by the settings: Patroni in their roles, etcd in which of several Pointsmans acts.
And what was seen before: kept over restarts in a file, and in etcd.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio

from healthcheck.guard import Happening
from healthcheck.leader import Alone, Begun, Leader
from healthcheck.leadership import Claim, Leadership, Standing
from healthcheck.line import ProbeError
from healthcheck.memory import Remembered, StateFile
from healthcheck.monitor import Authority, Monitor
from healthcheck.patroni import Patroni, Rest
from healthcheck.topology import Topology
from middleware.config import Settings
from middleware.supervisor.listeners import StartError

AGAIN_S: Final = 5.0
"""Before a state file that could not be written is tried again."""


class Leading:
    """The Leader of a guard, and a monitor's Source; and the Authority for a monitor. `run` keeps up with them."""

    def __init__(self, settings: Settings, tell: Callable[[Happening], None]) -> None:
        """Raises StartError for a state file that cannot be read."""
        self._tell: Final = tell
        self._learned: Callable[[Remembered], None] = lambda _: None
        self._leadership = self._leadership_of(settings)
        self._leader: Leader = self._leadership or Alone()
        self._claiming: anyio.CancelScope | None = None
        self._changed = anyio.Event()
        self._resigned = False
        self.relieved = ""
        """Why another process of this Pointsman has the say, for people; "" while this one has."""
        self._patroni: Final = Patroni(_rest(settings), tell) if settings.topology == "patroni" else None
        self.authority: Final[Authority | None] = self._patroni
        self._file: Final = StateFile(Path(settings.state_file)) if settings.state_file else None
        self._seen: Remembered | None = None
        self._kept: Remembered | None = None
        self._trouble = False
        try:
            self._before = self._file.read() if self._file else None
        except (OSError, ValueError) as error:
            why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
            raise StartError(f"state_file: {settings.state_file} cannot be used: {why}") from None

    def _leadership_of(self, settings: Settings) -> Leadership | None:
        if settings.failover != "promote" or not settings.etcd_hosts:
            return None
        return Leadership(_claim(settings), self._tell, self._learn)

    def use(self, settings: Settings) -> None:
        """Whether this one promotes may have changed; where it does, it may not act before it is known to lead. Not
        called while a failover is under way."""
        claims = settings.failover == "promote" and bool(settings.etcd_hosts)
        if claims == (self._leadership is not None):
            return
        if self._claiming is not None:
            self._claiming.cancel()
        self._leadership = self._leadership_of(settings)
        self._leader = self._leadership or Alone()
        if self._leadership is not None and self._seen is not None:
            self._leadership.remember(self._seen)
        self._changed.set()

    # What a guard asks, and what a monitor does

    def hindered(self) -> str:
        """See Leader."""
        return self.relieved or self._leader.hindered()

    def left_s(self) -> float:
        """See Leader."""
        return 0.0 if self.relieved else self._leader.left_s()

    def begun(self) -> Begun | None:
        """See Leader."""
        return self._leader.begun()

    async def begin(self, begun: Begun) -> None:
        """See Leader."""
        self._check()
        await self._leader.begin(begun)

    async def finish(self) -> None:
        """See Leader."""
        self._check()
        await self._leader.finish()

    def _check(self) -> None:
        if self.relieved:
            raise ProbeError(self.relieved)

    def standing(self) -> Standing | None:
        """Where several Pointsmans claim to lead: how it stands with this one's claim."""
        return None if self._leadership is None else self._leadership.standing()

    @property
    def known(self) -> bool:
        """See Source."""
        return self._leadership is None or self._leadership.known

    def teach(self, monitor: Monitor) -> None:
        """Let a monitor know what was seen before, and what others see."""
        self._learned = monitor.know
        if self._before is not None:
            monitor.know(self._before)

    def keep(self, topology: Topology) -> None:
        """Remember what was seen: before anybody acts on it."""
        seen = Remembered.of(topology)
        if seen is not None and seen != self._seen:
            self._seen = seen
            if self._leadership is not None:
                self._leadership.remember(seen)
            self._write()

    async def run(self) -> None:
        """Until cancelled; then the lease is let go."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._claim)
            if self._patroni is not None:
                tasks.start_soon(self._patroni.run)
            while self._file is not None:
                await anyio.sleep(AGAIN_S)
                self._write()

    def resign(self) -> None:
        """Let the lease go, for good; all else goes on."""
        self._resigned = True
        if self._claiming is not None:
            self._claiming.cancel()

    async def _claim(self) -> None:
        """Claim to lead, as long as that is wanted."""
        while not self._resigned:
            self._changed = anyio.Event()
            if self._leadership is not None:
                with anyio.CancelScope() as self._claiming:
                    await self._leadership.run()
            else:
                await self._changed.wait()

    def _learn(self, remembered: Remembered) -> None:
        self._learned(remembered)

    def _write(self) -> None:
        """On the loop: it is some milliseconds, once per failover, and must be done before what follows."""
        if self._file is None or self._seen is None or self._seen == self._kept:
            return
        try:
            self._file.write(self._seen)
        except OSError as error:
            if not self._trouble:
                text = f"the timeline is not kept over a restart: state_file cannot be written: {error.strerror}"
                self._tell(Happening(time.time(), "state_file_trouble", text, "", bad=True))
            self._trouble = True
        else:
            self._kept, self._trouble = self._seen, False


def _claim(settings: Settings) -> Claim:
    name = settings.instance_name or f"{socket.gethostname()}:{settings.listen_port}"
    return Claim(settings.etcd_members(), settings.etcd_prefix.rstrip("/"), name, settings.etcd_ttl)


def _rest(settings: Settings) -> Rest:
    checks = settings.health_check
    return Rest(settings.patroni_places(), checks.period, checks.timeout, settings.patroni_tls())
