"""compose.yaml: that it can be read, and where an engine has the images, the walk of docs/ha-demo.md."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from middleware.config import load_settings
from tests.compose.stack import HEALTHY_TIMEOUT_S, NODES, OVERLAYS, ROOT, Stack, compose_command, obstacle
from tests.compose.writer import Writer
from tests.waiting import eventually

WRITTEN_WITHIN_S = 30.0
PASSWORD = "app-demo"
#: In the background, and a little later: it ends the session that asks for it, sometimes before that has its answer.
STOP = "COPY (SELECT 1) TO PROGRAM '(sleep 0.2; pg_ctl stop -m fast -W -D $PGDATA) >/dev/null 2>&1 &'"
FILES = ("compose.yaml", *OVERLAYS.values())


@pytest.mark.skipif(compose_command() is None, reason="no docker compose here")
@pytest.mark.parametrize("overlay", OVERLAYS.values())
def test_compose_reads_it(overlay: str) -> None:
    command = compose_command()
    assert command is not None
    files = [*command, "-f", "compose.yaml", "-f", overlay]
    if not _run([*command, "version", "--short"]).startswith("1."):  # that one lists those of all profiles
        assert sorted(_run([*files, "config", "--services"]).split()) == [*NODES, "pointsman"]
    monitored = _run([*files, "--profile", "monitoring", "config", "--services"])
    assert sorted(monitored.split()) == [*NODES, "grafana", "pointsman", "prometheus"]


@pytest.mark.parametrize("name", FILES)
def test_every_variable_has_a_default(name: str) -> None:
    used = re.findall(r"\$\{([^}]*)\}", _text(name))
    assert used
    assert [one for one in used if not re.fullmatch(r"[A-Z0-9_]+:-.+", one)] == []


@pytest.mark.parametrize("name", FILES)
def test_what_is_mounted_is_there(name: str) -> None:
    assert [path for path in re.findall(r'"\./([^:"]+):', _text(name)) if not (ROOT / path).exists()] == []


def test_the_settings_are_accepted_with_what_compose_adds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = _text("compose.yaml") + _text("compose.host.yaml")
    for variable, value in re.findall(r"^ +(POINTSMAN_[A-Z0-9_]+): (\S+)$", lines, re.M):
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    # A directory of the container's.
    monkeypatch.setenv("POINTSMAN_STATE_FILE", str(tmp_path / "state"))
    settings = load_settings(ROOT / "deploy" / "pointsman.toml")
    assert sorted(settings.nodes) == list(NODES)
    assert len({node.port for node in settings.nodes.values()}) == len(NODES)


@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize("network", OVERLAYS)
def test_the_walk(network: str) -> None:
    if reason := obstacle(network):
        pytest.skip(reason)
    began = time.monotonic()
    with Stack(network) as stack:
        print(f"{network}: up and healthy after {time.monotonic() - began:.1f} s")
        conninfo = f"host=127.0.0.1 port={stack.port} user=app password={PASSWORD} dbname=app connect_timeout=5"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("CREATE TABLE visits (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
        _reads_are_spread(stack, conninfo)
        _a_killed_primary(stack)
        _a_frozen_primary(stack)
        _a_stopped_primary(stack)
        _a_switchover(stack)
        _all_stopped_and_started(stack)


def _reads_are_spread(stack: Stack, conninfo: str) -> None:
    _until(lambda: stack.followers("db1") == ["db2", "db3"])
    seen: set[str] = set()

    def both() -> bool:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            found = connection.execute("SELECT current_setting('cluster_name')").fetchone()
            assert found is not None
            seen.add(found[0])
        return {"db2", "db3"} <= seen

    _until(both)


def _a_killed_primary(stack: Stack) -> None:
    """It is killed, Pointsman promotes another, and it is brought back: it rewinds and follows."""
    old = stack.primary()
    with Writer(stack.port, PASSWORD) as writer:
        _until(lambda: writer.wrote(old))
        stack.compose("kill", old)
        new = _new_primary(writer, old)
        (other,) = set(NODES) - {old, new}
        _until(lambda: stack.followers(new) == [other])
        assert stack.status()["primary"] == new
        assert f"{new} is the primary" in stack.docker("exec", stack.container("pointsman"), "pointsman", "events")
        stack.compose("start", old)
        took = stack.comes_back_as_standby(old, new)
        time_of_return = time.monotonic()
        _until(lambda: writer.attempts[-1].ended_at > time_of_return)
    print(
        f"killed: no write for {writer.outage_s():.1f} s {writer.errors()}; {old} streams {took:.1f} s after its start"
    )
    _nothing_lost(stack, new, writer)


def _a_frozen_primary(stack: Stack) -> None:
    """It stands still while another is promoted, and goes on as a primary of the past: it gives way by itself."""
    old = stack.primary()
    with Writer(stack.port, PASSWORD) as writer:
        _until(lambda: writer.wrote(old))
        stack.docker("pause", stack.container(old))
        try:
            new = _new_primary(writer, old)
        finally:
            stack.docker("unpause", stack.container(old))
        began = time.monotonic()
        _until(lambda: old in stack.followers(new))
        took = time.monotonic() - began
    assert stack.in_recovery(old)
    print(
        f"frozen: no write for {writer.outage_s():.1f} s {writer.errors()}; {old} streams {took:.1f} s after it went on"
    )
    _nothing_lost(stack, new, writer)


def _a_stopped_primary(stack: Stack) -> None:
    """Its PostgreSQL is stopped cleanly over SQL: it goes on as a standby, in the same container."""
    old = stack.primary()
    _until(lambda: stack.followers(old) == sorted(set(NODES) - {old}))
    with Writer(stack.port, PASSWORD) as writer:
        _until(lambda: writer.wrote(old))
        stack.sql(old, STOP)
        new = _new_primary(writer, old)
        took = stack.comes_back_as_standby(old, new)
    print(f"stopped: no write for {writer.outage_s():.1f} s {writer.errors()}; {old} streams {took:.1f} s after that")
    # A clean stop has sent everything to the standbys: not one acknowledged row may be missing.
    rows = {attempt.row for attempt in writer.attempts if attempt.row is not None}
    assert rows <= _rows(stack, new)


def _a_switchover(stack: Stack) -> None:
    """Clients wait, and none hears of it; the old primary goes on as a standby, in the same container."""
    old = stack.primary()
    new = min(set(NODES) - {old})
    # One that was down a moment ago, and before, must prove itself first.
    _until(lambda: [node["used"] for node in stack.status().get("nodes", [])] == [True] * len(NODES))
    _until(lambda: stack.followers(old) == sorted(set(NODES) - {old}))
    with Writer(stack.port, PASSWORD) as writer:
        _until(lambda: writer.wrote(old))
        stack.docker("exec", stack.container("pointsman"), "pointsman", "switchover", new)
        _until(lambda: writer.wrote(new))
        took = stack.comes_back_as_standby(old, new)
    print(f"switchover: no write for {writer.outage_s():.1f} s; {old} streams {took:.1f} s after that")
    assert writer.errors() == {}
    rows = {attempt.row for attempt in writer.attempts}
    assert rows <= _rows(stack, new)


def _new_primary(writer: Writer, old: str) -> str:
    """Once there is one that takes writes."""
    _until(lambda: any(writer.wrote(node) for node in NODES if node != old))
    node = writer.attempts[-1].node
    assert node is not None
    return node


def _all_stopped_and_started(stack: Stack) -> None:
    before = stack.primary()
    stack.compose("stop")
    assert [stack.state(node)["ExitCode"] for node in NODES] == [0, 0, 0]
    stack.compose("start")
    _until(lambda: stack.in_recovery(before) is False)
    _until(lambda: stack.followers(before) == sorted(set(NODES) - {before}))
    # It begins when all nodes are healthy.
    eventually(lambda: stack.status().get("primary") == before, HEALTHY_TIMEOUT_S)


def _nothing_lost(stack: Stack, primary: str, writer: Writer) -> None:
    """Replication is asynchronous: the old primary's last rows may be gone, those of the new one may not."""
    rows = {attempt.row for attempt in writer.attempts if attempt.node == primary}
    assert rows
    assert rows <= _rows(stack, primary)


def _rows(stack: Stack, node: str) -> set[int | None]:
    command = [
        "exec",
        stack.container(node),
        "psql",
        "-XAtq",
        "-U",
        "postgres",
        "-d",
        "app",
        "-c",
        "SELECT id FROM visits",
    ]
    return set(map(int, stack.docker(*command).split()))


def _until(condition: Callable[[], bool]) -> None:
    eventually(condition, WRITTEN_WITHIN_S)


def _text(name: str) -> str:
    return (ROOT / name).read_text()


def _run(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
