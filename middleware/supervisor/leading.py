"""Who has a say beside the nodes, by the settings: Patroni in their roles, etcd in which of several Pointsmans acts."""

import socket
from collections.abc import Callable
from typing import Final

import anyio

from healthcheck.guard import Happening
from healthcheck.leader import Alone, Leader
from healthcheck.leadership import Claim, Leadership
from healthcheck.monitor import Authority
from healthcheck.patroni import Patroni, Rest
from middleware.config import Settings


class Leading:
    """The Leader for a guard, and the Authority for a monitor. `run` keeps up with both."""

    def __init__(self, settings: Settings, tell: Callable[[Happening], None]) -> None:
        several = settings.failover == "promote" and bool(settings.etcd_hosts)
        self._leadership: Final = Leadership(_claim(settings), tell) if several else None
        self.leader: Final[Leader] = self._leadership or Alone()
        self._patroni: Final = Patroni(_rest(settings), tell) if settings.topology == "patroni" else None
        self.authority: Final[Authority | None] = self._patroni

    async def run(self) -> None:
        """Until cancelled; then the lease is let go."""
        async with anyio.create_task_group() as tasks:
            if self._leadership is not None:
                tasks.start_soon(self._leadership.run)
            if self._patroni is not None:
                tasks.start_soon(self._patroni.run)


def _claim(settings: Settings) -> Claim:
    name = settings.instance_name or f"{socket.gethostname()}:{settings.listen_port}"
    return Claim(settings.etcd_members(), settings.etcd_prefix.rstrip("/"), name, settings.etcd_ttl)


def _rest(settings: Settings) -> Rest:
    checks = settings.health_check
    return Rest(settings.patroni_places(), checks.period, checks.timeout, settings.patroni_tls())
