"""Whether this Pointsman may act on the nodes, by its settings: alone, or as one of several by a lease in etcd."""

import socket
from collections.abc import Callable
from typing import Final

from healthcheck.guard import Happening
from healthcheck.leader import Alone, Leader
from healthcheck.leadership import Claim, Leadership
from middleware.config import Settings


class Leading:
    """The Leader for a guard. `run` keeps its lease, where it has one."""

    def __init__(self, settings: Settings, tell: Callable[[Happening], None]) -> None:
        several = settings.failover == "promote" and bool(settings.etcd_hosts)
        self._leadership: Final = Leadership(_claim(settings), tell) if several else None
        self.leader: Final[Leader] = self._leadership or Alone()

    async def run(self) -> None:
        """Until cancelled; then the lease is let go."""
        if self._leadership is not None:
            await self._leadership.run()


def _claim(settings: Settings) -> Claim:
    name = settings.instance_name or f"{socket.gethostname()}:{settings.listen_port}"
    return Claim(settings.etcd_members(), settings.etcd_prefix.rstrip("/"), name, settings.etcd_ttl)
