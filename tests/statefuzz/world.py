"""Two databases that hold the same, and what the cluster itself says of both."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Final

from middleware.sandbox import Sandbox
from tests.differential.raw_client import Address
from tests.statefuzz.phrase import CHANNELS, ROLES
from tests.statefuzz.session import Session

SHARED: Final = "statefuzz"
"""The database that clients reach through the endpoint."""
TWIN: Final = "statefuzz_twin"
MARKER: Final = "marker"

SETTLE_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.002

LOCKS: Final = """
SELECT d.datname, l.classid, l.objid, l.objsubid, l.mode, count(*)
  FROM pg_locks l JOIN pg_database d ON d.oid = l.database
 WHERE l.locktype = 'advisory' GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
"""

LEAKY: Final = """
CREATE FUNCTION leave(name text, value text) RETURNS text LANGUAGE plpgsql VOLATILE AS
    $$BEGIN EXECUTE format('SELECT set_' || 'config(%L, %L, false)', name, value); RETURN value; END$$;
"""
"""What leaves a custom setting behind, and no text or catalog shows it."""


FACTORS: Final = {"public": 1, "alt": 100}
"""Schemas, and what the rows in them are multiples of."""


def schema(clients: int) -> str:
    """Tables of the same names in two schemas: what a name means hangs on search_path."""
    tables = ""
    for number in range(clients):
        for where in FACTORS:
            name = f"{where}.own_{number}"
            tables += (
                f"CREATE TABLE {name} (n int);\n{_rows(where, f'own_{number}')};\n"
                f"GRANT SELECT ON {name} TO {ROLES[0]};\n"
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {ROLES[1]};\n"
            )
    return f"CREATE SCHEMA alt;\nGRANT USAGE ON SCHEMA alt TO {', '.join(ROLES)};\n{tables}{LEAKY}"


def _rows(where: str, table: str) -> str:
    return f"INSERT INTO {where}.{table} SELECT {FACTORS[where]} * generate_series(1, 5)"


@contextlib.contextmanager
def databases(cluster: Sandbox, clients: int) -> Iterator[None]:
    """Both databases and the roles, replayed on all standbys; dropped in the end."""
    cluster.query(
        "".join(f"CREATE ROLE {role};\nGRANT {role} TO {cluster.user};\n" for role in ROLES), database="postgres"
    )
    try:
        for name in (SHARED, TWIN):
            cluster.query(
                f"CREATE DATABASE {name} OWNER {cluster.user};\nALTER DATABASE {name} SET fuzz.a = 'from the start';\n",
                database="postgres",
            )
            cluster.query(f"GRANT CREATE ON SCHEMA public TO {cluster.user}", database=name)
            cluster.query(schema(clients), user=cluster.user, database=name)
            # No row may come in another order because autovacuum or ANALYZE found the time in one of them.
            cluster.query("VACUUM (ANALYZE)", database=name)
        cluster.wait_for_replay()
        yield
    finally:
        drops = "".join(f"DROP DATABASE IF EXISTS {name} WITH (FORCE);\n" for name in (SHARED, TWIN))
        cluster.query(drops + "".join(f"DROP ROLE {role};\n" for role in ROLES), database="postgres")
        cluster.wait_for_replay()


def address(cluster: Sandbox, database: str, user: str) -> Address:
    """The primary itself."""
    return Address(cluster.primary.host, cluster.primary.port, user, cluster.passwords[user], database)


class Observer:
    """A superuser beside both databases: it knows which locks are held, and marks the ends of queues."""

    def __init__(self, cluster: Sandbox) -> None:
        self._of: Final = {
            name: Session(address(cluster, name, "postgres"), (("application_name", "observer"),))
            for name in (SHARED, TWIN)
        }
        self._markers = 0

    def close(self) -> None:
        for session in self._of.values():
            session.close(politely=True)

    def locks_left(self, timeout_s: float = SETTLE_TIMEOUT_S) -> str:
        """How advisory locks differ between the databases once all that is ending has ended; "" if they do not."""
        until = time.monotonic() + timeout_s
        while (found := self._locks())[SHARED] != found[TWIN]:
            if time.monotonic() > until:
                return f"held through the endpoint {found[SHARED]}, held directly {found[TWIN]}"
            time.sleep(POLL_S)
        return ""

    def wait_until_gone(self, process_id: int) -> None:
        """Until a direct session has ended for the cluster, too."""
        until = time.monotonic() + SETTLE_TIMEOUT_S
        while self._of[TWIN].rows(f"SELECT FROM pg_stat_activity WHERE pid = {process_id}")[-2] != "(SELECT 0)":
            assert time.monotonic() < until, f"backend {process_id} goes on without its client"
            time.sleep(POLL_S)

    def mark(self) -> str:
        """Send a notification of a payload of its own to all channels of both databases, and tell it."""
        self._markers += 1
        payload = f"{MARKER} {self._markers}"
        for session in self._of.values():
            session.rows("; ".join(f"NOTIFY {channel}, '{payload}'" for channel in CHANNELS))
        return payload

    def clear(self, cluster: Sandbox) -> None:
        """End every server connection, on all nodes: what was left on one is no part of what comes."""
        end = (
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            f"WHERE datname IN ('{SHARED}', '{TWIN}') AND usename = '{cluster.user}'"
        )
        for node in cluster.nodes:
            cluster.query(end, node, database="postgres")

    def restore(self, tables: Iterable[str]) -> None:
        """Give clients' tables the rows of the start."""
        changes = [f"DELETE FROM {where}.{table}; {_rows(where, table)}" for table in tables for where in FACTORS]
        for session in self._of.values():
            session.rows("; ".join(changes))

    def servers(self) -> int:
        """Sessions of the application in the shared database, not those of health checks."""
        query = (
            f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{SHARED}'"
            " AND usename NOT IN ('postgres', 'pointsman')"
        )
        return int(self._of[SHARED].rows(query)[1])

    def _locks(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {SHARED: [], TWIN: []}
        for word in self._of[SHARED].rows(LOCKS)[1:-2]:
            name, _, lock = word.partition("|")
            found.setdefault(name, []).append(lock)
        return found
