"""What was primary becomes a standby again, by pg_rewind or a new clone, for us and for another process at the door."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from middleware.sandbox import Sandbox, SandboxError
from middleware.sandbox.door import Door
from tests.waiting import eventually

pytestmark = pytest.mark.integration

STREAMING = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"


def fork_history(sandbox: Sandbox) -> None:
    """db1 dies with a row that db2, now primary, has never seen."""
    sandbox.query("CREATE TABLE history (n int); INSERT INTO history VALUES (1)", user="app")
    sandbox.wait_for_replay()
    # Not by stopping its processes: what lies in its socket would be replayed when they go on.
    sandbox.configure({"primary_conninfo": ""}, sandbox.node("db2"))
    eventually(lambda: sandbox.query(STREAMING) == [])
    sandbox.query("INSERT INTO history VALUES (2)", user="app")
    sandbox.node("db1").kill()
    sandbox.promote("db2")
    sandbox.query("INSERT INTO history VALUES (3)", user="app")


def test_a_dead_primary_is_rewound(sandbox: Sandbox) -> None:
    fork_history(sandbox)
    assert sandbox.rejoin("db1", "db2") == "rewound"
    assert sandbox.query(STREAMING) == [["db1"]]
    sandbox.wait_for_replay()
    assert sandbox.query("SELECT n FROM history ORDER BY n", sandbox.node("db1")) == [["1"], ["3"]]
    assert [node.name for node in sandbox.standbys] == ["db1"]


def test_one_that_runs_as_primary_is_stopped_first(sandbox: Sandbox) -> None:
    sandbox.promote("db2")
    assert sandbox.query("SELECT pg_is_in_recovery()", sandbox.node("db1")) == [["f"]]
    assert sandbox.rejoin("db1", "db2") == "rewound"
    assert sandbox.query("SELECT pg_is_in_recovery()", sandbox.node("db1")) == [["t"]]


def test_what_cannot_be_rewound_is_cloned(sandbox: Sandbox) -> None:
    fork_history(sandbox)
    (sandbox.node("db1").data_directory / "global" / "pg_control").unlink()
    assert sandbox.rejoin("db1", "db2") == "cloned"
    sandbox.wait_for_replay()
    assert sandbox.query("SELECT n FROM history ORDER BY n", sandbox.node("db1")) == [["1"], ["3"]]


def rejoin(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "middleware.sandbox", "rejoin", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_another_process_asks_at_the_door(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "door"
    with Door(sandbox, path) as door:
        assert path.stat().st_mode & 0o777 == 0o600
        sandbox.promote("db2")
        new = sandbox.node("db2")
        done = rejoin(str(path), "db1", "db2", new.host, str(new.port))
        assert (done.returncode, done.stdout) == (0, "db1 was rewound and follows db2\n"), done.stderr
        assert sandbox.query(STREAMING) == [["db1"]]
        done = rejoin(str(path), "db2", "db2")
        assert (done.returncode, done.stderr) == (1, 'sandbox: node "db2" cannot follow itself\n')
        assert door.serve(b"{}\n") == {"error": "not understood: 'node'"}
    assert not path.exists()
    assert rejoin(str(path), "db1", "db2").returncode == 1


def test_a_sandbox_that_does_not_run_says_so() -> None:
    with pytest.raises(SandboxError, match="does not run"):
        Sandbox().rejoin("db1", "db2")
