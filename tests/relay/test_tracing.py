"""Which statements have a span, what is said of it, and what happens where there are too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcheck.topology import Node, Topology
from middleware.relay.exporting import attributes, operations
from middleware.relay.tracing import NOBODY, SPANS_MAX, Span, Tracing, parent_of

TRACE = b"0af7651916cd43dd8448eb211c80319c"
SPAN = b"b7ad6b7169203331"


def comment(version: bytes = b"00", trace: bytes = TRACE, span: bytes = SPAN, flags: bytes = b"01") -> bytes:
    return b"SELECT 1 /*action='a',traceparent='" + b"-".join((version, trace, span, flags)) + b"',x='y'*/"


def test_what_sqlcommenter_writes_is_read() -> None:
    parent = parent_of(comment())
    assert parent is not None
    assert (parent.trace_id, parent.span_id, parent.sampled) == (int(TRACE, 16), int(SPAN, 16), True)
    for flags, sampled in ((b"00", False), (b"03", True), (b"02", False)):
        parent = parent_of(comment(flags=flags))
        assert parent is not None
        assert parent.sampled is sampled
    # Versions to come have more behind it.
    later = parent_of(comment(version=b"01").replace(b"01',x", b"01-more',x"))
    assert later is not None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SELECT 1",
        b"SELECT 1 /*traceparent='*/",
        comment(version=b"ff"),
        comment(trace=b"0" * 32),
        comment(span=b"0" * 16),
        comment(trace=TRACE.upper()),
        comment(trace=b"+" + TRACE[1:]),
        comment(trace=b"_" + TRACE[1:]),
        comment(flags=b" 1"),
        comment().replace(b"-", b"_"),
        comment()[:-25],
    ],
)
def test_what_is_no_traceparent_is_none(text: bytes) -> None:
    assert parent_of(text) is None


def test_the_last_one_counts() -> None:
    other = b"1" * 32
    parent = parent_of(b"SELECT '" + comment(trace=other).replace(b"'", b"''") + b"' " + comment())
    assert parent is not None
    assert parent.trace_id == int(TRACE, 16)


@given(st.binary(max_size=200))
def test_nothing_breaks_it(text: bytes) -> None:
    parent_of(text)
    parent_of(b"traceparent='" + text)


def test_the_application_decides_and_chance_where_it_has_not() -> None:
    draws = iter([0.09, 0.1])
    tracing = Tracing(0.1, lambda: next(draws))
    span = tracing.begin(comment(), 0.5)
    assert span is not None
    assert span.parent.trace_id == int(TRACE, 16)
    assert span.wait_s == 0.5
    assert tracing.begin(comment(flags=b"00"), 0.0) is None
    by_chance = tracing.begin(b"SELECT 1", 0.0)
    assert by_chance is not None
    assert by_chance.parent is NOBODY
    assert tracing.begin(b"SELECT 1", 0.0) is None


def test_the_line_is_bounded_and_what_is_dropped_is_counted() -> None:
    tracing = Tracing(1.0, lambda: 0.0)
    tracing.use(Topology(1, (Node("db1", "10.0.0.1", 5432),)))
    for _ in range(SPANS_MAX + 3):
        span = tracing.begin(b"SELECT 1", 1.0)
        assert span is not None
        span.node = "db1"
        tracing.end(span)
    assert (len(tracing.line), tracing.dropped) == (SPANS_MAX, 3)
    first = tracing.line[0]
    assert (first.host, first.port) == ("10.0.0.1", 5432)
    # It was there before it waited.
    assert 1e9 <= first.ended_ns - first.started_ns < 60e9


def test_attributes_are_opentelemetrys() -> None:
    span = Span(NOBODY, 1)
    span.database, span.user, span.node, span.host, span.port = "shop", "app", "db1", "h", 5432
    span.shapes, span.rows, span.target = ["SELECT $1;"], 3, "primary"
    assert attributes(span, "SELECT") == {
        "db.system.name": "postgresql",
        "db.namespace": "shop",
        "db.query.summary": "SELECT",
        "db.query.text": "SELECT $1",
        "db.operation.name": "SELECT",
        "db.response.returned_rows": 3,
        "server.address": "h",
        "server.port": 5432,
        "pointsman.user": "app",
        "pointsman.wait_seconds": 0.0,
        "pointsman.cached": False,
        "pointsman.node": "db1",
        "pointsman.target": "primary",
    }
    span.shapes, span.failed, span.sqlstate = ["BEGIN", "insert into a VALUES ($1)"], True, "23505"
    said = attributes(span, "; ".join(operations(span.shapes)))
    assert (said["db.query.summary"], said["db.operation.batch.size"]) == ("BEGIN; INSERT", 2)
    assert (said["error.type"], said["db.response.status_code"]) == ("23505", "23505")
    assert "db.operation.name" not in said
