"""The routing under test, behind one door: nothing else here knows how a decision is made."""

import asyncio

import asyncpg

from middleware.sandbox import Sandbox
from middleware.supervisor.catalog_reader import read_rows
from parser.shapes import FactsTable
from routing.assemble import assemble
from routing.router import Target, decide, default_path
from routing.rows import Rows
from tests.oracle.statement import APP


class Judge:
    """Decides as a worker would for the clients of one database, with the catalog as the primary has it now."""

    def __init__(self, cluster: Sandbox, database: str) -> None:
        self._cluster = cluster
        self._database = database
        self._facts = FactsTable()
        self._version = 0
        self.reload()

    def reload(self) -> None:
        """Read the catalog again: call it after DDL."""
        self._version += 1
        self._catalog = assemble(self._database, self._version, asyncio.run(self._read()), FactsTable())

    async def _read(self) -> Rows:
        connection = await asyncpg.connect(self._cluster.url(user="pointsman", database=self._database))
        try:
            return await read_rows(connection)
        finally:
            await connection.close()

    def decide(self, sql: str, user: str = APP) -> tuple[bool, str]:
        """Whether `sql`, outside a transaction of `user`, goes to a standby, and why."""
        path = default_path(self._catalog, user)
        decision = decide(self._facts.facts_of(sql.encode()), self._catalog, path)
        return decision.target is Target.STANDBY, decision.reason
