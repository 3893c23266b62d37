"""`pointsman explain` against a real cluster."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from middleware.sandbox import Sandbox
from tests.conftest import settings_for

pytestmark = pytest.mark.integration


def explain(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "middleware", "explain", "-c", str(directory / "p.toml"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_decision_the_reasons_and_the_nodes(cluster: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(settings_for(cluster))
    done = explain(tmp_path, "SELECT lower('X')")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["Route to standby", "  Because it only reads"]
    assert "  ->  it calls lower(): harmless on a standby" in lines
    assert any(line.startswith("  ->  node db2: standby, ") for line in lines)
    shown = json.loads(explain(tmp_path, "--json", "-d", "app", "SELECT nextval('s') FROM nowhere").stdout)
    assert shown["target"] == "primary"
    assert shown["reason"] == "it calls nextval(), which is volatile"
    assert {"part": "it reads nowhere", "verdict": "is not known"} in shown["steps"]


def test_the_lists_of_the_settings_count(cluster: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(settings_for(cluster, primary_functions=["low.*"]))
    assert explain(tmp_path, "SELECT lower('X')").stdout.splitlines()[0] == "Route to primary"


def test_what_cannot_be_asked_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(
        '[health_check]\nuser = "m"\n[nodes.db1]\nhost = "127.0.0.1"\nport = 1\n[users.app]\npassword = "x"\n'
    )
    done = explain(tmp_path, "SELECT 1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pointsman: could not read the catalog: no node is up: db1: connection refused\n"
