"""Asking the primary for users that the settings do not know.

Questions wait their turn, and one user is asked for once, however many wait for the answer. Without a primary a standby
is asked: it has the same users.
"""

from collections.abc import Callable
from typing import Final

import anyio
import structlog

from healthcheck.line import Credentials, Line, ProbeError
from healthcheck.topology import Topology
from middleware.control import SetSecret

log: Final = structlog.get_logger("auth_query")

WAITING_MAX: Final = 1000
"""Users waiting to be asked for. Beyond them the answer is that nobody could be asked."""


class AuthQuery:
    """Runs auth_query, and tells each answer to `answered`."""

    def __init__(
        self,
        credentials: Callable[[], Credentials],
        query: str,
        topology: Callable[[], Topology],
        answered: Callable[[SetSecret], None],
        timeout_s: float,
    ) -> None:
        self._credentials: Final = credentials
        self._query: Final = query
        self._topology: Final = topology
        self._answered: Final = answered
        self._timeout_s: Final = timeout_s
        self._waiting: dict[str, None] = {}
        self._wanted = anyio.Event()
        self._line: Line | None = None
        self._place = ("", 0, "")
        """Where the line leads, and with which password."""

    def wanted(self, user: str) -> None:
        """Have it asked who the user is."""
        if len(self._waiting) >= WAITING_MAX:
            self._answered(SetSecret(user, False, None, failed=True))
            return
        self._waiting[user] = None
        self._wanted.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted = anyio.Event()
                while self._waiting:
                    user = next(iter(self._waiting))
                    answer = await self._answer(user)
                    del self._waiting[user]
                    self._answered(answer)
        finally:
            if self._line is not None:
                self._line.close()

    async def _answer(self, user: str) -> SetSecret:
        line = self._line_to_a_node()
        if line is None:
            return self._failed(user, "no node is up")
        try:
            row = await line.ask(self._query, user)
        except ProbeError:
            try:
                # The line may have died since it was last used: once more, over a new one.
                row = await line.ask(self._query, user)
            except ProbeError as error:
                return self._failed(user, str(error))
        if row is None:
            return SetSecret(user, False, None)
        if len(row) < 2 or not isinstance(row[1], str | None):
            return self._failed(user, "auth_query must have two columns: the user and its secret, as text")
        return SetSecret(user, True, row[1] or None)

    def _failed(self, user: str, why: str) -> SetSecret:
        log.warning("auth_query failed", user=user, why=why)
        return SetSecret(user, False, None, failed=True)

    def _line_to_a_node(self) -> Line | None:
        topology = self._topology()
        node = topology.primary() or next(iter(topology.standbys()), None)
        if node is None:
            return None
        credentials = self._credentials()
        place = node.host, node.port, credentials.password or ""
        if self._line is None or self._place != place:
            if self._line is not None:
                self._line.close()
            self._line = Line(node.host, node.port, credentials, self._timeout_s)
            self._place = place
        return self._line
