"""Sampling how fresh the standbys are: once a `period` while nobody waits, and in quick succession while clients have
written and would read from a standby.

In: the topology, and `wanted()`. Out: `publish(freshness)` after each round that taught something. A node that does not
answer is not waited for by the others; whether it is down is for the monitors to say.

A standby is sent what is flushed. A commit is flushed at once, an asynchronous one soon; but what a transaction has
written that only read (hints, for one), and that is open or has failed, is not until somebody commits, or some fifteen
seconds later. If clients wait for that, a commit of our own has it flushed.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from healthcheck.line import Credentials, Line, ProbeError
from healthcheck.topology import Node, Topology
from routing.freshness import Samples

ROUND_S: Final = 0.01
"""Between two rounds while clients wait for one."""
ANSWER_S: Final = 0.02
"""How long a round waits for standbys; the answer of a slower one counts when it comes."""
FLUSH_S: Final = 0.5
"""How long nothing may have been flushed of what there is, while clients wait for it, before we see to that."""

# Right behind a page's header nothing is on the page yet: that is where the last page ends, and replay. The first page
# of a segment has a longer header.
_INSERT: Final = """
SELECT CASE WHEN at % segment = 40 THEN at - 40 WHEN at % block = 24 THEN at - 24 ELSE at END AS lsn,
       (pg_current_wal_flush_lsn() - '0/0')::bigint AS flushed
  FROM (SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, current_setting('wal_block_size')::int,
               pg_size_bytes(current_setting('wal_segment_size'))) AS position(at, block, segment)
"""
# Nobody need wait for a standby to have it.
_FLUSH: Final = """
SELECT (pg_logical_emit_message(true, 'pointsman', '') - '0/0')::bigint AS lsn
  FROM (SELECT set_config('synchronous_commit', 'local', true)) AS settings
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
        self._flushed = (0, 0.0)
        """Up to where the primary has flushed, and since when."""
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
                    wanted = self._wanted.is_set()
                    self._wanted = anyio.Event()
                    topology = self._topology
                    await self._round(tasks, topology, wanted)
                    if topology is self._topology:
                        self._tell(topology)
                    await anyio.sleep(ROUND_S)
                    with anyio.move_on_after(self._period_s - ROUND_S):
                        await self._wanted.wait()
        finally:
            for line in self._lines.values():
                line.close()

    async def _round(self, tasks: TaskGroup, topology: Topology, wanted: bool) -> None:
        primary = topology.writer()
        if primary is None or not topology.standbys():
            return
        begun = time.monotonic()
        row = await self._ask(primary, _INSERT)
        if row is None or topology is not self._topology:
            return
        self._samples.primary(begun, row["lsn"])
        await self._have_flushed(primary, row["lsn"], row["flushed"], wanted)
        for node in topology.standbys():
            if node.name not in self._asked:
                self._asked.add(node.name)
                tasks.start_soon(self._standby, topology, node)
        with anyio.move_on_after(ANSWER_S):
            while self._asked:
                self._answered = anyio.Event()
                await self._answered.wait()

    async def _standby(self, topology: Topology, node: Node) -> None:
        row = await self._ask(node, _REPLAY)
        self._asked.discard(node.name)
        self._answered.set()
        if row is not None and topology is self._topology:
            self._samples.standby(node.name, row["lsn"])

    async def _have_flushed(self, primary: Node, lsn: int, flushed: int, wanted: bool) -> None:
        """See that a primary does not keep to itself for long what clients wait for."""
        now = time.monotonic()
        before, since = self._flushed
        if flushed != before or flushed >= lsn:
            self._flushed = flushed, now
        elif wanted and now - since >= FLUSH_S:
            self._flushed = flushed, now
            await self._ask(primary, _FLUSH)

    async def _ask(self, node: Node, query: str) -> Any:
        """The row that it answers; None where it does not."""
        key = node.name, node.host, node.port
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(node.host, node.port, self._credentials, self._timeout_s)
        try:
            return await line.ask(query)
        except ProbeError:
            return None

    def _tell(self, topology: Topology) -> None:
        self._publish(
            tuple(
                (node.name, self._samples.fresh_as_of(node.name), self._samples.lag_bytes(node.name))
                for node in topology.standbys()
            )
        )
