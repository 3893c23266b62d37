"""Nodes that are neither well nor dead: without room for connections, mute, or there and away again. What is done, and
what clients notice. (A full disk: test_full_disk.py.)

The bounds on times are of what is configured, and generous: they tell a wait that ends from one that does not.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any, Final, Self

import anyio
import psycopg
import pytest
from anyio.to_thread import run_sync as in_thread

from healthcheck.topology import Condition, Node
from middleware.config import Settings
from middleware.sandbox import Sandbox
from middleware.service import running
from middleware.supervisor import Supervisor
from tests.forwarder import Forwarder
from tests.supervisor.quick import happened, primary_of, promoting, until

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

VERSION: Final = int(os.environ.get("POINTSMAN_TEST_PG_VERSION", "18"))
CALM: Final = {"failover_after": 60.0}
"""For tests in which nobody is to be promoted whatever the machine is busy with."""
ATTEMPTS: Final = 20
"""As many denials as would have made a node dead many times over."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Sandbox]:
    """A primary and a standby with few connection slots, which each test leaves as it was."""
    with Sandbox(standbys=1, version=VERSION, parameters={"max_connections": "20"}) as own:
        yield own


@pytest.fixture
def sandbox(pair: Sandbox) -> Iterator[Sandbox]:
    yield pair
    pair.query("DROP TABLE IF EXISTS written")


def client(supervisor: Supervisor, sandbox: Sandbox, user: str = "app") -> psycopg.Connection[Any]:
    host, port = supervisor.addresses[0]
    return psycopg.connect(
        f"host={host} port={port} user={user} password={sandbox.passwords[user]} dbname=app", autocommit=True
    )


def at(supervisor: Supervisor, name: str) -> Node:
    (node,) = [node for node in supervisor.topology.nodes if node.name == name]
    return node


def through(sandbox: Sandbox, *forwarders: tuple[str, Forwarder], **more: object) -> Settings:
    """With some nodes at other addresses than their own."""
    nodes: dict[str, dict[str, str | int]] = {
        node.name: {"host": node.host, "port": node.port} for node in sandbox.nodes
    }
    nodes |= {name: forwarder.address for name, forwarder in forwarders}
    return promoting(sandbox, nodes=nodes, **more)


def served_by(connection: psycopg.Connection[Any], sandbox: Sandbox) -> str:
    """Which node answers a read."""
    row = connection.execute("SELECT inet_server_port() FROM pg_class LIMIT 1").fetchone()
    assert row is not None
    return next(node.name for node in sandbox.nodes if node.port == row[0])


async def soon_served_by(name: str, connection: psycopg.Connection[Any], sandbox: Sandbox) -> None:
    """Once its standby is known to be fresh, and its catalog read."""
    with anyio.fail_after(30):
        while await in_thread(served_by, connection, sandbox) != name:
            await anyio.sleep(0.02)


def denials(sandbox: Sandbox, name: str) -> int:
    """How many connections of the monitors a node has refused."""
    if os.environ.get("POINTSMAN_SANDBOX", "processes") != "processes":
        pytest.skip("the nodes' logs are elsewhere")
    log: str = (sandbox.node(name).data_directory.parent / "log").read_text(errors="replace")
    return log.count("FATAL: ")


# Full connection slots


class Slots:
    """All of a node's, taken by an application that does not come through Pointsman."""

    def __init__(self, sandbox: Sandbox, name: str) -> None:
        self._sandbox, self._node = sandbox, sandbox.node(name)
        self._held: list[psycopg.Connection[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._held:
            one.close()

    def take(self) -> None:
        """All that are free, and our own."""
        self._sandbox.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pointsman'", self._node
        )
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                self._held.append(psycopg.connect(self._sandbox.url(self._node)))


async def test_a_primary_whose_slots_are_all_taken_is_alive(sandbox: Sandbox) -> None:
    async with running(promoting(sandbox)) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        version = supervisor.topology.version
        with client(supervisor, sandbox) as early, Slots(sandbox, "db1") as slots:
            early.execute("CREATE TABLE written (a int)")

            def denies() -> bool:
                slots.take()
                return "node_denies" in happened(supervisor)

            await until(denies, supervisor)
            seen = denials(sandbox, "db1")
            await until(lambda: denials(sandbox, "db1") > seen + ATTEMPTS, supervisor)
            assert set(happened(supervisor)) == {"node_up", "node_denies"}
            assert (primary_of(supervisor), supervisor.topology.version) == ("db1", version)
            node = at(supervisor, "db1")
            assert node.condition is Condition.SUSPECT
            assert "remaining connection slots are reserved" in node.why or "too many clients" in node.why
            # Who has a server goes on; who shares its pool waits for that one; who needs another hears why not.
            early.execute("INSERT INTO written VALUES (1)")
            with client(supervisor, sandbox) as late:
                late.execute("INSERT INTO written VALUES (2)")
            began = time.monotonic()
            with pytest.raises(psycopg.OperationalError, match=r"connection slots are reserved|too many clients"):
                await in_thread(client, supervisor, sandbox, "pointsman")
            assert time.monotonic() - began < 30, "it waited, though nothing was going to be free"
        await until(lambda: "node_denies_no_more" in happened(supervisor), supervisor)
        assert at(supervisor, "db1").condition is Condition.UP


async def test_a_read_that_finds_its_standby_full_goes_to_the_primary(sandbox: Sandbox) -> None:
    async with running(promoting(sandbox)) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        with Slots(sandbox, "db2") as slots:

            def denies() -> bool:
                slots.take()
                return "node_denies" in happened(supervisor)

            await until(denies, supervisor)
            with client(supervisor, sandbox) as reader:
                for _ in range(5):
                    assert served_by(reader, sandbox) == "db1"
            assert at(supervisor, "db2").up
        with client(supervisor, sandbox) as reader:
            await soon_served_by("db2", reader, sandbox)


@pytest.mark.parametrize(
    ("break_", "mend", "why"),
    [
        ("CONNECTION LIMIT 0", "CONNECTION LIMIT -1", "too many connections for role"),
        ("PASSWORD 'another'", "PASSWORD '{}'", "password authentication failed"),
        ("NOLOGIN", "LOGIN", "is not permitted to log in"),
    ],
)
async def test_a_node_that_refuses_the_monitors_alone_is_used_on(
    sandbox: Sandbox, break_: str, mend: str, why: str
) -> None:
    async with running(promoting(sandbox)) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        seen = denials(sandbox, "db1")
        sandbox.query(
            f"ALTER ROLE pointsman {break_};\n"
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pointsman';"
        )
        await until(lambda: denials(sandbox, "db1") > seen + ATTEMPTS, supervisor)
        assert set(happened(supervisor)) == {"node_up", "node_denies"}
        assert why in at(supervisor, "db1").why
        with client(supervisor, sandbox) as writer:
            writer.execute("CREATE TABLE written (a int)")
        sandbox.query(f"ALTER ROLE pointsman {mend.format(sandbox.passwords['pointsman'])}")
        await until(lambda: at(supervisor, "db1").condition is Condition.UP, supervisor)


async def test_one_that_was_dead_and_denies_is_not_dead(sandbox: Sandbox) -> None:
    async with running(promoting(sandbox, **CALM)) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        sandbox.query("ALTER ROLE pointsman CONNECTION LIMIT 0")
        sandbox.node("db1").kill()
        await until(lambda: "primary_lost" in happened(supervisor), supervisor)
        sandbox.node("db1").start()
        held = 'no failover: db1 is alive, and answers: too many connections for role "pointsman"'
        await until(lambda: held in [one.text for one in supervisor.happenings], supervisor)
        # What it has become since is not known: it is not used either.
        assert primary_of(supervisor) == ""
        sandbox.query("ALTER ROLE pointsman CONNECTION LIMIT -1")
        await until(lambda: primary_of(supervisor) == "db1", supervisor)


async def test_a_pool_that_is_all_lent_says_nothing_against_its_node(sandbox: Sandbox) -> None:
    """Also not many times in a row: query_wait_timeout is about us."""
    few = promoting(sandbox, default_pool_size=1, query_wait_timeout=0.3, workers=1)
    async with running(few) as supervisor:
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        with client(supervisor, sandbox) as holder, client(supervisor, sandbox) as other:
            holder.execute("BEGIN")
            holder.execute("CREATE TABLE written (a int)")
            version = supervisor.topology.version
            for _ in range(10):
                with pytest.raises(psycopg.OperationalError, match="query_wait_timeout") as caught:
                    await in_thread(other.execute, "CREATE TABLE other (a int)")
                assert caught.value.sqlstate == "53300"
            assert set(happened(supervisor)) == {"node_up"}
            assert supervisor.topology.version == version
            assert [node.condition for node in supervisor.topology.nodes] == [Condition.UP] * 2
            holder.execute("COMMIT")
            other.execute("INSERT INTO written VALUES (1)")


# Mute nodes


async def test_a_standby_that_takes_connections_and_never_answers(sandbox: Sandbox) -> None:
    """From the start. Who opens a connection to it gives up at server_connect_timeout, and is served elsewhere."""
    standby = sandbox.node("db2")
    async with (
        Forwarder(standby.host, standby.port, mute=True) as mute,
        running(through(sandbox, ("db2", mute))) as supervisor,
    ):
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        assert at(supervisor, "db2").why == "no answer within 1 s"
        with await in_thread(client, supervisor, sandbox) as reader:
            assert await in_thread(served_by, reader, sandbox) == "db1"
            mute.mend()
            await until(lambda: at(supervisor, "db2").up, supervisor)
            await soon_served_by("db2", reader, sandbox)


async def test_a_standby_that_falls_silent_is_left_at_the_bound_of_its_opening(sandbox: Sandbox) -> None:
    standby = sandbox.node("db2")
    async with Forwarder(standby.host, standby.port) as forwarder:
        patient = {"user": "pointsman", "password": sandbox.passwords["pointsman"], "period": 0.2, "timeout": 60.0}
        # The monitors would take a minute and more: what ends the wait is the opening's own bound.
        slow = through(sandbox, ("db2", forwarder), health_check=patient, server_connect_timeout=1.0)
        async with running(slow) as supervisor:
            await until(lambda: primary_of(supervisor) == "db1" and at(supervisor, "db2").up, supervisor)
            with client(supervisor, sandbox) as first:
                await soon_served_by("db2", first, sandbox)
            forwarder.mute()
            # Another user has no servers yet, so one must be opened. Its login is not kept by the standby.
            with await in_thread(client, supervisor, sandbox, "postgres") as reader:
                began = time.monotonic()
                assert await in_thread(served_by, reader, sandbox) == "db1"
                assert time.monotonic() - began < 30
            assert at(supervisor, "db2").up


async def test_a_standby_that_stops_costs_its_readers_time_and_no_read(sandbox: Sandbox) -> None:
    async with running(promoting(sandbox)) as supervisor:
        await until(lambda: at(supervisor, "db2").up, supervisor)
        with client(supervisor, sandbox) as reader:
            await soon_served_by("db2", reader, sandbox)
            sandbox.node("db2").pause()
            try:
                began = time.monotonic()
                # It is on its way to the standby that has just stopped, and is read again.
                assert await in_thread(served_by, reader, sandbox) == "db1"
                # 3 probes of 1 s, 0.1 s apart.
                assert time.monotonic() - began < 30
                assert not at(supervisor, "db2").up
            finally:
                sandbox.node("db2").resume()
            await until(lambda: at(supervisor, "db2").up, supervisor)
            await soon_served_by("db2", reader, sandbox)


# Flapping nodes


async def test_a_standby_that_flaps_must_prove_itself_for_longer(sandbox: Sandbox) -> None:
    standby = sandbox.node("db2")
    async with (
        Forwarder(standby.host, standby.port) as forwarder,
        running(through(sandbox, ("db2", forwarder))) as supervisor,
    ):
        await until(lambda: at(supervisor, "db2").up, supervisor)
        with client(supervisor, sandbox) as reader:
            for falls in (1, 2, 3):
                await soon_served_by("db2", reader, sandbox)
                forwarder.cut()
                await until(lambda: not at(supervisor, "db2").up, supervisor)
                began = time.monotonic()
                forwarder.mend()
                while not at(supervisor, "db2").up:
                    name = await in_thread(served_by, reader, sandbox)
                    # It may have come back between the two.
                    assert name == "db1" or at(supervisor, "db2").up
                    assert time.monotonic() - began < 60
                took_s = time.monotonic() - began
                assert took_s >= {1: 0.0, 2: 2.0, 3: 4.0}[falls]
        told = [one.text for one in supervisor.happenings if one.what == "node_flaps"]
        assert told == [
            f"it was down {times} times within 60 s, and must answer for {wait_s} s before it is used again"
            for times, wait_s in ((2, 2), (3, 4))
        ]


async def test_a_primary_that_flaps_stays_the_primary(sandbox: Sandbox) -> None:
    """Each time it answers its time begins anew; and it is used at once, since there is nobody else."""
    primary = sandbox.node("db1")
    async with (
        Forwarder(primary.host, primary.port) as forwarder,
        running(through(sandbox, ("db1", forwarder), **CALM)) as supervisor,
    ):
        await until(lambda: primary_of(supervisor) == "db1", supervisor)
        with await in_thread(client, supervisor, sandbox) as writer:
            await in_thread(writer.execute, "CREATE TABLE written (a int)")
            for number in range(4):
                (forwarder.cut if number % 2 else forwarder.mute)()
                await until(lambda: primary_of(supervisor) == "", supervisor)
                forwarder.mend()
                # It waits for the primary, on the connection it has.
                await in_thread(writer.execute, f"INSERT INTO written VALUES ({number})")
                await until(lambda: primary_of(supervisor) == "db1", supervisor)
            assert sandbox.query("SELECT count(*) FROM written") == [["4"]]
        assert not {"node_flaps", "failover_begun", "promoted"} & set(happened(supervisor))
