"""Who counts the connections at the nodes, while a load runs, on connections of its own."""

import threading
from collections import Counter
from typing import Final, NamedTuple, Self

import psycopg

from middleware.sandbox import Sandbox
from middleware.sandbox.environment import SUPERUSER

PAUSE_S: Final = 0.25
ASKED: Final = """
    SELECT datname, usename, state FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND application_name <> 'witness' AND usename <> ALL (%s)
"""
OTHERS: Final = [SUPERUSER, "pointsman"]
"""Who connects to the nodes for other reasons."""


class Most(NamedTuple):
    """The most connections that one node was seen to have at once."""

    of_pool: int
    """For one database and user."""
    of_database: int
    of_user: int


class Witness:
    """A context manager: it looks again and again until the block ends."""

    def __init__(self, cluster: Sandbox) -> None:
        self._urls: Final = {node.name: cluster.url(node, SUPERUSER) for node in cluster.nodes}
        self._stop: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run)
        self._failure: Exception | None = None
        self.most = Most(0, 0, 0)
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._look_on()
        except Exception as error:
            self._failure = error

    def _look_on(self) -> None:
        connections = [psycopg.connect(url, autocommit=True, application_name="witness") for url in self._urls.values()]
        try:
            while not self._stop.wait(PAUSE_S):
                for connection in connections:
                    self._note(connection.execute(ASKED, [OTHERS]).fetchall())
                self.looks += 1
        finally:
            for connection in connections:
                connection.close()

    def _note(self, rows: list[tuple[str, str, str]]) -> None:
        pools = Counter((database, user) for database, user, _ in rows)
        databases = Counter(database for database, _, _ in rows)
        users = Counter(user for _, user, _ in rows)
        seen = [max(counts.values(), default=0) for counts in (pools, databases, users)]
        self.most = Most(*map(max, self.most, seen))


def states(cluster: Sandbox) -> Counter[str]:
    """What the connections of all nodes are doing, by pg_stat_activity.state."""
    found: Counter[str] = Counter()
    for node in cluster.nodes:
        with psycopg.connect(cluster.url(node, SUPERUSER), application_name="witness") as connection:
            found.update(state or "none" for _, _, state in connection.execute(ASKED, [OTHERS]).fetchall())
    return found
