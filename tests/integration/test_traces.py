"""Traces, from an application's traceparent to a real receiver of OTLP over HTTP."""

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from middleware.sandbox import Sandbox
from middleware.sandbox.ports import free_port
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

pytestmark = pytest.mark.integration

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECRET = "never-in-a-trace"


class Collector:
    """Takes what is sent to /v1/traces."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        self.status = 200
        self.stalled = threading.Event()
        self.stalled.set()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.stalled.wait()
                if collector.status == 200:
                    collector.take(self.path, body)
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.port = free_port()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(values(of_resource.resource.attributes))
            for of_scope in of_resource.scope_spans:
                self.spans.extend(of_scope.spans)

    def close(self) -> None:
        self.stalled.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def named(self, shape: str) -> Span:
        """The one span of this text, once it is there."""

        def found() -> list[Span]:
            return [one for one in list(self.spans) if values(one.attributes)["db.query.text"] == shape]

        eventually(lambda: bool(found()))
        (span,) = found()
        return span


def values(attributes: Any) -> dict[str, Any]:
    def value(one: AnyValue) -> Any:
        return getattr(one, str(one.WhichOneof("value")))

    return {one.key: value(one.value) for one in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()


@contextlib.contextmanager
def traced(
    cluster: Sandbox, tmp_path: Path, collector: Collector, **settings: Any
) -> Iterator[tuple[Endpoint, pointsman]]:
    endpoint = f"http://127.0.0.1:{collector.port}"
    running = pointsman(cluster, tmp_path, **{"otel_endpoint": endpoint, "otel_sample_ratio": 0, **settings})
    with running as there:
        yield there, running


def test_a_statement_is_the_child_of_the_applications_span(
    cluster: Sandbox, tmp_path: Path, collector: Collector
) -> None:
    with (
        traced(cluster, tmp_path, collector) as (endpoint, _),
        psycopg.connect(f"{endpoint.conninfo()} application_name=shop", autocommit=True) as client,
    ):
        client.prepare_threshold = None
        comment = f"/*traceparent='00-{TRACE}-{PARENT}-01'*/"
        begun = time.time_ns()
        client.execute(f"SELECT pg_sleep(0.2), '{SECRET}' AS secret {comment}")
        ended = time.time_ns()
        client.execute("SELECT 'not traced'")
        client.execute(f"SELECT 'told not to' /*traceparent='00-{TRACE}-{PARENT}-00'*/")
        # By the extended protocol, on a client's parameters.
        client.execute(f"SELECT %s::text, generate_series(1, 3) {comment}", (SECRET,))
        with pytest.raises(psycopg.errors.DivisionByZero):
            client.execute(f"SELECT 1 / (%s::int - 1) {comment}", (1,))

        span = collector.named("SELECT pg_sleep($1), $2 AS secret")
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
        assert len(span.span_id) == 8
        assert span.span_id.hex() != PARENT
        assert (span.name, span.kind) == ("SELECT", Span.SPAN_KIND_CLIENT)
        assert begun <= span.start_time_unix_nano <= span.end_time_unix_nano - 200_000_000
        assert span.end_time_unix_nano <= ended + 50_000_000
        said = values(span.attributes)
        assert (said["db.system.name"], said["db.namespace"]) == ("postgresql", endpoint.database)
        assert (said["db.operation.name"], said["db.response.returned_rows"]) == ("SELECT", 1)
        assert said["pointsman.application_name"] == "shop"
        node = next(one for one in cluster.nodes if one.name == said["pointsman.node"])
        assert (said["server.address"], said["server.port"]) == (node.host, node.port)
        assert span.status.code == Status.STATUS_CODE_UNSET

        rows = values(collector.named("SELECT $1::text, generate_series($2, $3)").attributes)
        assert rows["db.response.returned_rows"] == 3
        eventually(lambda: len(collector.spans) == 3)
        (failed,) = [one for one in collector.spans if one.status.code == Status.STATUS_CODE_ERROR]
        assert values(failed.attributes)["db.response.status_code"] == "22012"
        assert SECRET.encode() not in b"".join(one.SerializeToString() for one in collector.spans)
        assert collector.paths == {"/v1/traces"}
        assert collector.resources[0]["service.name"] == "pointsman"


def test_a_part_is_traced_by_chance_and_what_waits_has_waited(
    cluster: Sandbox, tmp_path: Path, collector: Collector
) -> None:
    settings = {"otel_sample_ratio": 1, "default_pool_size": 1, "consistency": "primary"}
    with traced(cluster, tmp_path, collector, **settings) as (endpoint, _):
        with (
            psycopg.connect(endpoint.conninfo(), autocommit=True) as one,
            psycopg.connect(endpoint.conninfo(), autocommit=True) as other,
        ):
            one.execute("BEGIN")
            waits = threading.Thread(target=other.execute, args=("SELECT 'waits'::text",))
            waits.start()
            time.sleep(0.5)
            one.execute("COMMIT")
            waits.join()
        waited = collector.named("SELECT $1::text")
        assert 0.4 < values(waited.attributes)["pointsman.wait_seconds"] < 10
        assert waited.end_time_unix_nano - waited.start_time_unix_nano > 400_000_000
        assert not waited.parent_span_id
        collector.named("BEGIN")
        commit = collector.named("COMMIT")
        # Without a parent each is a trace of its own.
        assert commit.trace_id != waited.trace_id


def test_an_answer_of_the_cache_has_a_span_and_a_lost_server_too(
    sandbox: Sandbox, tmp_path: Path, collector: Collector
) -> None:
    settings = {"otel_sample_ratio": 1, "query_cache": "on"}
    with traced(sandbox, tmp_path, collector, **settings) as (endpoint, _):
        with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
            client.prepare_threshold = None
            client.execute("CREATE TABLE kept AS SELECT 1 AS a")

            def hit() -> bool:
                client.execute("SELECT a FROM kept")
                return any(values(one.attributes)["pointsman.cached"] for one in list(collector.spans))

            eventually(hit)
            with contextlib.suppress(psycopg.Error):
                threading.Timer(0.5, sandbox.nodes[0].kill).start()
                client.execute("INSERT INTO kept SELECT 2 FROM pg_sleep(30)")
        lost = collector.named("INSERT INTO kept SELECT $1 FROM pg_sleep($2)")
        assert lost.status.code == Status.STATUS_CODE_ERROR


def test_clients_do_not_notice_a_collector_that_is_gone_or_stalls(
    cluster: Sandbox, tmp_path: Path, collector: Collector
) -> None:
    with (
        traced(cluster, tmp_path, collector, otel_sample_ratio=1) as (endpoint, running),
        psycopg.connect(endpoint.conninfo(), autocommit=True) as client,
    ):
        collector.status = 400
        client.execute("SELECT 1")
        eventually(lambda: "traces are not taken by otel_endpoint" in running.log())
        collector.stalled.clear()
        worst_s = 0.0
        for _ in range(4000):
            begun = time.monotonic()
            client.execute("SELECT 1")
            worst_s = max(worst_s, time.monotonic() - begun)
        # The collector takes nothing for all of it; a request to it would have waited 5 s.
        assert worst_s < 4
        collector.status = 200
        collector.stalled.set()
        eventually(lambda: "traces are taken again" in running.log(), 20)
        client.execute("SELECT 2::text")
        collector.named("SELECT $1::text")
    assert "Traceback" not in running.log()


def test_off_there_is_no_thread_and_nothing_is_imported(cluster: Sandbox, tmp_path: Path) -> None:
    with pointsman(cluster, tmp_path) as endpoint, psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        client.execute(f"SELECT 1 /*traceparent='00-{TRACE}-{PARENT}-01'*/")
        for worker in endpoint.workers():
            maps = Path(f"/proc/{worker.pid}/maps").read_text()
            assert "protobuf" not in maps
            names = [Path(f"/proc/{worker.pid}/task/{one.id}/comm").read_text() for one in worker.threads()]
            assert not any(name.startswith("traces") for name in names)
