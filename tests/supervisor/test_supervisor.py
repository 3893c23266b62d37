"""The supervisor over real worker processes: start, restart, what goes over the channel, and the end."""

import os
import signal
import time
from pathlib import Path

import anyio
import pytest
import structlog

from middleware.control import process_id_of
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.supervisor.conftest import ECHO_WORKER, SECRET, ask, settings, until

pytestmark = pytest.mark.anyio


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def new_pid(supervisor: Supervisor, worker: int, old: int) -> int:
    """The pid of the worker's next process, once it accepts clients."""

    async def changed() -> int | None:
        pid = supervisor.worker_pids[worker]
        return pid if pid not in (None, old) else None

    await until(changed, "a new process")
    return int((await ask(supervisor, worker))["pid"])


async def test_a_worker_gets_its_settings_and_the_nodes() -> None:
    async with running(settings(workers=2, default_pool_size=5), worker_command=ECHO_WORKER) as supervisor:
        known = [await ask(supervisor, index) for index in range(2)]
        assert [one["worker"] for one in known] == [0, 1]
        assert [one["pool_size"] for one in known] == [5, 5]
        assert [one["pid"] for one in known] == list(supervisor.worker_pids)
        assert known[0]["users"] == {"app": SECRET}
        assert known[0]["topologies"] == [1]
        assert not supervisor.topology.nodes[0].up
        assert supervisor.topology.nodes[0].why == "connection refused"


async def test_secrets_are_in_neither_arguments_nor_environment() -> None:
    async with running(settings(), worker_command=ECHO_WORKER) as supervisor:
        known = await ask(supervisor)
        for name in ("cmdline", "environ"):
            assert SECRET.encode() not in await anyio.Path(f"/proc/{known['pid']}/{name}").read_bytes()


async def test_a_worker_inherits_its_channel_and_the_listeners_only(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as other:
        os.set_inheritable(other.fileno(), True)
        async with running(settings(unix_socket_dir=str(tmp_path)), worker_command=ECHO_WORKER) as supervisor:
            known = await ask(supervisor)
            opened = [os.readlink(f"/proc/{known['pid']}/fd/{fd}") for fd in os.listdir(f"/proc/{known['pid']}/fd")]
    assert str(tmp_path / "open") not in opened
    # Two listeners and the channel, and the pair that asyncio wakes its loop with.
    assert sum(one.startswith("socket:") for one in opened) <= 6


async def test_a_dead_worker_is_replaced_and_the_others_go_on() -> None:
    async with running(settings(workers=2), worker_command=ECHO_WORKER) as supervisor:
        first, other = [pid for pid in supervisor.worker_pids if pid]
        os.kill(first, signal.SIGKILL)
        assert await new_pid(supervisor, 0, first) != first
        assert supervisor.worker_pids[1] == other


async def test_a_worker_that_keeps_dying_is_started_less_and_less_often() -> None:
    with structlog.testing.capture_logs() as logs:
        async with running(settings(), worker_command=ECHO_WORKER) as supervisor:
            for _ in range(4):
                pid = supervisor.worker_pids[0]
                assert pid
                await ask(supervisor, order="exit 7")
                await new_pid(supervisor, 0, pid)
    died = [line for line in logs if line["event"] == "worker died"]
    assert [line["restart_in_s"] for line in died] == [0.0, 0.1, 0.2, 0.4]
    assert {line["status"] for line in died} == {"exit status 7"}


async def test_counters_outlive_the_worker_that_counted() -> None:
    async with running(settings(workers=2), worker_command=ECHO_WORKER) as supervisor:

        async def reads(expected: int) -> None:
            async def reached() -> bool:
                counted = supervisor.counters().nodes.get("db1")
                return counted is not None and counted.reads == expected

            await until(reached, f"{expected} reads")

        await ask(supervisor, 0, "counters 10")
        await ask(supervisor, 1, "counters 5")
        await reads(15)
        await ask(supervisor, 0, "counters 12")
        await reads(17)
        counters = supervisor.counters()
        assert (counters.clients, counters.waiting, counters.nodes["db1"].servers) == (2, 4, 12)
        pid = supervisor.worker_pids[0]
        assert pid
        await ask(supervisor, 0, "exit 1")
        await new_pid(supervisor, 0, pid)
        counters = supervisor.counters()
        assert (counters.clients, counters.nodes["db1"].reads, counters.nodes["db1"].servers) == (1, 17, 6)
        await ask(supervisor, 0, "counters 1")
        await reads(18)


async def test_a_cancel_goes_to_the_worker_its_key_names() -> None:
    async with running(settings(workers=3), worker_command=ECHO_WORKER) as supervisor:
        process_id = process_id_of(2, 77)
        # A key that names no worker goes nowhere, and does no harm.
        await ask(supervisor, 0, f"cancel {process_id_of(200, 1)}")
        await ask(supervisor, 0, f"cancel {process_id}")

        async def arrived() -> bool:
            return bool((await ask(supervisor, 2))["cancels"] == [process_id])

        await until(arrived, "the cancel")
        assert (await ask(supervisor, 1))["cancels"] == []


@pytest.mark.parametrize("order", ["nonsense", "close"])
async def test_a_worker_with_a_broken_channel_is_replaced(order: str) -> None:
    async with running(settings(), worker_command=ECHO_WORKER) as supervisor:
        pid = supervisor.worker_pids[0]
        assert pid
        await ask(supervisor, order=order)
        await new_pid(supervisor, 0, pid)
        assert not alive(pid)


async def test_a_stopped_worker_holds_up_neither_the_others_nor_the_end() -> None:
    async with running(settings(workers=2, shutdown_timeout=0.1), worker_command=ECHO_WORKER) as supervisor:
        stopped = supervisor.worker_pids[0]
        assert stopped
        os.kill(stopped, signal.SIGSTOP)
        await ask(supervisor, 1, "counters 3")

        async def counted() -> bool:
            return bool(supervisor.counters().nodes)

        await until(counted, "counters of the other worker")
    assert not alive(stopped)


async def test_the_end_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running(settings(workers=2, unix_socket_dir=str(tmp_path)), worker_command=ECHO_WORKER) as supervisor:
        pids = [pid for pid in supervisor.worker_pids if pid]
        assert supervisor.unix_path
        assert supervisor.unix_path.is_socket()
        address = supervisor.addresses[0]
    assert not any(alive(pid) for pid in pids)
    assert os.listdir(tmp_path) == []
    with pytest.raises(OSError):
        await anyio.connect_tcp(*address)


async def test_a_worker_that_does_not_drain_is_killed_in_the_end() -> None:
    changed = settings(shutdown_timeout=0.1)
    async with running(changed, worker_command=ECHO_WORKER) as supervisor:
        pid = supervisor.worker_pids[0]
        assert pid
        await ask(supervisor, order="deaf")
    assert not alive(pid)


async def test_stopping_twice_does_not_wait() -> None:
    async with running(settings(shutdown_timeout=600.0), worker_command=ECHO_WORKER) as supervisor:
        pid = supervisor.worker_pids[0]
        assert pid
        await ask(supervisor, order="deaf")
        started = time.monotonic()
        supervisor.stop()
        supervisor.stop()
    assert time.monotonic() - started < 60
    assert not alive(pid)


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with running(settings(), worker_command=ECHO_WORKER):
            raise KeyError("mine")


async def test_cancelled_it_kills_its_workers() -> None:
    pids: list[int] = []
    with anyio.CancelScope() as scope:
        async with running(settings(shutdown_timeout=600.0), worker_command=ECHO_WORKER) as supervisor:
            pids = [pid for pid in supervisor.worker_pids if pid]
            await ask(supervisor, order="deaf")
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert len(pids) == 1
    assert not alive(pids[0])
