"""/metrics: its table and the page made of it, what is exposed, in which form, within which bounds."""

import asyncio
import datetime as dt
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from cryptography import x509
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parse_text

from middleware.reports import (
    BUCKETS_S,
    OTHERS,
    HealthReport,
    Histogram,
    PoolReport,
    Subject,
    TimingsReport,
    TrafficReport,
)
from middleware.supervisor import Supervisor
from middleware.supervisor.asking import Answers
from middleware.supervisor.cache_watch import WatchStatus
from middleware.supervisor.certificates import read_certificates
from middleware.supervisor.counters import CountersSnapshot
from middleware.web import metrics_rows
from middleware.web.metrics import FRESH_S, Metrics
from middleware.web.metrics_page import reference
from middleware.web.metrics_table import METRICS, NONE
from middleware.web.pulse import WINDOW_S, Pulse
from tests.certificates import Certificates
from tests.etcd import Etcd
from tests.supervisor.conftest import ECHO_WORKER, settings
from tests.web.conftest import serving

pytestmark = pytest.mark.anyio

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
parse_openmetrics: Final[Callable[[str], Iterable[Family]]] = openmetrics_parser.text_string_to_metric_families
DOCS: Final = Path(__file__).parents[2] / "docs"


def named(page: str) -> dict[str, Family]:
    """The families of a page, as the table names them."""
    return {f"{family.name}_total" if family.type == "counter" else family.name: family for family in parse_text(page)}


def values(page: str, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a counter or a gauge, by their labels' values in the table's order."""
    labels = METRICS[name].labels
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for sample in named(page)[name].samples
        if sample.name == name
    }


def test_the_page_is_what_the_command_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "middleware", "metrics"], capture_output=True, check=True, text=True
    )
    assert printed.stdout == reference()
    assert (DOCS / "metrics.md").read_text() == reference()


def test_names_are_prometheus_way() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"pointsman(_[a-z]+)+", name), name
        assert name.endswith("_total") == (metric.type == "counter"), name
        assert metric.type != "histogram" or name.endswith("_seconds"), name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent|ratio_total|count|sum|bucket)$", name), name
        # A unit stands last, or before _total.
        words = name.removesuffix("_total").split("_")
        assert not {"seconds", "bytes"} & set(words[:-1]), name
        assert metric.help, name
        assert metric.help[0].isupper() or metric.help[0].isdigit(), name
        assert metric.help.endswith("."), name
        assert len(set(metric.labels)) == len(metric.labels), name
        for label in metric.labels:
            assert re.fullmatch(r"[a-z_]+", label), (name, label)
            assert label not in ("le", "quantile", "job", "instance"), (name, label)


class Made:
    """A Site whose workers say what a test has them say."""

    def __init__(self, counters: CountersSnapshot, pools: Sequence[PoolReport] = (), **changes: Any) -> None:
        self._supervisor = Supervisor(settings(workers=2, **changes), worker_command=ECHO_WORKER)
        self._supervisor._shared.close()
        self._counters = counters
        self._pools = pools
        self.asked = 0
        self.watch: list[WatchStatus] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._supervisor, name)

    @property
    def asking(self) -> "Made":
        return self

    async def ask(self, subject: Subject, limit: int = 0) -> Answers:
        assert (subject, limit) == ("pools", 1000)
        self.asked += 1
        await anyio.sleep(0.05)
        return Answers(tuple((index % 2, pool) for index, pool in enumerate(self._pools)), (1,))

    def counters(self) -> CountersSnapshot:
        return self._counters

    def watch_status(self) -> list[WatchStatus]:
        return self.watch


def expires(file: Path) -> float:
    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()


async def page_of(site: Made, accept: str = "") -> str:
    return (await Metrics(site).page(accept, 3))[0].decode()


def pool(database: str, **changes: Any) -> PoolReport:
    counts: dict[str, Any] = dict.fromkeys(PoolReport.__struct_fields__, 0)
    texts = {"node": "db1", "database": database, "user": "app", "route": "", "mode": "transaction", "state": "active"}
    return PoolReport(**{**counts, **texts, "size": 20, "maxwait_s": 0.5, **changes})


async def test_each_number_is_where_it_belongs() -> None:
    numbers = dict(zip(TrafficReport.__struct_fields__[3:], range(1, 13), strict=True))
    traffic = TrafficReport("shop", "reports", "db2", **numbers)
    counts = tuple(range(len(BUCKETS_S) + 1))
    timings = TimingsReport("reports", "db2", Histogram(counts, 7.5), Histogram(), Histogram(counts[::-1], 2.0))
    health = HealthReport(0.25, 12.5, 1000, 1, 2, 3, 4, Histogram(counts, 1.0), 5, 6, Histogram())
    page = await page_of(
        Made(CountersSnapshot(5, 2, traffic=(traffic,), timings=(timings,), health={1: health}), max_client_conn=77)
    )
    for name, field in (
        ("server_assignments", "assignments"),
        ("transactions", "xacts"),
        ("queries", "queries"),
        ("received_bytes", "received_bytes"),
        ("sent_bytes", "sent_bytes"),
        ("transaction_seconds", "xact_s"),
        ("query_seconds", "query_s"),
        ("wait_seconds", "wait_s"),
        ("client_parses", "client_parses"),
        ("server_parses", "server_parses"),
        ("binds", "binds"),
        ("errors", "errors"),
    ):
        assert values(page, f"pointsman_{name}_total") == {("shop", "reports", "db2"): numbers[field]}, name
    assert values(page, "pointsman_clients") == {(): 5}
    assert values(page, "pointsman_clients_waiting") == {(): 2}
    assert values(page, "pointsman_clients_before") == {(): 0}
    assert values(page, "pointsman_max_client_conn") == {(): 77}
    assert values(page, "pointsman_worker_loop_lag_seconds") == {("1",): 0.25}
    assert values(page, "pointsman_worker_cpu_seconds_total") == {("1",): 12.5}
    assert values(page, "pointsman_worker_resident_memory_bytes") == {("1",): 1000}
    assert values(page, "pointsman_client_logins_in_flight") == {("1",): 1}
    assert values(page, "pointsman_client_logins_total") == {
        ("1", "done"): 2, ("1", "refused"): 3, ("1", "abandoned"): 4,
    }  # fmt: skip
    assert values(page, "pointsman_server_logins_in_flight") == {("1",): 5}
    assert values(page, "pointsman_server_login_failures_total") == {("1",): 6}
    assert values(page, "pointsman_workers_silent") == {(): 1}
    assert values(page, "pointsman_http_connections") == {(): 3}
    query = named(page)["pointsman_query_duration_seconds"].samples
    assert {sample.labels["route"] for sample in query} == {"reports"}
    buckets = [(float(one.labels["le"]), one.value) for one in query if one.name.endswith("_bucket")]
    # Each holds all that took no longer: 0, 0 + 1, 0 + 1 + 2, ..
    assert buckets == [(bound, index * (index + 1) / 2) for index, bound in enumerate((*BUCKETS_S, float("inf")))]
    assert [one.value for one in query if one.name.endswith("_sum")] == [7.5]
    assert [one.value for one in query if one.name.endswith("_count")] == [sum(counts)]


async def test_pools_are_added_up_over_workers_and_bounds_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_rows, "POOL_ROWS_MAX", 2)
    reports = [
        pool("shop", sv_active=2, cl_waiting=1),
        pool("shop", sv_active=3, cl_active=4, maxwait_s=2.0, state="draining"),
        pool("b", sv_idle=2),
        pool("small", sv_idle=1, size=5),
        pool("smaller", size=6, reserve_size=1, maxwait_s=9.0),
    ]
    page = await page_of(Made(CountersSnapshot(), reports))
    shop, others = ("shop", "app", NONE, "db1"), (OTHERS, OTHERS, OTHERS, "db1")
    servers = values(page, "pointsman_pool_servers")
    assert (servers[*shop, "active"], servers[*shop, "idle"]) == (5, 0)
    assert {key[0] for key in servers} == {"shop", "b", OTHERS}
    assert servers[*others, "idle"] == 1
    assert values(page, "pointsman_pool_clients")[*shop, "waiting"] == 1
    assert values(page, "pointsman_pool_size") == {shop: 20, ("b", *shop[1:]): 20, others: 11}
    assert values(page, "pointsman_pool_max_wait_seconds")[shop] == 2.0
    assert values(page, "pointsman_pool_max_wait_seconds")[others] == 9.0
    assert values(page, "pointsman_pools") == {
        ("active",): 4, ("draining",): 1, ("closed",): 0, ("failing",): 0,
    }  # fmt: skip


async def test_the_oldest_knowledge_of_others_writes_counts() -> None:
    site = Made(CountersSnapshot())
    page = await page_of(site)
    assert values(page, "pointsman_cache_watched_databases") == {("logical",): 0, ("poll",): 0, ("none",): 0}
    assert values(page, "pointsman_cache_watch_age_seconds") == {}
    site.watch = [
        WatchStatus("a", "logical", "", 0.5, 3),
        WatchStatus("b", "poll", "", 2.5, 0),
        WatchStatus("c", "", "not connected yet", None, 0),
        WatchStatus("dropped", "", "no such database", 900.0, 0, absent=True),
    ]
    page = await page_of(site)
    assert values(page, "pointsman_cache_watched_databases") == {("logical",): 1, ("poll",): 1, ("none",): 1}
    assert values(page, "pointsman_cache_watch_age_seconds") == {(): 2.5}


async def test_certificates_are_those_in_force(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    given = {**certificates.server_settings(), "client_tls_sslmode": "allow"}
    name = "pointsman_certificate_not_after_timestamp_seconds"
    async with serving(**given) as (supervisor, client):
        before = values((await client.get("/metrics")).text, name)
        assert before == {("client_tls_cert_file",): expires(Path(certificates.path("server.pem")))}
        # Renewed on disk alone, it would be refused when the old one has expired.
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
        certificates.issue("server", "localhost", not_after=soon)
        await anyio.sleep(FRESH_S + 0.1)
        assert values((await client.get("/metrics")).text, name) == before
        reading = read_certificates(supervisor.settings)
        assert reading.not_after == {"client_tls_cert_file": float(int(soon.timestamp()))}


async def test_one_of_several_says_whether_it_leads() -> None:
    names = ("leads", "leads_since_timestamp_seconds", "etcd_answers")

    def said(page: str) -> list[float | None]:
        return [values(page, f"pointsman_{name}").get(()) for name in names]

    async with serving(failover="promote") as (_, client):
        assert said((await client.get("/metrics")).text) == [None, None, None]
    with Etcd() as etcd:
        given: dict[str, Any] = {"failover": "promote", "instances": 2, "etcd_hosts": [etcd.url], "etcd_ttl": 2}
        began = time.time()
        async with serving(**given) as (_, client):

            async def until(leads: float, answers: float) -> float:
                with anyio.fail_after(30):
                    while True:
                        found = said((await client.get("/metrics")).text)
                        if (found[0], found[2]) == (leads, answers):
                            assert found[1] is not None
                            return found[1]
                        await anyio.sleep(0.1)

            led_since = await until(1, 1)
            assert began <= led_since <= time.time()
            etcd.kill()
            assert await until(0, 0) > led_since


async def test_rows_that_are_counted_keep_their_place_and_sums_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_rows, "TRAFFIC_ROWS_MAX", 3)
    monkeypatch.setattr(metrics_rows, "REASON_ROWS_MAX", 2)
    reports = [TrafficReport(f"db{index}", "", "db1", queries=1) for index in range(5)]
    site = Made(CountersSnapshot(traffic=tuple(reports[:3]), reasons={"a": 1, "b": 2}))
    made = Metrics(site)
    await made.page("", 0)
    # Now others are the busiest, and come first.
    site._counters = CountersSnapshot(traffic=tuple(reports[::-1]), reasons={"c": 4, "d": 5, "b": 2, "a": 1})
    made._made_at = float("-inf")
    page = (await made.page("", 0))[0].decode()
    assert values(page, "pointsman_queries_total") == {
        ("db0", NONE, "db1"): 1, ("db1", NONE, "db1"): 1, ("db2", NONE, "db1"): 1, (OTHERS, OTHERS, "db1"): 2,
    }  # fmt: skip
    assert values(page, "pointsman_primary_reads_total") == {("a",): 1, ("b",): 2, (OTHERS,): 9}


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_what_clients_have_named_is_inert(accept: str) -> None:
    names = ['a"b', "a\\b", "a\nb", 'x"} 1\npointsman_up 1', "naïve ☃", "z" * 5000, "# EOF"]
    traffic = tuple(TrafficReport(name, "", "db1", queries=index) for index, name in enumerate(names))
    page = await page_of(Made(CountersSnapshot(traffic=traffic)), accept)
    families = (parse_openmetrics if accept else parse_text)(page)
    found = next(family for family in families if family.name == "pointsman_queries")
    told = {sample.labels["database"]: sample.value for sample in found.samples}
    assert told == {(name if len(name) < 100 else "z" * 126 + ".."): index for index, name in enumerate(names)}


async def test_it_is_made_once_for_all_who_ask_within_a_second() -> None:
    site = Made(CountersSnapshot())
    made = Metrics(site)
    pages = await asyncio.gather(*[made.page(accept, 0) for accept in ("", OPENMETRICS) * 20])
    assert len({page for page, _ in pages}) == 2
    assert site.asked == 1
    made._made_at -= 2
    await made.page("", 0)
    assert site.asked == 2


async def test_others_are_not_kept_from_the_loop() -> None:
    pools = [pool(f"db{index}", sv_active=index) for index in range(600)]
    traffic = tuple(TrafficReport(f"db{index}", "", "db1", queries=1) for index in range(600))
    made = Metrics(Made(CountersSnapshot(traffic=traffic), pools))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await made._site.asking.ask("pools", 1000)
    before, begun = turns, time.monotonic()
    await made._rows.say(metrics_rows.Families(), Answers(tuple((0, one) for one in pools)), metrics_rows.Breath())
    took_s = time.monotonic() - begun
    counting.cancel()
    # Were it done at a stretch, it would be none. How long one is hangs on the machine.
    assert turns - before >= min(3, took_s / metrics_rows.SLICE_S / 4)


async def test_a_live_one_says_what_is_declared_in_both_forms() -> None:
    async with serving(workers=2) as (_, client):
        answer = await client.get("/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert set(named(answer.text)) == set(METRICS)
        assert values(answer.text, "pointsman_workers_silent") == {(): 0}
        assert values(answer.text, "pointsman_worker_up") == {("0",): 1, ("1",): 1}
        assert values(answer.text, "pointsman_primary_available") == {(): 0}
        assert values(answer.text, "pointsman_node_up") == {("db1",): 0}
        assert values(answer.text, "pointsman_phase") == {("starting",): 0, ("serving",): 1, ("draining",): 0}
        assert values(answer.text, "pointsman_events_total")[("node_down",)] == 1
        assert values(answer.text, "pointsman_events_total")[("failover_done",)] == 0
        answer = await client.get("/metrics", headers={"Accept": f"{OPENMETRICS}, text/plain;q=0.5"})
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert answer.text.endswith("# EOF\n")
        assert {family.name for family in parse_openmetrics(answer.text)} == {
            name.removesuffix("_total") for name in METRICS
        }
        head = await client.head("/metrics")
        assert (head.status_code, head.content) == (200, b"")


async def test_promtool_finds_nothing_to_say_against_it() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    page = await page_of(Made(CountersSnapshot(traffic=(TrafficReport("a", "", "db1"),)), [pool("a")]))
    done = await anyio.run_process([promtool, "check", "metrics"], input=page.encode(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_pulse_keeps_the_worst_of_late() -> None:
    pulse = Pulse()
    assert pulse.worst_s() == 0.0
    now = time.monotonic()
    for at, late in ((-WINDOW_S - 1, 9.0), (-10, 0.5), (-8, 0.1), (-6, 0.3), (-1, 0.2)):
        pulse.note(now + at, late)
    assert pulse.worst_s() == 0.5
    pulse.note(now + 6, 0.0)
    assert next(iter(pulse._late))[1] == 0.3
