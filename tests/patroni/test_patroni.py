"""Followed through a real Patroni's switchover, its failover, and its silence: `make patroni-test`."""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import anyio.to_thread
import psycopg
import pytest

from middleware.config import Settings, build_settings
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.patroni.cluster import HOME, TTL_S, PatroniCluster

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (HOME / ".ready").exists(), reason="Patroni is not installed here: make patroni-test"),
]

DEADLINE_S = 3.0 * TTL_S


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg needs asyncio."""
    return "asyncio"


@pytest.fixture(scope="module")
def running_patroni() -> Iterator[PatroniCluster]:
    with PatroniCluster(int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as cluster:
        yield cluster


@pytest.fixture
def patroni(running_patroni: PatroniCluster) -> PatroniCluster:
    """Whole, whatever the test before has done to it."""
    running_patroni.heal()
    return running_patroni


def settings(cluster: PatroniCluster) -> Settings:
    return build_settings(
        {
            "listen_addr": "127.0.0.1",
            "listen_port": 0,
            "shutdown_timeout": 1.0,
            "query_wait_timeout": 5.0,
            "health_check": {
                "user": "pointsman",
                "password": cluster.passwords["pointsman"],
                "period": 0.3,
                "retry_delay": 0.1,
                "timeout": 1.0,
            },
            # Called otherwise than Patroni does: they are told by their addresses.
            "nodes": {f"db{number}": _place(one) for number, one in enumerate(cluster.members, 1)},
            "users": {"app": {"password": cluster.passwords["app"]}},
            "topology": "patroni",
            "patroni_urls": [member.url for member in cluster.members[:1]],
        },
        origin="test",
    )


def _place(member: object) -> dict[str, object]:
    return {"host": getattr(member, "host"), "port": getattr(member, "port")}  # noqa: B009


class Watch:
    """A supervisor over the cluster, and a client that writes through it, again and again."""

    def __init__(self, cluster: PatroniCluster, supervisor: Supervisor) -> None:
        self.cluster, self.supervisor = cluster, supervisor
        self._stop = threading.Event()
        self._writer = threading.Thread(target=self._write)
        self.acknowledged: list[int] = []
        self.at: list[float] = []
        self.primaries: list[tuple[str, ...]] = []

    def start(self) -> None:
        self._writer.start()

    def stop(self) -> None:
        self._stop.set()
        self._writer.join(30)
        assert not self._writer.is_alive()

    def conninfo(self) -> str:
        host, port = self.supervisor.addresses[0]
        return f"host={host} port={port} user=app password={self.cluster.passwords['app']} dbname=app connect_timeout=5"

    def _write(self) -> None:
        number = 0
        while not self._stop.is_set():
            with contextlib.suppress(psycopg.Error), psycopg.connect(self.conninfo(), autocommit=True) as client:
                client.execute("CREATE TABLE IF NOT EXISTS ledger (number int PRIMARY KEY)")
                while not self._stop.is_set():
                    number += 1
                    client.execute("INSERT INTO ledger VALUES (%s)", (number,))
                    self.acknowledged.append(number)
                    self.at.append(time.monotonic())
                    time.sleep(0.02)
            time.sleep(0.05)

    def primary(self) -> str:
        """As Patroni calls it."""
        node = self.supervisor.topology.primary()
        return "" if node is None else self.cluster.members[int(node.name.removeprefix("db")) - 1].name

    def told(self, what: str) -> list[str]:
        return [one.text for one in self.supervisor.happenings if one.what == what]

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.move_on_after(DEADLINE_S):
            while not condition():
                up = [node.name for node in self.supervisor.topology.nodes if node.up and node.role.value == "primary"]
                assert len(up) <= 1
                await anyio.sleep(0.02)
            return
        pytest.fail(f"{self.supervisor.topology} {[one.text for one in self.supervisor.happenings]}")

    async def until_written(self) -> None:
        """Something new is acknowledged."""
        count = len(self.acknowledged)
        await self.until(lambda: len(self.acknowledged) > count)

    def longest_pause_s(self, since: float) -> float:
        moments = list(self.at)
        before = sum(moment < since for moment in moments)
        moments = moments[max(0, before - 1) :]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))


@contextlib.asynccontextmanager
async def watching(cluster: PatroniCluster) -> AsyncIterator[Watch]:
    async with running(settings(cluster)) as supervisor:
        watch = Watch(cluster, supervisor)
        await watch.until(lambda: watch.primary() != "" and watch.primary() == cluster.leader())
        watch.start()
        try:
            await watch.until_written()
            yield watch
        finally:
            await anyio.to_thread.run_sync(watch.stop)


async def test_followed_through_a_switchover_and_a_failover(patroni: PatroniCluster) -> None:
    async with watching(patroni) as watch:
        # By somebody's order.
        first = watch.primary()
        second = next(name for name in ("pg2", "pg3", "pg1") if name != first)
        began = time.monotonic()
        await anyio.to_thread.run_sync(patroni.switch_over, second)
        await watch.until(lambda: watch.primary() == second)
        await watch.until_written()
        print(f"switchover: {watch.longest_pause_s(began):.1f} s without a write")
        await watch.until(lambda: len(watch.supervisor.topology.standbys()) == 2)
        assert await anyio.to_thread.run_sync(patroni.leader) == second

        # By death: of Patroni and its PostgreSQL.
        began = time.monotonic()
        patroni.member(second).kill()
        await watch.until(lambda: watch.primary() == "")
        await watch.until(lambda: watch.primary() not in ("", second))
        third = watch.primary()
        await watch.until_written()
        print(f"failover: {watch.longest_pause_s(began):.1f} s without a write, with a ttl of {TTL_S} s")
        assert await anyio.to_thread.run_sync(patroni.leader) == third
        # It comes back, and is a standby by Patroni's hand.
        patroni.start(patroni.member(second))
        await watch.until(lambda: len(watch.supervisor.topology.standbys()) == 2)
        assert watch.told("promoted") == []
        await anyio.to_thread.run_sync(watch.stop)
        rows = patroni.query("SELECT number FROM ledger", patroni.member(third), "app").split()
        lost = set(watch.acknowledged) - {int(row) for row in rows}
        print(f"{len(watch.acknowledged)} writes acknowledged, {len(lost)} of them lost")
        # A switchover loses none, and replication was idle for moments only when the failover's primary was killed.
        assert len(lost) <= 5


async def test_its_last_word_stands_while_it_is_silent_and_the_node_agrees(patroni: PatroniCluster) -> None:
    async with watching(patroni) as watch:
        leader = watch.primary()
        for member in patroni.members:
            assert member.process is not None
            os.kill(member.process.pid, signal.SIGSTOP)
        try:
            await watch.until(lambda: watch.told("patroni_trouble") != [])
            await watch.until_written()
            assert watch.primary() == leader
            # Another is promoted behind its back: which of the two is right nobody says, and the lower one is not.
            other = next(member for member in patroni.members if member.name != leader)
            await anyio.to_thread.run_sync(patroni.query, "SELECT pg_promote()", other)
            await watch.until(lambda: watch.primary() == "")
        finally:
            for member in patroni.members:
                if member.process is not None:
                    os.kill(member.process.pid, signal.SIGCONT)
        # It sees to that itself, and says so.
        await watch.until(lambda: watch.told("patroni_answers") != [])
        await watch.until(lambda: watch.primary() != "" and watch.primary() == patroni.leader())
        await watch.until_written()


async def test_without_a_leader_nobody_is_primary_whatever_nodes_say(patroni: PatroniCluster) -> None:
    """Who claims to be one, and is not Patroni's, gets no writes."""
    async with watching(patroni) as watch:
        leader = watch.primary()
        await watch.until(lambda: len(watch.supervisor.topology.standbys()) == 2)
        other = next(member for member in patroni.members if member.name != leader)
        # Its Patroni cannot see to it.
        other.kill_patroni()
        await anyio.to_thread.run_sync(patroni.query, "SELECT pg_promote()", other)

        def refused() -> bool:
            return any(
                f"Patroni says that db{_number(leader)} leads" in node.why for node in watch.supervisor.topology.nodes
            )

        await watch.until(refused)
        # For a moment it is not known whether that was a failover; Patroni is asked, and says that it was none.
        await watch.until(lambda: watch.primary() == leader)
        await watch.until_written()
        assert watch.primary() == leader
        assert refused()


def _number(member: str) -> int:
    return int(member.removeprefix("pg"))
