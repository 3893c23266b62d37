"""Sends spans by OTLP over HTTP, from a thread of its own: the data plane puts them in line and goes on.

In: a Tracing's line. Out: requests to the collector. What it does not take within SEND_S is lost: spans are no record.
Only imported where otel_endpoint is set: it needs the extra `otel`. The SDK's own variables
(OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_RESOURCE_ATTRIBUTES, ..) hold, too.
"""

import logging
import os
import random
import socket
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from middleware.relay.tracing import Span, Tracing

BATCH_MAX: Final = 512
PERIOD_S: Final = 1.0
SEND_S: Final = 5.0
"""For one request, with what is tried again of it."""
END_S: Final = 1.0
"""For what is in line when the worker ends."""
PATH: Final = "/v1/traces"

log: Final = structlog.get_logger("statement")


class Exporter:
    """One worker's."""

    def __init__(self, tracing: Tracing, endpoint: str, worker: int) -> None:
        # It says of each batch that it could not be sent; that is said below, once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._tracing: Final = tracing
        url = endpoint if endpoint.endswith(PATH) else endpoint.rstrip("/") + PATH
        self._sender: Final = OTLPSpanExporter(endpoint=url, timeout=SEND_S)
        self._resource: Final = Resource.create(
            {
                "service.name": "pointsman",
                "service.version": version("pointsman"),
                "service.instance.id": f"{socket.gethostname()}:{os.getppid()}:{worker}",
            }
        )
        self._scope: Final = InstrumentationScope("pointsman", version("pointsman"))
        self._random: Final = random.SystemRandom()
        self._ending: Final = threading.Event()
        self._failing = False
        self._dropped = 0
        self._thread: Final = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        """Send from now on."""
        self._thread.start()

    def end(self) -> None:
        """Send what is in line, for END_S at most, and no more."""
        self._ending.set()
        self._thread.join(END_S)

    def _run(self) -> None:
        while not self._ending.wait(PERIOD_S):
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        line = self._tracing.line
        while line:
            batch = [line.popleft() for _ in range(min(BATCH_MAX, len(line)))]
            self._send([self._span(one) for one in batch])
        dropped = self._tracing.dropped
        if dropped > self._dropped:
            log.warning("spans dropped: there were more than can be sent", spans=dropped - self._dropped)
            self._dropped = dropped

    def _send(self, spans: Sequence[ReadableSpan]) -> None:
        taken = self._sender.export(spans) is SpanExportResult.SUCCESS
        if taken == self._failing:
            self._failing = not taken
            if taken:
                log.info("traces are taken again")
            else:
                log.warning("traces are not taken by otel_endpoint: they are lost meanwhile")

    def _span(self, one: Span) -> ReadableSpan:
        parent = one.parent
        trace_id = parent.trace_id or self._random.getrandbits(128) | 1
        context = SpanContext(trace_id, self._random.getrandbits(64) | 1, False, TraceFlags(TraceFlags.SAMPLED))
        above = None
        if parent.trace_id:
            above = SpanContext(trace_id, parent.span_id, True, TraceFlags(TraceFlags.SAMPLED))
        name = "; ".join(operations(one.shapes)) or "POSTGRESQL"
        return ReadableSpan(
            name=name,
            context=context,
            parent=above,
            resource=self._resource,
            attributes=attributes(one, name),
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.ERROR) if one.failed else Status(),
            start_time=one.started_ns,
            end_time=max(one.ended_ns, one.started_ns),
            instrumentation_scope=self._scope,
        )


def operations(shapes: Sequence[str]) -> list[str]:
    """The statements' first words."""
    return [shape.split(None, 1)[0].rstrip(";").upper() for shape in shapes if shape.strip()]


def attributes(one: Span, name: str) -> dict[str, str | int | float | bool]:
    """By OpenTelemetry's conventions for database clients, and what is ours under `pointsman.`"""
    found: dict[str, str | int | float | bool] = {
        "db.system.name": "postgresql",
        "db.namespace": one.database,
        "db.query.summary": name,
        "db.query.text": "; ".join(shape.rstrip("; ") for shape in one.shapes),
        "db.response.returned_rows": one.rows,
        "pointsman.user": one.user,
        "pointsman.wait_seconds": one.wait_s,
        "pointsman.cached": one.cached,
    }
    if len(one.shapes) == 1:
        found["db.operation.name"] = name
    elif len(one.shapes) > 1:
        found["db.operation.batch.size"] = len(one.shapes)
    if one.failed:
        found["error.type"] = one.sqlstate or "_OTHER"
        if one.sqlstate:
            found["db.response.status_code"] = one.sqlstate
    if one.host:
        found |= {"server.address": one.host, "server.port": one.port}
    ours = {"node": one.node, "target": one.target, "reason": one.why, "rule": one.rule}
    ours["application_name"] = one.application_name
    return found | {f"pointsman.{key}": value for key, value in ours.items() if value}
