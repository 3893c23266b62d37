"""Watching the nodes: one task per node probes it in its rhythm, and each outcome may make a new Topology.

In: the nodes, who asks, the rhythm. Out: `publish(topology)` whenever its version grew, the first time once every node
has been tried, so that nobody acts on half a view; `topology` always has the latest lags. Errors of a node are facts
about it and never raised.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
import msgspec

from healthcheck.line import Credentials, Denied, NoAnswer, ProbeError
from healthcheck.memory import Remembered
from healthcheck.probe import Probe
from healthcheck.state import NodeState, Rhythm
from healthcheck.topology import Condition, Node, Observation, Topology, decide


class Target(msgspec.Struct, frozen=True):
    """A node to watch."""

    name: str
    host: str
    port: int


class Source(Protocol):
    """Somebody who is to be asked once before anything is published, beside the nodes."""

    known: bool
    """It was, with or without success."""


class Authority(Source, Protocol):
    """Has a say in which node is what."""

    def begin(self, changed: Callable[[], None]) -> None:
        """`changed` is called whenever what it says is another."""

    def counted(self, observations: Sequence[Observation]) -> list[Observation]:
        """The observations as they count."""


class _Watched:
    def __init__(self, target: Target, credentials: Credentials, rhythm: Rhythm, draw: Callable[[], float]) -> None:
        self.state = NodeState(target.name, target.host, target.port, rhythm)
        self.probe = Probe(target.name, target.host, target.port, credentials, rhythm.timeout_s)
        self.wanted = anyio.Event()
        self.heard = False
        """Since the last probe began, it has said something to somebody."""
        self.began = 0.0
        """When that was."""
        self.order = Condition.UP
        """What an operator, or a switchover, has said: UP, DRAINING or DETACHED."""
        self.by = ""
        """Who."""
        self._draw = draw

    async def run(self, outcome: Callable[[], None], well_again: Callable[[str], None]) -> None:
        try:
            while True:
                before = self.state.condition
                self.heard = False
                self.began = time.monotonic()
                try:
                    seen = await self.probe.ask()
                    self.state.answered(seen, time.monotonic())
                except Denied as error:
                    self.state.denied(str(error))
                except ProbeError as error:
                    heard = self.heard and isinstance(error, NoAnswer)
                    self.state.failed(str(error), time.monotonic(), heard=heard)
                outcome()
                if self.state.condition is Condition.UP is not before:
                    well_again(self.state.observation.name)
                await self._pause()
        finally:
            self.probe.close()

    async def _pause(self) -> None:
        """Until the next probe is due, or wanted earlier, but never sooner than the state allows."""
        earliest_s = self.state.earliest_probe_in_s()
        await anyio.sleep(earliest_s)
        with anyio.move_on_after(self.state.next_probe_in_s(self._draw()) - earliest_s):
            await self.wanted.wait()
        self.wanted = anyio.Event()

    def observation(self) -> Observation:
        """What is known of it, as it counts under its order."""
        seen = self.state.observation
        if self.order is Condition.UP or not seen.up:
            return seen
        return msgspec.structs.replace(seen, up=False, why=f"{self.order.value} by {self.by}", condition=self.order)


class Monitor:
    """The watch over all nodes."""

    def __init__(
        self,
        targets: Sequence[Target],
        credentials: Credentials,
        rhythm: Rhythm,
        publish: Callable[[Topology], None],
        *,
        roles_change: bool = True,
        well_again: Callable[[str], None] = lambda _: None,
        authority: Authority | None = None,
        sources: Sequence[Source] = (),
    ) -> None:
        """`roles_change`: another node than the one that was seen first may become the primary. `well_again` is told of
        a node that answers its probes, and had left one unanswered, also where that makes no new topology. `sources`:
        whoever may `know` more, beside the authority."""
        self.topology = Topology(nodes=tuple(Node(target.name, target.host, target.port) for target in targets))
        draw = random.Random().random  # noqa: S311 - it spreads probes
        self._watched = {target.name: _Watched(target, credentials, rhythm, draw) for target in targets}
        self._publish = publish
        self._roles_change = roles_change
        self._well_again = well_again
        self._authority = authority
        self._sources = (*sources, *([authority] if authority is not None else []))
        if authority is not None:
            authority.begin(self._outcome)

    async def run(self) -> None:
        """Probe until cancelled."""
        async with anyio.create_task_group() as tasks:
            for watched in self._watched.values():
                tasks.start_soon(watched.run, self._outcome, self._well_again)

    def probe_now(self, name: str) -> None:
        """Bring the node's next probe forward; a name that is not watched is passed over."""
        if name in self._watched:
            self._watched[name].wanted.set()

    def heard(self, name: str, *, since_s: float) -> None:
        """The node has answered somebody, within the last `since_s`."""
        watched = self._watched.get(name)
        if watched is not None and time.monotonic() - since_s >= watched.began:
            watched.heard = True

    def observations(self) -> dict[str, Observation]:
        """What each node was last seen to be, whatever was ordered."""
        return {name: watched.state.observation for name, watched in self._watched.items()}

    def know(self, remembered: Remembered) -> None:
        """Something was seen before our time, or by another Pointsman. What it says of another cluster is passed over,
        once this one is known."""
        topology = self.topology
        if topology.system_identifier in (None, remembered.system_identifier):
            timeline = max(topology.timeline or 0, remembered.timeline)
            self.topology = msgspec.structs.replace(
                topology, system_identifier=remembered.system_identifier, timeline=timeline
            )
            if topology.version:
                self._decide()

    # Orders. Each takes effect at once; a name that is not watched raises KeyError.

    def drain(self, name: str, by: str = "order") -> None:
        """Give a node no new work; what it has may end."""
        self._order(name, Condition.DRAINING, by)

    def detach(self, name: str, by: str = "order") -> None:
        """Do not use a node, whatever it says."""
        self._order(name, Condition.DETACHED, by)

    def attach(self, name: str) -> None:
        """Use a node again as it deserves."""
        self._order(name, Condition.UP)

    def fence(self, name: str) -> None:
        """Never use a node again as a primary, until it is seen to follow another. It drains no more: it is empty."""
        if self._watched[name].order is Condition.DRAINING:
            self._watched[name].order = Condition.UP
        if name not in self.topology.fenced:
            self.topology = msgspec.structs.replace(self.topology, fenced=(*self.topology.fenced, name))
            self._decide(force=True)

    def unfence(self, name: str) -> None:
        """What it was fenced for has come to nothing."""
        fenced = tuple(one for one in self.topology.fenced if one != name)
        if fenced != self.topology.fenced:
            self.topology = msgspec.structs.replace(self.topology, fenced=fenced)
            self._decide(force=True)

    def _order(self, name: str, order: Condition, by: str = "") -> None:
        watched = self._watched[name]
        watched.order, watched.by = order, by
        self._outcome()

    def _outcome(self) -> None:
        asked = all(source.known for source in self._sources)
        if asked and all(watched.state.known for watched in self._watched.values()):
            self._decide()

    def _decide(self, *, force: bool = False) -> None:
        previous = self.topology
        observations = [watched.observation() for watched in self._watched.values()]
        if self._authority is not None:
            observations = self._authority.counted(observations)
        decided = decide(observations, previous)
        if force and decided.version == previous.version:
            decided = msgspec.structs.replace(decided, version=previous.version + 1)
        primary = decided.primary()
        if not self._roles_change and not decided.only_primary and primary is not None:
            decided = msgspec.structs.replace(decided, only_primary=primary.name)
        self.topology = decided
        if decided.version != previous.version:
            self._publish(decided)
