"""deploy/prometheus/alerts.yaml: that alarms ring when they should, look at what there is, and say what to do."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from middleware.admin.grammar import VERBS, command_of
from middleware.admin.words import statements_of
from middleware.cli import app as cli
from middleware.web.metrics_rows import EVENTS
from middleware.web.metrics_table import METRICS
from tests.web.promql import labels_of, metrics_of

ROOT: Final = Path(__file__).parents[2]
ALERTS: Final = ROOT / "deploy" / "prometheus" / "alerts.yaml"
RUNBOOK: Final = ROOT / "docs" / "operations.md"


class Alarm(NamedTuple):
    name: str
    expr: str
    severity: str
    runbook: str


def alarms() -> list[Alarm]:
    """Those of the file, whose form is always the same; that it is YAML is promtool's to say."""
    found = []
    for block in re.split(r"^ +- alert: ", ALERTS.read_text(), flags=re.MULTILINE)[1:]:
        name = block.split("\n", 1)[0]
        expr = re.search(r"expr: (?:>-\n)?(.*?)\n +(?:for|labels):", block, re.DOTALL)
        severity, runbook = re.search(r"severity: (\w+)", block), re.search(r"runbook: (\S+)", block)
        assert expr is not None, name
        assert severity is not None, name
        assert runbook is not None, name
        found.append(Alarm(name, " ".join(expr[1].split()), severity[1], runbook[1]))
    return found


def anchors(text: str) -> list[str]:
    """Those that Markdown's headings have."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_each_alarm_has_its_runbook_and_each_runbook_its_alarm() -> None:
    text = RUNBOOK.read_text()
    known = anchors(text)
    assert len(set(known)) == len(known)
    for alarm in alarms():
        assert alarm.runbook == f"docs/operations.md#{alarm.name.lower()}"
        assert alarm.name.lower() in known, alarm.name
        # Says how urgent it is, as the alarm does.
        assert f"### {alarm.name}\n\n*{alarm.severity}.*" in text
    assert {name for name in known if name.startswith("pointsman")} == {alarm.name.lower() for alarm in alarms()}
    for target in re.findall(r"\(#([^)]+)\)", text):
        assert target in known, target


def test_alarms_look_at_metrics_that_there_are_and_the_reference_says_so() -> None:
    looks: dict[str, set[str]] = {}
    for alarm in alarms():
        used = metrics_of(alarm.expr) - {"up"}
        assert used <= set(METRICS), alarm.name
        for name in used:
            looks.setdefault(name, set()).add(alarm.name)
        labels = {label for name in used for label in METRICS[name].labels}
        assert labels_of(alarm.expr) <= labels | {"job", "instance", "le"}, alarm.name
        for event in re.findall(r'event=~?"([^"]+)"', alarm.expr):
            # An increase from nothing is none: these are there from the start.
            assert set(event.split("|")) <= set(EVENTS), alarm.name
    assert {name: set(metric.alarms) for name, metric in METRICS.items() if metric.alarms} == looks


def test_runbooks_name_commands_that_there_are() -> None:
    """Each `pointsman x` is of the command line, and each in capitals is the console's."""
    quoted = re.findall(r"`([^`]+)`", RUNBOOK.read_text())
    shell = {words.split()[1] for words in quoted if words.startswith("pointsman ")}
    info = [command.name or "" for command in cli.registered_commands]
    groups = [group.typer_instance.info.name or "" for group in cli.registered_groups if group.typer_instance]
    assert shell
    assert shell <= {*info, *groups}
    console = {words for words in quoted if words.split()[0] in VERBS and words.upper()[:4] == words[:4]}
    assert len(console) > 15
    for words in console:
        (statement,) = statements_of(words)
        command_of(statement)


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    labelled = ",".join(f'{key}="{value}"' for key, value in {"job": "pointsman", "instance": "a", **labels}.items())
    return {"series": f"{name}{{{labelled}}}", "values": values}


def event(kind: str, values: str) -> dict[str, str]:
    return series("pointsman_events_total", values, event=kind)


POOL: Final = {"database": "shop", "user": "app", "route": "(none)", "node": "db1"}
TRAFFIC: Final = {"database": "shop", "route": "(none)", "node": "db1"}
TWO_NODES: Final = [
    series("pointsman_node_role", "1x120", node="db1", role="primary"),
    series("pointsman_node_role", "0x120", node="db1", role="standby"),
    series("pointsman_node_role", "0x120", node="db2", role="primary"),
    series("pointsman_node_role", "1x120", node="db2", role="standby"),
    series("pointsman_node_up", "1x120", node="db1"),
]

RINGS: Final[dict[str, tuple[list[dict[str, str]], list[dict[str, str]]]]] = {
    "PointsmanDown": ([series("up", "0x120")], [series("up", "1x120")]),
    "PointsmanNoPrimary": (
        [series("pointsman_primary_available", "0x120")],
        [series("pointsman_primary_available", "1x58 0 1x60")],
    ),
    "PointsmanNodeDown": (
        [series("pointsman_node_condition", "1x120", node="db2", condition="down")],
        [series("pointsman_node_condition", "0x120", node="db2", condition="down")],
    ),
    "PointsmanNodeDetached": (
        [series("pointsman_node_condition", "1x120", node="db2", condition="detached")],
        [series("pointsman_node_condition", "1x120", node="db2", condition="draining")],
    ),
    "PointsmanNoStandby": (
        [*TWO_NODES, series("pointsman_node_up", "0x120", node="db2")],
        [*TWO_NODES, series("pointsman_node_up", "1x120", node="db2")],
    ),
    "PointsmanNodeFlapping": ([event("node_down", "0x40 1+1x80")], [event("node_down", "0x110 1x10")]),
    "PointsmanFailover": ([event("failover_done", "0x55 1x65")], [event("failover_done", "1x120")]),
    "PointsmanFailoverAbandoned": (
        [event("failover_abandoned", "0x55 1x65"), event("failover_trouble", "0x120")],
        [event("failover_abandoned", "0x120"), event("failover_done", "0x55 1x65")],
    ),
    "PointsmanCoordinationTrouble": (
        [event("etcd_trouble", "0x55 1x65"), event("leads_no_more", "0x120")],
        [event("etcd_trouble", "1x120"), event("leads", "0x55 1x65")],
    ),
    "PointsmanNobodyLeads": (
        [series("pointsman_leads", "0x120"), series("pointsman_leads", "0x120", instance="b")],
        [series("pointsman_leads", "0x120"), series("pointsman_leads", "1x120", instance="b")],
    ),
    "PointsmanEtcdSilent": ([series("pointsman_etcd_answers", "0x120")], [series("pointsman_etcd_answers", "1x120")]),
    "PointsmanReloadFailed": ([event("not_reloaded", "0x55 1x65")], [event("not_reloaded", "2x120")]),
    "PointsmanPaused": (
        [
            series("pointsman_paused", "0x120"),
            series("pointsman_databases_paused", "1x120"),
            series("pointsman_databases_disabled", "0x120"),
        ],
        [
            series("pointsman_paused", "0x55 1x5 0x60"),
            series("pointsman_databases_paused", "0x120"),
            series("pointsman_databases_disabled", "0x120"),
        ],
    ),
    "PointsmanLagBytes": (
        [series("pointsman_node_replay_lag_bytes", "300000000x120", node="db2")],
        [series("pointsman_node_replay_lag_bytes", "0x58 300000000x2 0x60", node="db2")],
    ),
    "PointsmanLagSeconds": (
        [
            series("pointsman_node_replay_lag_seconds", "11x120", node="db2"),
            series("pointsman_max_replica_lag_seconds", "10x120"),
        ],
        [
            series("pointsman_node_replay_lag_seconds", "9x120", node="db2"),
            series("pointsman_max_replica_lag_seconds", "10x120"),
        ],
    ),
    "PointsmanReadsOnPrimary": (
        [
            series("pointsman_primary_reads_total", "0+60x120", reason="a"),
            series("pointsman_standby_reads_total", "0+40x120"),
            *TWO_NODES,
            series("pointsman_node_up", "1x120", node="db2"),
        ],
        [
            series("pointsman_primary_reads_total", "0+40x120", reason="a"),
            series("pointsman_standby_reads_total", "0+60x120"),
            *TWO_NODES,
            series("pointsman_node_up", "1x120", node="db2"),
        ],
    ),
    "PointsmanClientsNearLimit": (
        [
            series("pointsman_clients", "50x120"),
            series("pointsman_clients_before", "40x120"),
            series("pointsman_max_client_conn", "100x120"),
        ],
        [
            series("pointsman_clients", "90x120"),
            series("pointsman_clients_before", "0x120"),
            series("pointsman_max_client_conn", "0x120"),
        ],
    ),
    "PointsmanLoginsNearLimit": (
        [
            series("pointsman_client_logins_in_flight", "90x120", worker="0"),
            series("pointsman_max_client_logins", "100x120"),
        ],
        [
            series("pointsman_client_logins_in_flight", "70x120", worker="0"),
            series("pointsman_max_client_logins", "100x120"),
        ],
    ),
    "PointsmanLoginsRefused": (
        [series("pointsman_client_logins_total", "0+120x120", worker="0", outcome="refused")],
        [series("pointsman_client_logins_total", "0+120x120", worker="0", outcome="done")],
    ),
    "PointsmanClientsWaiting": (
        [series("pointsman_clients_waiting", "3x120")],
        [series("pointsman_clients_waiting", "3x58 0 3x61")],
    ),
    "PointsmanPoolExhausted": (
        [
            series("pointsman_pool_servers", "19x120", **POOL, state="active"),
            series("pointsman_pool_servers", "1x120", **POOL, state="active_cancel"),
            series("pointsman_pool_size", "20x120", **POOL),
        ],
        [
            series("pointsman_pool_servers", "19x120", **POOL, state="active"),
            series("pointsman_pool_servers", "1x120", **POOL, state="idle"),
            series("pointsman_pool_size", "20x120", **POOL),
        ],
    ),
    "PointsmanPoolFailing": (
        [series("pointsman_pools", "1x120", state="failing")],
        [series("pointsman_pools", "1x120", state="closed")],
    ),
    "PointsmanServerLoginsFail": (
        [series("pointsman_server_login_failures_total", "0+60x120", worker="0")],
        [series("pointsman_server_login_failures_total", "100x120", worker="0")],
    ),
    "PointsmanNodeConnectionsNearLimit": (
        [
            series("pointsman_node_connections", "90x120", node="db1"),
            series("pointsman_node_max_connections", "100x120", node="db1"),
        ],
        [
            series("pointsman_node_connections", "80x120", node="db1"),
            series("pointsman_node_max_connections", "100x120", node="db1"),
        ],
    ),
    "PointsmanClientsPinned": (
        [series("pointsman_session_state_statements_total", "0+120x120", state="LISTEN", action="pin")],
        [series("pointsman_session_state_statements_total", "0+120x120", state="SET", action="track")],
    ),
    "PointsmanWaitsLong": (
        [
            series("pointsman_wait_duration_seconds_bucket", "0+10x120", route="r", node="db1", le="1.0"),
            series("pointsman_wait_duration_seconds_bucket", "0+20x120", route="r", node="db1", le="2.5"),
            series("pointsman_wait_duration_seconds_bucket", "0+20x120", route="r", node="db1", le="+Inf"),
        ],
        [
            series("pointsman_wait_duration_seconds_bucket", "0+20x120", route="r", node="db1", le="1.0"),
            series("pointsman_wait_duration_seconds_bucket", "0+20x120", route="r", node="db1", le="+Inf"),
            series("pointsman_pool_max_wait_seconds", "9x120", **POOL),
        ],
    ),
    "PointsmanQueriesSlow": (
        [
            series("pointsman_query_duration_seconds_bucket", "0+10x120", route="r", node="db1", le="1.0"),
            series("pointsman_query_duration_seconds_bucket", "0+20x120", route="r", node="db1", le="2.5"),
            series("pointsman_query_duration_seconds_bucket", "0+20x120", route="r", node="db1", le="+Inf"),
        ],
        [
            series("pointsman_query_duration_seconds_bucket", "0+99x120", route="r", node="db1", le="1.0"),
            series("pointsman_query_duration_seconds_bucket", "0+100x120", route="r", node="db1", le="+Inf"),
        ],
    ),
    "PointsmanErrorRatio": (
        [
            series("pointsman_errors_total", "0+10x120", **TRAFFIC),
            series("pointsman_queries_total", "0+100x120", **TRAFFIC),
        ],
        # One in two, of next to nothing.
        [
            series("pointsman_errors_total", "0+1x120", **TRAFFIC),
            series("pointsman_queries_total", "0+2x120", **TRAFFIC),
        ],
    ),
    "PointsmanCacheUseless": (
        [series("pointsman_cache_hits_total", "0+9x120"), series("pointsman_cache_misses_total", "0+900x120")],
        [series("pointsman_cache_hits_total", "0+0x120"), series("pointsman_cache_misses_total", "0+10x120")],
    ),
    "PointsmanCacheTooSmall": (
        [series("pointsman_cache_evictions_total", "0+60x120"), series("pointsman_cache_stored_total", "0+100x120")],
        [series("pointsman_cache_evictions_total", "0+40x120"), series("pointsman_cache_stored_total", "0+100x120")],
    ),
    "PointsmanSecondLevelFails": (
        [series("pointsman_cache_second_level_errors_total", "0+60x120")],
        [series("pointsman_cache_second_level_errors_total", "7x120")],
    ),
    "PointsmanCacheUnwatched": (
        [series("pointsman_cache_watched_databases", "1x120", mode="none")],
        [
            series("pointsman_cache_watched_databases", "1x58 0 1x61", mode="none"),
            series("pointsman_cache_watched_databases", "1x120", mode="poll"),
        ],
    ),
    "PointsmanCacheWatchBehind": (
        [series("pointsman_cache_watch_age_seconds", "0+10x120")],
        [series("pointsman_cache_watch_age_seconds", "1x59 300 1x60")],
    ),
    "PointsmanCertificateExpires": (
        [series("pointsman_certificate_not_after_timestamp_seconds", "1200000x120", setting="client_tls_cert_file")],
        [series("pointsman_certificate_not_after_timestamp_seconds", "1300000x120", setting="client_tls_cert_file")],
    ),
    "PointsmanCertificateExpired": (
        [series("pointsman_certificate_not_after_timestamp_seconds", "80000x120", setting="server_tls_cert_file")],
        [series("pointsman_certificate_not_after_timestamp_seconds", "1000000x120", setting="server_tls_cert_file")],
    ),
    "PointsmanWorkerDown": (
        [
            series("pointsman_worker_up", "1x120", worker="0"),
            series("pointsman_worker_silence_seconds", "0x55 15+30x65", worker="0"),
        ],
        [
            series("pointsman_worker_up", "1x120", worker="0"),
            series("pointsman_worker_silence_seconds", "1x120", worker="0"),
        ],
    ),
    "PointsmanWorkerRestarts": (
        [series("pointsman_worker_restarts_total", "0x55 1x65", worker="1")],
        [series("pointsman_worker_restarts_total", "3x120", worker="1")],
    ),
    "PointsmanWorkerSaturated": (
        [series("pointsman_worker_cpu_seconds_total", "0+59x120", worker="0")],
        [
            series("pointsman_worker_cpu_seconds_total", "0+30x120", worker="0"),
            series("pointsman_worker_loop_lag_seconds", "0.01x120", worker="0"),
        ],
    ),
    "PointsmanWorkerMemory": (
        [series("pointsman_worker_resident_memory_bytes", "2000000000x120", worker="0")],
        [series("pointsman_worker_resident_memory_bytes", "200000000x120", worker="0")],
    ),
    "PointsmanControlPlaneSlow": (
        [series("pointsman_supervisor_loop_lag_seconds", "0.7x120")],
        [series("pointsman_supervisor_loop_lag_seconds", "0x59 0.7 0x60")],
    ),
}
"""For each alarm, series that make it ring at the end of an hour, and such that do not."""


def test_each_alarm_is_tried() -> None:
    assert list(RINGS) == [alarm.name for alarm in alarms()]


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


def test_prometheus_can_read_them(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(alarms())} rules found" in done.stdout


def test_alarms_ring_when_they_should_and_only_then(promtool: str, tmp_path: Path) -> None:
    tests: list[dict[str, Any]] = []
    for name, (ringing, quiet) in RINGS.items():
        for given, firing in ((ringing, 1), (quiet, 0)):
            count = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
            expected = [{"labels": "{}", "value": firing}]
            checks = [{"expr": count, "eval_time": "1h", "exp_samples": expected}]
            tests.append({"interval": "1m", "input_series": given, "promql_expr_test": checks})
    # JSON is YAML.
    file = tmp_path / "tests.yaml"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
