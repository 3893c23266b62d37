"""/metrics of a Pointsman under load: every metric that is declared says something, and what it says is so."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import psutil
import psycopg
import pytest

from middleware.sandbox import Sandbox
from middleware.sandbox.ports import free_port
from middleware.web.metrics_table import METRICS, NONE
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually
from tests.web.test_alerts import ALERTS, alarms
from tests.web.test_grafana import filled, queries
from tests.web.test_metrics import named

pytestmark = pytest.mark.integration

REPORTED_S: Final = 2.5
"""What has been counted is on the page by then: workers report once a second, and a page may be a second old."""


class Watched(NamedTuple):
    endpoint: Endpoint
    url: str

    def page(self) -> str:
        answer = httpx.get(f"{self.url}/metrics", timeout=20, trust_env=False)
        assert answer.status_code == 200
        return answer.text

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; of a histogram, its count."""
        family = named(self.page())[name]
        which = f"{name}_count" if family.type == "histogram" else name
        return sum(one.value for one in family.samples if one.name == which and labels.items() <= one.labels.items())


@pytest.fixture(scope="module")
def watched(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    port = free_port()
    settings: dict[str, Any] = {"workers": 2, "default_pool_size": 5, "http_port": port}
    settings |= {"query_cache": "on", "max_cached_result_size": 2000}
    routes = [{"name": "reports", "application_name": "reports", "pool_size": 2}]
    directory = tmp_path_factory.mktemp("watched")
    with pointsman(cluster, directory, routes=routes, admin_users=["app"], **settings) as endpoint:
        with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
            client.execute("CREATE TABLE seen (turn int)")
        try:
            yield Watched(endpoint, f"http://127.0.0.1:{port}")
        finally:
            with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
                client.execute("DROP TABLE seen")


def a_bit_of_everything(client: psycopg.Connection, turn: int) -> None:
    client.execute("SELECT count(*) FROM pg_class WHERE relname > %s", (f"{turn % 3}",), prepare=True)
    client.execute("SELECT now()")
    client.execute("INSERT INTO seen VALUES (%s)", (turn,))
    client.execute("SELECT count(*) FROM seen")
    # More than is kept of one answer.
    client.execute("SELECT repeat('x', 3000)")
    client.execute("SET statement_timeout = '60s'")
    with contextlib.suppress(psycopg.errors.UndefinedTable):
        client.execute("SELECT * FROM there_is_no_such_table")
    with client.transaction():
        client.execute("SELECT pg_sleep(0.002)")


@contextlib.contextmanager
def load(endpoint: Endpoint) -> Iterator[None]:
    """Clients at work."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def one(application: str) -> None:
        conninfo = f"{endpoint.conninfo()} application_name={application}"
        try:
            while not stop.is_set():
                # A worker may be killed meanwhile, and the client with it.
                with (
                    contextlib.suppress(psycopg.OperationalError),
                    psycopg.connect(conninfo, autocommit=True) as client,
                ):
                    for turn in range(20):
                        if not stop.is_set():
                            a_bit_of_everything(client, turn)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(name,)) for name in ("shop", "shop", "shop", "reports")]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []


def refused_and_abandoned(endpoint: Endpoint) -> None:
    """Logins that come to nothing."""
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(endpoint.conninfo().replace(f"password={endpoint.password}", "password=wrong"))
    with socket.create_connection((endpoint.host, endpoint.port)) as one:
        one.sendall(b"\x00\x00")


WHERE_SET_UP: Final = {
    "pointsman_certificate_not_after_timestamp_seconds",
    "pointsman_leads",
    "pointsman_leads_since_timestamp_seconds",
    "pointsman_etcd_answers",
}
"""Those of which there is something only with certificates or etcd: test_metrics.py has these."""


def test_every_metric_that_is_declared_says_something(watched: Watched) -> None:
    silent: set[str] = set()

    def all_say() -> bool:
        silent.clear()
        families = named(watched.page())
        assert set(families) == set(METRICS)
        for name, metric in METRICS.items():
            samples = families[name].samples
            for sample in samples:
                assert set(sample.labels) - {"le"} == set(metric.labels), name
                assert "" not in sample.labels.values(), name
            if not samples and name not in WHERE_SET_UP:
                silent.add(name)
        return not silent

    def in_ways(*modes: str) -> float:
        return sum(watched.total("pointsman_cache_watched_databases", mode=mode) for mode in modes)

    # The answers of one database are cached.
    eventually(lambda: (in_ways("none"), in_ways("logical", "poll")) == (0, 1), 30)
    with load(watched.endpoint):
        refused_and_abandoned(watched.endpoint)
        try:
            eventually(all_say, 20)
        except AssertionError:
            pytest.fail(f"nothing of {silent}")


def test_what_was_done_is_counted_once(watched: Watched) -> None:
    endpoint = watched.endpoint
    time.sleep(REPORTED_S)
    here = {"database": endpoint.database, "route": NONE}
    counted = ("queries", "transactions", "errors", "server_assignments")
    before = {name: watched.total(f"pointsman_{name}_total", **here) for name in counted}
    timed = watched.total("pointsman_query_duration_seconds", route=NONE)
    with psycopg.connect(endpoint.conninfo(), autocommit=True) as client:
        # What it prepares by itself would be one query more.
        client.prepare_threshold = None
        for _ in range(50):
            client.execute("SELECT now()")
        with client.transaction():
            client.execute("SELECT txid_current()")
            client.execute("SELECT now()")
        with pytest.raises(psycopg.errors.DivisionByZero):
            client.execute("SELECT 1 / 0")
    time.sleep(REPORTED_S)
    grown = {name: watched.total(f"pointsman_{name}_total", **here) - before[name] for name in counted}
    # BEGIN, two statements, COMMIT; and what failed.

    assert grown["queries"] == 50 + 4 + 1
    assert grown["transactions"] == 50 + 1 + 1
    assert grown["errors"] == 1
    assert watched.total("pointsman_query_duration_seconds", route=NONE) - timed == 55


def test_totals_outlive_a_worker(watched: Watched) -> None:
    endpoint = watched.endpoint
    counters = [name for name, metric in METRICS.items() if metric.type == "counter" and "worker" not in metric.labels]
    with load(endpoint):
        time.sleep(1)
    time.sleep(REPORTED_S)
    before = {name: watched.total(name) for name in counters}
    assert before["pointsman_queries_total"] > 0
    restarts = watched.total("pointsman_worker_restarts_total")
    victim: psutil.Process = endpoint.workers()[0]
    os.kill(victim.pid, signal.SIGKILL)
    eventually(lambda: watched.total("pointsman_worker_restarts_total") == restarts + 1)
    eventually(lambda: watched.total("pointsman_worker_up") == 2)
    time.sleep(REPORTED_S)
    after = {name: watched.total(name) for name in counters}
    assert {name: after[name] for name in counters if after[name] < before[name]} == {}


def test_prometheus_takes_it_and_the_dashboard_has_its_data(watched: Watched, tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [
            {"job_name": "pointsman", "static_configs": [{"targets": [watched.url.removeprefix("http://")]}]}
        ],
    }
    (tmp_path / "prometheus.yaml").write_text(json.dumps(config))
    command = [
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=20, trust_env=False) as client:

            def ask(expr: str) -> list[Any]:
                answer = client.get("/query", params={"query": expr}).json()
                assert answer["status"] == "success", (expr, answer)
                found: list[Any] = answer["data"]["result"]
                return found

            def scraped() -> bool:
                with contextlib.suppress(httpx.TransportError, json.JSONDecodeError):
                    return bool(ask("count_over_time(up[1m]) >= 8"))
                return False

            with load(watched.endpoint):
                eventually(scraped, 40)
                assert [one["value"][1] for one in ask("up")] == ["1"]
                empty = {title for title, expr in queries() if not ask(filled(expr.replace("$__rate_interval", "10s")))}
            # Of what did not happen: no failover, nothing in Redis, nobody who waits; and of what is not set up.
            not_happened = {"Failovers and switchovers", "Events", "Clients waiting", "Longest wait now"}
            assert empty <= not_happened | {"Who leads", "Certificates expire in"}
            groups = client.get("/rules").json()["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert sorted(rule["name"] for rule in rules) == sorted(alarm.name for alarm in alarms())
            assert {rule["health"] for rule in rules} == {"ok"}
            firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
            assert not firing & {alarm.name for alarm in alarms() if alarm.severity == "page"}
    finally:
        process.terminate()
        process.wait(20)
