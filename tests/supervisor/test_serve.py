"""`pointsman serve` as a process, with the real worker: signals, exit status, and what is left when it is killed."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.supervisor.conftest import DEADLINE_S, SECRET

CONFIG = f"""
listen_port = 0
workers = 2
shutdown_timeout = 5
[log]
format = "json"
[health_check]
user = "monitor"
password = "{SECRET}"
[nodes.db1]
host = "127.0.0.1"
port = 1
[users.app]
password = "{SECRET}"
"""


class Serving:
    """A running `pointsman serve`, and its log."""

    def __init__(self, directory: Path, descriptors: tuple[int, int] | None = None) -> None:
        """`descriptors`: its soft and its hard limit of them."""
        self.settings = directory / "pointsman.toml"
        self.settings.write_text(CONFIG)
        command = [sys.executable, "-m", "middleware", "serve"]
        if descriptors is not None:
            soft, hard = descriptors
            command = ["sh", "-c", f'ulimit -S -n {soft} && ulimit -H -n {hard} && exec "$@"', "sh", *command]
        self._log = directory / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
        self.wait(lambda: self.logged("ready"), "ready")
        self.workers = [psutil.Process(line["pid"]) for line in self.logged("worker ready")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        return [line for line in self.lines() if line["event"] == event]

    def lines(self) -> list[dict[str, Any]]:
        """The log's lines; every one must be JSON."""
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.endswith("}")]

    def text(self) -> str:
        """The whole log."""
        return self._log.read_text()

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Until the condition holds, or fail with the log."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited for {what}: {self.text()}")
            time.sleep(0.02)

    def workers_gone(self) -> bool:
        """Whether no worker runs."""
        return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in self.workers)

    def port(self) -> int:
        """Where it listens."""
        port = self.logged("listening")[0]["port"]
        assert isinstance(port, int)
        return port


@contextlib.contextmanager
def started(directory: Path, descriptors: tuple[int, int] | None = None) -> Iterator[Serving]:
    """It is killed in the end."""
    one = Serving(directory, descriptors)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        one.wait(one.workers_gone, "workers to end")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    """`pointsman serve` with two workers, ready."""
    with started(tmp_path) as one:
        yield one


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(serving: Serving, number: signal.Signals) -> None:
    port = serving.port()
    serving.process.send_signal(number)
    assert serving.process.wait(DEADLINE_S) == 0
    assert serving.workers_gone()
    assert [line["status"] for line in serving.logged("worker stopped")] == ["exit status 0"] * 2
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    assert SECRET not in serving.text()
    assert "Traceback" not in serving.text()


def test_workers_do_not_outlive_a_killed_supervisor(serving: Serving) -> None:
    serving.process.kill()
    serving.process.wait()
    serving.wait(serving.workers_gone, "workers to end")


def test_a_hangup_reads_the_settings_again_and_says_so(serving: Serving) -> None:
    other = CONFIG.replace("workers = 2", "workers = 3\nquery_timeout = 5") + '[users.other]\npassword = "p"\n'
    serving.settings.write_text(other)
    serving.process.send_signal(signal.SIGHUP)
    serving.wait(lambda: "were read again" in serving.text(), "a word about SIGHUP")
    (told,) = [line["what"] for line in serving.lines() if line.get("event_kind") == "reloaded"]
    assert set(told.removeprefix("the settings were read again by SIGHUP: ").split("; ")) == {
        "query_timeout: 0 -> 5",
        "users.other: none -> user",
        "workers: needs a restart to be 3",
    }
    assert serving.process.poll() is None


def test_a_hangup_with_a_bad_file_changes_nothing_and_says_why(serving: Serving) -> None:
    serving.settings.write_text("workers = 0\nquery_timeot = 1\n" + CONFIG.replace("workers = 2", ""))
    serving.process.send_signal(signal.SIGHUP)
    serving.wait(lambda: len(serving.logged("not reloaded")) == 2, "two mistakes")
    assert [line["why"] for line in serving.logged("not reloaded")] == [
        "pointsman.toml: workers: 0 is not allowed: a whole number from 1 to 256",
        "pointsman.toml: query_timeot: unknown, did you mean query_timeout?",
    ]
    serving.settings.unlink()
    serving.process.send_signal(signal.SIGHUP)
    serving.wait(lambda: len(serving.logged("not reloaded")) == 3, "the third")
    assert serving.logged("not reloaded")[2]["why"] == "pointsman.toml: no such file or directory"
    assert serving.process.poll() is None


def test_a_hangup_changes_the_form_of_the_log(serving: Serving) -> None:
    serving.settings.write_text(CONFIG.replace('"json"', '"text"'))
    serving.process.send_signal(signal.SIGHUP)
    serving.wait(lambda: "log.format: json -> text" in serving.text(), "a word about SIGHUP")
    (line,) = [line for line in serving.text().splitlines() if "log.format" in line]
    assert not line.startswith("{")


def test_a_killed_worker_is_replaced(serving: Serving) -> None:
    serving.workers[0].kill()
    serving.wait(lambda: len(serving.logged("worker ready")) == 3, "a third worker")
    assert serving.logged("worker died")[0]["status"] == "killed by SIGKILL"
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(DEADLINE_S) == 0


def test_fail_fast(tmp_path: Path) -> None:
    (tmp_path / "pointsman.toml").write_text(
        'fail_fast = "on"\n' + CONFIG.replace("[nodes", "retry_delay = 0.1\n[nodes")
    )
    done = subprocess.run(
        [sys.executable, "-m", "middleware", "serve"], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode == 1
    told = done.stderr.splitlines()[-1]
    assert told == "pointsman: no primary is available (db1: connection refused), and fail_fast is on"
    assert "killed" not in done.stderr


@pytest.mark.parametrize(("hard", "warned"), [(4096, []), (1500, [(1500, 1623)])])
def test_the_limit_on_open_files_is_raised_as_far_as_it_may_be(
    tmp_path: Path, hard: int, warned: list[tuple[int, int]]
) -> None:
    with started(tmp_path, (200, hard)) as running:
        for worker in running.workers:
            assert worker.rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)
        told = [line for line in map(json.loads, running.text().splitlines()) if "limit on open files" in line["event"]]
        # 1000 clients, 3 administrators, 500 logins, a pool of 20, and 100.
        assert [(line["limit"], line["needed"]) for line in told] == warned
