"""tests/pristine.py finds each kind of state that it looks for."""

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.integration.conftest import Shared
from tests.pristine import differences_of, session_of
from tests.waiting import eventually

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        ("settings", "SET work_mem = '5MB'"),
        ("settings", "SET extra_float_digits = 1"),
        ("my.own", "SET my.own = 'x'"),
        ("roles", "SET ROLE pg_monitor"),
        ("search path", "SET search_path = pg_catalog"),
        ("advisory locks", "SELECT pg_advisory_lock_shared(1, 2)"),
        ("listening", "LISTEN news"),
        ("cursors", "DECLARE held CURSOR WITH HOLD FOR SELECT 1"),
        ("temporary objects", "CREATE TEMPORARY VIEW one AS SELECT 1"),
        ("prepared statements", "PREPARE one AS SELECT 1"),
        ("last value of a sequence", "CREATE TEMPORARY SEQUENCE one; SELECT nextval('one')"),
    ],
)
def test_what_is_left_is_found(cluster: Sandbox, what: str, statement: str) -> None:
    url = cluster.url(user="postgres")
    with psycopg.connect(url, autocommit=True) as fresh, psycopg.connect(url, autocommit=True) as soiled:
        soiled.execute(statement.encode())
        for client in (fresh, soiled):
            client.execute("BEGIN")
        one, other = (session_of(client, ["my.own"]) for client in (fresh, soiled))
        assert differences_of(one, one) == []
        assert any(f", {what}: " in line for line in differences_of(one, other)), differences_of(one, other)


@pytest.mark.usefixtures("crowd")
def test_clients_are_moved_about(shared: Shared) -> None:
    """The crowd sees to it that a client's transactions run on several servers."""
    with psycopg.connect(shared.endpoint.url(), autocommit=True) as client:
        question = "/* pointsman: primary */ SELECT pg_backend_pid()"
        seen = set()

        def moved() -> bool:
            seen.add(client.execute(question).fetchone())
            return len(seen) > 1

        eventually(moved)
