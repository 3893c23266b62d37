"""Traces: which statements have a span, and what is said of each.

Whose application has written a traceparent into a comment (as sqlcommenter does) has decided: its span is the child of
the application's, or there is none. Of the others a part has one, by chance. A span is put in line for the thread that
sends (exporting.py); where the line is full, it is dropped and counted.

    traceparent='00-<trace id, 32 hex>-<span id, 16 hex>-<flags, 2 hex>'      W3C Trace Context, level 1
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from healthcheck.topology import Topology

KEY: Final = b"traceparent='"
PARENT_BYTES: Final = 55
SAMPLED: Final = 1
SPANS_MAX: Final = 2048
"""In line; beyond, they are dropped."""
HEX: Final = b"0123456789abcdef"


class Parent:
    """The application's span."""

    __slots__ = ("sampled", "span_id", "trace_id")

    def __init__(self, trace_id: int, span_id: int, sampled: bool) -> None:
        self.trace_id: Final = trace_id
        self.span_id: Final = span_id
        self.sampled: Final = sampled


NOBODY: Final = Parent(0, 0, True)
"""Of a span that begins a trace."""


def parent_of(text: bytes) -> Parent | None:
    """What a statement's comment says; None where it says nothing, or nothing that can be."""
    # The last one: what stands in front may be somebody's literal.
    start = text.rfind(KEY)
    if start < 0:
        return None
    start += len(KEY)
    value = text[start : start + PARENT_BYTES]
    if len(value) < PARENT_BYTES or value[2:3] != b"-" or value[35:36] != b"-" or value[52:53] != b"-":
        return None
    version, trace, span, flags = value[:2], value[3:35], value[36:52], value[53:]
    for part in (version, trace, span, flags):
        if part.strip(HEX):
            return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if version == b"ff" or not trace_id or not span_id:
        return None
    return Parent(trace_id, span_id, bool(int(flags, 16) & SAMPLED))


class Span:
    """Of a query that was sent to a server, or answered from the cache."""

    __slots__ = (
        "application_name",
        "cached",
        "database",
        "ended_ns",
        "failed",
        "host",
        "node",
        "parent",
        "port",
        "rows",
        "rule",
        "shapes",
        "sqlstate",
        "started_ns",
        "target",
        "user",
        "wait_s",
        "why",
    )

    def __init__(self, parent: Parent, started_ns: int) -> None:
        self.parent: Final = parent
        self.started_ns: Final = started_ns
        """time.time_ns(): when it was there, before it waited for its server."""
        self.ended_ns = 0
        self.database = self.user = self.application_name = self.rule = ""
        self.node = self.host = ""
        self.port = 0
        self.target = self.why = ""
        self.shapes: list[str] = []
        """Of its statements, without literals."""
        self.rows = 0
        self.wait_s = 0.0
        self.cached = False
        self.failed = False
        self.sqlstate = ""


class Tracing:
    """One worker's."""

    def __init__(self, ratio: float, draw: Callable[[], float]) -> None:
        self.ratio = ratio
        """The part that is traced by chance."""
        self._draw: Final = draw
        self._addresses: dict[str, tuple[str, int]] = {}
        self.line: Final[deque[Span]] = deque()
        """Spans to be sent: appended here, taken by the thread that sends."""
        self.dropped = 0

    def use(self, topology: Topology) -> None:
        """Where the nodes are."""
        self._addresses = {node.name: (node.host, node.port) for node in topology.nodes}

    def begin(self, text: bytes, waited_s: float) -> Span | None:
        """The span of a query of this text that is sent now; None where it has none."""
        parent = parent_of(text)
        if parent is None:
            if self._draw() >= self.ratio:
                return None
            parent = NOBODY
        elif not parent.sampled:
            return None
        span = Span(parent, time.time_ns() - int(waited_s * 1e9))
        span.wait_s = waited_s
        return span

    def end(self, span: Span) -> None:
        """It was answered, and all is said of it."""
        span.ended_ns = time.time_ns()
        span.host, span.port = self._addresses.get(span.node, ("", 0))
        if len(self.line) >= SPANS_MAX:
            self.dropped += 1
            return
        self.line.append(span)
