"""A sandbox leaves nothing behind, however it or its process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from middleware.sandbox import Sandbox, SandboxError
from tests.sandbox.conftest import Traces, eventually, existing_segments

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-m", "middleware.sandbox"]


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``python -m middleware.sandbox``, started but not yet ready."""
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            break
    return "".join(lines)


def test_nothing_is_left_after_the_block_whatever_state_the_nodes_are_in(traces: Traces) -> None:
    with Sandbox() as sandbox:
        segments = traces.segments()
        assert len(traces.directories()) == 1
        assert len(segments) == 3
        assert segments <= existing_segments()
        # What parallel queries share lies in the data directory, not in /dev/shm where SIGKILL would leave it.
        assert sandbox.query("SHOW dynamic_shared_memory_type") == [["mmap"]]
        sandbox.nodes[0].kill()
        sandbox.nodes[1].pause()
    assert traces.none()
    assert not segments & existing_segments()


def test_nothing_is_left_after_an_error_in_the_block(traces: Traces) -> None:
    with pytest.raises(ZeroDivisionError), Sandbox(standbys=0):
        raise ZeroDivisionError
    assert traces.none()


def test_a_start_that_fails_shows_the_server_log_and_leaves_nothing(traces: Traces) -> None:
    sandbox = Sandbox(parameters={"work_mem": "plenty"})
    with pytest.raises(SandboxError, match=r'(?s)node "db1" did not start:.*invalid value for parameter "work_mem"'):
        sandbox.start()
    assert traces.none()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(traces: Traces, number: signal.Signals) -> None:
    with program("--standbys", "0") as process:
        assert "db1  primary  postgresql://app:" in read_until_ready(process)
        process.send_signal(number)
        assert process.wait(10) == 0
    assert traces.none()


def test_a_signal_while_it_starts(traces: Traces) -> None:
    with program("--standbys", "1") as process:
        assert eventually(lambda: any("initdb" in line for line in traces.processes()))
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM
    assert traces.none()


def test_sigkill_takes_the_servers_along_and_the_next_start_removes_the_rest(traces: Traces) -> None:
    with program("--standbys", "1") as process:
        told = read_until_ready(process)
        assert "db2  standby  postgresql://app:" in told
        ports = [line.rpartition(":")[2].split("/")[0] for line in told.splitlines() if line.startswith("db")]
        postmaster = next(int(line.split()[0]) for line in traces.processes() if f"-p {ports[1]}" in line)
        os.kill(postmaster, signal.SIGSTOP)  # this one cannot die of the parent-death signal
        segments = traces.segments()
        process.kill()
        process.wait()
    assert eventually(lambda: all("db2" in line for line in traces.processes()))
    assert len(traces.directories()) == 1
    with Sandbox(standbys=0):
        assert len(traces.directories()) == 1
    assert traces.none()
    assert not segments & existing_segments()


def test_two_side_by_side_and_a_stranger(traces: Traces) -> None:
    stranger = traces.directory / "pointsman-sandbox-of-somebody"
    stranger.mkdir()
    (stranger / "file").touch()
    with Sandbox(standbys=0) as one, Sandbox(standbys=0) as other:
        assert one.primary.port != other.primary.port
        identify = "SELECT system_identifier FROM pg_control_system()"
        assert one.query(identify) != other.query(identify)
        one.stop()
        assert other.query("SELECT 1") == [["1"]]
    assert traces.directories() == [stranger]


def test_servers_outlive_the_thread_that_started_them(traces: Traces) -> None:
    sandbox = Sandbox(standbys=0)
    thread = threading.Thread(target=sandbox.start)
    thread.start()
    thread.join()
    try:
        assert sandbox.query("SELECT 1") == [["1"]]
    finally:
        sandbox.stop()
    assert traces.none()


def test_an_interpreter_that_ends_without_stopping_it(traces: Traces) -> None:
    code = "from middleware.sandbox import Sandbox; s = Sandbox(standbys=0); s.start(); print(s.query('SELECT 1'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("[['1']]\n", "", 0)
    assert traces.none()
