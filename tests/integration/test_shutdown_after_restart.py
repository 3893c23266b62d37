"""SHUTDOWN while a process before this one still has clients: what it waits for is over both."""

import functools
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import pointsman
from tests.integration.generations import Running, servers
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

OLDER: Final = """
import sys
from middleware.supervisor import link
link._KNOWN -= {"end_with_servers"}
from middleware.cli import main
main()
"""
"""One that does not know the message."""
IN_TIME_S: Final = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """One that nobody else uses: connections are counted."""
    with Sandbox(standbys=0, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


def said(running: Running, command: str) -> None:
    answer = running.ask("console", command=command)[-1]
    assert "done" in answer, answer


def waits_alone(running: Running) -> bool:
    """The new process has no client any more, and waits for the one before."""
    return "waiting for the process before" in running.log()


def gone(pid: int) -> bool:
    """A child of the first is a zombie until that one ends, too."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def ended(running: Running, *pids: int) -> None:
    """All of them."""
    assert running.endpoint.process.wait(IN_TIME_S) == 0
    for pid in pids:
        eventually(functools.partial(gone, pid), IN_TIME_S)
    assert "Traceback" not in running.log()


def sent_away(client: psycopg.Connection[Any]) -> bool:
    try:
        client.execute("SELECT 1")
    except psycopg.errors.AdminShutdown:
        return True
    return False


def begun(client: psycopg.Connection[Any]) -> None:
    client.execute("BEGIN")
    client.execute("SELECT 1")


def test_clients_of_the_process_before_are_waited_for(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path, shutdown_timeout=0) as running, running.connect() as old:
        pid = running.restart()
        with running.connect() as new:
            said(running, "SHUTDOWN WAIT_FOR_CLIENTS")
            assert new.execute("SELECT 1").fetchone() == (1,)
        eventually(lambda: waits_alone(running), IN_TIME_S)
        # It answers operators, and the other its client.
        assert running.status()["clients_before"] == 1
        assert old.execute("SELECT 1").fetchone() == (1,)
        begun(old)
        old.execute("COMMIT")
        assert not gone(pid)
        old.close()
        ended(running, pid)
    assert servers(cluster) == 0


def test_so_are_those_of_one_before_that(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path, shutdown_timeout=0) as running, running.connect() as old:
        pids = [running.restart(), running.restart()]
        said(running, "SHUTDOWN WAIT_FOR_CLIENTS")
        eventually(lambda: waits_alone(running), IN_TIME_S)
        assert old.execute("SELECT 1").fetchone() == (1,)
        assert [gone(pid) for pid in pids] == [False, False]
        old.close()
        ended(running, *pids)


def test_who_cannot_wait_says_so_again(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path) as running, running.connect() as idle, running.connect() as busy:
        idle.execute("SELECT 1")
        begun(busy)
        pid = running.restart()
        said(running, "SHUTDOWN WAIT_FOR_CLIENTS")
        eventually(lambda: waits_alone(running), IN_TIME_S)
        said(running, "SHUTDOWN")
        eventually(lambda: sent_away(idle), IN_TIME_S)
        # Within shutdown_timeout.
        assert busy.execute("SELECT 1").fetchone() == (1,)
        assert not gone(pid)
        busy.execute("COMMIT")
        ended(running, pid)


def test_a_transaction_of_the_process_before_may_end(cluster: Sandbox, tmp_path: Path) -> None:
    with Running(cluster, tmp_path, shutdown_timeout=60) as running, running.connect() as busy:
        begun(busy)
        pid = running.restart()
        said(running, "SHUTDOWN")
        eventually(lambda: waits_alone(running), IN_TIME_S)
        assert busy.execute("SELECT 1").fetchone() == (1,)
        # systemd would end what is left when this one ends.
        assert not gone(pid)
        busy.execute("COMMIT")
        ended(running, pid)


def test_one_that_does_not_end_in_time_is_left_to_itself(
    cluster: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with Running(cluster, tmp_path, shutdown_timeout=60) as running, running.connect() as busy:
        begun(busy)
        running.change("shutdown_timeout", 0)
        pid = running.restart()
        said(running, "SHUTDOWN")
        eventually(lambda: gone(pid), IN_TIME_S)
        assert "the process before has not ended" in running.log()
        assert busy.execute("SELECT 1").fetchone() == (1,)
        busy.execute("COMMIT")
        assert running.endpoint.process.wait(IN_TIME_S) == 0


@pytest.mark.parametrize("older", [False, True], ids=["same version", "older"])
def test_servers_of_the_process_before_are_waited_for(
    cluster: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    if older:
        monkeypatch.setattr(pointsman, "command", (sys.executable, "-c", OLDER))
    settings = {"shutdown_timeout": 2, "consistency": "primary"}
    with Running(cluster, tmp_path, **settings) as running, running.connect() as busy, running.connect() as idle:
        begun(busy)
        idle.execute("SELECT 1")
        pid = running.restart()
        with running.connect() as new:
            new.execute("SELECT 1")
            said(running, "SHUTDOWN WAIT_FOR_SERVERS")
            eventually(lambda: waits_alone(running), IN_TIME_S)
            with pytest.raises(psycopg.errors.AdminShutdown):
                new.execute("SELECT 1")
        eventually(lambda: servers(cluster) == 1, IN_TIME_S)
        errors: list[BaseException] = []

        def sent() -> None:
            try:
                idle.execute("SELECT 1")
            except psycopg.Error as error:
                errors.append(error)

        waiting = threading.Thread(target=sent)
        waiting.start()
        if not older:
            # Who would wait for a server is sent away at once; by an older one when all end.
            waiting.join(IN_TIME_S)
            assert not waiting.is_alive()
        assert busy.execute("SELECT 1").fetchone() == (1,)
        assert not gone(pid)
        busy.execute("COMMIT")
        ended(running, pid)
        waiting.join(IN_TIME_S)
        assert [type(error) for error in errors] == [psycopg.errors.AdminShutdown]
        with pytest.raises(psycopg.errors.AdminShutdown):
            busy.execute("SELECT 1")
    assert servers(cluster) == 0
