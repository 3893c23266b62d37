"""A full disk: for a table it is the statement's error, for WAL it is the node's end until there is room. On disks of a
few MB, which only root can mount."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from anyio.to_thread import run_sync as in_thread

from healthcheck.topology import Condition
from middleware.sandbox import Sandbox, SandboxNode
from middleware.sandbox.privileges import server_account
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.supervisor.quick import happened, primary_of, promoting, until
from tests.supervisor.test_sick_nodes import client

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

MAY_BE_HEARD: Final = {"53100", "57P01", "57P02", "57P03", "08006", "08007"}
"""The first from whoever it was that found no room, the others from who has lost its server: docs/failover.md."""
MB: Final = 1024 * 1024


@pytest.fixture
def alone() -> Iterator[Sandbox]:
    """A primary without standbys: they would have their files beside its own."""
    if os.environ.get("POINTSMAN_SANDBOX", "processes") != "processes":
        pytest.skip("the disk is mounted on this machine, and the nodes are elsewhere")
    with Sandbox(standbys=0, version=int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))) as own:
        yield own


@contextlib.contextmanager
def disk(sandbox: Sandbox, size_mb: int) -> Iterator[Path]:
    """A disk of the server's, in memory."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    account = server_account()
    at = sandbox.primary.data_directory.parent / "disk"
    at.mkdir()
    options = f"size={size_mb}m,mode=700,uid={account.uid},gid={account.gid}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", at], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this machine permits no mount: {mounted.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def failure(connection: psycopg.Connection[Any], sql: str) -> dict[str, str | None]:
    """All that is said of the error."""
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(sql)
    diag = caught.value.diag
    return {name: getattr(diag, name) for name in dir(diag) if not name.startswith("_")}


async def test_a_disk_that_is_full_for_a_table_is_the_statements_error(alone: Sandbox) -> None:
    with disk(alone, 8) as at:
        alone.query(f"CREATE TABLESPACE small LOCATION '{at}'; GRANT CREATE ON TABLESPACE small TO app")
        async with running(promoting(alone)) as supervisor:
            await until(lambda: primary_of(supervisor) == "db1", supervisor)
            with client(supervisor, alone) as writer, psycopg.connect(alone.url(), autocommit=True) as direct:
                writer.execute(
                    "CREATE TABLE written (a text STORAGE PLAIN) WITH (autovacuum_enabled = off) TABLESPACE small"
                )
                writer.execute("CREATE TABLE other (a int)")
                fill = "INSERT INTO written SELECT repeat('x', 4000) FROM generate_series(1, 4000)"
                assert failure(writer, fill)["sqlstate"] == "53100"
                # Nothing of it was kept, and the file is as long as it can be.
                told = failure(writer, fill)
                assert told == failure(direct, fill)
                assert "No space left on device" in (told["message_primary"] or "")
                # Its session goes on, and the node is as good as before for all else.
                writer.execute("INSERT INTO other VALUES (1)")
                writer.execute("TRUNCATE written")
                writer.execute("INSERT INTO written VALUES ('x')")
            assert set(happened(supervisor)) == {"node_up"}
            assert [node.condition for node in supervisor.topology.nodes] == [Condition.UP]
        alone.query("DROP TABLE written; DROP TABLESPACE small")


async def test_a_disk_that_is_full_for_wal_takes_the_node_down_until_there_is_room(alone: Sandbox) -> None:
    node = alone.primary
    with disk(alone, 96) as at:
        await in_thread(move_wal, node, at)
        impatient = promoting(alone, failover="follow", query_wait_timeout=1)
        async with running(impatient) as supervisor:
            await until(lambda: primary_of(supervisor) == "db1", supervisor)
            with client(supervisor, alone) as other:
                other.execute("CREATE TABLE written (a text STORAGE EXTERNAL)")
                done, unknown = await in_thread(fill_until_down, supervisor, alone)
                assert "PANIC:  could not write to file" in (node.data_directory.parent / "log").read_text()
                await in_thread(make_room, at)
                # PostgreSQL has given up, or goes on trying.
                if not node.running:
                    node.start()
                await until(lambda: primary_of(supervisor) == "db1", supervisor)
                # Who was not writing has not noticed.
                (count,) = other.execute("SELECT count(*) FROM written").fetchone() or (0,)
                assert done <= count <= done + unknown
                other.execute("INSERT INTO written VALUES ('x')")
        # Its WAL goes with the disk.
        node.stop("immediate")


def move_wal(node: SandboxNode, disk: Path) -> None:
    """Have a node write its WAL to another disk."""
    node.stop()
    wal = node.data_directory / "pg_wal"
    subprocess.run(["cp", "-a", wal, disk / "wal"], check=True)
    shutil.rmtree(wal)
    wal.symlink_to(disk / "wal")
    node.start()


def make_room(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)


def fill_until_down(supervisor: Supervisor, sandbox: Sandbox) -> tuple[int, int]:
    """Write until the node is down; how many rows were acknowledged, and how many more may be there."""
    done = unknown = 0
    while primary_of(supervisor):
        with contextlib.suppress(psycopg.OperationalError), client(supervisor, sandbox) as writer:
            while True:
                try:
                    writer.execute("INSERT INTO written SELECT repeat('x', %s)", (MB,))
                except psycopg.Error as error:
                    if error.sqlstate not in MAY_BE_HEARD:
                        raise
                    unknown += 1
                    if writer.closed or not primary_of(supervisor):
                        break
                else:
                    done += 1
    return done, unknown
