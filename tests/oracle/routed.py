"""The routing under test, behind one door: nothing else here knows how a decision is made."""

from middleware.sandbox import Sandbox
from middleware.supervisor.catalogs import _QUERY
from parser.shapes import FactsTable
from routing.catalog import Catalog
from routing.router import Target, decide
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
        names = frozenset(row[0] for row in self._cluster.query(_QUERY, database=self._database))
        self._catalog = Catalog(self._database, self._version, names)

    def decide(self, sql: str, user: str = APP) -> tuple[bool, str]:
        """Whether `sql`, outside a transaction of `user`, goes to a standby, and why."""
        decision = decide(self._facts.facts_of(sql.encode()), self._catalog)
        return decision.target is Target.STANDBY, decision.reason
