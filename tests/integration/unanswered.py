"""Commits that happen, and whose answer does not come."""

import contextlib
from collections.abc import Iterator

from middleware.sandbox import Sandbox
from tests.waiting import eventually


@contextlib.contextmanager
def no_commit_is_answered(cluster: Sandbox) -> Iterator[None]:
    """Each waits for a standby that does not exist, after it is on disk and seen by all that begin later."""

    def wait_for(name: str) -> None:
        local = "SET synchronous_commit TO local;"
        cluster.query(f"{local} ALTER SYSTEM SET synchronous_standby_names TO '{name}'; SELECT pg_reload_conf()")
        eventually(lambda: cluster.query(f"SELECT current_setting('synchronous_standby_names') = '{name}'") == [["t"]])

    wait_for("nobody")
    try:
        yield
    finally:
        wait_for("")
