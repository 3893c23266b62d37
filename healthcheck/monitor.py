"""Watching the nodes: one task per node probes it in its rhythm, and each outcome may make a new Topology.

In: the nodes, who asks, the rhythm. Out: `publish(topology)` whenever its version grew, the first time once every node
has been tried, so that nobody acts on half a view; `topology` always has the latest lags. Errors of a node are facts
about it and never raised.
"""

from collections.abc import Callable, Sequence

import anyio
import msgspec

from healthcheck.line import Credentials, ProbeError
from healthcheck.probe import Probe
from healthcheck.state import NodeState, Rhythm
from healthcheck.topology import Node, Topology, decide


class Target(msgspec.Struct, frozen=True):
    """A node to watch."""

    name: str
    host: str
    port: int


class _Watched:
    def __init__(self, target: Target, credentials: Credentials, rhythm: Rhythm) -> None:
        self.state = NodeState(target.name, target.host, target.port, rhythm)
        self.probe = Probe(target.name, target.host, target.port, credentials, rhythm.timeout_s)
        self.wanted = anyio.Event()

    async def run(self, outcome: Callable[[], None]) -> None:
        try:
            while True:
                try:
                    self.state.answered(await self.probe.ask())
                except ProbeError as error:
                    self.state.failed(str(error))
                outcome()
                await self._pause()
        finally:
            self.probe.close()

    async def _pause(self) -> None:
        """Until the next probe is due, or wanted earlier, but never sooner than the state allows."""
        earliest_s = self.state.earliest_probe_in_s()
        await anyio.sleep(earliest_s)
        with anyio.move_on_after(self.state.next_probe_in_s() - earliest_s):
            await self.wanted.wait()
        self.wanted = anyio.Event()


class Monitor:
    """The watch over all nodes."""

    def __init__(
        self,
        targets: Sequence[Target],
        credentials: Credentials,
        rhythm: Rhythm,
        publish: Callable[[Topology], None],
    ) -> None:
        self.topology = Topology(nodes=tuple(Node(target.name, target.host, target.port) for target in targets))
        self._watched = {target.name: _Watched(target, credentials, rhythm) for target in targets}
        self._publish = publish

    async def run(self) -> None:
        """Probe until cancelled."""
        async with anyio.create_task_group() as tasks:
            for watched in self._watched.values():
                tasks.start_soon(watched.run, self._outcome)

    def probe_now(self, name: str) -> None:
        """Bring the node's next probe forward; a name that is not watched is passed over."""
        if name in self._watched:
            self._watched[name].wanted.set()

    def _outcome(self) -> None:
        states = [watched.state for watched in self._watched.values()]
        if not all(state.known for state in states):
            return
        previous = self.topology
        self.topology = decide([state.observation for state in states], previous)
        if self.topology.version != previous.version:
            self._publish(self.topology)
