"""deploy/grafana/pointsman.json: what it asks for there is, and every metric has a place on it."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from middleware.web.metrics_table import METRICS
from tests.web.promql import labels_of, metrics_of

ROOT: Final = Path(__file__).parents[2]
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "pointsman.json"
VARIABLES: Final = {
    "$__rate_interval": "5m",
    "$job": "pointsman",
    "$instance": ".*",
    "$node": ".*",
    "$route": ".*",
    "$database": ".*",
}

SHOWN_NOWHERE: Final = {
    "pointsman_start_time_seconds",
    "pointsman_phase",
    "pointsman_leads_since_timestamp_seconds",
    "pointsman_http_connections",
    "pointsman_workers_silent",
    "pointsman_max_client_logins",
    "pointsman_server_assignments_total",
    "pointsman_transaction_seconds_total",
    "pointsman_topology_version",
    "pointsman_timeline",
    "pointsman_node_condition",
    "pointsman_node_since_timestamp_seconds",
    "pointsman_node_timeline",
    "pointsman_node_weight",
    "pointsman_node_leases",
    "pointsman_pool_reserve_size",
    "pointsman_paused",
    "pointsman_databases_paused",
    "pointsman_databases_disabled",
}
"""Metrics for alarms, or for who asks by hand."""


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Each panel's, with its title."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for annotation in dashboard()["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def filled(expr: str) -> str:
    """As Grafana asks it."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def test_queries_ask_for_metrics_and_labels_that_there_are() -> None:
    shown: set[str] = set()
    for title, expr in queries():
        used = metrics_of(filled(expr))
        assert used, title
        assert used <= set(METRICS), title
        labels = {label for name in used for label in METRICS[name].labels}
        assert labels_of(filled(expr)) <= labels | {"job", "instance", "le"}, title
        shown |= used
    assert set(METRICS) - shown == SHOWN_NOWHERE


def test_legends_name_labels_that_the_query_leaves() -> None:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expr = filled(target["expr"])
            grouped = re.search(r"\bsum by \(([^)]*)\)|\b(?:max|min) by \(([^)]*)\)", expr)
            known = {label for name in metrics_of(expr) for label in METRICS[name].labels} | {"instance"}
            if grouped is not None:
                known = {label.strip() for label in (grouped[1] or grouped[2]).split(",")}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known, panel["title"]


def test_variables_are_filled_by_metrics_that_there_are() -> None:
    names = [variable["name"] for variable in dashboard()["templating"]["list"]]
    assert [f"${name}" for name in names[1:]] == list(VARIABLES)[1:]
    for variable in dashboard()["templating"]["list"][1:]:
        found = re.fullmatch(r"label_values\((\w+)(\{[^}]*\})?, (\w+)\)", variable["query"]["query"])
        assert found is not None, variable["name"]
        (metric,) = metrics_of(found[1])
        assert found[3] in {*METRICS[metric].labels, "job", "instance"}


def test_panels_have_their_own_place_and_any_prometheus_will_do() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_prometheus_can_read_the_queries(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    rules = [{"record": f"panel:{index}", "expr": filled(expr)} for index, (_, expr) in enumerate(queries())]
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout
