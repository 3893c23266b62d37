"""Drills as a person plays them: the command, real clusters, and what it leaves behind.

Bounds are generous: exact figures are `make drill`'s.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import eventually

pytestmark = pytest.mark.integration

VERSION = os.environ.get("POINTSMAN_TEST_PG_VERSION", "18")
COMMAND = (sys.executable, "-m", "middleware", "drill")
GENEROUS = {
    "POINTSMAN_DRILL__WRITE_OUTAGE_MAX": "30",
    "POINTSMAN_DRILL__READ_OUTAGE_MAX": "30",
    "POINTSMAN_DRILL__BYSTANDER_OUTAGE_MAX": "30",
}


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory that the servers' user may pass through, for all that the drill makes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def environment(scratch: Path, **variables: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    kept = {name: os.environ[name] for name in ("POINTSMAN_PG_BIN",) if name in os.environ}
    return {**clean, **kept, "TMPDIR": str(scratch), **variables}


def play(scratch: Path, *words: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Play a drill; its outcome, and its result."""
    report = scratch / "report.json"
    done = subprocess.run(
        [*COMMAND, *words, "--pg-version", VERSION, "--json", str(report), "--html", str(scratch / "report.html")],
        env=environment(scratch, **{**GENEROUS, **variables}),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    (result,) = json.loads(report.read_text())["results"]
    return done, result


def verdicts(result: dict[str, Any]) -> dict[str, bool]:
    return {verdict["what"]: verdict["passed"] for verdict in result["verdicts"]}


def test_a_primary_that_is_killed_is_replaced_and_nothing_is_lost(scratch: Path) -> None:
    done, result = play(scratch, "primary-crash", "--sync", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS  primary-crash" in done.stdout
    marks = result["marks"]
    assert marks["broken"] < marks["detected"] < marks["promoted"] < marks["healed"] < marks["all well"]
    assert result["findings"]["acknowledged"] > 100
    assert result["findings"]["lost"] == []
    # It was looked at while it still took itself for the primary.
    assert result["findings"]["astray"] == []
    # It was seen from outside what became of writes while there was no primary.
    assert result["figures"]["write_outage"]["end"] > marks["broken"]
    assert {event["what"] for event in result["events"]} >= {"primary_lost", "fenced", "promoted", "follows"}
    assert "<svg" in (scratch / "report.html").read_text()
    assert not list(scratch.glob("pointsman-*"))


def test_a_standby_that_is_killed_stops_no_write(scratch: Path) -> None:
    # Which reads fail with it is the relay's part, and its tests'.
    done, result = play(scratch, "replica-crash", POINTSMAN_DRILL__FAILED_READS_MAX="1000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert result["figures"]["failed_writes"] == 0
    assert result["marks"]["detected"] > result["marks"]["broken"]
    assert len(result["served"]) == 3


def test_a_missed_target_is_told_and_is_the_exit_status(scratch: Path) -> None:
    done, result = play(scratch, "worker-crash", POINTSMAN_DRILL__READ_OUTAGE_MAX="0.000001")
    assert done.returncode == 1, done.stdout + done.stderr
    assert [what for what, passed in verdicts(result).items() if not passed] == ["read outage"]
    assert "FAIL  read outage" in done.stdout
    assert result["figures"]["disconnected"] > 0
    assert result["log"]


def test_ctrl_c_ends_a_drill_without_a_trace(scratch: Path) -> None:
    output = scratch / "output"
    with output.open("wb") as out:
        drill = subprocess.Popen(
            [*COMMAND, "replica-lag", "--pg-version", VERSION, "--no-reports"],
            env=environment(scratch),
            stdout=out,
            stderr=out,
        )
    eventually(lambda: "lag" in output.read_text(), 60)
    family = psutil.Process(drill.pid).children(recursive=True)
    assert len(family) > 4
    drill.send_signal(signal.SIGINT)
    assert drill.wait(30) == 130, output.read_text()
    eventually(lambda: not any(member.is_running() for member in family))
    assert list(scratch.iterdir()) == [output]
