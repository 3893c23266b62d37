"""A former primary is not written to, though nothing in reach shows that it missed a promotion."""

from pathlib import Path

import anyio
import anyio.to_thread
import psycopg
import pytest

from middleware.config import Settings
from middleware.sandbox import Sandbox
from middleware.service import running
from middleware.supervisor import StartError, Supervisor
from tests.etcd import Etcd
from tests.supervisor.conftest import settings as without_nodes
from tests.supervisor.quick import primary_of, quick_settings, until

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

MISSED = "primary on timeline 1, but timeline 2 has been seen"


def settings(sandbox: Sandbox, **more: object) -> Settings:
    return quick_settings(sandbox, **{"query_wait_timeout": 1.0, **more})


def why_not(supervisor: Supervisor, name: str) -> str:
    return next(node.why for node in supervisor.topology.nodes if node.name == name)


async def write(sandbox: Sandbox, supervisor: Supervisor) -> str | None:
    """The SQLSTATE of a write; None if it was carried out."""
    host, port = supervisor.addresses[0]
    conninfo = f"host={host} port={port} user=app password={sandbox.passwords['app']} dbname=app"

    def run() -> str | None:
        try:
            with psycopg.connect(conninfo, autocommit=True) as client:
                client.execute("CREATE TABLE IF NOT EXISTS written (a int)")
        except psycopg.OperationalError as error:
            return error.sqlstate or "at login"
        return None

    return await anyio.to_thread.run_sync(run)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_restart_does_not_forget_the_timeline(sandbox: Sandbox, tmp_path: Path, kept: bool) -> None:
    state = {"state_file": str(tmp_path / "state")} if kept else {}
    async with running(settings(sandbox, **state)) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        sandbox.promote("db2")
        await until(lambda: primary_of(supervisor) == "db2", supervisor)
    # The new one is out of reach, and the old one believes that it still is what it was.
    sandbox.node("db2").kill()
    async with running(settings(sandbox, **state)) as supervisor:
        if not kept:
            # What the file is for.
            await until(lambda: primary_of(supervisor) == "db1", supervisor)
            assert await write(sandbox, supervisor) is None
            return
        await until(lambda: why_not(supervisor, "db1") == MISSED, supervisor)
        assert await write(sandbox, supervisor) is not None
        assert primary_of(supervisor) == ""
        assert sandbox.query("SELECT count(*) FROM pg_class WHERE relname = 'written'", sandbox.node("db1")) == [["0"]]
        sandbox.node("db2").start()
        await until(lambda: primary_of(supervisor) == "db2", supervisor)
        assert await write(sandbox, supervisor) is None


async def test_a_state_file_that_cannot_be_read_is_no_reason_to_forget(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("timeline 2\n")
    with pytest.raises(
        StartError, match=rf"^state_file: {file} cannot be used: it is not a state file of Pointsman's$"
    ):
        Supervisor(without_nodes(state_file=str(file)))


async def test_a_state_file_that_cannot_be_written_is_told_and_tried_again(sandbox: Sandbox, tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    checked = settings(sandbox, state_file=str(directory / "state"))
    directory.rmdir()
    async with running(checked) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        assert [one.what for one in supervisor.happenings if one.bad] == ["state_file_trouble"]
        assert await write(sandbox, supervisor) is None
        directory.mkdir()
        await until((directory / "state").exists, supervisor)


async def test_one_pointsman_lets_others_know_by_etcd(sandbox: Sandbox) -> None:
    """Also one that cannot reach the new primary, and one that has only just started."""
    with Etcd() as etcd:
        both = {"failover": "promote", "failover_after": 60.0, "instances": 2, "etcd_ttl": 2, "etcd_hosts": [etcd.url]}
        known = settings(sandbox, instance_name="one", **both)
        places = {name: {"host": node.host, "port": node.port} for name, node in known.nodes.items()}
        # Port 1 is reserved and refuses at once.
        cut_off = settings(
            sandbox, instance_name="two", nodes={**places, "db2": {"host": "127.0.0.1", "port": 1}}, **both
        )
        async with running(known) as one, running(cut_off) as two:
            await until(lambda: primary_of(one) == primary_of(two) == "db1", two)
            sandbox.promote("db2")
            await until(lambda: primary_of(one) == "db2", one)
            await until(lambda: why_not(two, "db1") == MISSED, two)
            assert primary_of(two) == ""
        async with running(cut_off) as later:
            await until(lambda: why_not(later, "db1") == MISSED, later)
            # At no time since its start.
            assert not any("it is a primary" in one.text for one in later.happenings)
            assert await write(sandbox, later) is not None
