"""The query cache of a real supervisor: what its processes are told, killed and stopped ones too, and the shell."""

import json
import os
import pwd
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from middleware.cache.versions import EVERYTHING
from middleware.service import running
from middleware.supervisor import Supervisor, cache_control
from middleware.supervisor.workers import WORKER_COMMAND
from tests.supervisor.conftest import ECHO_WORKER, ask, settings, until
from tests.supervisor.test_control_socket import pointsman, talk, write_settings
from tests.supervisor.test_supervisor import new_pid

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(tmp_path: Path, **more: Any) -> AsyncIterator[Supervisor]:
    chosen = settings(control_socket=str(tmp_path / "control"), workers=2, **more)
    async with running(chosen, worker_command=ECHO_WORKER) as supervisor:
        yield supervisor


async def request(supervisor: Supervisor, **what: object) -> Any:
    """The last word."""
    assert supervisor.control_path is not None
    return (await talk(supervisor.control_path, json.dumps(what).encode() + b"\n"))[-1]


async def caches(supervisor: Supervisor, worker: int) -> list[list[object]]:
    found: list[list[object]] = (await ask(supervisor, worker))["caches"]
    return found


async def test_it_is_on_in_two_steps_and_off_in_two(tmp_path: Path) -> None:
    async with serving(tmp_path) as supervisor:
        state = (await request(supervisor, do="cache", mode="on"))["done"]
        assert state == {
            "serving": True,
            "tracking": True,
            "routes": [{"name": "", "mode": "on", "by": "operator"}],
        }
        await request(supervisor, do="cache", mode="off")
        for worker in range(2):
            assert await caches(supervisor, worker) == [
                # Before it has clients; then with them.
                [False, False, {}, "", False],
                [True, False, {}, "on", True],
                [True, True, {}, "on", True],
                [True, False, {}, "off", True],
                [False, False, {}, "off", True],
            ]


async def test_by_the_settings_it_is_on_before_the_first_client(tmp_path: Path) -> None:
    async with serving(tmp_path, query_cache="hint") as supervisor:
        for worker in range(2):
            assert await caches(supervisor, worker) == [[True, True, {}, "", False]]
        stats = (await request(supervisor, do="cache_stats"))["done"]
        assert stats["state"]["routes"] == [{"name": "", "mode": "hint", "by": "settings"}]


async def test_a_worker_that_comes_later_tracks_before_it_has_clients(tmp_path: Path) -> None:
    async with serving(tmp_path) as supervisor:
        await request(supervisor, do="cache", mode="hint")
        pid = supervisor.worker_pids[0]
        assert pid
        os.kill(pid, signal.SIGKILL)
        await new_pid(supervisor, 0, pid)
        assert await caches(supervisor, 0) == [[True, True, {}, "hint", False]]
        # It tracked: its column tells what it had under way.
        assert supervisor.cache._versions.settled((EVERYTHING,), 0.0)


async def test_a_stopped_worker_keeps_it_off_and_its_death_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_control, "TOGGLE_S", 1.0)
    async with serving(tmp_path) as supervisor:
        pid = supervisor.worker_pids[1]
        assert pid
        os.kill(pid, signal.SIGSTOP)
        try:
            error = (await request(supervisor, do="cache", mode="on"))["error"]
            assert error["message"] == "worker 1 does not answer within 1 s"
            assert error["detail"] == "The query cache stays off, as it was."
            assert error["sqlstate"] == "55000"
            assert [one[:2] for one in await caches(supervisor, 0)] == [[False, False], [True, False], [False, False]]
            # Killed in the middle of the next: the other is served, and of what it left nobody knows for a while.
            answers: list[Any] = []

            async def switch() -> None:
                answers.append(await request(supervisor, do="cache", mode="on"))

            async def first_holds() -> bool:
                return (await caches(supervisor, 0))[-1][:2] == [True, False]

            monkeypatch.setattr(cache_control, "TOGGLE_S", 20.0)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(switch)
                await until(first_holds, "the other worker to track")
                assert supervisor.cache._versions.settled((EVERYTHING,), 0.0)
                os.kill(pid, signal.SIGKILL)
        finally:
            if supervisor.worker_pids[1] == pid:
                os.kill(pid, signal.SIGCONT)
        assert answers[0]["done"]["serving"] is True
        assert not supervisor.cache._versions.settled((EVERYTHING,), 0.0)
        await new_pid(supervisor, 1, pid)
        for worker in range(2):
            assert (await caches(supervisor, worker))[-1][:2] == [True, True]


async def test_off_with_a_stopped_worker_goes_on_tracking_until_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_control, "TOGGLE_S", 1.0)
    async with serving(tmp_path, query_cache="on") as supervisor:
        pid = supervisor.worker_pids[1]
        assert pid
        os.kill(pid, signal.SIGSTOP)
        try:
            error = (await request(supervisor, do="cache", mode="off"))["error"]
            assert "are tracked until all have answered" in error["detail"]
            assert (await caches(supervisor, 0))[-1][:2] == [True, False]
        finally:
            os.kill(pid, signal.SIGCONT)

        async def off() -> bool:
            return (await caches(supervisor, 0))[-1][:2] == [False, False]

        await until(off, "both to be off")
        assert (await caches(supervisor, 1))[-1][:2] == [False, False]


async def test_clear(tmp_path: Path) -> None:
    async with serving(tmp_path, query_cache="on") as supervisor:
        before = supervisor.cache._versions.version((EVERYTHING,))
        assert "done" in await request(supervisor, do="cache_clear")
        assert supervisor.cache._versions.version((EVERYTHING,)) > before
        for worker in range(2):
            assert (await ask(supervisor, worker))["cleared"] == ["clear"]


@pytest.mark.parametrize(
    ("what", "sqlstate"),
    [
        ({"do": "cache", "mode": "on", "route": "nobody"}, "42704"),
        ({"do": "cache", "mode": "never"}, "08P01"),
        ({"do": "cache"}, "08P01"),
    ],
)
async def test_what_cannot_be_done_changes_nothing(tmp_path: Path, what: dict[str, object], sqlstate: str) -> None:
    async with serving(tmp_path) as supervisor:
        assert (await request(supervisor, **what))["error"]["sqlstate"] == sqlstate
        assert len(await caches(supervisor, 0)) == 1


async def test_counts_outlive_the_worker_that_counted_and_its_memory_does_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as supervisor:

        async def hits(expected: int) -> None:
            async def reached() -> bool:
                return supervisor._totals.cache().hits == expected

            await until(reached, f"{expected} hits")

        await ask(supervisor, 0, "counters 10")
        await ask(supervisor, 1, "counters 5")
        await hits(15)
        pid = supervisor.worker_pids[0]
        assert pid
        await ask(supervisor, 0, "exit 1")
        await new_pid(supervisor, 0, pid)
        await ask(supervisor, 0, "counters 1")
        await hits(16)
        counters = (await request(supervisor, do="cache_stats"))["done"]["counters"]
        assert (counters["hits"], counters["entries"]) == (16, 6)
        assert [(one["shape"], one["calls"]) for one in counters["digests"]] == [("SELECT $1", 16)]


# The commands of the shell


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


async def test_the_shell_switches_workers_that_serve_clients(tmp_path: Path) -> None:
    chosen = settings(control_socket=str(tmp_path / "control"), workers=2, routes=[{"name": "web", "user": "web"}])
    write_settings(tmp_path, str(tmp_path / "control"))

    async def shown(*arguments: str) -> str:
        done = await pointsman(tmp_path, "cache", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    async with running(chosen, worker_command=WORKER_COMMAND) as supervisor:
        assert words(await shown("on", "--route", "web")) == [
            ["route", "query", "cache", "by"],
            ["web", "on", "operator"],
            ["(all", "others)", "off", "settings"],
        ]
        assert supervisor.cache.state().serving
        assert words(await shown("hint", "--route", ""))[1:] == [
            ["web", "on", "operator"],
            ["(all", "others)", "hint", "operator"],
        ]
        assert json.loads(await shown("off", "--json"))["serving"] is False
        assert words(await shown("default"))[1:] == [["web", "off", "settings"], ["(all", "others)", "off", "settings"]]
        assert await shown("clear") == "cleared\n"
        me = pwd.getpwuid(os.getuid()).pw_name
        assert [one.text for one in supervisor.happenings if one.what.startswith("cache_")] == [
            f'the query cache is "on" for rule "web", by {me}',
            f'the query cache is "hint" for whom no rule is for, by {me}',
            f'the query cache is "off" for all, by {me}',
            f'the query cache is "default" for all, by {me}',
            f"the query cache was cleared by {me}",
        ]
        refused = await pointsman(tmp_path, "cache", "on", "--route", "nobody")
        assert refused.returncode == 1
        assert refused.stderr.startswith('pointsman: there is no rule "nobody"\nHINT:  There are "web", ""')


async def test_the_shell_shows_the_numbers(tmp_path: Path) -> None:
    async with serving(tmp_path, query_cache="on") as supervisor:
        write_settings(tmp_path, str(tmp_path / "control"))
        await ask(supervisor, 0, "counters 10")

        async def counted() -> bool:
            return supervisor._totals.cache().hits == 10

        await until(counted, "the counts")
        totals = words((await pointsman(tmp_path, "cache", "stats")).stdout)
        assert ["(all", "others)", "on", "settings"] in totals
        assert ["hits", "10", "of", "10,", "100.0%"] in totals
        assert ["entries", "3,", "0", "bytes"] in totals
        shown = words((await pointsman(tmp_path, "cache", "stats", "--digests")).stdout)
        assert shown[-1] == ["d", "10", "10", "100.0%", "0", "0", "bytes", "0.000", "s", "SELECT", "$1"]
        known = json.loads((await pointsman(tmp_path, "cache", "stats", "--json")).stdout)
        assert known["counters"]["digests"][0]["shape"] == "SELECT $1"
