"""The supervisor over a real cluster: what reaches the workers of nodes and catalogs."""

from typing import Any

import pytest
import structlog

from middleware.config import Settings
from middleware.sandbox import Sandbox
from middleware.service import running
from middleware.supervisor import Supervisor, catalogs
from tests.supervisor.conftest import ECHO_WORKER, ask, settings, until

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


def over(sandbox: Sandbox, **health_check: Any) -> Settings:
    """Settings with the rig's nodes."""
    credentials = {"user": "pointsman", "password": sandbox.passwords["pointsman"]}
    return settings(
        nodes={node.name: {"host": node.host, "port": node.port} for node in sandbox.nodes},
        health_check={"period": 0.2, "timeout": 2.0, "retry_delay": 0.1, **credentials, **health_check},
    )


async def readable(supervisor: Supervisor, database: str, name: str, expected: bool) -> None:
    """Wait until the worker's catalog says so."""

    async def says_so() -> bool:
        catalog = (await ask(supervisor))["readable"].get(database)
        return catalog is not None and (name in catalog) is expected

    await until(says_so, f"{name} readable: {expected}")


async def test_a_worker_hears_of_a_node_that_fails(sandbox: Sandbox) -> None:
    async with running(over(sandbox, period=3600.0), worker_command=ECHO_WORKER) as supervisor:
        assert (await ask(supervisor))["topologies"] == [1]
        assert [node.up for node in supervisor.topology.nodes] == [True, True]
        sandbox.node("db2").kill()
        # With an hour to the next period, what a worker says must do.
        await ask(supervisor, order="trouble db2")

        async def told() -> bool:
            return bool((await ask(supervisor))["topologies"] == [1, 2])

        await until(told, "the new topology")
        assert [node.up for node in supervisor.topology.nodes] == [True, False]


async def test_a_catalog_follows_the_functions_of_its_database(sandbox: Sandbox) -> None:
    sandbox.query("CREATE DATABASE other")
    sandbox.query("CREATE FUNCTION kind(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'")
    sandbox.query("CREATE PROCEDURE proceed() LANGUAGE sql AS 'SELECT 1'")
    async with running(over(sandbox, catalog_refresh=3600.0), worker_command=ECHO_WORKER) as supervisor:
        await ask(supervisor, order=f"wanted {sandbox.database}")
        await ask(supervisor, order="wanted other")
        await readable(supervisor, sandbox.database, "kind", True)
        await readable(supervisor, "other", "kind", False)
        for name, expected in [("abs", True), ("now", True), ("count", True), ("row_number", True)]:
            await readable(supervisor, sandbox.database, name, expected)
        for name in ("setseed", "nextval", "proceed", "pg_advisory_lock"):
            await readable(supervisor, sandbox.database, name, False)
        version = supervisor.catalogs[sandbox.database].version
        # One volatile overload, in any schema, spoils the name.
        sandbox.query("CREATE SCHEMA s")
        sandbox.query("CREATE FUNCTION s.kind(text) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1'")
        await ask(supervisor, order=f"stale {sandbox.database}")
        await readable(supervisor, sandbox.database, "kind", False)
        assert supervisor.catalogs[sandbox.database].version > version


async def test_a_catalog_is_refreshed_in_time_and_published_on_change_only(sandbox: Sandbox) -> None:
    async with running(over(sandbox, catalog_refresh=0.1), worker_command=ECHO_WORKER) as supervisor:
        await ask(supervisor, order=f"wanted {sandbox.database}")
        await readable(supervisor, sandbox.database, "late", False)
        version = supervisor.catalogs[sandbox.database].version
        sandbox.query("CREATE FUNCTION late() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'")
        await readable(supervisor, sandbox.database, "late", True)
        # Many refreshes on, but only one change.
        assert supervisor.catalogs[sandbox.database].version == version + 1


async def test_a_new_process_of_a_worker_has_the_catalogs(sandbox: Sandbox) -> None:
    async with running(over(sandbox), worker_command=ECHO_WORKER) as supervisor:
        await ask(supervisor, order=f"wanted {sandbox.database}")
        await readable(supervisor, sandbox.database, "abs", True)
        pid = supervisor.worker_pids[0]
        await ask(supervisor, order="exit 1")

        async def replaced() -> bool:
            return supervisor.worker_pids[0] not in (None, pid)

        await until(replaced, "a new process")
        await readable(supervisor, sandbox.database, "abs", True)


async def test_a_standby_serves_the_catalog_while_there_is_no_primary(sandbox: Sandbox) -> None:
    async with running(over(sandbox), worker_command=ECHO_WORKER) as supervisor:
        sandbox.node("db1").kill()

        async def no_primary() -> bool:
            return supervisor.topology.primary() is None

        await until(no_primary, "no primary")
        await ask(supervisor, order=f"wanted {sandbox.database}")
        await readable(supervisor, sandbox.database, "abs", True)


async def test_a_database_that_does_not_exist_is_kept_nowhere_and_found_when_it_does(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "ABSENT_S", 0.05)
    with structlog.testing.capture_logs() as logs:
        async with running(over(sandbox), worker_command=ECHO_WORKER) as supervisor:
            await ask(supervisor, order="wanted later")

            async def given_up() -> bool:
                return "later" not in supervisor._catalogs._entries

            await until(given_up, "that it is given up")
            sandbox.query("CREATE DATABASE later")

            async def found() -> bool:
                # As a worker does whose client has something to decide.
                await ask(supervisor, order="wanted later")
                return "later" in supervisor.catalogs

            await until(found, "the catalog")
            await readable(supervisor, "later", "abs", True)
            # Dropped, it is taken back.
            sandbox.query("DROP DATABASE later WITH (FORCE)")
            await ask(supervisor, order="stale later")
            await until(given_up, "that it is given up again")
            await readable(supervisor, "later", "abs", False)
    assert [line for line in logs if line["event"] == "catalog not loaded, trying again"] == []


async def test_databases_beyond_the_bound_are_forgotten_and_workers_told(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "DATABASES_MAX", 1)
    monkeypatch.setattr(catalogs, "KEPT_S", 0.0)
    async with running(over(sandbox), worker_command=ECHO_WORKER) as supervisor:
        await ask(supervisor, order=f"wanted {sandbox.database}")
        await readable(supervisor, sandbox.database, "abs", True)
        await ask(supervisor, order="wanted template1")
        await readable(supervisor, "template1", "abs", True)
        await readable(supervisor, sandbox.database, "abs", False)
        assert list(supervisor.catalogs) == ["template1"]
