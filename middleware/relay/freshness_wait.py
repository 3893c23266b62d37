"""How long a client's read is held for a standby that may serve it, and when it is tried again.

Under `read_from_primary = never` there is nowhere else to go: it waits as long as for a server. Else it waits for
`consistency_wait`, and goes to the primary then.
"""

import asyncio
from typing import Final, Protocol

from middleware.config import RoutePolicy
from middleware.relay.balance import Route
from middleware.relay.relay import Reader, Relay


class Retrier(Protocol):
    """Whose read is held."""

    def choose_again(self) -> None:
        """Choose again for it."""


class FreshnessWait(Reader):
    """One client's."""

    __slots__ = ("_client", "_relay", "_seconds", "_timer", "_until", "only_standbys")

    def __init__(self, relay: Relay, policy: RoutePolicy) -> None:
        self._relay: Final = relay
        self._client: Retrier | None = None
        """Known while a read is held, and no longer: a client that is gone is to be freed at once."""
        self._until = 0.0
        """When it has waited long enough; 0 while nothing waits."""
        self._timer: asyncio.TimerHandle | None = None
        self.only_standbys = False
        self._seconds = 0.0
        self.use(policy)

    def use(self, policy: RoutePolicy) -> None:
        """By this policy from now on. Called while no read is held."""
        self.only_standbys = policy.read_from_primary == "never"
        self._seconds = 0.0
        if self.only_standbys:
            self._seconds = policy.client.query_wait_s
        elif policy.read_from_primary == "fallback":
            self._seconds = policy.consistency_wait_s

    def running(self) -> bool:
        """A read is held."""
        return self._until != 0.0

    def over(self) -> bool:
        """It has waited long enough."""
        return self._relay.loop.time() >= self._until

    def wanted(self, route: Route) -> bool:
        """Whether a read that no standby may serve is to wait, or to go on waiting."""
        if self.only_standbys:
            return True
        if self.running():
            return not self.over()
        return self._seconds > 0 and bool(route.standbys)

    def hold(self) -> None:
        """Try again with the next sample, or when the time is over."""
        self._relay.waiting_for_freshness.append(self)

    def start(self, client: Retrier) -> None:
        """Count the time of a client's read from now, unless it is being counted."""
        if not self.running():
            self._client = client
            self._until = self._relay.loop.time() + self._seconds
            self._timer = self._relay.loop.call_later(self._seconds, self._time_is_over)

    def end(self) -> None:
        """Its read waits no more."""
        self._until = 0.0
        self._client = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def freshness_arrived(self) -> None:
        """There is a new sample."""
        if self._client is not None:
            self._client.choose_again()

    def _time_is_over(self) -> None:
        # The timer may be a little early.
        self._until = min(self._until, self._relay.loop.time())
        self.freshness_arrived()
