"""New settings in a supervisor that runs: who is told what, what is refused, and what stays."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from middleware import sqlstate
from middleware.config import ConfigError, Settings
from middleware.errors import PointsmanError
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.supervisor.conftest import ECHO_WORKER, SECRET, ask, settings, until

pytestmark = pytest.mark.anyio


class File:
    """Stands for the settings file: what is read from it next."""

    def __init__(self, **first: Any) -> None:
        self.first = first
        self.next: Callable[[], Settings] = lambda: settings(**first)

    def write(self, **other: Any) -> None:
        """These settings, besides those that came first."""
        self.next = lambda: settings(**{**self.first, **other})

    def spoil(self, *lines: str) -> None:
        """Mistakes."""

        def read() -> Settings:
            raise ConfigError(lines)

        self.next = read

    def read(self) -> Settings:
        """As it is now."""
        return self.next()


@asynccontextmanager
async def supervised(**first: Any) -> AsyncIterator[tuple[Supervisor, File]]:
    """A supervisor over echo workers, and its file."""
    file = File(**first)
    async with running(file.read(), load=file.read, worker_command=ECHO_WORKER) as supervisor:
        yield supervisor, file


async def told_pool_size(supervisor: Supervisor, worker: int, size: int) -> None:
    async def known() -> bool:
        return bool((await ask(supervisor, worker))["pool_size"] == size)

    await until(known, f"worker {worker} to know of {size}")


def last_event(supervisor: Supervisor) -> tuple[str, str]:
    happening = supervisor.happenings[-1]
    return happening.what, happening.text


async def test_all_workers_are_told_and_so_is_the_next() -> None:
    async with supervised(workers=2, default_pool_size=5) as (supervisor, file):
        file.write(default_pool_size=7)
        reloaded = await supervisor.reload("somebody")
        assert reloaded.changed == (("default_pool_size", "5", "7"),)
        assert not reloaded.needs_restart
        assert not reloaded.files
        assert supervisor.settings.default_pool_size == 7
        for worker in range(2):
            await told_pool_size(supervisor, worker, 7)
        assert last_event(supervisor) == (
            "reloaded",
            "the settings were read again by somebody: default_pool_size: 5 -> 7",
        )
        pid = supervisor.worker_pids[0]
        assert pid
        os.kill(pid, signal.SIGKILL)

        async def replaced() -> bool:
            return supervisor.worker_pids[0] not in (None, pid)

        await until(replaced, "another process")
        await told_pool_size(supervisor, 0, 7)


async def test_what_needs_a_restart_is_named_and_stays() -> None:
    async with supervised() as (supervisor, file):
        for _ in range(2):
            file.write(workers=3, listen_addr="::1", query_timeout=2.0)
            reloaded = await supervisor.reload("somebody")
            assert set(reloaded.needs_restart) == {("workers", "1", "3"), ("listen_addr", "127.0.0.1", "::1")}
            assert (supervisor.settings.workers, supervisor.settings.listen_addr) == (1, "127.0.0.1")
            assert supervisor.settings.query_timeout == 2.0
        assert not reloaded.changed
        assert set(reloaded.words()) == {"workers: needs a restart to be 3", "listen_addr: needs a restart to be ::1"}
        assert await ask(supervisor)


async def test_a_bad_file_changes_nothing() -> None:
    async with supervised(default_pool_size=5) as (supervisor, file):
        file.spoil("p.toml: workers: 0 is not allowed", "p.toml: x: unknown")
        with structlog.testing.capture_logs() as logs, pytest.raises(PointsmanError) as refused:
            await supervisor.reload("somebody")
        assert refused.value.sqlstate == sqlstate.CONFIG_FILE_ERROR
        assert refused.value.detail == "p.toml: workers: 0 is not allowed\np.toml: x: unknown"
        assert [line["why"] for line in logs if line["event"] == "not reloaded"] == refused.value.detail.split("\n")
        assert (supervisor.reloading.reloads, supervisor.reloading.failures) == (0, 1)
        assert last_event(supervisor)[0] == "not_reloaded"
        assert supervisor.happenings[-1].bad
        assert (await ask(supervisor))["pool_size"] == 5
        file.write(default_pool_size=6)
        await supervisor.reload("somebody")
        assert (supervisor.reloading.reloads, supervisor.reloading.failures) == (1, 1)


async def test_what_does_not_go_together_with_what_stays_changes_nothing() -> None:
    """Patroni promotes as long as it is Patroni's word that counts; and that needs a restart to change."""
    patroni = {"topology": "patroni", "patroni_urls": ["127.0.0.1:1"]}
    async with supervised(**patroni) as (supervisor, file):
        file.next = lambda: settings(failover="promote")
        with pytest.raises(PointsmanError) as refused:
            await supervisor.reload("somebody")
        assert "failover" in refused.value.detail
        assert "what needs a restart stays as it is: topology, patroni_urls" in refused.value.detail
        assert supervisor.settings.failover == "follow"


async def test_a_changed_secret_is_used_and_never_told() -> None:
    async with supervised() as (supervisor, file):
        file.write(
            users={"app": {"password": SECRET + "2"}, "b": {"password": "c"}},
            health_check={"user": "monitor", "password": SECRET + "3"},
        )
        with structlog.testing.capture_logs() as logs:
            reloaded = await supervisor.reload("somebody")
        assert {key for key, _, _ in reloaded.changed} == {
            "health_check.password",
            "health_check.period",
            "health_check.timeout",
            "users.app.password",
            "users.b",
        }
        assert SECRET not in repr(reloaded) + repr(logs) + repr(supervisor.happenings)

        async def known() -> bool:
            return bool((await ask(supervisor))["users"] == {"app": SECRET + "2", "b": "c"})

        await until(known, "the worker to know who may come in")


async def test_nodes_come_and_go() -> None:
    async with supervised() as (supervisor, file):
        before = supervisor.topology.version
        file.write(nodes={"db1": {"host": "127.0.0.1", "port": 1}, "db2": {"host": "127.0.0.1", "port": 2}})
        await supervisor.reload("somebody")
        assert [node.name for node in supervisor.topology.nodes] == ["db1", "db2"]
        assert supervisor.topology.version > before
        assert ("node_added", "db2") in [(one.what, one.node) for one in supervisor.happenings]

        async def probed() -> bool:
            return all(node.why == "connection refused" for node in supervisor.topology.nodes)

        await until(probed, "both to be probed")
        file.write(nodes={"db2": {"host": "127.0.0.1", "port": 3}})
        await supervisor.reload("somebody")
        assert [(node.name, node.port) for node in supervisor.topology.nodes] == [("db2", 3)]
        assert ("node_removed", "db1") in [(one.what, one.node) for one in supervisor.happenings]
        await until(probed, "its new place to be probed")
        assert supervisor.status().nodes[0].port == 3


async def test_one_setting_is_set_until_the_next_reload() -> None:
    async with supervised(default_pool_size=5) as (supervisor, _):
        assert (await supervisor.set("default_pool_size", "9", "somebody")).changed == (
            ("default_pool_size", "5", "9"),
        )
        await told_pool_size(supervisor, 0, 9)
        await supervisor.set("admin_users", "a, b", "somebody")
        assert supervisor.settings.admin_users == ("a", "b")
        await supervisor.set("health_check.period", "0.5", "somebody")
        assert supervisor.settings.health_check.period == 0.5
        assert supervisor.settings.default_pool_size == 9
        await supervisor.set("users.app.password", "new", "somebody")
        assert last_event(supervisor) == (
            "set",
            "users.app.password was set by somebody: users.app.password: ******** -> ********",
        )
        assert {one.key: one.value for one in supervisor.config()}["default_pool_size"] == "9"
        reloaded = await supervisor.reload("somebody")
        assert ("default_pool_size", "9", "5") in reloaded.changed
        await told_pool_size(supervisor, 0, 5)


async def test_what_cannot_be_set_is_refused() -> None:
    refusals = [
        ("workers", "2", sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE, 'setting "workers" cannot be changed without a'),
        ("pool_sise", "2", sqlstate.UNDEFINED_OBJECT, 'unknown setting "pool_sise"'),
        (
            "default_pool_size",
            "many",
            sqlstate.INVALID_PARAMETER_VALUE,
            'invalid value for setting "default_pool_size"',
        ),
        ("default_pool_size", "0", sqlstate.INVALID_PARAMETER_VALUE, 'invalid value for setting "default_pool_size"'),
        ("auth_user", "nobody", sqlstate.INVALID_PARAMETER_VALUE, 'invalid value for setting "auth_user"'),
        ("nodes.db1.host", "a..b", sqlstate.INVALID_PARAMETER_VALUE, 'invalid value for setting "nodes.db1.host"'),
    ]
    async with supervised() as (supervisor, _):
        before = supervisor.settings
        for key, value, state, message in refusals:
            with pytest.raises(PointsmanError, match=message) as refused:
                await supervisor.set(key, value, "somebody")
            assert refused.value.sqlstate == state
        assert supervisor.settings is before


async def test_a_variable_counts_before_the_file_and_set_before_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_DEFAULT_POOL_SIZE", "11")
    async with supervised(default_pool_size=5) as (supervisor, file):
        assert supervisor.settings.default_pool_size == 11
        file.write(default_pool_size=6)
        assert (await supervisor.reload("somebody")).changed == ()
        await supervisor.set("default_pool_size", "12", "somebody")
        assert supervisor.settings.default_pool_size == 12
        await supervisor.set("query_timeout", "1", "somebody")
        assert supervisor.settings.default_pool_size == 12
