"""What was read, and whether it was as it must be."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

EXAMPLES_MAX: Final = 10


@dataclass
class Floor:
    """The newest value of a row that a client has written or read, and the node that it had it from."""

    value: int
    node: str = "the start"


@dataclass
class Tally:
    """Counts over all clients of a load."""

    pairs: int = 0
    """Writes, each with a read of what it wrote right behind it."""
    late: int = 0
    """Of these, the reads that did not find it."""
    reads: Counter[str] = field(default_factory=Counter)
    """Reads of any kind, by the node that served them."""
    own_reads: Counter[str] = field(default_factory=Counter)
    """Reads of what the same client wrote, right behind it or later, by the way it was written."""
    stale: Counter[str] = field(default_factory=Counter)
    """Those that did not find it."""
    own_styles: Counter[str] = field(default_factory=Counter)
    """The same reads by driver and protocol."""
    stale_styles: Counter[str] = field(default_factory=Counter)
    monotonic: Counter[str] = field(default_factory=Counter)
    """Reads of a row that only grows, by whose row it is."""
    backwards: Counter[str] = field(default_factory=Counter)
    """Those that were older than what the same client had written or read before."""
    others: int = 0
    """Reads of what another client's acknowledged write had left."""
    others_stale: int = 0
    """Those that did not find it. Only the level "global" promises that."""
    latencies_s: list[float] = field(default_factory=list)
    """Of the reads right behind a write."""
    examples: list[str] = field(default_factory=list)
    """The first reads that were stale or went backwards."""

    def pair(self, style: str, way: str, node: str, found: bool, latency_s: float | None) -> None:
        """A read of one's own write, right behind it. No latency is known of what was sent in a pipeline."""
        self.pairs += 1
        self.late += not found
        if latency_s is not None:
            self.latencies_s.append(latency_s)
        self.own(style, way, node, found)

    def own(self, style: str, way: str, node: str, found: bool) -> None:
        """A read of one's own write, at any time after it."""
        self.reads[node] += 1
        self.own_reads[way] += 1
        self.own_styles[style] += 1
        if not found:
            self.stale[way] += 1
            self.stale_styles[style] += 1
            self._example(f"{style}: a row written by way of {way} was not found on {node}")

    def grown(self, style: str, row: str, node: str, value: int, floor: Floor) -> None:
        """A read of a row that only grows."""
        self.reads[node] += 1
        self.monotonic[row] += 1
        if value < floor.value:
            self.backwards[row] += 1
            self._example(f"{style}: {row} read {value} from {node} after {floor.value} from {floor.node}")
        else:
            floor.value, floor.node = value, node

    def other(self, found: bool) -> None:
        """Whether a read found another client's acknowledged write; the read itself may be counted elsewhere."""
        self.others += 1
        self.others_stale += not found

    def violations(self) -> int:
        """Reads that break the promise that each session has of its own."""
        return self.stale.total() + self.backwards.total()

    def _example(self, text: str) -> None:
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(text)
