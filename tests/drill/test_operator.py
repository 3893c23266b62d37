"""An operator's own cluster: what is refused, how clients get in, and drills through a Pointsman that runs already."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from middleware.config import Settings, build_settings
from middleware.drill.errors import DrillError
from middleware.drill.operator_stage import login_of, refusal
from middleware.drill.pointsman import Pointsman, Refused, by_command
from middleware.drill.scenarios import BY_NAME, DRILLS
from middleware.sandbox import Sandbox
from tests.conftest import pointsman
from tests.waiting import eventually


def settings(**more: Any) -> Settings:
    base = {
        "health_check": {"user": "monitor"},
        "nodes": {"db1": {"host": "10.0.0.1"}},
        "users": {"app": {"password": "secret"}},
    }
    return build_settings({**base, **more}, origin="test")


PIPE = (sys.executable, "-m", "middleware.drill.pipe")
BREAKS = {"drill": {"break_command": "break %b %n", "heal_command": "heal %b %n"}}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("POINTSMAN_DRILL"):
            monkeypatch.delenv(name)


def test_only_what_is_harmless_is_played_without_a_word() -> None:
    allowed = [drill.name for drill in DRILLS if not refusal(drill, settings(**BREAKS), meant=False)]
    assert allowed == ["worker-crash"]
    assert "--i-mean-it" in refusal(BY_NAME["switchover"], settings(), meant=False)


def test_what_is_meant_is_played_where_there_are_hands_for_it() -> None:
    assert [drill.name for drill in DRILLS if refusal(drill, settings(**BREAKS), meant=True)] == []
    without = [drill.name for drill in DRILLS if not refusal(drill, settings(), meant=True)]
    assert without == ["switchover", "worker-crash"]
    assert "break_command: missing: it is to crash a node" in refusal(BY_NAME["primary-crash"], settings(), meant=True)
    half = settings(drill={"break_command": "break"})
    assert "heal_command: missing" in refusal(BY_NAME["primary-crash"], half, meant=True)
    # A restart is over by itself.
    assert refusal(BY_NAME["rolling-restart"], half, meant=True) == ""


def test_a_placeholder_that_there_is_not_is_one_line() -> None:
    with pytest.raises(Exception, match=r'drill\.break_command: cannot be used: there is no placeholder "%z"'):
        settings(drill={"break_command": "break %z"})


def test_clients_get_in_by_the_first_user_whose_password_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    login = login_of(settings(listen_port=7000), "", "")
    assert login == ("127.0.0.1", 7000, "app", "secret", "app", "prefer")
    assert login_of(settings(listen_addr="10.1.1.1,::1"), "app", "shop")[:5] == (
        "10.1.1.1",
        6432,
        "app",
        "secret",
        "shop",
    )
    with pytest.raises(DrillError, match="--user"):
        login_of(settings(), "nobody", "")
    monkeypatch.setenv("PGPASSWORD", "other")
    assert login_of(settings(), "nobody", "").password == "other"


@pytest.mark.integration
def test_drills_through_a_pointsman_that_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    with pointsman(sandbox, tmp_path, workers=2, control_socket=str(tmp_path / "control")) as endpoint:
        config = tmp_path / "pointsman.toml"
        psql = f"{sandbox.program('psql')} -qAt -h %h -p %p -U postgres -d postgres"
        replay = f"case %b in lag) {psql} -c 'SELECT pg_wal_replay_WHAT()';; *) exit 1;; esac"
        variables = {
            "POINTSMAN_LISTEN_PORT": str(endpoint.port),
            "POINTSMAN_DRILL__BREAK_COMMAND": shlex.join(["sh", "-c", replay.replace("WHAT", "pause")]),
            "POINTSMAN_DRILL__HEAL_COMMAND": shlex.join(["sh", "-c", replay.replace("WHAT", "resume")]),
            "POINTSMAN_DRILL__BYSTANDER_OUTAGE_MAX": "30",
            "POINTSMAN_DRILL__READ_OUTAGE_MAX": "30",
            "PGPASSWORD": sandbox.passwords["postgres"],
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}

        def drill(*words: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "middleware", "drill", *words, "--config", str(config)]
            command += ["--user", "app", "--json", str(tmp_path / "report.json")]
            environment = {**clean, **variables}
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

        refused = drill("replica-lag")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "not without --i-mean-it" in refused.stderr
        lag = drill("replica-lag", "--i-mean-it")
        assert lag.returncode == 0, lag.stdout + lag.stderr
        assert sandbox.query("SELECT pg_is_wal_replay_paused()", sandbox.node("db2")) == [["f"]]
        # Interrupted, it leaves nothing broken.
        output = tmp_path / "output"
        command = [sys.executable, "-m", "middleware", "drill", "replica-lag", "--i-mean-it", "--config", str(config)]
        with output.open("wb") as out:
            interrupted = subprocess.Popen(
                [*command, "--user", "app", "--no-reports"], env={**clean, **variables}, stdout=out, stderr=out
            )
        paused = "SELECT pg_is_wal_replay_paused()"
        eventually(lambda: sandbox.query(paused, sandbox.node("db2")) == [["t"]], 60)
        interrupted.send_signal(signal.SIGINT)
        assert interrupted.wait(60) == 130, output.read_text()
        assert "healed: lag" in output.read_text()
        assert sandbox.query(paused, sandbox.node("db2")) == [["f"]]
        # Of all, what is harmless.
        before = {process.pid for process in endpoint.workers()}
        all_of_them = drill("all")
        assert all_of_them.returncode == 0, all_of_them.stdout + all_of_them.stderr
        results = json.loads((tmp_path / "report.json").read_text())["results"]
        assert [result["drill"] for result in results] == ["worker-crash"]
        assert before != {process.pid for process in endpoint.workers()}
        assert sandbox.query("SELECT count(*) FROM pg_namespace WHERE nspname = 'pointsman_drill'") == [["0"]]
        where = subprocess.run([*PIPE, "--where", str(config)], capture_output=True, text=True, timeout=60, check=False)
        assert where.stdout == f"{tmp_path / 'control'}\n"
        anyio.run(ask_by_pipe, where.stdout.strip())


async def ask_by_pipe(path: str) -> None:
    """As Compose does, where a Pointsman is in a container."""
    other = Pointsman(by_command([*PIPE, path]))
    view = await other.view()
    assert (view.primary, len(view.workers)) == ("db1", 2)
    with pytest.raises(Refused):
        await other.switchover("nobody")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["/nowhere/at/all"], 1, "/nowhere/at/all: No such file or directory\n"),
        (["--where", "/nowhere.toml"], 2, "/nowhere.toml: no such file or directory\n"),
        ([], 2, "usage: python -m middleware.drill.pipe PATH | --where SETTINGS\n"),
    ],
)
def test_a_pipe_to_nobody_says_so(words: list[str], status: int, said: str) -> None:
    done = subprocess.run([*PIPE, *words], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (status, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], 'there is no drill "nothing"'),
        (["all", "--compose", "--config", "x.toml"], "two clusters"),
        (["all", "--json", "nowhere/report.json"], "there is no directory nowhere"),
        (["all", "--config", "nowhere.toml"], "nowhere.toml: no such file"),
    ],
)
def test_what_cannot_be_played_is_one_line_and_status_2(words: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "middleware", "drill", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
