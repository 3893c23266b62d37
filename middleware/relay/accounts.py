"""Whose account clients are on: what they call their database and themselves at login, and the rule that holds for
them; and where what they do is counted. All who are alike in that share one object.
"""

from typing import Final

from middleware.config import RoutePolicy
from middleware.reports import OTHERS, TRAFFIC_MAX, TimingsReport, TrafficReport
from middleware.session.digests import DatabaseDigests, Digests
from middleware.session.tally import Tally, Timings

KNOWN_MAX: Final = 10_000
"""Accounts remembered. Clients make up names at will: at the bound all are forgotten, but by who is on them."""
HERE: Final = ""
"""The node of what no server was needed for."""


class Tallies:
    """All of one worker, by database, rule and node."""

    __slots__ = ("_known", "_timings")

    def __init__(self) -> None:
        self._known: Final[dict[tuple[str, str, str], Tally]] = {}
        self._timings: Final[dict[tuple[str, str], Timings]] = {}

    def of(self, database: str, route: str, node: str) -> Tally:
        """Where this is counted; at the bound, with that of other databases."""
        known = self._known.get((database, route, node))
        if known is None and len(self._known) >= TRAFFIC_MAX:
            database = OTHERS
            known = self._known.get((database, route, node))
        if known is None:
            timings = self._timings.get((route, node))
            if timings is None:
                timings = self._timings[route, node] = Timings()
            known = self._known[database, route, node] = Tally(timings)
        return known

    def traffic(self) -> tuple[TrafficReport, ...]:
        """What was counted."""
        return tuple(
            [
                TrafficReport(
                    *key,
                    one.assignments,
                    one.xacts,
                    one.queries,
                    one.received_bytes,
                    one.sent_bytes,
                    one.xact_s,
                    one.query_s,
                    one.wait_s,
                    one.client_parses,
                    one.server_parses,
                    one.binds,
                    one.errors,
                )
                for key, one in self._known.items()
            ]
        )

    def timings(self) -> tuple[TimingsReport, ...]:
        """What was timed."""
        return tuple(
            [
                TimingsReport(*key, one.query.histogram(), one.wait.histogram(), one.checkout.histogram())
                for key, one in self._timings.items()
                if key[1] != HERE
            ]
        )


class Account:
    """See above."""

    __slots__ = ("_nodes", "_tallies", "database", "digests", "policy", "user")

    def __init__(self, database: str, user: str, policy: RoutePolicy, tallies: Tallies, digests: Digests) -> None:
        self.database: Final = database
        self.user: Final = user
        self.policy: Final = policy
        self._tallies: Final = tallies
        self._nodes: Final[dict[str, Tally]] = {}
        """Made when something is counted: databases that nobody gets to take no place in the table of all."""
        self.digests: Final = DatabaseDigests(database, digests)

    @property
    def here(self) -> Tally:
        """For what no server was needed for."""
        return self.tally(HERE)

    def tally(self, node: str) -> Tally:
        """For what goes to a node."""
        known = self._nodes.get(node)
        if known is None:
            known = self._nodes[node] = self._tallies.of(self.database, self.policy.name, node)
        return known


class Accounts:
    """Those of one worker."""

    __slots__ = ("_digests", "_known", "_tallies")

    def __init__(self, tallies: Tallies, digests: Digests) -> None:
        self._tallies: Final = tallies
        self._digests: Final = digests
        self._known: dict[tuple[bytes, bytes, RoutePolicy], Account] = {}

    def of(self, database: bytes, user: bytes, policy: RoutePolicy) -> Account:
        """That of a client, by its own words."""
        known = self._known.get((database, user, policy))
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known = {}
            names = database.decode(errors="replace"), user.decode(errors="replace")
            known = self._known[database, user, policy] = Account(*names, policy, self._tallies, self._digests)
        return known
