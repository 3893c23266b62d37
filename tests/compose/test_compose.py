"""compose.yaml: that it can be read, and where an engine has the images, the walk of docs/ha-demo.md."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable

import psycopg
import pytest

from middleware.config import load_settings
from tests.compose.stack import NODES, OVERLAYS, ROOT, Stack, compose_command, obstacle
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
    output = _run([*command, "-f", "compose.yaml", "-f", overlay, "config", "--services"])
    assert sorted(output.split()) == [*NODES, "pointsman"]


@pytest.mark.parametrize("name", FILES)
def test_every_variable_has_a_default(name: str) -> None:
    used = re.findall(r"\$\{([^}]*)\}", _text(name))
    assert used
    assert [one for one in used if not re.fullmatch(r"[A-Z0-9_]+:-.+", one)] == []


@pytest.mark.parametrize("name", FILES)
def test_what_is_mounted_is_there(name: str) -> None:
    assert [path for path in re.findall(r'"\./([^:"]+):', _text(name)) if not (ROOT / path).exists()] == []


def test_the_settings_are_accepted_with_what_compose_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _text("compose.yaml") + _text("compose.host.yaml")
    for variable, value in re.findall(r"^ +(POINTSMAN_[A-Z0-9_]+): (\S+)$", lines, re.M):
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
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
    """db1 is killed, db2 promoted by hand, db1 brought back: it rewinds and follows."""
    with Writer(stack.port, PASSWORD) as writer:
        _until(lambda: writer.wrote("db1"))
        stack.compose("kill", "db1")
        _until(writer.failed)
        stack.sql("db2", "SELECT pg_promote()")
        _until(lambda: writer.wrote("db2"))
        _until(lambda: stack.followers("db2") == ["db3"])
        stack.compose("start", "db1")
        took = stack.comes_back_as_standby("db1", "db2")
        time_of_return = time.monotonic()
        _until(lambda: writer.attempts[-1].ended_at > time_of_return)
    print(f"killed: no write for {writer.outage_s():.1f} s {writer.errors()}; db1 streams {took:.1f} s after its start")
    _nothing_lost(stack, "db2", writer)


def _a_frozen_primary(stack: Stack) -> None:
    """db2 stands still while db3 is promoted, and goes on as a primary of the past: it gives way by itself."""
    with Writer(stack.port, PASSWORD) as writer:
        _until(lambda: writer.wrote("db2"))
        stack.docker("pause", stack.container("db2"))
        stack.sql("db3", "SELECT pg_promote()")
        _until(lambda: writer.wrote("db3"))
        stack.docker("unpause", stack.container("db2"))
        began = time.monotonic()
        _until(lambda: "db2" in stack.followers("db3"))
        took = time.monotonic() - began
    assert stack.in_recovery("db2")
    print(
        f"frozen: no write for {writer.outage_s():.1f} s {writer.errors()}; db2 streams {took:.1f} s after it went on"
    )
    _nothing_lost(stack, "db3", writer)


def _a_switchover(stack: Stack) -> None:
    """db3's PostgreSQL is stopped cleanly over SQL, db1 promoted: db3 goes on as its standby, in the same container."""
    _until(lambda: stack.followers("db3") == ["db1", "db2"])
    with Writer(stack.port, PASSWORD) as writer:
        _until(lambda: writer.wrote("db3"))
        stack.sql("db3", STOP)
        _until(lambda: stack.in_recovery("db3") is None)
        stack.sql("db1", "SELECT pg_promote()")
        _until(lambda: writer.wrote("db1"))
        took = stack.comes_back_as_standby("db3", "db1")
    print(f"switchover: no write for {writer.outage_s():.1f} s {writer.errors()}; db3 streams {took:.1f} s after that")
    # A clean stop has sent everything to the standbys: not one acknowledged row may be missing.
    rows = {attempt.row for attempt in writer.attempts if attempt.row is not None}
    assert rows <= _rows(stack, "db1")


def _all_stopped_and_started(stack: Stack) -> None:
    stack.compose("stop")
    assert [stack.state(node)["ExitCode"] for node in NODES] == [0, 0, 0]
    stack.compose("start")
    _until(lambda: stack.in_recovery("db1") is False)
    _until(lambda: stack.followers("db1") == ["db2", "db3"])


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
