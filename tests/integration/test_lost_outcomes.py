"""Servers lost at the worst moments: committed and not yet answered, answered and already gone, half asked for."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator

import psycopg
import pytest

from middleware.sandbox import Sandbox
from middleware.wire.backend import ErrorResponse, ReadyForQuery
from middleware.wire.frontend import Bind, CancelRequest, Describe, Execute, Flush, Parse, Query, Sync
from tests.conftest import Endpoint, pointsman
from tests.differential.raw_client import Address, RawClient
from tests.integration.unanswered import no_commit_is_answered
from tests.waiting import eventually

pytestmark = pytest.mark.integration

OURS = "usename = 'app' AND pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.query("CREATE TABLE outcomes (a int); GRANT ALL ON outcomes TO app")
        yield sandbox


@pytest.fixture(scope="module")
def narrow(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """One server to a pool: whoever gets the wrong one is seen at once."""
    settings = {"query_wait_timeout": 8, "max_replica_lag": 2, "transaction_reads": "until_write"}
    with pointsman(cluster, tmp_path_factory.mktemp("narrow"), workers=1, default_pool_size=1, **settings) as running:
        with psycopg.connect(running.conninfo(), autocommit=True) as first:
            eventually(lambda: first.execute("SELECT current_setting('cluster_name')").fetchone() != ("db1",))
        yield running


@pytest.fixture
def connect(narrow: Endpoint) -> Iterator["contextlib.ExitStack"]:
    with contextlib.ExitStack() as stack:
        yield stack


def logged_in(stack: contextlib.ExitStack, endpoint: Endpoint) -> RawClient:
    at = Address(endpoint.host, endpoint.port, endpoint.user, endpoint.password, endpoint.database)
    client = stack.enter_context(RawClient(at))
    client.log_in()
    return client


def answer(client: RawClient, count: int = 1) -> list[str]:
    """The answers' messages by their names, errors by their SQLSTATEs, ReadyForQuery by its status."""
    told: list[str] = []
    for message in client.read(count, deadline_s=15)[0]:
        if isinstance(message, ErrorResponse):
            told.append(message.field(b"C").decode())
        elif isinstance(message, ReadyForQuery):
            told.append(message.status.decode())
        elif type(message).__name__ != "NoticeResponse":
            told.append(type(message).__name__)
    return told


def ask(client: RawClient, *texts: bytes) -> list[str]:
    client.send(b"".join(Query(text).encode() for text in texts))
    return answer(client, len(texts))


def rows(cluster: Sandbox, value: int) -> int:
    return int(cluster.query(f"SELECT count(*) FROM outcomes WHERE a = {value}", cluster.nodes[0])[0][0])


def lose_the_answer(cluster: Sandbox) -> None:
    """End the server whose commit is not answered."""
    waits = f"FROM pg_stat_activity WHERE {OURS} AND wait_event = 'SyncRep'"
    eventually(lambda: cluster.query(f"SELECT pid {waits}") != [])
    cluster.query(f"SELECT pg_terminate_backend(pid) {waits}")


EXECUTE = Execute().encode() + Sync().encode()
COMMIT = Parse(b"", b"COMMIT", ()).encode() + Bind().encode()


@pytest.mark.parametrize(
    ("number", "before", "pieces", "count"),
    [
        (1, [], [Query(b"INSERT INTO outcomes VALUES (1)").encode()], 1),
        (
            2,
            [],
            [b"".join(Query(text).encode() for text in (b"INSERT INTO outcomes VALUES (2)", b"BEGIN", b"SELECT 1"))],
            3,
        ),
        (3, [b"BEGIN"], [Query(b"INSERT INTO outcomes VALUES (3); COMMIT AND CHAIN; SELECT 1").encode()], 1),
        (4, [b"BEGIN", b"INSERT INTO outcomes VALUES (4)"], [COMMIT, EXECUTE], 1),
        (5, [b"BEGIN", b"INSERT INTO outcomes VALUES (5)"], [COMMIT + Flush().encode(), EXECUTE], 1),
        (6, [b"BEGIN", b"INSERT INTO outcomes VALUES (6)"], [Query(b"COMMIT").encode()], 1),
    ],
    ids=["autocommit", "then BEGIN", "AND CHAIN within", "cut", "flushed", "plain"],
)
def test_what_is_committed_is_never_said_not_to_be(
    cluster: Sandbox,
    narrow: Endpoint,
    connect: contextlib.ExitStack,
    number: int,
    before: list[bytes],
    pieces: list[bytes],
    count: int,
) -> None:
    client = logged_in(connect, narrow)
    with no_commit_is_answered(cluster):
        if before:
            ask(client, *before)
        for piece in pieces:
            client.send(piece)
            # They are to come in several chunks.
            time.sleep(0.1)
        lose_the_answer(cluster)
        told = answer(client, count)
    assert rows(cluster, number) == 1
    assert "08007" in told
    assert "08006" not in told


def test_a_server_that_says_goodbye_behind_its_answer_is_lent_to_nobody(
    cluster: Sandbox, narrow: Endpoint, connect: contextlib.ExitStack
) -> None:
    """Both are read in one go; another client waits for that server."""
    client, other = logged_in(connect, narrow), logged_in(connect, narrow)
    client.send(Query(b"/* pointsman: primary */ SELECT 1 FROM pg_sleep(1)").encode())
    running = f"SELECT pid FROM pg_stat_activity WHERE {OURS} AND query LIKE '%pg_sleep(1)%'"
    eventually(lambda: cluster.query(f"{running} AND state = 'active'") != [])
    ((pid,),) = cluster.query(running)
    other.send(Query(b"INSERT INTO outcomes VALUES (20)").encode())
    (worker,) = narrow.workers()
    worker.suspend()
    try:
        eventually(lambda: cluster.query(f"SELECT state FROM pg_stat_activity WHERE pid = {pid}") == [["idle"]])
        cluster.query(f"SELECT pg_terminate_backend({pid})")
        eventually(lambda: cluster.query(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}") == [])
    finally:
        worker.resume()
    assert answer(client)[-1] == "I"
    assert answer(other) == ["CommandComplete", "I"]
    assert rows(cluster, 20) == 1


def on_standbys(cluster: Sandbox, *signals: signal.Signals) -> None:
    for node in cluster.nodes[1:]:
        for (pid,) in cluster.query(f"SELECT pid FROM pg_stat_activity WHERE {OURS}", node):
            for one in signals:
                os.kill(int(pid), one)


@pytest.mark.parametrize("writes", [True, False])
def test_each_message_of_a_batch_in_pieces_is_answered_or_the_batch_fails(
    cluster: Sandbox, narrow: Endpoint, connect: contextlib.ExitStack, writes: bool
) -> None:
    client = logged_in(connect, narrow)
    # The standbys have servers for it.
    for _ in range(4):
        ask(client, b"SELECT current_setting('cluster_name')")
    on_standbys(cluster, signal.SIGSTOP)
    described = Parse(b"q", b"SELECT a FROM outcomes WHERE a = -1", ()).encode() + Describe(b"S", b"q").encode()
    rest = Bind(b"", b"q").encode()
    if writes:
        rest = Parse(b"", b"INSERT INTO outcomes VALUES (30)", ()).encode() + Bind().encode()
    client.send(described + Flush().encode() + rest + EXECUTE)
    time.sleep(0.3)
    on_standbys(cluster, signal.SIGTERM, signal.SIGCONT)
    told = answer(client)
    whole = ["ParseComplete", "ParameterDescription", "RowDescription"]
    assert told[:3] == whole or any(code in ("08006", "57P01") for code in told), told
    assert told[-1] == "I"


def test_who_was_cancelled_in_a_pool_can_wait_for_a_primary(
    cluster: Sandbox, narrow: Endpoint, connect: contextlib.ExitStack
) -> None:
    holder, waits = logged_in(connect, narrow), logged_in(connect, narrow)
    ask(holder, b"BEGIN", b"INSERT INTO outcomes VALUES (40)")
    waits.send(Query(b"INSERT INTO outcomes VALUES (41)").encode())
    time.sleep(0.2)
    assert waits.key is not None
    with socket.create_connection((narrow.host, narrow.port)) as canceller:
        canceller.sendall(CancelRequest(waits.key.process_id, waits.key.secret).encode())
        canceller.recv(1)
    assert answer(waits) == ["57014", "I"]
    ask(holder, b"ROLLBACK")
    cluster.nodes[0].kill()
    try:
        time.sleep(0.5)
        waits.send(Query(b"INSERT INTO outcomes VALUES (41)").encode())
        time.sleep(0.5)
    finally:
        cluster.nodes[0].start()
    assert answer(waits) == ["CommandComplete", "I"]


def test_a_transaction_that_cannot_move_to_the_primary_has_failed(
    cluster: Sandbox, narrow: Endpoint, connect: contextlib.ExitStack
) -> None:
    """It was begun on a standby, and its first write waits for a primary in vain: what comes next is no part of it."""
    client = logged_in(connect, narrow)
    assert ask(client, b"BEGIN", b"SELECT 1")[-1] == "T"
    cluster.nodes[0].kill()
    try:
        # It may be given a server that is just going: that says yet why, which is passed on, or nothing more.
        assert ask(client, b"INSERT INTO outcomes VALUES (50)") in [[code, "E"] for code in ("57P03", "57P01", "08006")]
    finally:
        cluster.nodes[0].start()
    assert ask(client, b"INSERT INTO outcomes VALUES (51)") == ["25P02", "E"]
    assert ask(client, b"ROLLBACK")[-1] == "I"
    assert rows(cluster, 51) == 0


def test_without_a_primary_a_standby_is_no_further_behind_than_it_may_be(
    cluster: Sandbox, narrow: Endpoint, connect: contextlib.ExitStack
) -> None:
    behind = cluster.nodes[1]
    cluster.query("SELECT pg_wal_replay_pause()", behind)
    cluster.query("INSERT INTO outcomes VALUES (60)")
    try:
        where = "SELECT current_setting('cluster_name') FROM outcomes WHERE a = 60"

        def served() -> set[tuple[str, ...] | None]:
            with psycopg.connect(narrow.conninfo(), autocommit=True) as client:
                return {client.execute(where).fetchone() for _ in range(4)}

        time.sleep(2.5)
        eventually(lambda: served() == {("db3",)})
        cluster.nodes[0].kill()
        try:
            time.sleep(1)
            for _ in range(4):
                assert served() == {("db3",)}
        finally:
            cluster.nodes[0].start()
    finally:
        cluster.query("SELECT pg_wal_replay_resume()", behind)
