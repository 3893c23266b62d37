"""What Pointsman says of itself to its operator, as far as a drill wants to know it."""

import msgspec


class Event(msgspec.Struct, frozen=True):
    """Something that Pointsman tells."""

    seq: int
    at: float
    """time.time()"""
    what: str
    text: str
    node: str = ""
    bad: bool = False


class NodeView(msgspec.Struct, frozen=True):
    """A node as Pointsman sees it."""

    name: str
    host: str
    port: int
    role: str
    used: bool
    condition: str = "up"
    """`up`, or what is wrong with it: `suspect` is used still."""
    why: str = ""
    replay_lag_bytes: int | None = None


class WorkerView(msgspec.Struct, frozen=True):
    """A worker's process; no pid while it is being started."""

    worker: int
    pid: int | None = None


class View(msgspec.Struct, frozen=True):
    """What Pointsman says of all of it."""

    failover: str
    primary: str | None
    nodes: tuple[NodeView, ...]
    workers: tuple[WorkerView, ...]

    def standbys(self) -> tuple[NodeView, ...]:
        return tuple(node for node in self.nodes if node.used and node.role == "standby")

    def node(self, name: str) -> NodeView:
        return next(node for node in self.nodes if node.name == name)

    def pid(self, worker: int) -> int | None:
        """A worker's process; None while it has none, and for one that there is not."""
        return next((one.pid for one in self.workers if one.worker == worker), None)

    def well(self) -> bool:
        """There is a primary, all nodes are in use and have answered their last probe, all workers are there."""
        used = all(node.used and node.condition == "up" for node in self.nodes)
        there = all(worker.pid is not None for worker in self.workers)
        return self.primary is not None and used and there
