"""Drills over compose.yaml, where an engine has the images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compose.stack import OVERLAYS, ROOT, Stack, obstacle

GENEROUS = {
    "POINTSMAN_DRILL__BYSTANDER_OUTAGE_MAX": "60",
    "POINTSMAN_DRILL__READ_OUTAGE_MAX": "60",
    "POINTSMAN_DRILL__FAILED_READS_MAX": "1000",
}


@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize("network", OVERLAYS)
def test_drills_that_promote_nobody(network: str, tmp_path: Path) -> None:
    if reason := obstacle(network):
        pytest.skip(reason)
    report = tmp_path / "report.json"
    with Stack(network) as stack:
        for name in ("worker-crash", "replica-lag", "replica-crash"):
            done = subprocess.run(
                [sys.executable, "-m", "middleware", "drill", name, "--compose", "--json", str(report)],
                cwd=ROOT,
                env={**stack.environment(), **GENEROUS},
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            (result,) = json.loads(report.read_text())["results"]
            assert (result["drill"], result["passed"], result["trouble"]) == (name, True, "")
            assert result["findings"]["acknowledged"] > 0
            assert len(result["served"]) > 1
