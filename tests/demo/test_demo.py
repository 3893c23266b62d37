"""The demo and the tour, as commands."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from middleware.sandbox.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-m", "middleware", "demo"]


def run(*options: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_tour_shows_who_served_what_and_why() -> None:
    answer = run("--tour")
    assert answer.returncode == 0, answer.stderr
    lines = [line.strip() for line in answer.stdout.splitlines()]
    assert "db1  because it is INSERT" in lines
    assert any(re.fullmatch(r"db2 x \d+, db3 x \d+  because it only reads", line) for line in lines)
    assert "db1  because it locks rows (FOR UPDATE or FOR SHARE)" in lines
    assert "db1  because it is part of a transaction" in lines
    assert "query cache  because it was read before" in lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_without_a_trace(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "output"
    scratch = Path(tempfile.mkdtemp(dir="/tmp"))
    scratch.chmod(0o711)
    try:
        with output.open("wb") as out:
            demo = subprocess.Popen([*COMMAND, "--load", "50"], stdout=out, env={**os.environ, "TMPDIR": str(scratch)})
        url = wait_for_url(output)
        with psycopg.connect(url, autocommit=True) as client:
            assert client.execute("SELECT 1").fetchone() == (1,)
        eventually(lambda: "reads" in output.read_text() and not output.read_text().rstrip().endswith("0 clients"))
        family = psutil.Process(demo.pid).children(recursive=True)
        assert len(family) > 4
        demo.send_signal(number)
        assert demo.wait(20) == 0
        eventually(lambda: not any(member.is_running() for member in family))
        assert list(scratch.iterdir()) == []
    finally:
        scratch.rmdir()


def wait_for_url(output: Path) -> str:
    return wait_for(output, r"endpoint +(postgresql://\S+)")


def wait_for(output: Path, pattern: str) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        match = re.search(pattern, output.read_text())
        if match:
            return match[1]
        time.sleep(0.05)
    raise AssertionError(f"no {pattern}:\n{output.read_text()}")


def test_its_dashboard_hands_the_primary_over_and_the_old_one_follows(tmp_path: Path) -> None:
    output = tmp_path / "output"
    port = free_port()
    with output.open("wb") as out:
        demo = subprocess.Popen([*COMMAND, "--http-port", str(port), "--standbys", "1", "--load", "20"], stdout=out)
    try:
        url, password = wait_for(output, r"dashboard +(http://\S+)"), wait_for(output, r"log in +(\S+)")
        assert url == f"http://127.0.0.1:{port}/"
        with httpx.Client(base_url=f"{url}dashboard/", timeout=60, trust_env=False) as client:
            token = client.post("login", json={"password": password}).json()["csrf"]
            done = client.post(
                "command", json={"do": "switchover", "node": "db2"}, headers={"X-Pointsman-Token": token}
            )
            assert done.status_code in (200, 202), done.text

            def follows() -> bool:
                with client.stream("GET", "stream") as stream:
                    if stream.status_code == 503:
                        # It has not heard yet of those that were closed.
                        return False
                    lines = (line.removeprefix("data: ") for line in stream.iter_lines() if line)
                    known = next(one for one in map(json.loads, lines) if one["kind"] == "snapshot")
                    return [(node["role"], node["used"]) for node in known["nodes"]] == [
                        ("standby", True),
                        ("primary", True),
                    ]

            eventually(follows, 60)
    finally:
        demo.terminate()
        assert demo.wait(20) == 0


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = subprocess.run(
            [*COMMAND, "--tour", "--port", str(port)], capture_output=True, text=True, timeout=60, check=False
        )
    assert answer.returncode == 1
    assert len(answer.stderr.strip().splitlines()) == 1
    assert str(port) in answer.stderr


def test_no_postgresql_is_one_line() -> None:
    environment = {**os.environ, "POINTSMAN_PG_BIN": "/nowhere"}
    answer = subprocess.run(
        [*COMMAND, "--tour"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 1
    assert "/nowhere" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
