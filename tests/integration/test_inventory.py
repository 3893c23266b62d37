"""What workers say of their clients, servers, pools and prepared statements when they are asked, on a real cluster."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import psutil
import psycopg
import pytest

from middleware.reports import ClientReport, PoolReport, PreparedReport, Report, ServerReport, Subject
from middleware.sandbox import Sandbox
from middleware.service import running
from middleware.supervisor import Supervisor
from middleware.wire.frontend import Query, StartupMessage
from tests.differential.raw_client import Address, RawClient
from tests.supervisor.quick import quick_settings

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

DEADLINE_S = 20.0


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg needs asyncio."""
    return "asyncio"


class Asked:
    """A running Pointsman, and what its workers say."""

    def __init__(self, cluster: Sandbox, supervisor: Supervisor) -> None:
        self.cluster = cluster
        self.supervisor = supervisor

    async def connect(self, **more: Any) -> psycopg.AsyncConnection[Any]:
        host, port = self.supervisor.addresses[0]
        user = self.cluster.user
        known = {"host": host, "port": port, "user": user, "password": self.cluster.passwords[user]}
        return await psycopg.AsyncConnection.connect(
            **{**known, "dbname": self.cluster.database, "connect_timeout": 10, **more}, autocommit=True
        )

    async def reports(self, subject: Subject, limit: int = 0) -> list[Report]:
        answers = await self.supervisor.asking.ask(subject, limit)
        assert answers.silent == ()
        return [report for _, report in answers.reports]

    async def clients(self) -> dict[str, ClientReport]:
        """By application_name."""
        found = [one for one in await self.reports("clients") if isinstance(one, ClientReport)]
        return {one.application_name: one for one in found}

    async def servers(self) -> list[ServerReport]:
        return [one for one in await self.reports("servers") if isinstance(one, ServerReport)]

    async def pools(self) -> list[PoolReport]:
        return [one for one in await self.reports("pools") if isinstance(one, PoolReport)]


@asynccontextmanager
async def asked(cluster: Sandbox, **settings: Any) -> AsyncIterator[Asked]:
    async with running(quick_settings(cluster, **settings)) as supervisor:
        yield Asked(cluster, supervisor)


async def test_descriptors_are_those_of_their_sockets(cluster: Sandbox) -> None:
    async with asked(cluster, workers=1) as one, await one.connect(application_name="holds") as client:
        await client.execute("BEGIN")
        await client.execute("SELECT 1")
        holds = (await one.clients())["holds"]
        (server,) = [each for each in await one.servers() if each.process_id == holds.link and each.node == holds.node]
        (pid,) = one.supervisor.worker_pids
        there = {each.fd: each for each in psutil.Process(pid).net_connections("tcp")}
        assert there[holds.descriptor].raddr == (holds.addr, holds.port)
        assert there[server.descriptor].laddr == (server.local_addr, server.local_port)
        assert there[server.descriptor].raddr.port == server.port


async def test_what_is_held_of_a_connection_is_counted(cluster: Sandbox) -> None:
    query = Query(b"SELECT 1").encode()
    async with asked(cluster) as one, await one.connect() as quiet:
        address = Address(*one.supervisor.addresses[0], cluster.user, cluster.passwords[cluster.user], cluster.database)

        def raw(name: str) -> RawClient:
            given = {b"user": cluster.user, b"database": cluster.database, b"application_name": name}
            client = RawClient(address)
            client.log_in(StartupMessage(tuple((key, value.encode()) for key, value in given.items())).encode())
            return client

        async def until(name: str, counts: Callable[[ClientReport], bool]) -> None:
            with anyio.fail_after(DEADLINE_S):
                while not counts((await one.clients())[name]):
                    await anyio.sleep(0.02)

        await quiet.execute("SELECT 1")
        with await anyio.to_thread.run_sync(raw, "half") as half:
            half.send(query[:9])
            await until("half", lambda report: report.unread_bytes == 9)
            half.send(query[9:])
            await until("half", lambda report: report.unread_bytes == 0)
        await one.supervisor.pausing.pause(None, "somebody")
        with await anyio.to_thread.run_sync(raw, "waits") as waits:
            waits.send(query)
            await until("waits", lambda report: report.unread_bytes == len(query))
            await one.supervisor.pausing.resume(None, "somebody")
            await until("waits", lambda report: report.unread_bytes == 0)
        with await anyio.to_thread.run_sync(raw, "reads nothing") as slow:
            slow.send(Query(b"SELECT repeat('x', 50000000)").encode())

            async def held() -> bool:
                pid = (await one.clients())["reads nothing"].process_id
                return any(each.link == pid and each.unsent_bytes and each.left_bytes for each in await one.servers())

            with anyio.fail_after(DEADLINE_S):
                while not await held():
                    await anyio.sleep(0.02)


async def test_a_client_is_reported_with_its_server(cluster: Sandbox) -> None:
    before = time.time()
    async with asked(cluster) as one, await one.connect(application_name="a' <b>") as client:
        (row,) = await (await client.execute("SELECT 1")).fetchall()
        assert row == (1,)
        idle = (await one.clients())["a' <b>"]
        assert (idle.state, idle.link, idle.node, idle.replication, idle.pinned) == ("idle", 0, "", "", "")
        assert (idle.database, idle.user, idle.mode, idle.tls) == (cluster.database, cluster.user, "transaction", "")
        assert idle.process_id == client.info.backend_pid
        assert (idle.addr, idle.local_addr, idle.local_port) == ("127.0.0.1", *one.supervisor.addresses[0])
        assert before - 0.5 <= idle.connected_at <= idle.requested_at <= time.time() + 0.5
        async with client.transaction():
            (found,) = await (await client.execute("SELECT pg_backend_pid(), inet_client_port()")).fetchall()
            active = (await one.clients())["a' <b>"]
            assert (active.state, active.link, active.node) == ("active", found[0], "db1")
            assert active.port == idle.port
            server = next(server for server in await one.servers() if server.process_id == found[0])
            assert (server.state, server.link, server.application_name) == ("active", active.process_id, "a' <b>")
            assert (server.node, server.host, server.port) == ("db1", cluster.primary.host, cluster.primary.port)
            assert (server.local_addr, server.local_port) == ("127.0.0.1", found[1])
            assert before - 0.5 <= server.connected_at <= time.time()
        with anyio.fail_after(DEADLINE_S):
            # It may be asked about the session's state first.
            while (server := next(server for server in await one.servers() if server.process_id == found[0])).link:
                await anyio.sleep(0.02)
        assert (server.state, server.application_name, server.close_needed) == ("idle", "", False)


async def test_who_waits_is_reported_and_for_how_long(cluster: Sandbox) -> None:
    async with asked(cluster, default_pool_size=1) as one, AsyncExitStack() as stack:
        holder = await stack.enter_async_context(await one.connect(application_name="holder"))
        waiter = await stack.enter_async_context(await one.connect(application_name="waiter"))
        await holder.execute("BEGIN")
        await holder.execute("SELECT txid_current()")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waiter.execute, "SELECT txid_current()")
            with anyio.fail_after(DEADLINE_S):
                while (found := (await one.clients())["waiter"]).waited_s < 0.3:
                    await anyio.sleep(0.02)
            assert (found.state, found.link) == ("waiting", 0)
            (pool,) = [pool for pool in await one.pools() if pool.node == "db1"]
            assert (pool.cl_active, pool.cl_waiting, pool.sv_active, pool.sv_idle, pool.size) == (1, 1, 1, 0, 1)
            assert pool.maxwait_s >= 0.3
            assert (pool.database, pool.user, pool.route, pool.mode) == (
                cluster.database,
                cluster.user,
                "",
                "transaction",
            )
            assert pool.state == "active"
            assert [pool.cl_active + pool.cl_waiting for pool in await one.pools() if pool.node != "db1"] == [0, 0]
            await holder.execute("COMMIT")
        with anyio.fail_after(DEADLINE_S):
            while (await one.clients())["waiter"].state != "idle":
                await anyio.sleep(0.02)
        (pool,) = [pool for pool in await one.pools() if pool.node == "db1"]
        assert (pool.cl_active, pool.cl_waiting, pool.sv_active, pool.sv_idle, pool.maxwait_s) == (2, 0, 0, 1, 0)


async def test_a_rule_and_the_names_that_clients_use_are_told(cluster: Sandbox) -> None:
    rules = [
        {"name": "reports", "database": "told", "server_database": cluster.database, "pool_mode": "session",
         "pool_size": 3},
    ]  # fmt: skip
    async with asked(cluster, routes=rules) as one, await one.connect(dbname="told", application_name="r") as client:
        await client.execute("SELECT 1")
        found = (await one.clients())["r"]
        assert (found.database, found.route, found.mode) == ("told", "reports", "session")
        assert found.pinned == "session pooling"
        pools = [pool for pool in await one.pools() if pool.route == "reports" and pool.sv_active]
        assert [(pool.database, pool.size, pool.mode) for pool in pools] == [(cluster.database, 3, "session")]


async def test_a_replication_client_and_its_server_are_told(cluster: Sandbox) -> None:
    async with asked(cluster) as one:
        user = "postgres"
        password = cluster.passwords[user]
        async with await one.connect(
            user=user, password=password, replication="true", application_name="walreceiver"
        ) as client:
            found = (await one.clients())["walreceiver"]
            assert (found.replication, found.state, found.node, found.user) == ("physical", "active", "db1", user)
            (server,) = [server for server in await one.servers() if server.replication]
            assert (server.replication, server.link, server.process_id) == ("physical", found.process_id, found.link)
            assert found.process_id == client.info.backend_pid


async def test_prepared_statements_are_told_without_their_constants(cluster: Sandbox) -> None:
    async with asked(cluster) as one, AsyncExitStack() as stack:
        for _ in range(2):
            client = await stack.enter_async_context(await one.connect())
            await client.execute("SELECT 'a secret', %s", (1,), prepare=True)
        (found,) = await one.reports("prepared")
        assert isinstance(found, PreparedReport)
        assert (found.clients, found.shape) == (2, "SELECT $2, $1")
        assert found.servers >= 1
        assert found.bytes > len("SELECT 'a secret', $1")
        assert [one.prepared_statements for one in (await one.clients()).values()] == [1]


async def test_reports_of_two_workers_come_in_parts_and_limited_ones_are_the_biggest(cluster: Sandbox) -> None:
    count = 250
    async with asked(cluster, workers=2) as one, AsyncExitStack() as stack:
        for index in range(count):
            await stack.enter_async_context(await one.connect(application_name=f"n{index}"))
        found = await one.reports("clients")
        assert len(found) == count
        assert {one.application_name for one in found if isinstance(one, ClientReport)} == {
            f"n{index}" for index in range(count)
        }
        oldest = [report for report in await one.reports("clients", limit=2) if isinstance(report, ClientReport)]
        # Two of each worker that has some.
        assert len(oldest) in (2, 4)
        assert "n0" in {report.application_name for report in oldest}
        pools = [pool for pool in await one.pools() if pool.node == "db1"]
        assert sum(pool.cl_active for pool in pools) == count
        process_ids = [report.process_id for report in found if isinstance(report, ClientReport)]
        assert len(set(process_ids)) == count


async def test_a_client_of_a_unix_socket_is_told(cluster: Sandbox, tmp_path: Any) -> None:
    async with asked(cluster, unix_socket_dir=str(tmp_path)) as one:
        path = one.supervisor.unix_path
        assert path is not None
        port = int(path.name.rsplit(".", 1)[1])
        async with await one.connect(host=os.fspath(path.parent), port=port, application_name="local"):
            found = (await one.clients())["local"]
            assert (found.addr, found.port, found.local_addr, found.local_port) == ("unix", port, "unix", port)
