"""Sampling how fresh the standbys are: once a `period` while nobody waits, and in quick succession while clients have
written and would read from a standby.

In: the topology, and `wanted()`. Out: `publish(freshness)` after each round that taught something. A node that does not
answer is not waited for by the others; whether it is down is for the monitors to say.
"""

import time
from collections.abc import Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup

from healthcheck.line import Credentials, Line, ProbeError
from healthcheck.topology import Node, Topology
from routing.freshness import Samples

ROUND_S: Final = 0.01
"""Between two rounds while clients wait for one."""
ANSWER_S: Final = 0.02
"""How long a round waits for standbys; the answer of a slower one counts when it comes."""

# Right behind a page's header nothing is on the page yet: that is where the last page ends, and replay. The first page
# of a segment has a longer header.
_INSERT: Final = """
SELECT CASE WHEN at % segment = 40 THEN at - 40 WHEN at % block = 24 THEN at - 24 ELSE at END AS lsn
  FROM (SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, current_setting('wal_block_size')::int,
               pg_size_bytes(current_setting('wal_segment_size'))) AS position(at, block, segment)
"""
_REPLAY: Final = "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint AS lsn"

Freshness = tuple[tuple[str, float, int | None], ...]
"""For each standby: its name, as of when it is fresh (time.monotonic()), and its lag in bytes, None if not known."""


class Sampler:
    """Samples until cancelled. `wanted` and `topology_changed` may be called at any time."""

    def __init__(
        self,
        credentials: Credentials,
        publish: Callable[[Freshness], None],
        *,
        period_s: float,
        timeout_s: float,
    ) -> None:
        self._credentials = credentials
        self._publish = publish
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._samples = Samples()
        self._topology = Topology()
        self._history: tuple[str, int | None] | None = None
        """The last primary, and its timeline: whose positions the samples are."""
        self._lines: dict[tuple[str, str, int], Line] = {}
        self._wanted = anyio.Event()
        self._asked: set[str] = set()
        """The standbys whose answers are due."""
        self._answered = anyio.Event()

    def use(self, credentials: Credentials, *, period_s: float, timeout_s: float) -> None:
        """Ask as this user, and so often, from now on."""
        if (credentials, timeout_s) != (self._credentials, self._timeout_s):
            self._hang_up(list(self._lines))
        self._credentials, self._period_s, self._timeout_s = credentials, period_s, timeout_s
        self._wanted.set()

    def _hang_up(self, keys: list[tuple[str, str, int]]) -> None:
        """A question under way is answered by nothing."""
        for key in keys:
            self._lines.pop(key).close()

    def wanted(self) -> None:
        """A client has written and reads: sample now."""
        self._wanted.set()

    def topology_changed(self, topology: Topology) -> None:
        """Nodes came, went or changed roles."""
        writer = topology.writer()
        # Without a primary nothing is committed: what standbys had when it was lost they have.
        if writer is not None and (writer.name, topology.timeline) != self._history:
            self._history = writer.name, topology.timeline
            self._samples.clear()
        used = {node.name for node in topology.standbys()}
        for node in self._topology.nodes:
            if node.name not in used:
                self._samples.gone(node.name)
        self._topology = topology
        there = {(node.name, node.host, node.port) for node in topology.nodes}
        self._hang_up([key for key in self._lines if key not in there])
        self._wanted.set()

    async def run(self) -> None:
        """One round after the other."""
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    self._wanted = anyio.Event()
                    topology = self._topology
                    await self._round(tasks, topology)
                    if topology is self._topology:
                        self._tell(topology)
                    await anyio.sleep(ROUND_S)
                    with anyio.move_on_after(self._period_s - ROUND_S):
                        await self._wanted.wait()
        finally:
            for line in self._lines.values():
                line.close()

    async def _round(self, tasks: TaskGroup, topology: Topology) -> None:
        primary = topology.writer()
        if primary is None or not topology.standbys():
            return
        begun = time.monotonic()
        lsn = await self._ask(primary, _INSERT)
        if lsn is None or topology is not self._topology:
            return
        self._samples.primary(begun, lsn)
        for node in topology.standbys():
            if node.name not in self._asked:
                self._asked.add(node.name)
                tasks.start_soon(self._standby, topology, node)
        with anyio.move_on_after(ANSWER_S):
            while self._asked:
                self._answered = anyio.Event()
                await self._answered.wait()

    async def _standby(self, topology: Topology, node: Node) -> None:
        lsn = await self._ask(node, _REPLAY)
        self._asked.discard(node.name)
        self._answered.set()
        if lsn is not None and topology is self._topology:
            self._samples.standby(node.name, lsn)

    async def _ask(self, node: Node, query: str) -> int | None:
        key = node.name, node.host, node.port
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(node.host, node.port, self._credentials, self._timeout_s)
        try:
            row = await line.ask(query)
        except ProbeError:
            return None
        lsn: int | None = row["lsn"]
        return lsn

    def _tell(self, topology: Topology) -> None:
        self._publish(
            tuple(
                (node.name, self._samples.fresh_as_of(node.name), self._samples.lag_bytes(node.name))
                for node in topology.standbys()
            )
        )
