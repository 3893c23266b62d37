"""For tests of a reload: a Pointsman whose settings file is written anew, and clients that work all the while."""

import asyncio
import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import asyncpg
import psycopg

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman, settings_for
from tests.waiting import eventually

MINE = "usename = 'app' AND backend_type = 'client backend' AND application_name <> 'test'"
SERVERS = f"SELECT count(*) FROM pg_stat_activity WHERE {MINE}"


class Reloadable:
    """A running Pointsman, and its file."""

    def __init__(self, cluster: Sandbox, endpoint: Endpoint, instance: pointsman, path: Path) -> None:
        self.cluster = cluster
        self.endpoint = endpoint
        self.log = instance.log
        self.path = path
        self._reloads = 0

    def write(self, nodes: Sequence[str], **settings: Any) -> None:
        """These nodes of the cluster, and these settings."""
        self.path.write_text(text(self.cluster, nodes, **settings))

    def reload(self, kind: str = "reloaded") -> str:
        """SIGHUP; the line that it earns."""
        before = len(self._told())
        self.endpoint.process.send_signal(signal.SIGHUP)
        eventually(lambda: len(self._told()) > before)
        line = self._told()[before]
        assert f"event_kind={kind}" in line, line
        return line

    def _told(self) -> list[str]:
        return [line for line in self.log().splitlines() if "loaded " in line and "event_kind=" in line]

    def use(self, nodes: Sequence[str], **settings: Any) -> str:
        """Both."""
        self.write(nodes, **settings)
        return self.reload()

    def servers(self, node: str) -> int:
        """Of the user's, on a node."""
        return int(self.cluster.query(SERVERS, self.cluster.node(node))[0][0])

    def connect(self, **keys: Any) -> psycopg.Connection[Any]:
        conninfo = psycopg.conninfo.make_conninfo(self.endpoint.conninfo(), **keys)
        return psycopg.connect(conninfo, autocommit=True)


def text(
    cluster: Sandbox,
    nodes: Sequence[str],
    *,
    users: Mapping[str, str] | None = None,
    hosts: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    **settings: Any,
) -> str:
    """The file. `hosts`: where nodes are, if not where the cluster says; `names`: what they are called instead."""
    shown = [cluster.node(name) for name in nodes]
    part = SimpleNamespace(
        nodes=[
            SimpleNamespace(
                name=(names or {}).get(node.name, node.name),
                host=(hosts or {}).get(node.name, node.host),
                port=node.port,
            )
            for node in shown
        ],
        passwords={**cluster.passwords, **(users or {})},
    )
    return settings_for(cast(Sandbox, part), **settings)


@contextlib.contextmanager
def reloadable(cluster: Sandbox, directory: Path, nodes: Sequence[str], **settings: Any) -> Iterator[Reloadable]:
    """One that begins with these nodes and settings."""
    part = SimpleNamespace(
        nodes=[cluster.node(name) for name in nodes],
        passwords=cluster.passwords,
        user=cluster.user,
        database=cluster.database,
    )
    instance = pointsman(cast(Sandbox, part), directory, **settings)
    with instance as endpoint:
        yield Reloadable(cluster, endpoint, instance, directory / "pointsman.toml")


class Load:
    """Clients that work until told to stop: transactions, prepared statements, reads. They count, and hide nothing."""

    def __init__(self, endpoint: Endpoint, clients: int) -> None:
        self._endpoint = endpoint
        self._clients = clients
        self.served: Counter[int] = Counter()
        """Reads, by the port of the node that served them."""
        self.done = 0
        self.errors: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        with psycopg.connect(self._endpoint.conninfo(), autocommit=True) as client:
            client.execute("CREATE TABLE IF NOT EXISTS counted (client int PRIMARY KEY, value int NOT NULL)")
            client.execute("TRUNCATE counted")
            client.execute("INSERT INTO counted SELECT g, 0 FROM generate_series(0, %s::int - 1) g", (self._clients,))
        self._thread.start()
        eventually(lambda: self.done > self._clients or bool(self.errors), 30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        try:
            client = await asyncpg.connect(
                self._endpoint.url(), server_settings={"application_name": "load"}, timeout=30, command_timeout=60
            )
            try:
                value = 0
                while not self._stopping.is_set():
                    value += 1
                    await self._work(client, number, value)
                    self.done += 1
                    await asyncio.sleep(0.01 * (number % 5))
            finally:
                await client.close(timeout=10)
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    async def _work(self, client: Any, number: int, value: int) -> None:
        async with client.transaction():
            await client.execute("UPDATE counted SET value = $1 WHERE client = $2", value, number)
            assert await client.fetchval("SELECT value FROM counted WHERE client = $1", number) == value
        # Its own write, wherever that is read.
        seen = await client.fetchval("SELECT value FROM counted WHERE client = $1", number)
        assert seen == value, f"client {number} has read {seen} after it has written {value}"
        for _ in range(3):
            self.served[await client.fetchval("SELECT inet_server_port()")] += 1

    def assert_well(self) -> None:
        """No client has seen an error, and they still work."""
        before = self.done
        eventually(lambda: self.done > before + self._clients or bool(self.errors), 30)
        assert not self.errors, self.errors[:5]

    def wait_for_reads_at(self, port: int, count: int = 20) -> None:
        """Until the node at this port has served some more."""
        before = self.served[port]
        eventually(lambda: self.served[port] >= before + count or bool(self.errors), 30)
        assert not self.errors, self.errors[:5]
