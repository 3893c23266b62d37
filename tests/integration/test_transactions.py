"""Conversations about transactions, step by step: what is answered, in which state, and by which node.

A step is what a client sends in one write and what it hears, in the words of tests/talk.py.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from middleware.sandbox import Sandbox
from middleware.wire.frontend import Bind, Close, Describe, Execute, Flush, Parse
from tests.conftest import Endpoint, pointsman
from tests.differential.raw_client import Address
from tests.talk import SYNC, Talk, queries, run
from tests.waiting import eventually

pytestmark = pytest.mark.integration

WHO: Final = "SELECT current_setting('cluster_name')"
SET_UP: Final = """
CREATE TABLE played (n int);
CREATE UNLOGGED TABLE played_unlogged (n int);
INSERT INTO played_unlogged VALUES (1);
"""
TEAR_DOWN: Final = "DROP TABLE played, played_unlogged;"
COUNT: Final = "SELECT count(*) FROM played"

Step = tuple[str | bytes, str]
"""What is sent, a Query if it is text, and what is heard."""


class Play(NamedTuple):
    """A conversation that begins with a client whose reads a standby serves."""

    name: str
    steps: tuple[Step, ...]


BUGS: Final = (
    Play(
        "a read-only transaction in one write, and a write behind it",
        (
            (
                queries("BEGIN READ ONLY", WHO, "COMMIT", "INSERT INTO played VALUES (1) RETURNING n"),
                "T standby T I 1 I",
            ),
        ),
    ),
    Play(
        "a read-only transaction in batches of one write, and a write behind it",
        (
            (
                b"".join(
                    run(sql) + SYNC
                    for sql in ("BEGIN READ ONLY", "SELECT 1", "COMMIT", "INSERT INTO played VALUES (1) RETURNING n")
                ),
                "T 1 T I 1 I",
            ),
        ),
    ),
    Play(
        "COMMIT of a read-only transaction, and a write in the same string",
        (("BEGIN READ ONLY", "T"), (WHO, "standby T"), ("COMMIT; INSERT INTO played VALUES (1) RETURNING n", "1 I")),
    ),
    Play(
        "COMMIT of a read-only transaction, and a write in the same pipeline",
        (
            ("BEGIN READ ONLY", "T"),
            (WHO, "standby T"),
            (run("COMMIT", "INSERT INTO played VALUES (1) RETURNING n") + SYNC, "1 I"),
        ),
    ),
    Play(
        "COMMIT of a read-only transaction, and BEGIN in the same string",
        (
            ("BEGIN READ ONLY", "T"),
            ("COMMIT; BEGIN", "T"),
            ("INSERT INTO played VALUES (1) RETURNING n", "1 T"),
            ("ROLLBACK", "I"),
        ),
    ),
    Play(
        "a lock behind the COMMIT of a read-only transaction",
        (
            (
                queries("BEGIN READ ONLY", "COMMIT", f"SELECT pg_advisory_unlock_all(), ({WHO})"),
                "T I ,primary I",
            ),
        ),
    ),
    Play(
        "an unlogged table in a read-only transaction",
        (("BEGIN READ ONLY", "T"), ("SELECT n FROM played_unlogged", "1 T"), ("COMMIT", "I")),
    ),
    Play(
        "a transaction id in a read-only transaction",
        (("BEGIN READ ONLY", "T"), ("SELECT txid_current() > 0", "t T"), ("COMMIT", "I")),
    ),
    Play(
        "an advisory lock in a read-only transaction",
        (("BEGIN READ ONLY", "T"), (f"SELECT pg_advisory_xact_lock(1), ({WHO})", ",primary T"), ("COMMIT", "I")),
    ),
    Play(
        "a transaction begun read-only that turns read-write",
        (("BEGIN READ ONLY", "T"), ("SET TRANSACTION READ WRITE", "T"), ("ROLLBACK", "I")),
    ),
    Play(
        "a transaction begun read-only that turns serializable",
        (("BEGIN READ ONLY", "T"), ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "T"), ("ROLLBACK", "I")),
    ),
    Play(
        "SET LOCAL of a setting of ours ends with its transaction",
        (
            ("BEGIN", "T"),
            ("SET LOCAL pointsman.route = 'standby'", "T"),
            ("COMMIT", "I"),
            ("INSERT INTO played VALUES (1)", "I"),
        ),
    ),
    Play(
        "ROLLBACK puts a setting of ours back",
        (
            ("BEGIN", "T"),
            ("SET pointsman.route = 'standby'", "T"),
            ("ROLLBACK", "I"),
            ("INSERT INTO played VALUES (1)", "I"),
        ),
    ),
    Play(
        "RESET ALL puts a setting of ours back",
        (
            ("SET pointsman.route = 'standby'", "I"),
            ("RESET ALL", "I"),
            ("INSERT INTO played VALUES (1)", "I"),
        ),
    ),
)

PLAYS: Final = (
    Play(
        "ROLLBACK TO SAVEPOINT goes on with the transaction",
        (
            ("BEGIN", "T"),
            (WHO, "primary T"),
            ("SAVEPOINT a", "T"),
            ("INSERT INTO played VALUES (1)", "T"),
            ("SELECT 1 / 0", "!22012 E"),
            (WHO, "!25P02 E"),
            ("ROLLBACK TO SAVEPOINT a", "T"),
            (WHO, "primary T"),
            (COUNT, "0 T"),
            ("RELEASE a", "T"),
            (WHO, "primary T"),
            ("COMMIT", "I"),
        ),
    ),
    Play(
        "BEGIN inside BEGIN changes nothing",
        (
            ("BEGIN", "T"),
            ("BEGIN", "T"),
            (WHO, "primary T"),
            ("BEGIN READ ONLY", "T"),
            (WHO, "primary T"),
            ("COMMIT", "I"),
            ("COMMIT", "I"),
        ),
    ),
    Play(
        "BEGIN READ WRITE inside a read-only transaction on a standby",
        (
            ("BEGIN READ ONLY", "T"),
            (WHO, "standby T"),
            ("BEGIN", "T"),
            (WHO, "standby T"),
            ("BEGIN READ WRITE", "!25001 E"),
            ("ROLLBACK", "I"),
        ),
    ),
    Play(
        "BEGIN within a string of several statements",
        (
            ("BEGIN; SELECT 1", "1 T"),
            (WHO, "primary T"),
            (run(WHO) + SYNC, "primary T"),
            ("INSERT INTO played VALUES (1); SELECT count(*) FROM played", "1 T"),
            ("ROLLBACK; SELECT 2", "2 I"),
        ),
    ),
    Play(
        "BEGIN at the end of a string, and again behind a COMMIT",
        (
            ("SELECT 1; BEGIN", "1 T"),
            (WHO, "primary T"),
            ("COMMIT; BEGIN", "T"),
            (WHO, "primary T"),
            ("COMMIT; BEGIN READ ONLY", "T"),
            (WHO, "primary T"),
            ("END", "I"),
        ),
    ),
    Play(
        "an error within a string that begins a transaction",
        (
            ("BEGIN; INSERT INTO played VALUES (1); SELECT 1 / 0; COMMIT", "!22012 E"),
            (WHO, "!25P02 E"),
            ("ROLLBACK", "I"),
            (f"/* pointsman: primary */ {COUNT}", "0 I"),
        ),
    ),
    Play(
        "COMMIT AND CHAIN and ROLLBACK AND CHAIN stay in a transaction",
        (
            ("BEGIN", "T"),
            ("INSERT INTO played VALUES (1)", "T"),
            ("ROLLBACK AND CHAIN", "T"),
            (WHO, "primary T"),
            (COUNT, "0 T"),
            ("COMMIT AND CHAIN", "T"),
            (WHO, "primary T"),
            ("COMMIT", "I"),
        ),
    ),
    Play(
        "COMMIT AND CHAIN of a read-only transaction stays on its standby",
        (
            ("BEGIN READ ONLY", "T"),
            (WHO, "standby T"),
            ("COMMIT AND CHAIN", "T"),
            (WHO, "standby T"),
            ("INSERT INTO played VALUES (1)", "!25006 E"),
            ("ROLLBACK AND CHAIN", "T"),
            (WHO, "standby T"),
            ("COMMIT", "I"),
            ("INSERT INTO played VALUES (1)", "I"),
        ),
    ),
    Play(
        "an error within a transaction, and ROLLBACK",
        (
            ("BEGIN", "T"),
            ("SELECT * FROM nowhere", "!42P01 E"),
            (WHO, "!25P02 E"),
            (run(WHO) + SYNC, "!25P02 E"),
            ("BEGIN READ ONLY", "!25P02 E"),
            ("COMMIT", "I"),
            ("INSERT INTO played VALUES (1) RETURNING current_setting('cluster_name')", "primary I"),
        ),
    ),
    Play(
        "an error in the middle of a pipeline undoes it, and what follows the Sync runs",
        (
            (
                run("INSERT INTO played VALUES (1)", "SELECT 1 / 0", "INSERT INTO played VALUES (2)")
                + SYNC
                + run("INSERT INTO played VALUES (3) RETURNING current_setting('cluster_name')", COUNT)
                + SYNC,
                "!22012 I primary 1 I",
            ),
        ),
    ),
    Play(
        "an error in a pipeline of reads, and a write behind the Sync",
        (
            (
                run(WHO, "SELECT 1 / 0", WHO) + SYNC + run("INSERT INTO played VALUES (1) RETURNING n", COUNT) + SYNC,
                "standby !22012 I 1 1 I",
            ),
        ),
    ),
    Play(
        "an error in a pipeline that begins a transaction",
        (
            (run("BEGIN", WHO, "SELECT 1 / 0", WHO) + SYNC, "primary !22012 E"),
            (run("ROLLBACK", WHO) + SYNC, "primary I"),
        ),
    ),
    Play(
        "a transaction within one pipeline, and within several",
        (
            (run("BEGIN", "INSERT INTO played VALUES (1)", COUNT, "ROLLBACK", COUNT) + SYNC, "1 0 I"),
            (run("BEGIN") + SYNC + run("INSERT INTO played VALUES (1)") + SYNC + run(COUNT) + SYNC, "T T 1 T"),
            (run(WHO) + SYNC + run("ROLLBACK") + SYNC, "primary T I"),
        ),
    ),
    Play(
        "reads and writes, each a batch, in one write",
        (
            (
                queries(WHO, "INSERT INTO played VALUES (1)", COUNT, "DELETE FROM played", COUNT),
                "standby I I 1 I I 0 I",
            ),
        ),
    ),
    Play(
        "a batch that reads and a Query that writes, in one write",
        ((run(WHO) + SYNC + queries("INSERT INTO played VALUES (1) RETURNING n"), "standby I 1 I"),),
    ),
    Play(
        "an unnamed statement executed in a later batch",
        (
            (Parse(b"", WHO.encode()).encode() + SYNC, "I"),
            (Bind().encode() + Execute().encode() + SYNC, "standby I"),
            (Parse(b"", b"INSERT INTO played VALUES (1) RETURNING n").encode() + SYNC, "I"),
            (Bind().encode() + Execute().encode() + SYNC, "1 I"),
            (Bind().encode() + Execute().encode() + SYNC, "1 I"),
        ),
    ),
    Play(
        "a name that comes to mean a write",
        (
            (Parse(b"s", WHO.encode()).encode() + SYNC, "I"),
            (Bind(b"", b"s").encode() + Execute().encode() + SYNC, "standby I"),
            (
                Close(b"S", b"s").encode() + Parse(b"s", b"INSERT INTO played VALUES (1) RETURNING n").encode() + SYNC,
                "I",
            ),
            (Bind(b"", b"s").encode() + Execute().encode() + SYNC, "1 I"),
            (Parse(b"s", WHO.encode()).encode() + SYNC, "!42P05 I"),
            (Bind(b"", b"s").encode() + Execute().encode() + SYNC, "1 I"),
        ),
    ),
    Play(
        "a name keeps its meaning when what would change it is skipped",
        (
            ("SET pointsman.consistency = 'eventual'", "I"),
            (Parse(b"s", WHO.encode()).encode() + SYNC, "I"),
            (
                run("SELECT 1 / 0") + Close(b"S", b"s").encode() + Parse(b"s", b"DELETE FROM played").encode() + SYNC,
                "!22012 I",
            ),
            (Bind(b"", b"s").encode() + Execute().encode() + SYNC, "standby I"),
            (Parse(b"t", b"INSERT INTO played VALUES (1) RETURNING n").encode() + SYNC, "I"),
            (
                run("SELECT 1 / 0") + Close(b"S", b"t").encode() + Parse(b"t", WHO.encode()).encode() + SYNC,
                "!22012 I",
            ),
            (Bind(b"", b"t").encode() + Execute().encode() + SYNC, "1 I"),
        ),
    ),
    Play(
        "a cursor in a read-only transaction on a standby",
        (
            ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "T"),
            ("DECLARE c SCROLL CURSOR FOR SELECT generate_series(1, 5)", "T"),
            ("FETCH 2 FROM c", "1 2 T"),
            (WHO, "standby T"),
            ("SAVEPOINT a", "T"),
            ("FETCH 1 FROM c", "3 T"),
            ("SELECT 1 / 0", "!22012 E"),
            ("ROLLBACK TO a", "T"),
            ("MOVE BACKWARD ALL FROM c", "T"),
            (run("FETCH 1 FROM c", WHO) + SYNC, "1 standby T"),
            ("SET LOCAL work_mem = '8MB'", "T"),
            ("CLOSE c", "T"),
            ("COMMIT", "I"),
        ),
    ),
    Play(
        "a portal in a read-only transaction on a standby",
        (
            (run("BEGIN READ ONLY") + SYNC, "T"),
            (
                Parse(b"rows", b"SELECT generate_series(1, 5)").encode()
                + Bind(b"p", b"rows").encode()
                + Execute(b"p", 2).encode()
                + SYNC,
                "1 2 .. T",
            ),
            (Execute(b"p", 2).encode() + SYNC, "3 4 .. T"),
            (WHO, "standby T"),
            (Execute(b"p", 0).encode() + run(WHO) + SYNC, "5 standby T"),
            (run("COMMIT") + SYNC, "I"),
        ),
    ),
    Play(
        "a client inside its own transaction reads its own rows",
        (
            ("BEGIN", "T"),
            ("INSERT INTO played VALUES (1)", "T"),
            (COUNT, "1 T"),
            (run(COUNT) + SYNC, "1 T"),
            (Parse(b"own", COUNT.encode()).encode() + Describe(b"S", b"own").encode() + SYNC, "T"),
            (Bind(b"", b"own").encode() + Execute().encode() + SYNC, "1 T"),
            (run("INSERT INTO played VALUES (2)", COUNT) + SYNC, "2 T"),
            (f"{WHO}; {COUNT}", "primary 2 T"),
            (f"/* pointsman: standby */ {COUNT}", "2 T"),
            ("ROLLBACK", "I"),
        ),
    ),
    Play(
        "what was prepared on a standby reads its client's rows within a transaction",
        (
            (Parse(b"early", COUNT.encode()).encode() + Describe(b"S", b"early").encode() + SYNC, "I"),
            (Bind(b"", b"early").encode() + Execute().encode() + SYNC, "0 I"),
            ("BEGIN", "T"),
            ("INSERT INTO played VALUES (1)", "T"),
            (Bind(b"", b"early").encode() + Execute().encode() + SYNC, "1 T"),
            ("ROLLBACK", "I"),
            (Bind(b"", b"early").encode() + Execute().encode() + SYNC, "0 I"),
        ),
    ),
    Play(
        "comments in front of, inside and behind what begins and ends a transaction",
        (
            ("/* BEGIN */ START /* a */ TRANSACTION /* b */ READ /* c */ ONLY -- WRITE", "T"),
            (WHO, "standby T"),
            ("END -- of it", "I"),
            ("/* a */ BEGIN /* b */ -- c", "T"),
            (WHO, "primary T"),
            ("-- COMMIT\nSELECT 1 /* ; COMMIT; */", "1 T"),
            ("COMMIT /* and */ AND /* so */ CHAIN -- on", "T"),
            ("/* x */ ROLLBACK", "I"),
            ("/* SELECT */ INSERT INTO played VALUES (1) RETURNING current_setting('cluster_name') -- x", "primary I"),
            ("/*/* SELECT */*/ DELETE /* FROM */ FROM played", "I"),
        ),
    ),
    Play(
        "the last of several modes holds",
        (
            ("BEGIN READ ONLY, READ WRITE", "T"),
            ("INSERT INTO played VALUES (1)", "T"),
            ("ROLLBACK", "I"),
            ("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, ISOLATION LEVEL READ COMMITTED", "T"),
            ("SELECT 1", "1 T"),
            ("COMMIT", "I"),
        ),
    ),
    Play(
        "an implicit transaction of a string is undone by its error",
        (
            ("INSERT INTO played VALUES (1); SELECT 1 / 0", "!22012 I"),
            (f"SELECT 1; {COUNT}", "1 0 I"),
        ),
    ),
    Play(
        "a Flush within a transaction, and what follows it",
        (
            ("BEGIN", "T"),
            (run("INSERT INTO played VALUES (1)", COUNT) + Flush().encode() + run(WHO) + SYNC, "1 primary T"),
            ("ROLLBACK", "I"),
        ),
    ),
    *BUGS,
)


@pytest.fixture(scope="module")
def address(cluster: Sandbox, endpoint: Endpoint) -> Iterator[Address]:
    address = Address(endpoint.host, endpoint.port, endpoint.user, endpoint.password, endpoint.database)
    cluster.query(SET_UP, user=cluster.user)
    cluster.wait_for_replay()
    with Talk(address) as talk:
        # Any DDL that passes makes it read the catalog again.
        talk.say("CREATE TABLE played_ddl (); DROP TABLE played_ddl")
    yield address
    cluster.query(TEAR_DOWN, user=cluster.user)


@pytest.fixture
def talk(cluster: Sandbox, address: Address) -> Iterator[Talk]:
    """A client whose reads of `played`, which is empty, a standby serves."""
    cluster.query("TRUNCATE played", user=cluster.user)
    cluster.wait_for_replay()
    with Talk(address) as one:
        eventually(lambda: one.say(f"{WHO} FROM (SELECT count(*) FROM played) x") == "standby I")
        yield one


@pytest.mark.parametrize("play", [pytest.param(play, id=play.name.replace(" ", "-")) for play in PLAYS])
def test_play(talk: Talk, play: Play) -> None:
    assert [(sent, talk.say(sent)) for sent, _ in play.steps] == list(play.steps)


def test_a_client_whose_transactions_are_serializable_reads(address: Address, talk: Talk) -> None:
    with Talk(address, options="-c default_transaction_isolation=serializable") as client:
        assert {client.say(COUNT) for _ in range(5)} == {"0 I"}


def test_a_role_whose_transactions_are_serializable_reads(
    cluster: Sandbox, address: Address, talk: Talk, tmp_path: Path
) -> None:
    change = f"ALTER ROLE {address.user} IN DATABASE {address.database}"
    cluster.query(f"{change} SET default_transaction_isolation = 'serializable'")
    try:
        cluster.wait_for_replay()
        with pointsman(cluster, tmp_path) as own, Talk(address._replace(port=own.port)) as client:
            # No standby lets such a role in. Long enough for the catalog to be there, and to have said so.
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                assert client.say(f"{WHO} FROM (SELECT count(*) FROM played) x") == "primary I"
    finally:
        cluster.query(f"{change} RESET default_transaction_isolation")
        cluster.wait_for_replay()


def test_what_only_frames_a_transaction_is_no_write(cluster: Sandbox, talk: Talk) -> None:
    """Global consistency sends the next read to a standby that has replayed all writes: here, none does from now on."""
    talk.say("SET pointsman.consistency = 'global'")
    eventually(lambda: talk.say(WHO) == "standby I")
    with cluster.replay_paused():
        cluster.query("INSERT INTO played VALUES (1)")
        for modes in ("", " READ WRITE", " ISOLATION LEVEL SERIALIZABLE READ ONLY"):
            assert talk.say(f"BEGIN{modes}") == "T"
            for frame in ("SET LOCAL work_mem = '8MB'", "SAVEPOINT a", "ROLLBACK TO a", "RELEASE a"):
                assert talk.say(frame) == "T"
            assert talk.say(f"{WHO} FROM played") == "primary T"
            assert talk.say(run(COUNT) + SYNC) == "1 T"
            assert talk.say("COMMIT AND CHAIN") == "T"
            assert talk.say("COMMIT") == "I"
            assert talk.say(WHO) == "standby I", modes
        assert talk.say("SELECT 1 FROM played FOR UPDATE; ROLLBACK").endswith("I")
        assert talk.say(WHO) == "primary I"


def test_a_hint_for_another_level_of_consistency(cluster: Sandbox, address: Address, talk: Talk) -> None:
    """Its own writes no standby has; others' it need not see."""
    with cluster.replay_paused():
        talk.say("INSERT INTO played VALUES (1)")
        assert talk.say(f"{WHO} FROM (SELECT count(*) FROM played) x") == "primary I"
        assert talk.say(f"/* pointsman: eventual */ {WHO}") == "standby I"
        assert talk.say(run(f"/* pointsman: eventual */ {WHO}") + SYNC) == "standby I"
        assert talk.say(run(f"/* pointsman: eventual */ {WHO}", WHO) + SYNC) == "primary primary I"
        talk.say("SET pointsman.consistency = 'eventual'")
        assert talk.say(WHO) == "standby I"
        assert talk.say(f"{WHO} /* pointsman: session */") == "primary I"
        talk.say("SET pointsman.consistency = 'primary'")
        assert talk.say(f"{WHO} /* pointsman: eventual */") == "standby I"
    talk.say("SET pointsman.consistency = 'session'")
    eventually(lambda: talk.say(WHO) == "standby I")
    with cluster.replay_paused():
        cluster.query("INSERT INTO played VALUES (2)")
        assert talk.say(WHO) == "standby I"
        with Talk(address) as other:
            other.say("INSERT INTO played VALUES (3)")
        assert talk.say(f"{WHO} /* pointsman: global */") == "primary I"
