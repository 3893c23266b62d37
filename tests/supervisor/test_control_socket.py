"""The control socket of a real supervisor: what it answers, to whom, and how much it bears."""

import functools
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from healthcheck.guard import Happening
from middleware.service import running
from middleware.supervisor import ListenError, Supervisor, control_socket
from middleware.supervisor.journal import HAPPENINGS_MAX, Journal
from tests.supervisor.conftest import DEADLINE_S, ECHO_WORKER, settings, until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[Supervisor]:
    chosen = settings(control_socket=str(tmp_path / "control"), workers=2)
    async with running(chosen, worker_command=ECHO_WORKER) as supervisor:
        yield supervisor


async def talk(path: Path, request: bytes, *, half_close: bool = False) -> list[Any]:
    """All answers to a request."""
    with anyio.fail_after(DEADLINE_S):
        async with await anyio.connect_unix(path) as stream:
            await stream.send(request)
            if half_close:
                await stream.send_eof()
            heard = b""
            try:
                while True:
                    heard += await stream.receive()
            except anyio.EndOfStream:
                return [json.loads(line) for line in heard.splitlines()]


def all_well(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return condition()

    return holds


async def test_status_is_what_the_supervisor_knows(tmp_path: Path) -> None:
    async with serving(tmp_path) as supervisor:
        path = supervisor.control_path
        assert path is not None
        for half_close in (False, True):
            (answer,) = await talk(path, b'{"do": "status"}\n', half_close=half_close)
            done = answer["done"]
            assert done["primary"] is None
            assert done["failover"] == "follow"
            assert done["topology_version"] == supervisor.topology.version
            assert done["workers"] == [
                {"worker": index, "pid": pid} for index, pid in enumerate(supervisor.worker_pids)
            ]
            (node,) = done["nodes"]
            assert (node["name"], node["host"], node["port"]) == ("db1", "127.0.0.1", 1)
            assert (node["used"], node["condition"], node["why"]) == (False, "down", "connection refused")
            assert time.time() - 60 < node["since"] <= time.time()


async def test_events_end_with_the_backlog_or_are_followed(tmp_path: Path) -> None:
    async with serving(tmp_path) as supervisor:
        path = supervisor.control_path
        assert path is not None
        await until(all_well(lambda: supervisor.journal.last == 2), "the first look at the nodes")
        *events, last = await talk(path, b'{"do": "events"}\n')
        assert [one["event"]["what"] for one in events] == ["node_down", "failover_held"]
        assert events[0]["event"]["node"] == "db1"
        assert last == {"done": {"last": 2}}
        assert await talk(path, b'{"do": "events", "after": 2}\n') == [{"done": {"last": 2}}]
        with anyio.fail_after(DEADLINE_S):
            async with await anyio.connect_unix(path) as stream:
                await stream.send(b'{"do": "events", "after": 2, "follow": true}\n')
                await until(all_well(lambda: supervisor._control._connections == 1), "a follower")
                supervisor.journal.happened(Happening(1.5, "promoted", "it has accepted", "db1"))
                heard = b""
                while b"\n" not in heard:
                    heard += await stream.receive()
        assert json.loads(heard) == {
            "event": {"seq": 3, "at": 1.5, "what": "promoted", "text": "it has accepted", "node": "db1", "bad": False}
        }
        await until(all_well(lambda: supervisor._control._connections == 0), "the follower to be gone")


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        (b"status\n", "JSON"),
        (b"\xff\n", ""),
        (b'{"do": "dance"}\n', "dance"),
        (b"{}\n", "do"),
        (b'{"do": "status", "loud": 1}\n', "loud"),
        (b'{"do": "events", "after": "all"}\n', "after"),
        (b'{"do": "' + b"x" * 20_000, ""),
    ],
)
async def test_what_is_no_request_is_refused_and_harms_nobody(tmp_path: Path, request_: bytes, detail: str) -> None:
    async with serving(tmp_path) as supervisor:
        assert supervisor.control_path is not None
        (answer,) = await talk(supervisor.control_path, request_)
        assert answer["error"]["sqlstate"] == "08P01"
        assert detail in answer["error"]["detail"]
        (answer,) = await talk(supervisor.control_path, b'{"do": "status"}\n')
        assert "done" in answer


async def test_connections_are_bounded_and_silence_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "CONNECTIONS_MAX", 3)
    async with serving(tmp_path) as supervisor:
        path = supervisor.control_path
        assert path is not None
        silent = [await anyio.connect_unix(path) for _ in range(3)]
        await until(all_well(lambda: supervisor._control._connections == 3), "three connections")
        (answer,) = await talk(path, b'{"do": "status"}\n')
        assert answer["error"]["sqlstate"] == "53300"
        # A half-said request, then nothing more: the time for it was taken from the moment of connecting.
        for one in silent:
            await one.aclose()
        await until(all_well(lambda: supervisor._control._connections == 0), "all to be gone")
        monkeypatch.setattr(control_socket, "REQUEST_S", 0.1)
        assert await talk(path, b'{"do": "st') == []


async def test_who_reads_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "REQUEST_S", 0.3)
    async with serving(tmp_path) as supervisor:
        assert supervisor.control_path is not None
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(str(supervisor.control_path))
            slow.sendall(b'{"do": "events", "follow": true}\n')
            await until(all_well(lambda: supervisor._control._connections == 1), "a follower")
            for _ in range(HAPPENINGS_MAX):
                supervisor.journal._add(Happening(0.0, "node_down", "x" * 2000, "db1"))
            await until(all_well(lambda: supervisor._control._connections == 0), "it to be cut off")


async def test_a_half_closed_follower_that_goes_is_noticed(tmp_path: Path) -> None:
    async with serving(tmp_path) as supervisor:
        assert supervisor.control_path is not None
        with socket.socket(socket.AF_UNIX) as half:
            half.connect(str(supervisor.control_path))
            half.sendall(b'{"do": "events", "after": 1000000, "follow": true}\n')
            half.shutdown(socket.SHUT_WR)
            await until(all_well(lambda: supervisor._control._connections == 1), "a follower")
            supervisor.journal.last = 1_000_000
            supervisor.journal.happened(Happening(0.0, "promoted", "", "db1"))
            half.settimeout(DEADLINE_S)
            assert b'"seq":1000001' in await anyio.to_thread.run_sync(half.recv, 1000)
        await until(all_well(lambda: supervisor._control._connections == 0), "it to be gone")


async def test_only_its_user_may_and_the_file_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        another = Supervisor(settings(control_socket=str(path)), worker_command=ECHO_WORKER)
        with pytest.raises(ListenError, match=r"^control_socket: could not listen on .*: address already"):
            another.listen()
        # What it had bound by then is free again.
        assert another.generation.doors.clients.sockets == []
        another._shared.close()
        assert len(await talk(path, b'{"do": "status"}\n')) == 1
    assert not path.exists()


async def test_no_socket_where_none_is_wanted() -> None:
    async with running(settings(control_socket=""), worker_command=ECHO_WORKER) as supervisor:
        assert supervisor.control_path is None


def test_the_settings_alone_say_where_it_is(tmp_path: Path) -> None:
    def path(**more: object) -> str:
        return str(settings(**more).control_socket_path())

    assert path() == "None"
    assert path(listen_port=6432) == "/tmp/.s.pointsman.127.0.0.1.6432"
    assert path(listen_port=6432, listen_addr="*") == "/tmp/.s.pointsman._.6432"
    assert len(path(listen_port=6432, listen_addr=", ".join(["::1"] * 100))) < 100
    assert path(listen_port=1, unix_socket_dir=str(tmp_path)) == str(tmp_path / ".s.pointsman.1")
    assert path(listen_port=1, control_socket="") == "None"
    assert path(control_socket="/run/x") == "/run/x"


def test_the_journal_counts_on_and_forgets_the_oldest() -> None:
    journal = Journal()
    for number in range(HAPPENINGS_MAX + 5):
        journal._add(Happening(float(number), "what", "text"))
    assert journal.last == HAPPENINGS_MAX + 5
    assert [one.seq for one in journal.beyond(0)] == list(range(6, HAPPENINGS_MAX + 6))
    assert [one.at for one in journal.beyond(journal.last - 1)] == [HAPPENINGS_MAX + 4]
    assert len(journal.happenings()) == HAPPENINGS_MAX


# The commands of the shell


def write_settings(directory: Path, chosen: str) -> None:
    (directory / "pointsman.toml").write_text(
        f'listen_port = 0\ncontrol_socket = "{chosen}"\n[health_check]\nuser = "m"\n'
        '[nodes.db1]\nhost = "127.0.0.1"\nport = 1\n[users.app]\npassword = "x"\n'
    )


async def pointsman(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    run = functools.partial(
        subprocess.run,
        [sys.executable, "-m", "middleware", *arguments],
        cwd=directory,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return await anyio.to_thread.run_sync(run)


async def test_the_shell_shows_status_and_events(tmp_path: Path) -> None:
    async with serving(tmp_path) as supervisor:
        write_settings(tmp_path, str(tmp_path / "control"))
        shown = await pointsman(tmp_path, "status")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "127.0.0.1:1" in shown.stdout
        assert "db1: connection refused" in shown.stdout
        assert f"workers: {supervisor.worker_pids[0]}, {supervisor.worker_pids[1]}" in shown.stdout
        assert json.loads((await pointsman(tmp_path, "status", "--json")).stdout)["nodes"][0]["name"] == "db1"
        shown = await pointsman(tmp_path, "events")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "node_down" in shown.stdout
        lines = (await pointsman(tmp_path, "events", "--json")).stdout.splitlines()
        assert [json.loads(line)["seq"] for line in lines] == [1, 2]
        assert (await pointsman(tmp_path, "events", "--after", "2")).stdout == ""


async def test_the_shell_follows_until_the_end(tmp_path: Path) -> None:
    write_settings(tmp_path, str(tmp_path / "control"))
    async with anyio.create_task_group() as tasks, serving(tmp_path) as supervisor:
        done: list[subprocess.CompletedProcess[str]] = []

        async def follow() -> None:
            done.append(await pointsman(tmp_path, "events", "--follow"))

        tasks.start_soon(follow)
        await until(all_well(lambda: supervisor._control._connections == 1), "a follower")
        supervisor.journal.happened(Happening(0.0, "promoted", "it has accepted", "db1"))
    assert done[0].returncode == 1
    assert [line.split()[4] for line in done[0].stdout.splitlines()] == ["node_down", "failover_held", "promoted"]
    assert done[0].stderr == "pointsman: the connection was closed: Pointsman has ended, or ends\n"


async def test_the_shell_says_where_nobody_answers(tmp_path: Path) -> None:
    path = tmp_path / "control"
    write_settings(tmp_path, str(path))
    shown = await pointsman(tmp_path, "status")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == f"pointsman: could not reach a Pointsman at {path}: no such file or directory\n"
    write_settings(tmp_path, "")
    shown = await pointsman(tmp_path, "events")
    assert shown.returncode == 2
    assert shown.stderr.startswith("pointsman.toml: control_socket: ")
