"""Asking the primary for users that the settings do not know.

A few questions are asked at once, the others wait their turn; one user is asked for once, however many wait for the
answer. Without a primary a standby is asked: it has the same users. A question that is not answered in time is not
asked again; and where a node has answered none since it was put, the node is silent: others are asked in its place, and
where there are none, the questions fail at once, but for one at a time, which finds out when the node speaks again.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec
import structlog
from cachetools import LRUCache

from healthcheck.line import Credentials, Line, NoAnswer, ProbeError
from healthcheck.topology import Node, Topology
from middleware.auth import Access
from middleware.auth.made_up import ASKED_NONE, Look, Nobody, derived, look_of, nobody_of
from middleware.control import SetSecret

log: Final = structlog.get_logger("auth")

LINES: Final = 4
"""Questions that are asked at once."""
WAITING_MAX: Final = 1000
"""Users waiting to be asked for. Beyond them the answer is that nobody could be asked."""
SILENT_S: Final = 10.0
"""How long a silent node is passed over while others answer."""
LOOKS_MAX: Final = 1000
"""Users whose secrets' looks decide what nobody is shown: those asked for last."""


class AuthQuery:
    """Runs auth_query, and tells each answer to `answered`."""

    def __init__(
        self,
        credentials: Callable[[], Credentials],
        query: str,
        topology: Callable[[], Topology],
        answered: Callable[[SetSecret], None],
        timeout_s: float,
        seed: bytes,
    ) -> None:
        self._credentials: Final = credentials
        self._query = query
        self._topology: Final = topology
        self._answered: Final = answered
        self._timeout_s = timeout_s
        self._seed: Final = seed
        self._waiting: dict[str, None] = {}
        self._asking: set[str] = set()
        self._wanted = anyio.Event()
        self._open: Counter[str] = Counter()
        """Questions under way, by node."""
        self._heard: dict[str, float] = {}
        """When a node has last answered."""
        self._silent: dict[str, float] = {}
        """Since when a node is silent."""
        self._looks: LRUCache[str, Look] = LRUCache(LOOKS_MAX)
        self.nobody: Nobody = ASKED_NONE
        """What users who do not exist are shown, by the answers so far."""

    def use(self, query: str, timeout_s: float) -> None:
        """Ask this from now on."""
        self._query, self._timeout_s = query, timeout_s

    def wanted(self, user: str) -> None:
        """Have it asked who the user is."""
        if user in self._waiting or user in self._asking:
            return
        if len(self._waiting) + len(self._asking) >= WAITING_MAX:
            self._answered(SetSecret(user, False, None, failed=True))
            return
        self._waiting[user] = None
        self._wanted.set()

    def add_to(self, access: Access) -> Access:
        """`access` with what is known by now of what nobody is to be shown."""
        return msgspec.structs.replace(access, nobody=self.nobody) if access.asks else access

    async def run(self) -> None:
        """Answer until cancelled."""
        async with anyio.create_task_group() as tasks:
            for _ in range(LINES):
                tasks.start_soon(self._serve)

    async def _serve(self) -> None:
        line = _Line()
        try:
            while True:
                user = await self._next()
                answer = await self._answer(line, user)
                self._asking.remove(user)
                self._answered(answer)
        finally:
            line.close()

    async def _next(self) -> str:
        while not self._waiting:
            if self._wanted.is_set():
                self._wanted = anyio.Event()
            await self._wanted.wait()
        user = next(iter(self._waiting))
        del self._waiting[user]
        self._asking.add(user)
        return user

    async def _answer(self, line: "_Line", user: str) -> SetSecret:
        node = self._node(time.monotonic())
        if node is None:
            return self._failed(user, "no node is up, or those that are do not answer")
        try:
            row = await self._ask(line, node, user)
        except ProbeError as error:
            return self._failed(user, str(error))
        if row is not None and (len(row) < 2 or not isinstance(row[1], str | None)):
            return self._failed(user, "auth_query must have two columns: the user and its secret, as text")
        secret = None if row is None else row[1] or None
        if secret:
            look = look_of(secret)
            if self._looks.get(user) != look:
                self._looks[user] = look
                self.nobody = nobody_of(self._looks.values())
        verifier = None
        if (look_of(secret).kind if secret else self.nobody.kind) == "plain":
            # Where passwords are plain, nobody's takes as long: the question has cost as much.
            verifier = await anyio.to_thread.run_sync(derived, self._seed, user, secret or "")
        return SetSecret(user, row is not None, secret, False, verifier if secret else None, self.nobody)

    async def _ask(self, line: "_Line", node: Node, user: str) -> Any:
        begun = time.monotonic()
        self._open[node.name] += 1
        try:
            row = await line.ask(node, self._credentials(), self._timeout_s, self._query, user)
        except NoAnswer:
            if self._heard.get(node.name, 0.0) < begun:
                self._silent[node.name] = time.monotonic()
            raise
        finally:
            self._open[node.name] -= 1
        self._heard[node.name] = time.monotonic()
        self._silent.pop(node.name, None)
        return row

    def _node(self, now: float) -> Node | None:
        """Whom to ask; None for nobody."""
        topology = self._topology()
        primary = topology.primary()
        nodes: list[Node] = [*(() if primary is None else (primary,)), *topology.standbys()]
        for node in nodes:
            since = self._silent.get(node.name)
            if since is None or (now - since > SILENT_S and not self._open[node.name]):
                return node
        return next((node for node in nodes if not self._open[node.name]), None)

    def _failed(self, user: str, why: str) -> SetSecret:
        log.warning("auth_query failed", user=user, why=why)
        return SetSecret(user, False, None, failed=True)


class _Line:
    """A line to whichever node is asked."""

    def __init__(self) -> None:
        self._line: Line | None = None
        self._place: tuple[str, int, str, str, str, float] | None = None
        """Where the line leads, and for whom."""

    async def ask(self, node: Node, credentials: Credentials, timeout_s: float, query: str, user: str) -> Any:
        """The first row of the answer. Raises ProbeError."""
        who = credentials.user, credentials.password or "", credentials.database
        place = (node.host, node.port, *who, timeout_s)
        if self._line is None or self._place != place:
            self.close()
            self._line = Line(node.host, node.port, credentials, timeout_s)
            self._place = place
        try:
            return await self._line.ask(query, user)
        except NoAnswer:
            raise
        except ProbeError:
            # It may have broken since it was last used: once more, over a new one.
            return await self._line.ask(query, user)

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
