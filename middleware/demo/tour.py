"""A scripted walk: each statement, the node that really served it, and the reason of its route.

The node is asked of PostgreSQL, by `current_setting('cluster_name')` within the statement itself. The reason is the
router's, from the facts of the text and the catalog that the workers have.
"""

from collections import Counter
from typing import Final

import anyio
import anyio.to_thread
import asyncpg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from middleware.config import Settings
from middleware.demo.stage import Endpoint, endpoint_of
from middleware.sandbox import Sandbox
from middleware.service import running
from middleware.supervisor import Supervisor
from parser.shapes import FactsTable
from routing.router import IN_TRANSACTION, decide

CATALOG_TIMEOUT_S: Final = 10.0
REPORT_TIMEOUT_S: Final = 5.0
KEPT_TIMEOUT_S: Final = 10.0
SPREAD: Final = 20
PREPARED: Final = 50
CLIENTS: Final = 5
WHO: Final = "current_setting('cluster_name')"

CACHED: Final = "query cache"

READ: Final = f"SELECT {WHO} FROM account WHERE id = 1"


class Surprise(Exception):
    """Something went another way than the tour says."""


async def walk(sandbox: Sandbox, settings: Settings, console: Console) -> None:
    """Run the proxy and the tour. Raises Surprise, ListenError."""
    async with running(settings) as supervisor:
        endpoint = endpoint_of(sandbox, supervisor)
        connection = await asyncpg.connect(endpoint.url)
        try:
            with anyio.fail_after(CATALOG_TIMEOUT_S):
                while endpoint.database not in supervisor.catalogs:
                    await anyio.sleep(0.02)
            await _Tour(sandbox, supervisor, endpoint, connection, console).run()
        finally:
            await connection.close()


class _Tour:
    def __init__(
        self,
        sandbox: Sandbox,
        supervisor: Supervisor,
        endpoint: Endpoint,
        connection: asyncpg.Connection,
        console: Console,
    ) -> None:
        self._sandbox = sandbox
        self._supervisor = supervisor
        self._endpoint = endpoint
        self._connection = connection
        self._console = console
        self._facts = FactsTable()
        self._primary = sandbox.primary.name
        self._standbys = {node.name for node in sandbox.standbys}

    async def run(self) -> None:
        await self._write()
        await self._reads()
        await self._not_quite_reads()
        await self._transaction()
        await self._prepared()
        await self._query_cache()
        await self._counters()

    def _say(self, title: str) -> None:
        self._console.print(f"\n[bold]{title}[/bold]")

    def _show(self, sql: str, served: Counter[str], reason: str, allowed: set[str]) -> None:
        """One statement and who served it; raises Surprise for a node it should not have been."""
        by = ", ".join(f"{name} x {count}" if count > 1 else name for name, count in sorted(served.items()))
        self._console.print(f"  {escape(sql)}", highlight=False)
        self._console.print(f"    [cyan]{by}[/cyan]  because {escape(reason)}", highlight=False)
        if not set(served) <= allowed:
            raise Surprise(f"served by {by}, not by {' or '.join(sorted(allowed))}: {sql}")

    def _reason(self, sql: str) -> str:
        catalog = self._supervisor.catalogs[self._endpoint.database]
        return decide(self._facts.facts_of(sql.encode()), catalog).reason

    async def _once(self, sql: str, allowed: set[str], reason: str = "") -> None:
        served = Counter([str(await self._connection.fetchval(sql))])
        self._show(sql, served, reason or self._reason(sql), allowed)

    async def _write(self) -> None:
        self._say("A write goes to the primary")
        await self._connection.execute("CREATE TABLE account (id int PRIMARY KEY, balance int)")
        await self._once(f"INSERT INTO account VALUES (1, 100) RETURNING {WHO}", {self._primary})
        served = Counter([str(await self._connection.fetchval(READ))])
        if self._primary in served:
            reason = "no replica is known to have what its client has just written"
        else:
            reason = "that replica has what its client has just written"
        self._show(READ, served, reason, {self._primary, *self._standbys})
        await anyio.to_thread.run_sync(self._sandbox.wait_for_replay)

    async def _reads(self) -> None:
        self._say(f"Reads are spread over the replicas ({SPREAD} times, {CLIENTS} clients)")
        await self._settle()
        served = await self._served(READ, SPREAD // CLIENTS)
        self._show(READ, served, self._reason(READ), self._standbys)
        if self._standbys and set(served) != self._standbys:
            raise Surprise(f"reads went to {', '.join(served)} only")

    async def _settle(self) -> None:
        """Wait until the catalog has the new table, and the replicas are known to have that."""
        with anyio.move_on_after(CATALOG_TIMEOUT_S):
            while self._primary in await self._served(READ, 1):
                await anyio.sleep(0.02)

    async def _served(self, sql: str, times: int, *arguments: int) -> Counter[str]:
        """Who serves a prepared statement to several clients at once, each so many times."""
        served: Counter[str] = Counter()

        async def client() -> None:
            connection = await asyncpg.connect(self._endpoint.url)
            try:
                statement = await connection.prepare(sql)
                for _ in range(times):
                    served[str(await statement.fetchval(*arguments))] += 1
            finally:
                await connection.close()

        async with anyio.create_task_group() as tasks:
            for _ in range(CLIENTS):
                tasks.start_soon(client)
        return served

    async def _not_quite_reads(self) -> None:
        self._say("What only looks like a read stays on the primary")
        await self._once(f"{READ} FOR UPDATE", {self._primary})
        await self._once(f"SELECT {WHO} FROM account WHERE pg_is_in_recovery() IS NOT NULL", {self._primary})
        text = f"WITH paid AS (UPDATE account SET balance = balance - 1 RETURNING id) SELECT {WHO} FROM paid"
        await self._once(text, {self._primary})

    async def _transaction(self) -> None:
        self._say("A transaction stays together, on the primary")
        async with self._connection.transaction():
            await self._once(f"UPDATE account SET balance = 50 RETURNING {WHO}", {self._primary}, IN_TRANSACTION.reason)
            await self._once(READ, {self._primary}, IN_TRANSACTION.reason)

    async def _prepared(self) -> None:
        self._say(f"A prepared statement works on whichever server is free ({PREPARED} times, {CLIENTS} clients)")
        sql = f"SELECT {WHO} || '' FROM account WHERE id = $1"
        served = await self._served(sql, PREPARED // CLIENTS, 1)
        self._show(sql, served, self._reason(sql), self._standbys)

    async def _query_cache(self) -> None:
        """The same read before the cache is on, twice with it, and behind a write."""
        self._say("With its query cache on, nobody need be asked; a write ends what is kept")
        sql = "SELECT sum(balance) FROM account"
        before = await self._answered(sql, 150 - 100, "no answers are kept yet")
        await self._supervisor.cache.switch("on", None, "the tour")
        first = await self._answered(sql, before, "it is read, and its answer kept")
        await self._answered(sql, first, "it was read before", CACHED)
        after: int = await self._connection.fetchval("UPDATE account SET balance = balance + 1 RETURNING balance")
        await self._answered(sql, after, "its table has changed")
        await self._supervisor.cache.switch("default", None, "the tour")

    async def _answered(self, sql: str, expected: int, reason: str, by: str = "") -> int:
        """Ask, and show who has answered. Who is to answer may take a moment: what a standby says is kept once that is
        known to have all that was written, and not while others' writes are being looked for."""
        until = anyio.current_time() + KEPT_TIMEOUT_S
        while True:
            found: int = await self._connection.fetchval(sql)
            route = str(await self._connection.fetchval("SHOW pointsman.last_route"))
            node = route.partition(":")[0]
            if by in ("", node) or anyio.current_time() >= until:
                break
            await anyio.sleep(0.05)
        self._show(f"{sql}  => {found}", Counter([node]), reason, {by} if by else {self._primary, *self._standbys})
        if found != expected:
            raise Surprise(f"{found} instead of {expected}: {sql}")
        return found

    async def _counters(self) -> None:
        """What the proxy has counted, once every worker has reported."""
        self._say("Reads and writes by node, as the proxy counts them")
        with anyio.move_on_after(REPORT_TIMEOUT_S):
            while sum(node.reads for node in self._supervisor.counters().nodes.values()) < SPREAD + PREPARED:
                await anyio.sleep(0.05)
        ours = self._supervisor.counters().nodes
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("  node", "role", "reads", "writes"):
            table.add_column(column, justify="left" if column in ("  node", "role") else "right")
        for node in self._supervisor.topology.nodes:
            counts = ours[node.name]
            table.add_row(f"  {node.name}", node.role.value, str(counts.reads), str(counts.writes))
        self._console.print(table)
