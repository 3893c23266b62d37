"""Short sequences in which a client once saw something else than on a connection of its own."""

import contextlib
from collections.abc import Iterator

import pytest

from middleware.sandbox import Sandbox
from tests.statefuzz import world
from tests.statefuzz.operation import Part, close_named, extended, parse_named, pipeline, queries, run_named, simple
from tests.statefuzz.phrase import Phrase
from tests.statefuzz.play import Players
from tests.statefuzz.run import Plan, endpoint_for
from tests.statefuzz.step import Probe, Reconnect, Step

pytestmark = pytest.mark.integration

CLIENTS = 4


def q(client: int, *texts: str) -> Step:
    """Queries in one write."""
    return Step(client, queries([simple(Phrase("query", text)) for text in texts]))


def p(client: int, *parts: Part | str) -> Step:
    """One pipeline; a string is a statement under no name."""
    return Step(client, pipeline([extended(Phrase("query", x)) if isinstance(x, str) else x for x in parts]))


MINE, OTHERS = "PREPARE p1 AS SELECT 1", "PREPARE p1 AS SELECT 2"
BOTH = [q(1, MINE), q(2, OTHERS)]
TEMPORARY = [q(1, "CREATE TEMP TABLE t1 (n int)"), q(1, "DEALLOCATE s1")]
LATE_SET = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
PLUS_1 = "SELECT $1::int + 1"
WITH_ROLE = [
    Step(1, Reconnect((("options", "-c role=statefuzz_writer"),), politely=True, last_words="")),
    q(1, "SET SESSION AUTHORIZATION app"),
]
LOOK = Step(1, Probe())
ROLE = "SELECT current_user"
TO_READER = q(1, "SET ROLE statefuzz_reader")
ELSEWHERE = q(2, "SELECT 1")

NAMES = {
    "bind fails": [*BOTH, p(1, run_named("s3", "1")), q(1, "EXECUTE p1")],
    "error first": [*BOTH, p(1, "SELECT 1/0"), q(1, "EXECUTE p1")],
    "script": [q(1, "SELECT 5; " + MINE + "; INSERT INTO own_1 VALUES (1)"), ELSEWHERE, q(1, "EXECUTE p1")],
    "twice in a string": [q(1, MINE + "; " + OTHERS), q(2, OTHERS), q(1, "EXECUTE p1")],
    "dropped in a string": [q(1, MINE + "; DEALLOCATE p1; " + OTHERS), q(2, MINE), q(1, "EXECUTE p1")],
    "all dropped in a transaction": [q(2, OTHERS), q(1, "BEGIN"), q(1, "DEALLOCATE ALL", MINE, "EXECUTE p1")],
    "all dropped, parsed": [p(1, "DEALLOCATE ALL", close_named("s3"), parse_named("s3", "SELECT 1"))],
    "failed, then dropped": [*BOTH, q(1, "BEGIN", "SELECT 1/0", "EXECUTE p1", "ROLLBACK"), q(1, "DEALLOCATE p1", MINE)],
    "SET TRANSACTION behind": [*BOTH, q(1, "BEGIN READ ONLY"), q(1, LATE_SET + "; END; EXECUTE p3(9); EXECUTE p1(9)")],
    "SET TRANSACTION alone": [*BOTH, q(1, "BEGIN"), q(1, LATE_SET), q(1, "EXECUTE p1")],
    "bind what SQL prepared": [q(1, "BEGIN"), q(1, "PREPARE s1 AS SELECT 1"), p(1, run_named("s1", None))],
    "execute what was parsed": [p(1, parse_named("s1", "SELECT 1")), q(1, "BEGIN"), q(1, "EXECUTE s1"), q(1, "COMMIT")],
    "drop what was parsed": [p(1, parse_named("s1", "SELECT 1")), q(1, "DEALLOCATE s1"), p(1, run_named("s1", None))],
    "drop, savepoint": [
        p(1, parse_named("s3", "SELECT 1")),
        q(1, "BEGIN"),
        q(1, "LISTEN ch1; DEALLOCATE s3; SAVEPOINT a"),
        q(1, "SELECT name FROM pg_prepared_statements WHERE from_sql"),
        q(1, "COMMIT"),
    ],
    "drop and prepare": [
        p(1, parse_named("s2", "SELECT 1")),
        q(1, "DEALLOCATE s2; SET statement_timeout = '100s'; PREPARE s2 AS SELECT 2; INSERT INTO t1 VALUES (7)"),
        p(1, parse_named("s2", "SELECT 3")),
    ],
    "drop, fail": [p(1, parse_named("s2", "SELECT 1")), q(1, "DEALLOCATE s2; SELECT 1/0"), p(1, run_named("s2", None))],
    "drop, roll back": [
        p(1, parse_named("s2", "SELECT 1")),
        q(1, "BEGIN", "DEALLOCATE s2", "ROLLBACK"),
        p(1, parse_named("s2", "SELECT 3")),
    ],
    "a failed drop": [
        *TEMPORARY,
        p(1, "PREPARE p1 AS SELECT 5"),
        p(1, parse_named("s1", "SELECT 1")),
        p(1, "DEALLOCATE p1", "DISCARD TEMP"),
        p(1, parse_named("s1", "SELECT 2")),
    ],
    "Parse, PREPARE": [p(1, parse_named("s3", "SELECT 5"), "PREPARE s3 AS SELECT 1")],
    "PREPARE, Parse": [p(1, "PREPARE s3 AS SELECT 1", parse_named("s3", "SELECT 5"))],
    "Parse, DEALLOCATE, Parse": [
        p(1, parse_named("s3", "SELECT 5"), "DEALLOCATE s3", parse_named("s3", "SELECT 6")),
        p(1, run_named("s3", None)),
    ],
    "two names of one text": [
        p(1, parse_named("s2", "SELECT 1")),
        p(1, parse_named("s3", "SELECT 1")),
        p(1, run_named("s3", "1"), run_named("s2", "1")),
    ],
    "Parse in a failed transaction": [
        p(2, parse_named("s2", PLUS_1)),
        q(1, "BEGIN"),
        q(1, "SELECT 1/0"),
        p(1, parse_named("s2", PLUS_1)),
        q(1, "COMMIT"),
        p(1, run_named("s2", "1")),
    ],
}

ROLES = {
    "a refused DISCARD ALL": [*WITH_ROLE, q(1, "BEGIN; DISCARD ALL"), q(1, "ROLLBACK"), LOOK],
    "a rolled back RESET": [
        *WITH_ROLE,
        q(1, "BEGIN"),
        q(1, "SET SESSION AUTHORIZATION DEFAULT"),
        p(1, "SELECT 1/0", "ABORT", "COMMIT"),
        q(1, "ROLLBACK"),
        LOOK,
    ],
    "RESET ALL": [*WITH_ROLE, q(1, "LISTEN ch2"), q(1, "RESET ALL"), LOOK, q(1, "UNLISTEN *"), LOOK],
    "an error behind RESET ROLE": [TO_READER, p(1, "RESET ROLE", "SELECT 1/0"), ELSEWHERE, q(1, ROLE)],
    "another session user": [TO_READER, q(1, "SET SESSION AUTHORIZATION app; SELECT 1/0"), ELSEWHERE, q(1, ROLE)],
    "SET LOCAL ROLE": [TO_READER, q(1, "BEGIN", "SET LOCAL ROLE none", "COMMIT"), ELSEWHERE, q(1, ROLE)],
}


@pytest.fixture(scope="module")
def players(cluster: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Players]:
    directory = tmp_path_factory.mktemp("found")
    with (
        world.databases(cluster, CLIENTS),
        endpoint_for(cluster, directory, Plan(1, clients=CLIENTS, pool_size=3)) as endpoint,
        contextlib.closing(world.Observer(cluster)) as observer,
    ):
        players = Players(cluster, observer, endpoint, CLIENTS)
        yield players
        players.close()


@pytest.mark.parametrize("name", [*NAMES, *ROLES])
def test_nothing_differs(players: Players, name: str) -> None:
    assert players.again({**NAMES, **ROLES}[name]) is None
