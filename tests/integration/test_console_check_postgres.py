"""check_postgres, where it is installed: all that it has for PgBouncer, run against the console."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman
from tests.waiting import eventually

CROWD: Final = 7
MAX_CLIENT_CONN: Final = 20
OK, WARNING, CRITICAL, UNKNOWN = range(4)
"""Exit statuses, as Nagios has them."""

pytestmark = pytest.mark.skipif(shutil.which("check_postgres") is None, reason="needs check_postgres")


@pytest.fixture(scope="module")
def served(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Two workers, with seven clients between them."""
    settings: dict[str, Any] = {"stats_users": ["postgres"], "max_client_conn": MAX_CLIENT_CONN}
    directory = tmp_path_factory.mktemp("checked")
    with pointsman(cluster, directory, workers=2, **settings) as running, ExitStack() as clients:
        for _ in range(CROWD):
            clients.enter_context(psycopg.connect(running.conninfo(), autocommit=True)).execute("SELECT 1")
        yield running._replace(user="postgres", password=cluster.passwords["postgres"], database="pgbouncer")


def check(served: Endpoint, action: str, *options: str) -> tuple[int, str]:
    """Its exit status, and what it says behind the name of the check."""
    command = ["check_postgres", f"--action={action}", f"--host={served.host}", f"--port={served.port}"]
    command += [f"--dbuser={served.user}", f"--dbname={served.database}", *options]
    environment = {**os.environ, "PGPASSWORD": served.password, "PSQLRC": os.devnull}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("action", "options", "status", "said"),
    [
        ("pgb_pool_cl_active", (8, 9), OK, "app=7 * pgbouncer=1"),
        ("pgb_pool_cl_active", (7, 9), WARNING, "app=7"),
        ("pgb_pool_cl_active", (1, 7), CRITICAL, "app=7"),
        ("pgb_pool_cl_waiting", (1, 2), OK, "app=0 * pgbouncer=0"),
        ("pgb_pool_sv_active", (1, 2), OK, "app=0 * pgbouncer=0"),
        ("pgb_pool_sv_tested", (1, 2), OK, "app=0 * pgbouncer=0"),
        ("pgb_pool_sv_login", (1, 2), OK, "app=0 * pgbouncer=0"),
        ("pgb_pool_sv_idle", (100, 200), OK, "pgbouncer=0"),
        ("pgb_pool_sv_used", (100, 200), OK, "pgbouncer=0"),
        ("pgb_pool_maxwait", (5, 10), OK, "app=0 * pgbouncer=0"),
        ("pgbouncer_backends", (9, 10), OK, "8 of 20 connections (40%)"),
        ("pgbouncer_backends", (8, 10), WARNING, "8 of 20 connections (40%)"),
        ("pgbouncer_backends", ("-15", "-12"), CRITICAL, "8 of 20 connections (40%)"),
        ("pgbouncer_backends", ("50%", "80%"), OK, "8 of 20 connections (40%)"),
    ],
)
def test_pools_and_clients(
    served: Endpoint, action: str, options: tuple[object, object], status: int, said: str
) -> None:
    warning, critical = options

    def says_so() -> bool:
        """The client of the check before may not have been seen to go."""
        found, told = check(served, action, f"--warning={warning}", f"--critical={critical}")
        return found == status and said in told

    eventually(says_so, 30)


def test_one_database_is_left_out(served: Endpoint) -> None:
    found, told = check(served, "pgb_pool_cl_active", "--warning=1", "--critical=2", "--exclude=app")
    assert (found, "app=" in told) == (WARNING, False), told


def test_the_checksum_of_the_settings(served: Endpoint) -> None:
    """Asked for without one it says what it is, and it stays so."""
    found, told = check(served, "pgbouncer_checksum", "--critical=0")
    assert found == UNKNOWN
    checksum = told.partition("checksum: ")[2].split()[0]
    assert check(served, "pgbouncer_checksum", f"--critical={checksum}")[0] == OK
    other = checksum[1:] + checksum[0]
    assert check(served, "pgbouncer_checksum", f"--critical={other}")[0] == CRITICAL
    assert check(served, "pgbouncer_checksum", f"--warning={other}", "--exclude=log")[0] == WARNING


def test_that_it_is_there(served: Endpoint) -> None:
    """PgBouncer's own console answers this one with an error."""
    found, told = check(served, "connection")
    assert (found, "version 14.0" in told) == (OK, True), told
