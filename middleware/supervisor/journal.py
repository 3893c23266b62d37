"""What has become of the nodes, numbered, for who looks later and for who follows.

In: happenings. Out: the last HAPPENINGS_MAX of them, from any number on; and since when a node is what it is.
"""

import time
from collections import Counter, deque
from typing import Final

import anyio
import msgspec
import structlog

from healthcheck.guard import Happening
from healthcheck.topology import Condition, Topology

HAPPENINGS_MAX: Final = 1000

log = structlog.get_logger("node")


class Event(msgspec.Struct, frozen=True):
    """A happening in its place."""

    seq: int
    """From 1, without gaps; what is older than the last HAPPENINGS_MAX is forgotten."""
    at: float
    """time.time()"""
    what: str
    text: str
    node: str
    bad: bool


class Journal:
    """One Pointsman's, since its start."""

    def __init__(self) -> None:
        self._events: Final[deque[Event]] = deque(maxlen=HAPPENINGS_MAX)
        self.last = 0
        """The number of the last one; 0 before the first."""
        self.counts: Final[Counter[str]] = Counter()
        """How many of each kind there have been since the start."""
        self._grown = anyio.Event()
        self._since: Final[dict[str, float]] = {}

    def happened(self, happening: Happening) -> None:
        """Keep it, and say it in the log."""
        self._add(happening)
        kind, node, text = happening.what, happening.node or None, happening.text
        if happening.bad:
            log.warning("happened", event_kind=kind, node=node, what=text)
        else:
            log.info("happened", event_kind=kind, node=node, what=text)

    def topology_changed(self, before: Topology | None, after: Topology) -> None:
        """Keep what that means for each node, and say it in the log."""
        known = {node.name: node for node in before.nodes} if before else {}
        for node in after.nodes:
            was = known.get(node.name)
            if was is not None and (was.role, was.up, was.why) == (node.role, node.up, node.why):
                continue
            now = time.time()
            if was is None or (was.role, was.up) != (node.role, node.up):
                self._since[node.name] = now
            if was is None and before is not None and before.version:
                log.info("node added", node=node.name, host=node.host, port=node.port)
                what, text = "node_added", f"it is at {node.host}:{node.port}, and used once it has answered"
            elif node.up:
                log.info("node up", node=node.name, role=node.role.value)
                what, text = "node_up", f"it is a {node.role.value}"
            elif node.condition is Condition.DRAINING:
                log.info("node draining", node=node.name, role=node.role.value)
                what, text = "node_draining", "it is given nothing new, and what it has may end"
            else:
                log.warning("node not used", node=node.name, role=node.role.value, why=node.why)
                what, text = "node_down", f"not used: {node.why}"
            self._add(Happening(now, what, text, node.name, what == "node_down"))
        for name in known.keys() - {node.name for node in after.nodes}:
            log.info("node removed", node=name)
            self._since.pop(name, None)
            self._add(Happening(time.time(), "node_removed", "it is in the settings no more", name))
        if after.writer() is None and (before is None or before.writer() is not None):
            log.warning("no primary")

    def since(self, node: str) -> float | None:
        """Since when (time.time()) it has been in use, or not, in its role; None before it was looked at."""
        return self._since.get(node)

    def happenings(self) -> list[Happening]:
        """All there are, the oldest first."""
        return [Happening(one.at, one.what, one.text, one.node, one.bad) for one in self._events]

    def beyond(self, seq: int) -> list[Event]:
        """Those behind number `seq`, the oldest first."""
        return [event for event in self._events if event.seq > seq]

    async def wait_beyond(self, seq: int) -> None:
        """Until there is one behind number `seq`."""
        while self.last <= seq:
            await self._grown.wait()

    def _add(self, one: Happening) -> None:
        self.last += 1
        self.counts[one.what] += 1
        self._events.append(Event(self.last, one.at, one.what, one.text, one.node, one.bad))
        grown, self._grown = self._grown, anyio.Event()
        grown.set()
