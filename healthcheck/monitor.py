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
from anyio.abc import TaskGroup

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

    @property
    def known(self) -> bool:
        """It was, with or without success."""


class Authority(Source, Protocol):
    """Has a say in which node is what."""

    def begin(self, changed: Callable[[], None]) -> None:
        """`changed` is called whenever what it says is another."""

    def counted(self, observations: Sequence[Observation]) -> list[Observation]:
        """The observations as they count."""


class _Watched:
    def __init__(self, target: Target, credentials: Credentials, rhythm: Rhythm, draw: Callable[[], float]) -> None:
        self.target = target
        self.state = NodeState(target.name, target.host, target.port, rhythm)
        self.probe = Probe(target.name, target.host, target.port, credentials, rhythm.timeout_s)
        self._life: anyio.CancelScope | None = None
        """That of its task."""
        self._gone = False
        self._asks = credentials, rhythm.timeout_s
        """Who asks with which patience, and has from the next probe on."""
        self._probes_as = self._asks
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

    def use(self, credentials: Credentials, rhythm: Rhythm) -> None:
        """Who asks, and when, from the next probe on: the one under way comes to what it comes to."""
        self.state.use(rhythm)
        self._asks = credentials, rhythm.timeout_s
        self.wanted.set()

    def _renew(self) -> None:
        """Ask over another connection, where somebody else is to ask."""
        if self._asks != self._probes_as:
            self._probes_as = self._asks
            self.probe.close()
            target, (credentials, timeout_s) = self.target, self._asks
            self.probe = Probe(target.name, target.host, target.port, credentials, timeout_s)

    async def run(self, outcome: Callable[[], None], well_again: Callable[[str], None]) -> None:
        """Probe until it is gone."""
        if not self._gone:
            with anyio.CancelScope() as self._life:
                await self._run(outcome, well_again)

    def go(self) -> None:
        """It is watched no more."""
        self._gone = True
        if self._life is not None:
            self._life.cancel()

    async def _run(self, outcome: Callable[[], None], well_again: Callable[[str], None]) -> None:
        try:
            while True:
                self._renew()
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
        self._draw = random.Random().random  # noqa: S311 - it spreads probes
        self._watched = {target.name: _Watched(target, credentials, rhythm, self._draw) for target in targets}
        self._tasks: TaskGroup | None = None
        """Those of run()."""
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
            self._tasks = tasks
            for watched in self._watched.values():
                self._begin(watched)
            # Whoever is watched: there may be others later.
            await anyio.sleep_forever()

    def _begin(self, watched: _Watched) -> None:
        if self._tasks is not None:
            self._tasks.start_soon(watched.run, self._outcome, self._well_again)

    def use(
        self, targets: Sequence[Target], credentials: Credentials, rhythm: Rhythm, *, roles_change: bool = True
    ) -> None:
        """Watch these from now on. What is known of a node stays, unless it is another by its host or port; an order
        holds for its name. A node that is gone is used no more when this returns, and a new one not before it was
        probed. Who was given up as primary, or is the only one that may be it, is so under another name, too."""
        before, self._watched = self._watched, {}
        for target in targets:
            watched = before.get(target.name)
            if watched is not None and watched.target == target:
                watched.use(credentials, rhythm)
                self._watched[target.name] = watched
                continue
            self._watched[target.name] = _Watched(target, credentials, rhythm, self._draw)
            if watched is not None:
                self._watched[target.name].order = watched.order
                self._watched[target.name].by = watched.by
            self._begin(self._watched[target.name])
        for name, watched in before.items():
            if self._watched.get(name) is not watched:
                watched.go()
        self._roles_change = roles_change
        names = _names_now([one.target for one in before.values()], targets)
        topology = self.topology
        fenced = dict.fromkeys([*topology.fenced, *[names[name] for name in topology.fenced if name in names]])
        only = topology.only_primary
        only = "" if roles_change else only if only in self._watched else names.get(only, "")
        self.topology = msgspec.structs.replace(topology, fenced=tuple(fenced), only_primary=only)
        if topology.version:
            self._decide()
        else:
            nodes = tuple(Node(target.name, target.host, target.port) for target in targets)
            self.topology = msgspec.structs.replace(self.topology, nodes=nodes)

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

    def ordered(self, name: str) -> Condition:
        """What was said of a node last: UP for one that may be used, or is not watched."""
        return self._watched[name].order if name in self._watched else Condition.UP

    def fence(self, name: str) -> None:
        """Never use a node again as a primary, until it is seen to follow another. It drains no more: it is empty."""
        if self._watched[name].order is Condition.DRAINING:
            self._watched[name].order = Condition.UP
        if name not in self.topology.fenced:
            self.topology = msgspec.structs.replace(self.topology, fenced=(*self.topology.fenced, name))
            self._decide_anew()

    def unfence(self, name: str) -> None:
        """What it was fenced for has come to nothing."""
        fenced = tuple(one for one in self.topology.fenced if one != name)
        if fenced != self.topology.fenced:
            self.topology = msgspec.structs.replace(self.topology, fenced=fenced)
            self._decide_anew()

    def _decide_anew(self) -> None:
        # Not before all nodes were asked once: it may be known from a process before this one.
        if self.topology.version:
            self._decide(force=True)

    def _order(self, name: str, order: Condition, by: str = "") -> None:
        watched = self._watched[name]
        watched.order, watched.by = order, by
        self._outcome()

    def _outcome(self) -> None:
        if self.topology.version:
            # A node that has come since is not in use before it is known, and the others are not to wait for that.
            self._decide()
            return
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


def _names_now(before: Sequence[Target], after: Sequence[Target]) -> dict[str, str]:
    """The names of nodes that are called otherwise now, and what they are called."""
    names = {(target.host, target.port): target.name for target in after}
    found = {target.name: names.get((target.host, target.port), target.name) for target in before}
    return {old: new for old, new in found.items() if old != new}
