"""Other clients of the same endpoint, so that servers are scarce: who asks has to wait, and gets one of theirs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from tests.conftest import Endpoint

CLIENTS: Final = 2
PAUSE_S: Final = 0.002
STATEMENTS: Final = (
    "SELECT count(*) FROM plain",
    "INSERT INTO marks VALUES (0)",
    "SET work_mem = '8MB'",
    "SELECT id FROM plain WHERE id = 1 FOR UPDATE",
    "SELECT max(id) FROM detail",
)


@contextmanager
def crowd(endpoint: Endpoint, database: str) -> Iterator[None]:
    """Clients that read, write and leave settings behind, as fast as they are answered."""
    over = threading.Event()
    conninfo = endpoint._replace(database=database).conninfo()
    threads = [threading.Thread(target=_keep_asking, args=(conninfo, over, turn)) for turn in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _keep_asking(conninfo: str, over: threading.Event, turn: int) -> None:
    with psycopg.connect(conninfo, autocommit=True) as client:
        while not over.wait(PAUSE_S):
            turn += 1
            try:
                client.execute(STATEMENTS[turn % len(STATEMENTS)], prepare=turn % 2 == 0)
            except psycopg.errors.DatabaseError:
                # Locks and changes of the schema are in the way at times.
                if client.closed:
                    raise
