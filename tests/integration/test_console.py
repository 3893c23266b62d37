"""The admin console through real drivers: who may come in, both query protocols, and what it shows."""

from collections.abc import Iterator

import psycopg
import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman


@pytest.fixture(scope="module")
def console(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Two workers; the user may do anything in the console, `postgres` may look, `pointsman` may not come in."""
    with pointsman(
        cluster,
        tmp_path_factory.mktemp("console"),
        workers=2,
        default_pool_size=10,
        admin_users=[cluster.user],
        stats_users=["postgres"],
    ) as running:
        yield running._replace(database="pointsman")


def as_user(console: Endpoint, cluster: Sandbox, user: str) -> Endpoint:
    return console._replace(user=user, password=cluster.passwords[user])


@pytest.mark.parametrize("database", ["pointsman", "pgbouncer"])
def test_an_admin_comes_in_by_either_name(console: Endpoint, database: str) -> None:
    with psycopg.connect(console._replace(database=database).conninfo(), autocommit=True) as client:
        assert client.execute("SHOW VERSION").fetchall() == [("Pointsman 0.1.0",)]
        assert client.info.parameter_status("server_encoding") == "UTF8"


def test_who_may_only_look_may_only_look(console: Endpoint, cluster: Sandbox) -> None:
    with psycopg.connect(as_user(console, cluster, "postgres").conninfo(), autocommit=True) as client:
        assert [row[0] for row in client.execute("SHOW NODES").fetchall()] == ["db1", "db2", "db3"]
        for command in ("RELOAD", "PAUSE", "SHOW FDS", "SET query_timeout = 3"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                client.execute(command.encode())


def test_others_may_not_come_in(console: Endpoint, cluster: Sandbox) -> None:
    with pytest.raises(psycopg.OperationalError, match="FATAL:  not allowed"):
        psycopg.connect(as_user(console, cluster, "pointsman").conninfo())
