"""What a drill does to nodes and to Pointsman. How, is a stage's part."""

from enum import Enum


class Act(Enum):
    """What may be done to a node, or to Pointsman."""

    CRASH = "crash"
    """All its processes die at once, as by kill -9."""
    HANG = "hang"
    """All its processes stand still; its sockets stay open."""
    PARTITION = "partition"
    """It lives, and nothing gets through to it or from it."""
    LAG = "lag"
    """It receives WAL, and shows nothing new."""
    RESTART = "restart"
    """It is stopped cleanly and started again; nothing is left to heal."""
    WORKER_CRASH = "worker-crash"
    """A worker of Pointsman dies at once; it is started again by itself. It is done to no node: its number is given."""
    SWITCHOVER = "switchover"
    """It becomes the primary, by Pointsman's hand; nothing is left to heal."""
