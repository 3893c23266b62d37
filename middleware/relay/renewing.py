"""The side of a client's connection that goes by new settings, once nothing is under way for it.

In: that the settings have changed. Out: the rule that holds for it, looked up anew by what it said at its login, and
all that follows from it. Its database and user on the nodes stay: it was told of its session there. Whether it may come
in is asked at the door, and not again.

A client that has no server, and waits for none, is at rest; so is one that is pinned to its server, with nothing under
way. Others are when they give their servers back. In session pooling nothing of a session's state is tracked, so who
has a server by it keeps that to the end, whatever is said of the pooling now.
"""

import msgspec

from middleware.relay.session_state import SESSION_MODE, SESSION_POOLING, STATEMENT_MODE
from middleware.relay.timekeeping import Timekeeping


class Renewing(Timekeeping):
    """See above."""

    __slots__ = ()

    def settings_changed(self) -> None:
        """Go by the relay's settings, as soon as nothing is under way."""
        self.stale = True
        self.relay.stale[self] = None
        self.renew(self.relay.clock.now)

    def renew(self, now: float) -> None:
        """Now, if nothing is under way."""
        server = self.server
        if self._closed:
            self.relay.stale.pop(self, None)
        elif self._held is not None or self._held_up:
            return
        elif server is None or (bool(self.state.pinned) and server.session.at_rest() and not self._sent_open):
            self.go_by_settings()

    def go_by_settings(self) -> None:
        """Do so: nothing is under way."""
        relay, state, server = self.relay, self.state, self.server
        self.stale = False
        relay.stale.pop(self, None)
        database, user, application_name, address = self.known_as
        policy = relay.policies.of(database, user, application_name, address)
        self.account = relay.accounts.of(database, user, policy)
        if policy.mode != SESSION_MODE and SESSION_POOLING in state.pinned and server is not None:
            policy = msgspec.structs.replace(policy, mode=SESSION_MODE, state_warnings="off")
        self.limits = policy.client
        state.use(policy)
        state.warnings.use(policy, relay.quiet)
        self._wait.use(policy)
        self.session.use(relay.facts, relay.settings.statement_size_max, relay.settings.max_packet_size)
        self.routing.use(self.account, policy, state.why() if state.pinned else "")
        if server is not None:
            server.session.no_transactions = policy.mode == STATEMENT_MODE
